"""The loss as a function of the parameters alone: f(w) = loss(model at w, data), with w one vector ``[d]``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from optcourse.arguments import choice
from optcourse.models.rows import Loss, apply_one, targets

BATCH_NORM = ("train", "eval")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@contextmanager
def evaluation(model: nn.Module, batch_norm: str) -> Iterator[None]:
    """Evaluation mode, in which the loss is a function: no dropout, and no buffer that changes.

    ``batch_norm`` says what such layers (and others with running statistics) normalize by: ``"train"`` the statistics
    of the batch at hand, ``"eval"`` the running ones. Modes and buffers are put back in any case, an interruption too.
    """
    choice("batch_norm", batch_norm, BATCH_NORM)
    modules = list(model.modules())
    modes = [(module, module.training) for module in modules]
    norms = [(m, m.track_running_stats) for m in modules if isinstance(m, nn.modules.batchnorm._NormBase)]
    buffers = [(m, name, b) for m in modules for name, b in m.named_buffers(recurse=False)]
    try:
        model.eval()
        for module, name, buffer in buffers:  # a graph that is kept must not see what later becomes of a buffer
            setattr(module, name, buffer.clone())
        if batch_norm == "train":  # without running statistics, torch's layers take those of the batch in both modes
            for norm, _ in norms:
                norm.track_running_stats = False
                for name in _STATISTICS:
                    setattr(norm, name, None)
        yield
    finally:
        for norm, tracked in norms:
            norm.track_running_stats = tracked
        for module, name, buffer in buffers:
            setattr(module, name, buffer)
        for module, mode in modes:
            module.training = mode


def objective(model: nn.Module, loss: Loss, data: tuple[Tensor, Tensor]) -> Callable[[Tensor], Tensor]:
    """``f(w)``: the loss of ``model`` at the parameters w ``[d]`` on ``data = (x, y)``, differentiable in w.

    Raises ``ValueError`` for a model without parameters, x and y of different lengths or none, and at a call for a
    loss that is not one number.
    """
    x, y = data
    if len(x) != len(y) or len(x) == 0:
        raise ValueError(f"data must be (x, y) of the same length >= 1, got lengths {len(x)} and {len(y)}")
    if not any(True for _ in model.parameters()):
        raise ValueError("model must have parameters, got none")

    def f(w: Tensor) -> Tensor:
        value = loss(apply_one(model, w, x), targets(y, loss))
        if not isinstance(value, Tensor) or value.dim():
            got = f"shape {list(value.shape)}" if isinstance(value, Tensor) else f"{value!r}, no tensor"
            raise ValueError(f"loss must return one number, got {got}")
        return value

    return f
