"""The files of a checkpoint: one for each round and process, named by what is in it, and a check of all of it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_NAME = re.compile(r"round(\d+)-nodes(\d+)-(\d+)-of(\d+)\.pt")
_TYPES: dict[str, type | tuple[type, ...]] = {
    "round": int,
    "n": int,
    "nodes": list,
    "processes": int,
    "dtype": str,
    "x": Tensor,
    "memory": dict,
    "per_node": list,
    "positions": dict,
    "bytes_sent": Tensor,
    "wire_bytes": int,
    "clock": (dict, type(None)),
    "settings": dict,
    "record": object,
}
_STREAM = re.compile(r".* \d+( everybody)?", re.DOTALL)


def file_name(round: int, first: int, last: int, n: int) -> str:
    """The rows of nodes first..last of n after ``round`` rounds."""
    return f"round{round:08d}-nodes{first}-{last}-of{n}.pt"


def saved_files(folder: Path, n: int | None) -> list[tuple[int, int, int, Path]]:
    """(round, first node, last node, path) of all files of runs of n nodes."""
    found = []
    for path in sorted(folder.glob("round*.pt")):
        match = _NAME.fullmatch(path.name)
        if match and (n is None or int(match[4]) == n):
            found.append((int(match[1]), int(match[2]), int(match[3]), path))
    return found


def files_of_round(folder: Path, n: int, round: int, wanted: range | None = None) -> list[Path]:
    """Files that hold each of the nodes ``wanted`` (by default all n), and none twice, in node order; else empty.

    Other numbers of processes may have left files that overlap with these: such files are passed over.
    """
    wanted = range(n) if wanted is None else wanted
    from_node: dict[int, list[Path]] = {}  # files that hold the wanted nodes from there on
    of_round = [file for file in saved_files(folder, n) if file[0] == round]
    for _, first, last, path in sorted(of_round, key=lambda file: -file[1]):
        if first <= last < n and (last >= wanted[-1] or last + 1 in from_node):
            from_node[first] = [path, *from_node.get(last + 1, [])] if last < wanted[-1] else [path]
    starts = [first for first in from_node if first <= wanted[0]]
    return from_node[max(starts)] if starts else []


def complete_rounds(folder: Path, n: int, wanted: range | None = None) -> list[int]:
    """The rounds of which ``folder`` holds the nodes ``wanted``, by default all n, in order."""
    return sorted(r for r in {file[0] for file in saved_files(folder, n)} if files_of_round(folder, n, r, wanted))


def newest_rows(folder: Path, n: int, nodes: Iterable[int]) -> list[int]:
    """For each of ``nodes`` the newest round in which ``folder`` has it, -1 for none."""
    files = saved_files(folder, n)
    return [max((r for r, first, last, _ in files if first <= i <= last), default=-1) for i in nodes]


def what_is_missing(newest: list[list[int]], places: list[str]) -> str:
    """Why there is no round that all nodes were saved in, with the nodes by number and the place where they should be.

    ``newest``: for each process what :func:`newest_rows` says of its own nodes in its folder, ``places[rank]``.
    """
    everybody = [r for rows in newest for r in rows]
    n, same = len(everybody), len(set(places)) == 1
    if max(everybody) < 0:
        return f"there are no rows of {n} nodes in {', '.join(dict.fromkeys(places))}"
    where = [place for rows, place in zip(newest, places, strict=True) for _ in rows]
    behind = [i for i in range(n) if everybody[i] == min(everybody)]
    missing = {place: [i for i in behind if where[i] == place] for place in dict.fromkeys(where[i] for i in behind)}
    listed = " and ".join(f"{_listed(nodes)}{'' if same else f' in {place}'}" for place, nodes in missing.items())
    if min(everybody) < 0:
        at = f" in {places[0]}" if same else ""
        return f"the rows of nodes {listed} were never saved{at}: the run cannot go on without them"
    last = f"nodes {listed} were saved last in round {min(everybody)}, others in round {max(everybody)}"
    return f"no round{f' in {places[0]}' if same else ''} has the rows of all nodes: {last}"


def _listed(nodes: list[int]) -> str:
    """3, 4, 5, 8 as "3-5, 8"."""
    runs = [[i for _, i in run] for _, run in groupby(enumerate(nodes), lambda placed: placed[1] - placed[0])]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def read_rows(path: Path) -> dict[str, Any]:
    """What was saved; raises ``ValueError`` for a file (it is named) that is damaged or not what its name says."""
    try:
        with warnings.catch_warnings(action="ignore"):
            rows = torch.load(path, map_location="cpu", weights_only=True)
        check_rows(rows, *map(int, _NAME.findall(path.name)[0]))
        return rows
    except (OSError, ValueError, TypeError) as error:
        why: object = error
    except Exception:  # the advice of torch, to trust whoever wrote the file, is not repeated
        why = "it is damaged, or something else"
    raise ValueError(f"{path} cannot be read as saved rows: {why}")


def newest_round(folder: Path, n: int, settings: Mapping[str, Any], wanted: range | None = None) -> int | None:
    """The newest round from which the nodes ``wanted`` of a run with these settings can go on, None for none."""
    for r in reversed(complete_rounds(folder, n, wanted)):
        try:
            parts = [read_rows(path) for path in files_of_round(folder, n, r, wanted)]
        except ValueError:  # damaged
            continue
        return r if all(part["settings"] == settings for part in parts) else None
    return None


def make_place(folder: Path, n: int, settings: Mapping[str, Any]) -> str | None:
    """Move the rows of an earlier run into ``folder/before``; what to say about it, None when there are none.

    Rows that are there stay when they went further, and the others are deleted.
    """
    files, before = saved_files(folder, None), folder / "before"
    if not files:
        return None
    r, there = newest_round(folder, n, settings), saved_files(before, None)
    kept = max((file[0] for file in there), default=0) <= files[-1][0]
    before.mkdir(exist_ok=True)
    for *_, path in there if kept else files:
        path.unlink(missing_ok=True)
    for *_, path in files if kept else ():
        path.replace(before / path.name)
    where = f"are now in {before}" if kept else f"are deleted (those in {before} went further)"
    if r is None:
        return f"this run starts anew: the rows of an earlier one in {folder} {where}"
    back = "; to do that, move them back" if kept else ""
    after = f"the rows after {r} {'round' if r == 1 else 'rounds'}"
    return f"this run starts anew: {after} in {folder}, from which --resume would have gone on, {where}{back}"


def check_rows(content: Any, round: int, first: int, last: int, n: int) -> None:
    """Raise ``ValueError`` unless ``content`` is a snapshot of nodes first..last of n after ``round`` rounds."""
    rows = last - first + 1

    def need(condition: Any, what: str) -> None:
        if not condition:
            raise ValueError(what)

    def numbers(name: str, t: Any) -> None:
        right = isinstance(t, Tensor) and t.dtype == torch.float64 and t.shape == (n,) and torch.isfinite(t).all()
        need(right and (t >= 0).all(), f"{name} must be {n} finite float64 numbers, none of them negative, got {t!r}")

    need(isinstance(content, dict) and set(content) == set(_TYPES), f"it must hold {', '.join(_TYPES)}")
    for name, kind in _TYPES.items():
        need(isinstance(content[name], kind), f"{name} must not be a {type(content[name]).__name__}")
    for name, named in {"round": round, "n": n, "nodes": list(range(first, last + 1))}.items():
        need(content[name] == named, f"{name} must be {named} as in its name, got {content[name]}")
    x, clock = content["x"], content["clock"]
    need(x.dim() == 2 and len(x) == rows, f"x must have shape [{rows}, d], got {list(x.shape)}")
    need(x.is_floating_point() and str(x.dtype) == content["dtype"], f"x must be a {content['dtype']}, got {x.dtype}")
    need(torch.isfinite(x).all(), "x must be finite, got NaN or infinity")
    numbers("bytes_sent", content["bytes_sent"])
    need(content["wire_bytes"] >= 0 and content["processes"] > 0, "wire_bytes and processes must not be negative")
    if clock is not None:
        need(set(clock) == {"times", "calls"} and isinstance(clock["calls"], int), "clock must hold times and calls")
        numbers("the times of the clock", clock["times"])
    for name, value in content["memory"].items():
        tensors = value if isinstance(value, list) else [value]
        need(all(isinstance(t, Tensor) for t in tensors), f"the memory {name!r} must consist of tensors")
        need(name not in content["per_node"] or fits(value, rows), f"the memory {name!r} must have {rows} rows")
    for key, counts in content["positions"].items():
        drawn = n if key.endswith(" everybody") else rows
        right = _STREAM.fullmatch(key) and isinstance(counts, dict) and all(_draws(at, drawn) for at in counts.values())
        need(right, f"the position of the random numbers {key!r} must be counts of draws, got {counts!r}")


def _draws(at: Any, rows: int) -> bool:
    """Whether that is a number of draws, or one for each row."""
    each = _each(at, rows)
    return len(each) == rows and all(isinstance(calls, int) and calls >= 0 for calls in each)


# ------------------------------------------------------------------------------------------------ their rows


def fits(value: Any, rows: int) -> bool:
    """Whether a tensor, or every tensor of a list, has that many rows."""
    return all(t.dim() > 0 and len(t) == rows for t in (value if isinstance(value, list) else [value]))


def frozen(value: Any, before: Any) -> Any:
    """``value``, or a copy where it is the tensor that it was ``before``, or the first."""
    if isinstance(value, list):
        return [frozen(t, old) for t, old in zip(value, before or [None] * len(value), strict=True)]
    return value.clone() if before is None or value is before else value


def mapped(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """``value`` with every tensor in its lists and dictionaries, which are new ones, changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: mapped(change, entry) for key, entry in value.items()}
    return [mapped(change, entry) for entry in value] if isinstance(value, list) else value


