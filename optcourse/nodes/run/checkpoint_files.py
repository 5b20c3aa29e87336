"""The files of a checkpoint: one for each round and process, named by what is in it."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from optcourse.nodes.run.checkpoint_rows import check_rows

_NAME = re.compile(r"round(\d+)-nodes(\d+)-(\d+)-of(\d+)\.pt")


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


def _nodes_of_rounds(folder: Path, n: int) -> dict[int, set[int]]:
    nodes: dict[int, set[int]] = {}
    for r, first, last, _ in saved_files(folder, n):
        nodes.setdefault(r, set()).update(range(first, last + 1))
    return nodes


def files_of_round(folder: Path, n: int, round: int) -> list[Path]:
    """Files that hold each of the n nodes exactly once, in node order; empty unless all nodes were saved.

    Other numbers of processes may have left files that overlap with these: such files are passed over.
    """
    return _tiling([file[1:] for file in saved_files(folder, n) if file[0] == round], 0, n) or []


def _tiling(files: list[tuple[int, int, Path]], begin: int, n: int) -> list[Path] | None:
    if begin == n:
        return []
    for first, last, path in files:
        if first == begin <= last and (rest := _tiling(files, last + 1, n)) is not None:
            return [path, *rest]
    return None


def complete_rounds(folder: Path, n: int) -> list[int]:
    """The rounds that all n nodes have saved, in order."""
    return sorted(r for r in {file[0] for file in saved_files(folder, n)} if files_of_round(folder, n, r))


def what_is_missing(folder: Path, n: int) -> str:
    """Why no round is complete, with the nodes by number."""
    rounds = _nodes_of_rounds(folder, n)
    if not rounds:
        return f"there are no rows of {n} nodes in {folder}"
    newest = {i: max((r for r, nodes in rounds.items() if i in nodes), default=-1) for i in range(n)}
    lost = [i for i, r in newest.items() if r < 0]
    if lost:
        return f"the rows of nodes {_listed(lost)} were never saved in {folder}: the run cannot go on without them"
    behind = [i for i, r in newest.items() if r < max(newest.values())]
    return (
        f"no round in {folder} has the rows of all nodes: nodes {_listed(behind)} were saved last in round "
        f"{newest[behind[0]] if behind else 0}, others in round {max(newest.values())}"
    )


def _listed(nodes: list[int]) -> str:
    """3, 4, 5, 8 as "3-5, 8"."""
    runs: list[list[int]] = []
    for i in nodes:
        if runs and runs[-1][-1] == i - 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def read_rows(path: Path) -> dict[str, Any]:
    """What was saved; raises ``ValueError`` for a file (it is named) that is damaged or not what its name says."""
    why: object = "it is damaged, or something else"
    try:
        with warnings.catch_warnings(action="ignore"):
            rows = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        why = error
    except Exception:  # the advice of torch, to trust whoever wrote the file, is not repeated
        pass
    else:
        try:
            check_rows(rows, *map(int, _NAME.findall(path.name)[0]))
            return rows
        except (ValueError, TypeError) as error:
            why = error
    raise ValueError(f"{path} cannot be read as saved rows: {why}")


def newest_round(folder: Path, n: int, settings: Mapping[str, Any]) -> int | None:
    """The newest round from which a run with these settings can go on, None when there is none."""
    try:
        r = complete_rounds(folder, n)[-1]
        parts = [read_rows(path) for path in files_of_round(folder, n, r)]
    except (IndexError, ValueError):
        return None
    return r if all(json.loads(part["settings"]) == json.loads(json.dumps(settings)) for part in parts) else None
