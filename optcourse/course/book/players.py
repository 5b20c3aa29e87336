"""Sliders without a kernel: for each position of each control, a figure by the function that the notebook calls."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cloudpickle
from tqdm import tqdm

from optcourse import files
from optcourse.runtime import cores
from optcourse.sliders.panel import MIME as MIME

#: Enough for a screen of high density at the width of a page, and small enough for some hundred figures.
DPI, QUALITY = 100, 80
NOTE = "One control moves at a time here; the others return to where they began. In JupyterLab they move together."


def _figures(player: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each position of each control, the others at their start: the control's name, and the arguments to draw with."""
    start = {control["name"]: control["values"][control["start"]] for control in player["controls"]}
    for control in player["controls"]:
        for value in control["values"]:
            yield control["name"], {**start, control["name"]: value}


def frames(player: dict[str, Any], cache: Path) -> dict[str, list[tuple[Path, str]]]:
    """For each control the figure at each of its positions: a file, and its description."""
    found: dict[str, list[tuple[Path, str]]] = {control["name"]: [] for control in player["controls"]}
    for name, arguments in _figures(player):
        found[name].append(read(key(player["draw"], arguments), cache))
    return found


def missing(players: list[dict[str, Any]], cache: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """What is not drawn yet: by its key, the pickled function and its arguments."""
    jobs = {key(p["draw"], arguments): (p["draw"], arguments) for p in players for _, arguments in _figures(p)}
    return {name: job for name, job in jobs.items() if not (cache / f"{name}.json").exists()}


def draw(players: list[dict[str, Any]], cache: Path) -> None:
    """Draw what is missing, in some processes; show a bar. Figures that no player shows any more are deleted."""
    cache.mkdir(parents=True, exist_ok=True)
    jobs = missing(players, cache)
    if jobs:
        with ProcessPoolExecutor(min(cores(), len(jobs)), mp_context=get_context("spawn")) as pool:
            pending = [pool.submit(_draw, name, *job, cache) for name, job in jobs.items()]
            for future in tqdm(pending, desc="sliders for the page", delay=2.0, leave=False, disable=None):
                future.result()
    wanted = {path.stem for player in players for row in frames(player, cache).values() for path, _ in row}
    for path in cache.iterdir():
        if path.stem not in wanted:
            path.unlink()


@functools.cache
def _package() -> str:
    return files.resume_key()


def key(pickled: str, arguments: dict[str, Any]) -> str:
    """The name of a figure: changes with the function, its arguments and the package."""
    return hashlib.sha256(f"{_package()} {pickled} {arguments!r}".encode()).hexdigest()[:20]


def read(name: str, cache: Path) -> tuple[Path, str]:
    """A drawn figure and its description."""
    return cache / f"{name}.webp", json.loads((cache / f"{name}.json").read_text(encoding="utf-8"))


def _draw(name: str, pickled: str, arguments: dict[str, Any], cache: Path) -> None:
    """One figure; the description comes last, and says that the picture is whole."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from optcourse import alttext, plotting

    plotting.use_style()
    fig = cloudpickle.loads(base64.b64decode(pickled))(**arguments)
    fig.savefig(cache / f"{name}.webp", dpi=DPI, pil_kwargs={"quality": QUALITY})
    files.write(cache / f"{name}.json", json.dumps(alttext.describe(fig)))
    plt.close(fig)


def page(player: dict[str, Any], shown: dict[str, list[tuple[str, str]]], size: tuple[int, int]) -> str:
    """The player in HTML; ``shown`` has address and description of each figure."""
    controls = player["controls"]
    first = controls[0]
    address, alt = shown[first["name"]][first["start"]]
    data = {
        control["name"]: {"texts": control["texts"], "start": control["start"], "frames": shown[control["name"]]}
        for control in controls
    }
    width, height = size
    return (
        f'<figure class="player" data-frames="{html.escape(json.dumps(data, ensure_ascii=False), quote=True)}">'
        f'<div class="controls">{"".join(map(_control, controls))}</div>'
        f'<img class="plot" src="{address}" alt="{html.escape(alt, quote=True)}" width="{width}" height="{height}">'
        f"<figcaption>{NOTE}</figcaption></figure>"
    )


def _control(control: dict[str, Any]) -> str:
    start, label = control["start"], html.escape(control["label"])
    text = html.escape(control["texts"][start])
    width = max(map(len, control["texts"]))  # of the longest text, so that the slider keeps its length
    return (
        f'<label><span>{label}</span><input type="range" name="{control["name"]}" min="0" '
        f'max="{len(control["values"]) - 1}" step="1" value="{start}" aria-valuetext="{text}">'
        f'<output style="min-width: {width}ch">{text}</output></label>'
    )
