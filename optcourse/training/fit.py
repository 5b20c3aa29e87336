"""The one training loop of the course.

>>> import torch
>>> from optcourse.data import two_moons
>>> from optcourse.models import mlp
>>> model = mlp(2, 2, width=16)
>>> history = fit(model, two_moons(), torch.optim.SGD(model.parameters(), lr=0.1), epochs=2)
>>> len(history.loss), history.eval_step.tolist()
(24, [0, 24])
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from optcourse.arguments import integer, real
from optcourse.data import Dataset
from optcourse.models.rows import Loss, accuracy, targets
from optcourse.runtime import progress


@dataclass
class History:
    """What happened, as arrays.

    One entry per step: ``step`` (updates done before it), ``loss`` (mini-batch loss at those
    parameters), ``lr`` (rate of the first parameter group), ``seconds`` (since the start, without
    evaluations and callbacks) and ``samples`` (gradients of single samples computed so far). One entry
    per evaluation: ``eval_step`` (updates done), loss and accuracy on the whole training and test set;
    NaN where there is no test set or no class label.
    """

    step: np.ndarray
    loss: np.ndarray
    lr: np.ndarray
    seconds: np.ndarray
    samples: np.ndarray
    eval_step: np.ndarray
    train_loss: np.ndarray
    train_accuracy: np.ndarray
    test_loss: np.ndarray
    test_accuracy: np.ndarray
    interrupted: bool = False


class NonFiniteLoss(ArithmeticError):
    """The loss became NaN or infinite; parameters and buffers are those before the failed update.

    ``step``, ``loss`` and ``lr`` say where, ``history`` is what was recorded until then.
    """

    def __init__(self, step: int, loss: float, lr: float) -> None:
        """Say at which step, with which loss and rate."""
        super().__init__(
            f"the loss is {loss} at step {step} with lr={lr:g}: the learning rate is probably too high, "
            "or the data contain NaN; .history of this error holds the steps before"
        )
        self.step, self.loss, self.lr = step, loss, lr
        self.history: History | None = None


def fit(
    model: nn.Module,
    data: Dataset | tuple[Tensor, Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int | None = 64,
    replacement: bool = False,
    loss: Loss = cross_entropy,
    schedule: Callable[[int], float] | LRScheduler | None = None,
    callbacks: Sequence[Callable[[int, nn.Module], object]] = (),
    seed: int = 0,
    evaluate_every: int | None = None,
    desc: str = "training",
) -> History:
    """Train ``model`` in place and return the :class:`History`; the model is left in training mode.

    Parameters
    ----------
    data : a :class:`~optcourse.data.Dataset`, or ``(x, y)`` without a test set.
    epochs, steps : exactly one of them. An epoch is ``ceil(N / batch_size)`` steps.
    batch_size : samples per step, in ``1..N``; None takes all of them.
    replacement : draw batches independently instead of by a new permutation each epoch. Either
        way the order of the data is a function of ``seed`` only.
    loss : ``loss(model(x), y)``, a mean over the batch.
    schedule : a function from the step to a factor >= 0 on the learning rates of all groups, also of those that a
        callback adds (the rates are put back at the end), or a torch scheduler, stepped after every update.
    callbacks : each is called as ``callback(step, model)`` after every update (``step`` updates
        are done then); one that returns True ends the training.
    evaluate_every : evaluate before the first and after every so many updates, and at the end;
        None: only at the start and at the end.

    Every update is ``optimizer.step(closure)``, so optimizers that evaluate the loss several
    times (L-BFGS, SAM) work too; one that fails or is interrupted leaves parameters and buffers as they were before
    it. ``KeyboardInterrupt`` returns the history so far with ``interrupted=True``. Raises :class:`NonFiniteLoss`, and
    before the first update ``ValueError`` if batch normalization would meet a last batch of a single sample.
    """
    train, test = _sets(data)
    n = len(train[1])
    batch_size = n if batch_size is None else integer("batch_size", batch_size, 1, n)
    if (epochs is None) == (steps is None):
        raise ValueError(f"give exactly one of epochs and steps, got epochs={epochs!r} and steps={steps!r}")
    if steps is None:
        steps = integer("epochs", epochs, 1) * math.ceil(n / batch_size)
    integer("steps", steps, 1)
    every = steps if evaluate_every is None else integer("evaluate_every", evaluate_every, 1)
    generator = torch.Generator().manual_seed(integer("seed", seed, 0, 2**63 - 1))
    scheduler = _scheduler(schedule, optimizer)
    factor = None if isinstance(schedule, LRScheduler) else schedule
    smallest = batch_size if replacement or steps <= n // batch_size else n % batch_size or batch_size
    if smallest == 1:
        _check_one_sample(model, train[0][:1], f"got {batch_size} for {n} samples")

    rates, buffers = {}, [(m._buffers, key) for m in model.modules() for key, b in m._buffers.items() if b is not None]
    records: list[tuple[float, ...]] = []
    evaluations: list[tuple[float, ...]] = []

    def evaluate_now(step: int) -> None:
        scores = [evaluate(model, *s, loss=loss) if s else (math.nan, math.nan) for s in (train, test)]
        evaluations.append((step, *scores[0], *scores[1]))

    seconds, samples, interrupted = 0.0, 0, False
    model.train()
    try:
        evaluate_now(0)
        indices = batches(n, batch_size, generator, replacement=replacement)
        for step in progress(range(steps), desc=desc):
            start = time.perf_counter()
            index = next(indices).to(train[0].device)
            x, y = train[0][index], train[1][index]
            if factor is not None:
                _set_rates(optimizer, rates, float(real("schedule(step)", factor(step), 0.0)))
            lr, losses = float(optimizer.param_groups[0]["lr"]), []

            def closure(
                x: Tensor = x, y: Tensor = y, step: int = step, lr: float = lr, losses: list = losses
            ) -> Tensor:
                optimizer.zero_grad()
                value = loss(model(x), targets(y, loss))
                losses.append(value.item())
                if not math.isfinite(losses[-1]):
                    raise NonFiniteLoss(step, losses[-1], lr)
                value.backward()
                return value

            with _undone_on_failure(optimizer, buffers):
                optimizer.step(closure)  # pyright: ignore[reportCallIssue, reportArgumentType]: hinted float, a tensor in fact
            if scheduler is not None:
                _step(scheduler)
            seconds += time.perf_counter() - start
            samples += len(losses) * len(index)
            records.append((step, losses[0], lr, seconds, samples))
            stop = any([callback(step + 1, model) is True for callback in callbacks])
            if stop or step + 1 == steps or (step + 1) % every == 0:
                evaluate_now(step + 1)
            if stop:
                break
    except KeyboardInterrupt:
        interrupted = True
    except NonFiniteLoss as error:
        error.history = _history(records, evaluations, interrupted=False)
        raise
    finally:
        if factor is not None:
            _set_rates(optimizer, rates, 1.0)
    return _history(records, evaluations, interrupted=interrupted)


@torch.no_grad()
def evaluate(model: nn.Module, x: Tensor, y: Tensor, *, loss: Loss = cross_entropy) -> tuple[float, float]:
    """``(loss, accuracy)`` in evaluation mode; the mode of every module is put back afterwards.

    The accuracy is that of :func:`optcourse.models.rows.accuracy`, NaN unless there are class labels.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        output = torch.cat([model(part) for part in x.split(4096)])
        return loss(output, targets(y, loss)).item(), accuracy(output, y).item()
    finally:
        for module, mode in modes:
            module.training = mode