def own_rows(parts: list[Any], own: slice) -> Any:
    """The rows ``own`` of tensors, or of lists of tensors, that are joined."""
    if isinstance(parts[0], list):
        return [torch.cat(tensors)[own] for tensors in zip(*parts, strict=True)]
    return torch.cat(parts)[own]


def own_positions(parts: list[dict[str, Any]], own: slice) -> dict[str, dict[str, Any]]:
    """How far the streams of the own nodes were used; nodes that drew differently often have a list."""
    positions: dict[str, dict[str, Any]] = {}
    for key in {key: None for part in parts for key in part["positions"]}:
        drawn = [part["positions"].get(key, {}) for part in parts]
        if key.endswith(" everybody"):
            positions[key] = drawn[0]
            continue
        positions[key] = {}
        for kind in {kind: None for counts in drawn for kind in counts}:
            pairs = zip(parts, drawn, strict=True)
            everyone = [at for part, counts in pairs for at in _each(counts.get(kind, 0), len(part["nodes"]))]
            rows = everyone[own]
            positions[key][kind] = rows[0] if len(set(rows)) == 1 else rows
    return positions


def _each(at: Any, rows: int) -> list[Any]:
    """A number of draws, or one for each row, as the latter."""
    return at if isinstance(at, list) else [at] * rows
