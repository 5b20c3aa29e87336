"""What figures say of themselves, and that a kernel sends it along."""

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from optcourse import alttext
from optcourse.course.execution import Execution, Settings


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_panels_axes_and_ends_of_named_curves():
    fig, (left, right) = plt.subplots(ncols=2)
    left.plot([1, 2, 3], [4.0, np.nan, 0.25], label=r"$\gamma=\frac{1}{L}$")
    left.plot([1, 3], [2.0, 2.0], label="floor")
    left.plot([1, 3], [9.0, 8.0])  # without a name
    left.set(xlabel="step", ylabel="loss", xscale="log", title="A")
    right.imshow(np.zeros((3, 5)))
    fig.suptitle("Both")
    assert alttext.describe(fig) == (
        "Both. Panel 1, A: loss against step (logarithmic): γ=1/L from 4 to 0.25, floor at 2. "
        "Panel 2, an image of 3 by 5 points."
    )


def test_of_many_curves_some_are_told():
    fig, ax = plt.subplots()
    for k in range(alttext.MOST + 3):
        ax.plot([0, 1], [0, k], label=f"k = {k}")
    assert alttext.describe(fig).endswith("and 3 more.")


@pytest.mark.parametrize("draw", [lambda ax: ax.bar([1, 2], [3, 4]), lambda ax: ax.scatter([1], [2], label="dots")])
def test_other_kinds_are_named(draw):
    fig, ax = plt.subplots()
    draw(ax)
    assert alttext.describe(fig) in ("2 bars.", "dots.")


def test_curves_over_names_have_no_ends():
    fig, ax = plt.subplots()
    ax.plot([1.0, 2.0], ["web", "books"], "o", label="tokens")
    assert alttext.describe(fig) == "tokens."


def test_surfaces_and_error_bars_are_described():
    fig = plt.figure()
    ax = fig.add_subplot(projection="3d")
    ax.plot_surface(*np.meshgrid([0.0, 1.0], [0.0, 1.0]), np.ones((2, 2)))
    ax.set_title("plain")
    assert alttext.describe(fig) == "plain: a map of colours."
    fig, ax = plt.subplots()
    ax.errorbar([1, 2], [3.0, 4.0], [0.1, 0.1], label="measured")
    assert alttext.describe(fig) == "measured from 3 to 4."


def test_a_figure_that_cannot_be_described_is_shown_all_the_same(monkeypatch):
    from IPython.core.interactiveshell import InteractiveShell

    def fails(fig):
        raise ValueError("on purpose")

    shell = InteractiveShell()
    formatter = shell.display_formatter.formatters["image/png"]
    formatter.for_type(plt.Figure, lambda fig: b"png")
    alttext.with_pictures(shell)
    assert formatter(plt.figure()) == (b"png", {"alt": "An empty figure."})
    monkeypatch.setattr(alttext, "describe", fails)
    assert formatter(plt.figure()) == b"png"


def test_an_empty_figure_says_so():
    assert alttext.describe(plt.figure()) == "An empty figure."


def test_a_lecture_s_kernel_sends_the_description_with_the_figure(tmp_path):
    start = "import optcourse\nrun = optcourse.start(profile=PROFILE, seed=SEED, device=DEVICE)"
    draw = "import matplotlib.pyplot as plt\nplt.plot([1, 2], [4, 3], label='SGD')\nplt.xlabel('step')\nplt.legend()\n"
    parameters = new_code_cell("PROFILE, SEED, DEVICE = 'quick', 0, 'auto'", metadata={"tags": ["parameters"]})
    notebook = new_notebook(cells=[parameters, new_code_cell(start), new_code_cell(draw + "plt.show()")])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, tmp_path / "01_a.ipynb")
    outcome = Execution(tmp_path / "01_a.ipynb", Settings("quick", 0, "cpu")).run()
    assert outcome.failure is None and outcome.notebook is not None
    (figure,) = [output for cell in outcome.notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert figure.metadata["image/png"]["alt"] == "step: SGD from 4 to 3."
