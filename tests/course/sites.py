"""What a page of the book links to and loads, read as a browser would."""

import json
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Text, links, ids and every address that a browser would load by itself."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.source = path, path.read_text(encoding="utf-8")
        self.links, self.loads, self.ids, self.tags, self.images, self.headings = [], [], [], [], [], []
        self.open, self.text = [], ""
        self.feed(self.source)
        #: Without those of the theme, which only paper shows: they have no link to themselves.
        self.headings = [" ".join(text[:-1].split()) for text in self.headings if text.endswith("#")]

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        if tag not in ("meta", "img", "br", "hr", "link", "input"):
            self.open.append(tag)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag in ("h1", "h2"):
            self.headings.append("")
        if "data-frames" in attributes:  # what sliders load when they move
            controls = json.loads(attributes["data-frames"]).values()
            self.loads += [address for control in controls for address, _ in control["frames"]]
        if tag == "img":
            self.images.append(attributes)
        if tag == "a":
            self.links.append(attributes.get("href", ""))
        elif tag == "link" and attributes.get("rel") not in ("stylesheet", "preload", "icon"):
            self.links.append(attributes.get("href", ""))  # previous, next, search: not loaded
        else:
            self.loads += [attributes[key] for key in ("src", "href", "srcset", "data") if attributes.get(key)]

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data
        if {"h1", "h2"} & {*self.open}:
            self.headings[-1] += data


def pages(folder: Path) -> dict[str, Page]:
    """Every page of a site by its file name."""
    return {path.name: Page(path) for path in sorted(folder.glob("*.html"))}


def dead(site: dict[str, Page]) -> list[tuple[str, str]]:
    """Page and address of every internal link or load that leads nowhere."""
    found = []
    for name, page in site.items():
        for address in page.links + page.loads:
            parts = urlsplit(address)
            if parts.scheme in ("http", "https", "mailto", "data") or address in ("#", ""):
                continue
            target = unquote(parts.path) or name
            path = page.path.parent / target
            if target in site:
                if parts.fragment and unquote(parts.fragment) not in site[target].ids:
                    found.append((name, address))
            elif parts.scheme or not path.is_file():
                found.append((name, address))
    return found


def elsewhere(site: dict[str, Page]) -> list[tuple[str, str]]:
    """Page and address of everything that a browser would load from another host."""
    return [
        (name, address)
        for name, page in site.items()
        for address in page.loads
        if urlsplit(address).scheme not in ("", "data") or address.startswith("//")
    ]
