"""What a submission shows: pictures that are none or are bombs, markup, terminals, names; no page runs any of it."""

import re

from corpus import Case, CorpusTests, Graded, in_cell

PNG = """import base64, struct, zlib
from IPython.display import display
def png(width, height, extra=b"", kind=b"IDAT"):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    rows = zlib.compress(bytes((1 + (min(width, 5000) + 7) // 8) * min(height, 5000)))
    return b"\\x89PNG\\r\\n\\x1a\\n" + head + extra + chunk(kind, rows) + chunk(b"IEND", b"")
def show(data, mime="image/png"):
    display({mime: data if isinstance(data, str) else base64.b64encode(data).decode(), "text/plain": "shown"}, raw=True)
"""
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>"


def shows(name: str, kind: str, content: str = SCRIPT) -> Case:
    """``content`` displayed as this kind of data."""
    return in_cell(
        f"data {name}", f"{PNG}display({{{kind!r}: {content!r}, 'text/plain': {content!r}}}, raw=True)", "graded"
    )


def draws(name: str, code: str) -> Case:
    """A picture that is none, or too much of one."""
    return in_cell(f"picture {name}", PNG + code, "graded")


def raises(name: str, code: str) -> Case:
    """An error whose name or message is markup."""
    return in_cell(f"error {name}", code, "graded")


def answers(name: str, words: str, **more: str) -> Case:
    """A written answer."""
    return Case(f"answer {name}", "graded", 6.0, cells={"why": words}, **more)


CASES = [
    shows("html", "text/html"),
    shows("svg", "image/svg+xml", f"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'>{SCRIPT}</svg>"),
    shows("javascript", "application/javascript", "alert(1)"),
    shows("markdown", "text/markdown", f"[x](javascript:alert(1)) {SCRIPT}"),
    shows("latex", "text/latex", "$\\href{javascript:alert(1)}{x}$"),
    shows("pdf", "application/pdf", "JVBERi0xLjQK"),
    shows("widget", "application/vnd.jupyter.widget-view+json", '{"model_id": "x"}'),
    shows("unknown kind", 'text/x" onload="alert(1)'),
    draws("page as png", f"show(base64.b64encode({SCRIPT!r}.encode()).decode())"),
    draws("attribute as png", "show('\\'\"><scr' + 'ipt>alert(1)</scr' + 'ipt>')"),
    draws("svg as png", "show(b\"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>\")"),
    draws("wide bomb", "show(png(100_000, 100_000))"),
    draws("negative size", "show(png(2**32 - 1, 2**32 - 1))"),
    draws("no size", "show(png(0, 0))"),
    draws("cut off", "show(png(8, 8)[:20])"),
    draws("jpeg as png", "show(b'\\xff\\xd8\\xff' + bytes(50))"),
    draws("html in jpeg", f"show({SCRIPT!r}, 'image/jpeg')"),
    draws("many", "for _ in range(300): show(png(3000, 3000))"),
    draws("large text chunk", "show(png(8, 8, extra=bytes(400_000)))"),
    in_cell("ansi title", "print('\\x1b]0;owned\\x07\\x1b[2J\\x1b[31mred\\x1b[0m')", "graded"),
    in_cell("ansi cut", "print('\\x1b[' + '1;' * 5000 + '\\x1b]' + 'x' * 500)", "graded"),
    in_cell("turned round", "print('\\u202egnitirw\\u2066 \\u202d \\ufeff')", "graded"),
    in_cell("controls", "print(''.join(map(chr, range(32))) + '\\x7f\\x9b31m')", "graded"),
    in_cell("pre closed", f"print('</pre></body></html>{SCRIPT}<!--')", "graded"),
    in_cell("overwritten lines", "print('passed 6 of 6' + '\\r' * 5000 + 'x', end='\\r')", "graded"),
    raises("message", f"raise ValueError({SCRIPT!r})"),
    raises("name", f"raise type({SCRIPT!r}, (Exception,), {{}})('x')"),
    raises("turned round", "raise ValueError('\\u202e\\x1b[31m\\x00 owned')"),
    raises("long name", "raise type('E' * 100_000, (Exception,), {})('m' * 100_000)"),
    answers("tags", f"Because. {SCRIPT} <iframe src='javascript:alert(1)'></iframe>"),
    answers("links", "[x](javascript:alert(1)) ![x](http://evil.example/p.png) <javascript:alert(1)>"),
    answers("references", "[x][r] ![y][s]\n\n[r]: javascript:alert(1)\n[s]: //evil.example/p.png"),
    answers("entities", "[x](&#106;avascript:alert(1)) [x](java&Tab;script:alert(1))"),
    answers("mathematics", f"$\\href{{javascript:alert(1)}}{{x}}$ $${SCRIPT}$$ \\begin{{a}}{SCRIPT}\\end{{a}}"),
    answers("diagram", "```mermaid\ngraph TD\nclick A \"javascript:alert(1)\"\n```"),
    answers("headings of ours", "# test-softmax\n# why\n# submission_id"),
    answers("turned round", "Because \u202e)1(trela:tpircsavaj\u2066"),
    Case("<img src=x onerror=alert(1)>", "graded", 6.0),
    Case("=cmd|calc", "graded", 6.0),
]  # fmt: skip


class TestPages(CorpusTests):
    """Each earns what its honest part earns."""

    cases = CASES

    def test_what_is_shown_is_harmless(self, graded: Graded, case: Case) -> None:
        page = graded.feedback(case.student)
        assert "default-src 'none'" in page
        assert not re.search("<(?:iframe|svg|object|form|link|base|a)\\b", page, re.I)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", page)
        assert page.count("<meta") == 3
        assert page.count("</body>") == page.count("</html>") == 1
        notebook = graded.autograded(case.student)
        for armed in ("](javascript:", "![x](", "]: javascript:", "<javascript:", "\\\\href", "```mermaid"):
            assert armed not in re.sub(r'"traceback".*', "", notebook) or case.name.startswith("data ")
