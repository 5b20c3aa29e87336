"""Controls above a figure: moving one draws it anew."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import ipywidgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure


def with_sliders(draw: Callable[..., Figure], **controls: ipywidgets.ValueWidget) -> ipywidgets.VBox:
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
    return ipywidgets.VBox([*controls.values(), image])
