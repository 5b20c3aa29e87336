"""What a file of a checkpoint holds: rows of a tensor, taken apart and put together, and a check of all of it."""

from __future__ import annotations

import json
import re
from itertools import chain, count
from typing import Any

import torch
from torch import Tensor

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
    "settings": str,
    "record": str,
}
_STREAM = re.compile(r".* \d+( everybody)?", re.DOTALL)


def check_rows(content: Any, round: int, first: int, last: int, n: int) -> None:
    """Raise ``ValueError`` unless ``content`` is a snapshot of nodes first..last of n after ``round`` rounds."""
    rows = last - first + 1

    def need(condition: bool, what: str) -> None:
        if not condition:
            raise ValueError(what)

    need(isinstance(content, dict) and set(content) == set(_TYPES), f"it must hold {', '.join(_TYPES)}")
    for name, kind in _TYPES.items():
        need(isinstance(content[name], kind), f"{name} must not be a {type(content[name]).__name__}")
    for name, named in {"round": round, "n": n, "nodes": list(range(first, last + 1))}.items():
        need(content[name] == named, f"{name} must be {named} as in its name, got {content[name]}")
    x, sent, clock = content["x"], content["bytes_sent"], content["clock"]
    need(x.dim() == 2 and len(x) == rows, f"x must have shape [{rows}, d], got {list(x.shape)}")
    need(x.is_floating_point() and str(x.dtype) == content["dtype"], f"x must be a {content['dtype']}, got {x.dtype}")
    need(bool(torch.isfinite(x).all()), "x must be finite, got NaN or infinity")
    _numbers("bytes_sent", sent, n)
    need(content["wire_bytes"] >= 0 and content["processes"] > 0, "wire_bytes and processes must not be negative")
    if clock is not None:
        need(set(clock) == {"times", "calls"} and isinstance(clock["calls"], int), "clock must hold times and calls")
        _numbers("the times of the clock", clock["times"], n)
    for name, value in content["memory"].items():
        tensors = value if isinstance(value, list) else [value]
        need(all(isinstance(t, Tensor) for t in tensors), f"the memory {name!r} must consist of tensors")
        need(name not in content["per_node"] or fits(value, rows), f"the memory {name!r} must have {rows} rows")
    for key, counts in content["positions"].items():
        drawn = n if key.endswith(" everybody") else rows
        right = _STREAM.fullmatch(key) and isinstance(counts, dict) and all(_draws(at, drawn) for at in counts.values())
        need(bool(right), f"the position of the random numbers {key!r} must be counts of draws, got {counts!r}")
    for name in ("settings", "record"):
        try:
            value = json.loads(content[name])
        except ValueError as error:
            raise ValueError(f"{name} must be JSON: {error}") from None
        need(name == "record" or isinstance(value, dict), f"settings must be a JSON object, got {content[name]}")


def _numbers(name: str, t: Any, n: int) -> None:
    """Raise ``ValueError`` unless t is float64 [n], finite and not negative."""
    if not isinstance(t, Tensor) or t.dtype != torch.float64 or t.shape != (n,) or not torch.isfinite(t).all():
        raise ValueError(f"{name} must be {n} finite float64 numbers, got {t!r}")
    if (t < 0).any():
        raise ValueError(f"{name} must not be negative, got {t!r}")


def _draws(at: Any, rows: int) -> bool:
    """Whether that is a number of draws, or one for each row."""
    each = at if isinstance(at, list) else [at] * rows
    return len(each) == rows and all(isinstance(calls, int) and calls >= 0 for calls in each)


# ------------------------------------------------------------------------------------------------ taking apart


def fits(value: Any, rows: int) -> bool:
    """Whether a tensor, or every tensor of a list, has that many rows."""
    return all(t.dim() > 0 and len(t) == rows for t in (value if isinstance(value, list) else [value]))


def frozen(value: Any, before: Any) -> Any:
    """``value``, or a copy where it is the tensor that it was ``before``, or the first."""
    if isinstance(value, list):
        return [frozen(t, old) for t, old in zip(value, before or [None] * len(value), strict=True)]
    return value.clone() if before is None or value is before else value


def compact(value: Any) -> Any:
    """Tensors as they are, without the storage behind their views (``expand`` and slices)."""
    if isinstance(value, Tensor):
        return value.detach().contiguous().clone()
    if isinstance(value, dict):
        return {key: compact(entry) for key, entry in value.items()}
    return [compact(entry) for entry in value] if isinstance(value, list) else value


# ------------------------------------------------------------------------------------------------ putting together


def own_rows(parts: list[Any], mine: Tensor) -> Any:
    """The rows ``mine`` of tensors, or of lists of tensors, whose rows together are those of all nodes."""
    if isinstance(parts[0], list):
        return [torch.cat(tensors)[mine] for tensors in zip(*parts, strict=True)]
    return torch.cat(parts)[mine]


def own_positions(parts: list[dict[str, Any]], mine: list[int]) -> dict[str, dict[str, Any]]:
    """How far the streams of the own nodes were used; nodes that drew differently often have a list."""
    positions: dict[str, dict[str, Any]] = {}
    for key in {key: None for part in parts for key in part["positions"]}:
        if key.endswith(" everybody"):
            positions[key] = parts[0]["positions"][key]
            continue
        drawn = [(len(part["nodes"]), part["positions"].get(key, {})) for part in parts]
        positions[key] = {}
        for kind in {kind: None for _, counts in drawn for kind in counts}:
            each = [counts.get(kind, 0) for _, counts in drawn]
            lists = [at if isinstance(at, list) else [at] * n for at, (n, _) in zip(each, drawn, strict=True)]
            own = [list(chain(*lists))[i] for i in mine]
            positions[key][kind] = own[0] if len(set(own)) == 1 else own
    return positions


def to_device(value: Any, device: torch.device) -> Any:
    """A tensor, or a list of them, on ``device``."""
    return [t.to(device) for t in value] if isinstance(value, list) else value.to(device)


def ranges(split: list[int]) -> list[list[int]]:
    """[2, 3] as [[0, 1], [2, 3, 4]]."""
    starts = count(0)
    return [[next(starts) for _ in range(rows)] for rows in split]