def batches(n: int, batch_size: int, generator: torch.Generator, *, replacement: bool = False) -> Iterator[Tensor]:
    """Endless mini-batches of indices ``0..n-1``.

    Without replacement every epoch is a new permutation (its last batch may be smaller); with
    replacement each index is drawn independently and uniformly.
    """
    integer("n", n, 1)
    integer("batch_size", batch_size, 1, n)
    while True:
        if replacement:
            yield torch.randint(n, (batch_size,), generator=generator)
        else:
            yield from torch.randperm(n, generator=generator).split(batch_size)


def _sets(data: Dataset | tuple[Tensor, Tensor]) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor] | None]:
    if isinstance(data, Dataset):
        return (data.x_train, data.y_train), (data.x_test, data.y_test)
    x, y = data
    if len(x) != len(y) or len(x) == 0:
        raise ValueError(f"data must be (x, y) of the same length >= 1, got lengths {len(x)} and {len(y)}")
    return (x, y), None


def _check_one_sample(model: nn.Module, x: Tensor, given: str) -> None:
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        try:
            with torch.no_grad(), torch.random.fork_rng([x.device] if x.is_cuda else []):
                copy.deepcopy(model).train()(x)
        except ValueError as error:
            message = f"batch_size must leave no batch of one sample to batch normalization, {given}: {error}"
            raise ValueError(message) from error


def _scheduler(schedule: Callable | LRScheduler | None, optimizer: torch.optim.Optimizer) -> LRScheduler | None:
    if isinstance(schedule, ReduceLROnPlateau):
        raise ValueError("schedule must be a function of the step, got ReduceLROnPlateau, which needs a metric")
    if isinstance(schedule, LRScheduler):
        if schedule.optimizer.param_groups is not optimizer.param_groups:  # a wrapper shares those of its optimizer
            raise ValueError("schedule must be a scheduler of the optimizer given to fit, got one of another optimizer")
        return schedule
    if schedule is not None and not callable(schedule):
        raise TypeError(f"schedule must be a function of the step or a torch scheduler, got {schedule!r}")
    return None


def _step(scheduler: LRScheduler) -> None:
    try:
        scheduler.step()
    except ValueError as error:
        message = f"schedule does not fit the optimizer's groups (did a callback add one?): {error}"
        raise ValueError(message) from error


def _set_rates(optimizer: torch.optim.Optimizer, rates: dict[int, tuple[dict, float]], factor: float) -> None:
    """The rate of every group is ``factor`` times the one it came with, which ``rates`` keeps."""
    for group in optimizer.param_groups:
        _, rate = rates.setdefault(id(group), (group, float(group["lr"])))
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * factor)
        else:
            group["lr"] = rate * factor


@contextmanager
def _undone_on_failure(optimizer: torch.optim.Optimizer, buffers: list[tuple[dict, str]]) -> Iterator[None]:
    """Put parameters and buffers back if an update raises: it may stand at the trial point of a line search."""

    def now() -> list[Tensor]:
        return [*params, *(home[key] for home, key in buffers)]  # get_buffer takes longer than a copy

    params = [p for group in optimizer.param_groups for p in group["params"]]
    with torch.no_grad():
        before = [t.clone() for t in now()]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for tensor, then in zip(now(), before, strict=True):
                tensor.copy_(then)
        raise


def _history(records: Iterable[tuple], evaluations: Iterable[tuple], *, interrupted: bool) -> History:
    step, loss, lr, seconds, samples = np.array(records, dtype=float).reshape(-1, 5).T
    eval_step, *scores = np.array(evaluations, dtype=float).reshape(-1, 5).T
    train = step.astype(int), loss, lr, seconds, samples.astype(int)
    return History(*train, eval_step.astype(int), *scores, interrupted=interrupted)
