"""Gradients of many nodes against a Python loop over modules; the same bits however many rows are asked for."""

import copy
import shutil
import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from optcourse import models
from optcourse.models.rows import evaluate, flat_parameters
from optcourse.nodes.samples import compiled, gradients
from optcourse.nodes.samples.gradients import flat_gradient

CLASSES = 3


pytestmark = pytest.mark.usefixtures("one_thread")  # what the promise about bits is made for


class Tied(nn.Module):
    """One matrix used twice, a parameter that is not used, and a forward pass of its own."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = self.first
        self.unused = nn.Parameter(torch.ones(2))
        self.last = nn.Linear(6, CLASSES, bias=False)

    def forward(self, x):
        return self.last(self.second(F.softplus(self.first(x))))


#: name -> (model, number of features). Odd sizes: no row begins where a vector register would like it.
FAST = {
    "linear": (lambda: models.softmax_regression(5, CLASSES), 5),
    "one feature": (lambda: models.mlp(1, CLASSES, width=3, depth=2, activation="tanh"), 1),
    "mlp": (lambda: models.mlp(64, CLASSES, width=128, depth=1), 64),
    "mlp residual gelu": (lambda: models.mlp(7, CLASSES, width=5, depth=3, residual=True, activation="gelu"), 7),
    "mlp group silu": (lambda: models.mlp(7, CLASSES, width=15, depth=2, norm="group", activation="silu"), 7),
    "cnn2d": (lambda: models.cnn2d(8, CLASSES, channels=(4, 6)), 64),
    "cnn2d residual layer": (
        lambda: models.cnn2d(7, CLASSES, channels=(3, 5), norm="layer", blocks=1, residual=True, activation="gelu"),
        49,
    ),
    "cnn2d instance": (lambda: models.cnn2d(9, CLASSES, channels=(3, 5), strides=(2, 1), norm="instance"), 81),
    "cnn1d": (lambda: models.cnn1d(40, CLASSES, channels=(5, 7), strides=(2, 3)), 40),
    "cnn1d pointwise": (lambda: models.cnn1d(5, CLASSES, channels=(3,), strides=(1,), kernel_size=1), 5),
}
GENERAL = {
    "tied": (Tied, 6),
    "twice the same": (lambda: nn.Sequential(first := nn.Linear(3, 3), nn.ReLU(), first), 3),
    "layer norm": (lambda: nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Softplus(), nn.Linear(5, CLASSES)), 6),
    "dilated, pooled": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 12)), nn.Conv1d(1, 4, 3, dilation=2), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(16, 3)
        ),
        12,
    ),
    "same padding": (
        lambda: nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 2, 3, padding="same"), nn.Flatten(), nn.ReLU()),
        6,
    ),
    "rows of features": (lambda: nn.Sequential(nn.Unflatten(1, (3, 4)), nn.Linear(4, 1), nn.Flatten()), 12),
}


def squared(scores, y):
    return ((scores - F.one_hot(y, scores.shape[-1])) ** 2).mean()


def binary(scores, y):
    return F.binary_cross_entropy_with_logits(scores, F.one_hot(y, scores.shape[-1]).to(scores.dtype))


LOSSES = {"cross entropy": F.cross_entropy, "squared": squared, "binary": binary}


def case(make, features, n, batch, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # modules of torch initialize themselves from the global generator
        model = make().to(dtype)
    x = flat_parameters(model)
    x = x + 0.2 * torch.randn(n, len(x), generator=generator, dtype=dtype)
    X = torch.randn(n, batch, features, generator=generator, dtype=dtype)
    return model, x, X, torch.randint(CLASSES, (n, batch), generator=generator)


def loop(model, loss, x, X, Y):
    """The oracle: one module after the other, its own backward pass."""
    rows = []
    for row, inputs, targets in zip(x, X, Y, strict=True):
        own = copy.deepcopy(model)
        nn.utils.vector_to_parameters(row, own.parameters())
        loss(own(inputs), targets).backward()
        own_gradients = (torch.zeros_like(p) if p.grad is None else p.grad for p in own.parameters())
        rows.append(torch.cat([g.flatten() for g in own_gradients]))
    return torch.stack(rows)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", FAST | GENERAL)
def test_gradients_are_those_of_a_loop_over_modules(name, loss):
    model, x, X, Y = case(*(FAST | GENERAL)[name], n=3, batch=5, dtype=torch.float64)
    ours, theirs = flat_gradient(model, LOSSES[loss], (X, Y))(x), loop(model, LOSSES[loss], x, X, Y)
    # float64 rounds at 1e-16; sums of a few hundred terms, and norms over few numbers, amplify that.
    assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-11 * float(theirs.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", FAST)
def test_a_row_has_the_same_bits_however_many_rows_are_asked_for(name, dtype):
    for batch, loss in ((16, F.cross_entropy), (3, F.cross_entropy), (5, binary)):
        model, x, X, Y = case(*FAST[name], n=70, batch=batch, dtype=dtype)
        whole = flat_gradient(model, loss, (X, Y))(x)
        for rows in (1, 2, 3, 5, 8, 16):
            for start in (0, 17, 70 - rows):
                part = slice(start, start + rows)
                alone = flat_gradient(model, loss, (X[part].clone(), Y[part]))(x[part].clone())
                assert torch.equal(alone, whole[part]), (batch, rows, start)


@pytest.mark.parametrize("name", ["linear", "mlp", "cnn2d"])
def test_it_does_not_matter_where_the_parameters_lie(name):
    model, x, X, Y = case(*FAST[name], n=5, batch=16, dtype=torch.float32)
    grad = flat_gradient(model, F.cross_entropy, (X, Y))
    wide = torch.zeros(5, x.shape[1] + 3)
    wide[:, 2:-1] = x
    assert torch.equal(grad(wide[:, 2:-1]), grad(x)) and torch.equal(grad(x.T.contiguous().T), grad(x))
    assert torch.equal(grad(x[:1].expand(5, -1)), grad(x[:1].repeat(5, 1)))


@pytest.mark.parametrize("name", ["mlp", "cnn2d"])
def test_chunks_do_not_change_results(name, monkeypatch):
    model, x, X, Y = case(*FAST[name], n=11, batch=4, dtype=torch.float32)
    whole = flat_gradient(model, F.cross_entropy, (X, Y))(x)
    for most in (1, 2, 4):
        monkeypatch.setattr(gradients, "MOST", most)
        assert torch.equal(flat_gradient(model, F.cross_entropy, (X, Y))(x), whole)


def test_data_is_asked_once_per_call_and_for_the_rows():
    model, x, X, Y = case(*FAST["mlp"], n=70, batch=2, dtype=torch.float32)

    class Data:
        asked = ()

        def batch(self, rows=None):
            self.asked = (*self.asked, rows)
            return (X, Y) if rows is None else (X[rows], Y[rows])

    data = Data()
    grad = flat_gradient(model, F.cross_entropy, data)
    whole = grad(x)
    assert data.asked == (None,)
    rows = torch.tensor([1, 69])
    assert torch.equal(grad(x[rows], rows), whole[rows]) and data.asked[1] is rows
    assert torch.equal(flat_gradient(model, F.cross_entropy, (X, Y))(x[rows], rows), whole[rows])


@pytest.mark.parametrize("name", ["mlp", *GENERAL])
def test_nothing_but_the_result_changes(name):
    model, x, X, Y = case(*(FAST | GENERAL)[name], n=3, batch=2, dtype=torch.float32)
    before = [t.clone() for t in (x, X, *model.parameters())]
    g = flat_gradient(model, F.cross_entropy, (X, Y))(x.requires_grad_())
    evaluate(model, x, X[0], Y[0])
    assert not g.requires_grad and x.grad is None and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, (x, X, *model.parameters()), strict=True))


def test_no_row_gives_no_gradient():
    model, x, X, Y = case(*FAST["mlp"], n=1, batch=2, dtype=torch.float32)
    assert flat_gradient(model, F.cross_entropy, (X[:0], Y[:0]))(x[:0]).shape == (0, x.shape[1])


def uncompiled(graph, example, options=None):
    """The traced graph as it is: all but the compiler."""
    return graph


@pytest.mark.parametrize("name", [*FAST, *GENERAL])
def test_traced_gradients_are_equal_up_to_rounding(name, monkeypatch):
    monkeypatch.setattr(torch._inductor, "compile", uncompiled)
    model, x, X, Y = case(*(FAST | GENERAL)[name], n=5, batch=3, dtype=torch.float64)
    grad = flat_gradient(model, F.cross_entropy, (X, Y), compile=True)
    wanted = loop(model, F.cross_entropy, x, X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # falling back would hide what this is about
        for rows in ([0, 1, 2], [3]):
            assert torch.allclose(grad(x[rows], torch.tensor(rows)), wanted[rows], rtol=1e-12, atol=1e-14)


@pytest.mark.skipif(not shutil.which("g++"), reason="torch's compiler needs a C++ compiler")
def test_compiled_gradients_are_equal_up_to_rounding():
    model, x, X, Y = case(lambda: models.mlp(4, CLASSES, width=5, depth=1), 4, n=35, batch=5, dtype=torch.float64)
    wanted = loop(model, F.cross_entropy, x, X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        grad = flat_gradient(model, F.cross_entropy, (X, Y), compile=True)
        assert torch.allclose(grad(x), wanted, rtol=1e-12, atol=1e-14)  # 32 nodes, then 3
        # A program was made for one layout in memory; numbers that lie otherwise reach it in that one.
        spread = torch.empty(*x.shape, 2, dtype=x.dtype)[..., 0].copy_(x)
        swapped = X.transpose(1, 2).contiguous().transpose(1, 2), Y.T.contiguous().T
        grad = flat_gradient(model, F.cross_entropy, swapped, compile=True)
        for parameters in (x, spread, x.T.contiguous().T, x.clone().requires_grad_()):
            found = grad(parameters)
            assert torch.allclose(found, wanted, rtol=1e-12, atol=1e-14) and not found.requires_grad


def test_only_the_first_shapes_get_a_program(monkeypatch):
    asked = []
    monkeypatch.setattr(torch._inductor, "compile", lambda *call, options: asked.append(call) or uncompiled(*call))
    model, x, X, Y = case(*FAST["linear"], n=12, batch=2, dtype=torch.float64)
    grad, eager = (flat_gradient(model, F.cross_entropy, (X, Y), compile=compile) for compile in (True, False))
    for size in (*range(1, 13), 1, 12):
        rows = torch.arange(size)
        assert torch.allclose(grad(x[:size], rows), eager(x[:size], rows), rtol=1e-12, atol=1e-14)
    assert len(asked) == compiled.MOST_PROGRAMS < 12


def test_without_a_compiler_gradients_are_eager_and_say_so_once(monkeypatch):
    def broken(*call, options):
        raise OSError("no C++ compiler\nand more")

    monkeypatch.setattr(torch._inductor, "compile", broken)
    model, x, X, Y = case(*FAST["mlp"], n=2, batch=3, dtype=torch.float32)
    grad = flat_gradient(model, F.cross_entropy, (X, Y), compile=True)
    with pytest.warns(RuntimeWarning, match=r"does not work here \(no C\+\+ compiler\)"):
        first = grad(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(grad(x), first)
    assert torch.equal(first, flat_gradient(model, F.cross_entropy, (X, Y))(x))


def test_evaluate_is_loss_and_accuracy_of_each_row():
    model, x, X, Y = case(*FAST["mlp residual gelu"], n=4, batch=30, dtype=torch.float64)
    losses, accuracies = evaluate(model, x, X[0], Y[0])
    for row, loss, accuracy in zip(x, losses, accuracies, strict=True):
        own = copy.deepcopy(model)
        nn.utils.vector_to_parameters(row, own.parameters())
        scores = own(X[0])
        assert loss.item() == pytest.approx(F.cross_entropy(scores, Y[0]).item(), rel=1e-12)
        assert accuracy == sum(int(s.argmax() == y) for s, y in zip(scores, Y[0], strict=True)) / 30
    alone = evaluate(model, x[2], X[0], Y[0])
    assert alone[0].shape == () and alone[0] == losses[2] and alone[1] == accuracies[2]


def test_flat_parameters_are_a_copy_in_the_order_of_the_model():
    model = models.mlp(4, CLASSES, width=5, depth=1)
    x = flat_parameters(model)
    assert torch.equal(x, nn.utils.parameters_to_vector(model.parameters()).detach())
    x.zero_()
    assert any(p.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (models.mlp(4, 3, norm="batch"), "must not contain BatchNorm1d"),
        (models.cnn2d(8, 3, norm="batch"), "must not contain BatchNorm2d"),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)), "must not contain BatchNorm1d"),
        (nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)), "must not contain Dropout"),
        (nn.ReLU(), "must have parameters"),
    ],
    ids=str,
)
def test_models_that_are_not_one_node_each_are_refused(model, message):
    data = torch.ones(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match=message):
        flat_gradient(model, F.cross_entropy, data)
    with pytest.raises(ValueError, match=message):
        evaluate(model, torch.ones(4), *data)


@pytest.mark.parametrize("compile", [False, True])
def test_a_loss_must_be_one_number_per_batch(compile):
    model, x, X, Y = case(*FAST["linear"], n=2, batch=3, dtype=torch.float32)
    grad = flat_gradient(model, lambda s, y: F.cross_entropy(s, y, reduction="none"), (X, Y), compile=compile)
    with pytest.raises(ValueError, match=r"loss must return one number per batch, got shape \[3\]"):
        grad(x)


@settings(max_examples=30)
@given(rows=st.integers(0, 4), extra=st.integers(-3, 3), batches=st.integers(0, 4), dim=st.integers(1, 3))
def test_shapes_that_do_not_fit_are_refused(rows, extra, batches, dim):
    model = models.softmax_regression(5, CLASSES)
    d = models.n_parameters(model)
    x = torch.zeros(*[rows, d + extra, 1][:dim])
    grad = flat_gradient(model, F.cross_entropy, (torch.zeros(batches, 2, 5), torch.zeros(batches, 2).long()))
    if dim == 2 and extra == 0 and rows == batches:
        assert grad(x).shape == (rows, d)
    else:
        with pytest.raises(ValueError, match=rf"x must have shape \[rows, {d}\]"):
            grad(x)
