"""What the cells of an executed lecture show, made without running one: claims, a figure, sliders, formulas, errors."""

import base64
import sys
from io import BytesIO

import cloudpickle
import ipywidgets
import matplotlib.pyplot as plt
from nbformat.v4 import new_output

from optcourse.checking import MIME
from optcourse.sliders import panel

WIDGET = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "Panel()"}


def verdict(**changes):
    """What one check leaves."""
    values = {"topic": "02.4", "claim": "a < b & c", "measured": 1.0, "relation": "<=", "bound": 2.0, "margin": 1.0}
    return {**values, "verdict": "holds", "seeds": 20, "why": None, **changes}


def verdicts(topic="02.4"):
    """One check of each kind that does not stop a lecture."""
    return [
        verdict(topic=topic),
        verdict(topic=topic, relation="in", bound=[0, 1.0], margin=-1.0, verdict="fails as expected", why="too noisy"),
        verdict(topic=topic, measured=1.5, bound=2.0, margin=-0.5, verdict="undecided", interval=[0.5, 2.5]),
    ]


def bars(height, name):
    """A figure that sliders move."""
    fig, ax = plt.subplots(figsize=(2, 1))
    ax.plot([0, 1], [0.5, height], label=name)
    ax.set(xlabel="step", ylabel="loss")
    return fig


def display(data, **metadata):
    """One output."""
    return new_output("display_data", data, metadata=metadata)


def checks(topic="02.4"):
    """The lines of checks."""
    return [display({MIME: row, "text/plain": "line"}) for row in verdicts(topic)]


def picture():
    """A figure with its description."""
    fig = bars(2.0, "SGD")
    fig.savefig(buffer := BytesIO(), format="png")
    plt.close(fig)
    png = base64.b64encode(buffer.getvalue()).decode()
    return [display({"image/png": png}, **{"image/png": {"alt": "It falls."}})]


def sliders():
    """Two controls of one figure, as JupyterLab and as a page have them."""
    controls = {
        "height": ipywidgets.FloatSlider(1.0, min=0.0, max=5.0, description="h"),
        "name": ipywidgets.Dropdown(options=["a", "b"]),
    }
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # a notebook's own function travels whole
    return [display({**WIDGET, panel.MIME: panel.player(bars, controls)})]


def skipped():
    """What a cell for a GPU says without one."""
    return [new_output("stream", name="stdout", text="skipped: no CUDA device; with one: all < 2 minutes\n")]


def stopped():
    """A claim that broke."""
    return [new_output("error", ename="ClaimBroken", evalue="c < b", traceback=["ClaimBroken: c < b"])]
