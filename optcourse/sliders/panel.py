"""Controls above a figure: moving one draws it anew."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import cloudpickle
import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

#: With ``$OPTCOURSE_PLAYERS`` a panel says in this type how its figures are drawn: for a page that has no kernel.
MIME = "application/vnd.optcourse.player+json"
#: How many positions of a control such a page has.
POSITIONS = 15


class Panel(ipywidgets.VBox):
    """Controls and the figure; ``player`` is what a page without a kernel needs, or ``None``."""

    player: dict[str, Any] | None = None

    def _repr_mimebundle_(self, **options: Any) -> Any:
        data = super()._repr_mimebundle_(**options)
        return {**data, MIME: self.player} if data and self.player else data


def with_sliders(draw: Callable[..., Figure], **controls: ipywidgets.ValueWidget) -> Panel:
    """Controls above the figure that ``draw`` makes of their values; moving one redraws it.

    Every keyword names an argument of ``draw`` and gives its widget. The figure is an image widget and not
    captured output, which needs a front end; an error of ``draw`` for the initial values is raised here.
    """
    image = ipywidgets.Image(format="png")

    def redraw(*_: object) -> None:
        fig, png = draw(**{name: control.value for name, control in controls.items()}), BytesIO()
        fig.savefig(png, format="png")
        plt.close(fig)
        image.value = png.getvalue()

    redraw()
    for control in controls.values():
        control.observe(redraw, "value")
    panel = Panel([*controls.values(), image])
    if os.environ.get("OPTCOURSE_PLAYERS"):
        panel.player = player(draw, controls)
    return panel


def player(draw: Callable[..., Figure], controls: Mapping[str, Any]) -> dict[str, Any]:
    """How to draw the figures of a panel elsewhere, as JSON.

    ``draw`` is pickled; each control has its ``name``, its ``label``, the ``values`` to draw for, their ``texts``, and
    in ``start`` the position of the initial value.
    """
    described = []
    for name, control in controls.items():
        values, texts = positions(control)
        start = values.index(control.value)
        described.append(
            {"name": name, "label": control.description or name, "values": values, "texts": texts, "start": start}
        )
    return {"draw": base64.b64encode(cloudpickle.dumps(draw)).decode(), "controls": described}


def positions(control: Any) -> tuple[list[Any], list[str]]:
    """At most some :data:`POSITIONS` values of a control, the initial one among them, and how the page writes them.

    Raises ``TypeError`` for a control whose values cannot be listed.
    """
    if isinstance(control, ipywidgets.Checkbox):
        return [False, True], ["no", "yes"]
    if hasattr(control, "options"):  # a list of choices
        pairs = [*zip(control._options_labels, control._options_values, strict=True)]
        return [value for _, value in pairs], [str(label) for label, _ in pairs]
    if not all(hasattr(control, name) for name in ("min", "max", "step")):
        raise TypeError(f"a control must be a slider, a list of choices or a checkbox, got {type(control).__name__}")
    base = getattr(control, "base", None)
    start = float(np.log(control.value) / np.log(base)) if base else control.value
    steps = np.arange(round((control.max - control.min) / control.step) + 1)
    grid = control.min + control.step * steps[np.unique(np.linspace(0, len(steps) - 1, POSITIONS).round().astype(int))]
    # The nearest position gives way to the initial value.
    grid[np.abs(grid - start).argmin()] = start
    values = base**grid if base else grid
    kept = [int(value) if isinstance(control.value, int) else float(f"{value:.6g}") for value in values]
    kept[int(np.abs(grid - start).argmin())] = control.value
    return kept, [f"{value:.4g}" for value in kept]
