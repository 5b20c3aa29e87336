"""Four normalizations against torch, their gradient against autograd, running statistics and ghosts."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad, vmap

from optcourse import models, sliders
from optcourse.models import norms, rows
from optcourse.training import fit

#: What torch has, without gain and offset; each on x of C channels.
TORCH = {
    ("batch", 1): lambda x: nn.functional.batch_norm(x, None, None, training=True),
    ("layer", 1): lambda x: nn.functional.layer_norm(x, x.shape[1:]),
    ("instance", 1): lambda x: nn.functional.instance_norm(x),
    ("group", 2): lambda x: nn.functional.group_norm(x, 2),
    ("group", 1): lambda x: nn.functional.layer_norm(x, x.shape[1:]),  # one group is layer normalization
    ("group", 4): lambda x: nn.functional.instance_norm(x),  # a channel a group is instance normalization
}
SHAPES = [(6, 4, 5), (3, 4, 5, 2), (2, 4, 3, 3)]


def numbers(*shape, seed=0):
    """Far from normalized, so that a wrong mean or axis shows."""
    return 3 + 2 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("norm", "groups"), TORCH)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_gradient_are_torchs(norm, groups, shape):
    x, g = numbers(*shape).requires_grad_(), numbers(*shape, seed=1)
    ours, theirs = norms.normalize(x, norm, groups=groups), TORCH[norm, groups](x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, g)[0] for y in (ours, theirs)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("norm", "groups"), [("batch", 1), ("layer", 1), ("group", 2)])
def test_vectors_are_normalized_like_torchs(norm, groups):
    x = numbers(7, 6)
    expected = TORCH[norm, groups](x)
    torch.testing.assert_close(norms.normalize(x, norm, groups=groups), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("norm", "groups"), TORCH)
def test_first_and_second_derivatives_are_those_of_differences(norm, groups):
    x = numbers(2, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: norms.normalize(x, norm, groups=groups), (x,))
    assert torch.autograd.gradgradcheck(lambda x: norms.normalize(x, norm, groups=groups), (x,))


def test_the_gradient_by_hand_is_autograds():
    x, g, axes = numbers(5, 3, 4).requires_grad_(), numbers(5, 3, 4, seed=1), (0, 2)
    plain = (x - x.mean(axes, keepdim=True)) / (x.var(axes, correction=0, keepdim=True) + 0.1).sqrt()
    (expected,) = torch.autograd.grad(plain, x, g)
    torch.testing.assert_close(norms.normalize_backward(g, x.detach(), axes, 0.1), expected, rtol=0, atol=1e-12)


def test_the_gradient_through_a_normalization_has_no_mean_and_no_stretch():
    """Santurkar et al. 2018, theorem 4.1, with equality: the squared norm loses exactly these two parts."""
    x, g = numbers(50, 3), numbers(50, 3, seed=1)
    y, d = norms.normalize(x, "batch", eps=0.0), norms.normalize_backward(g, x, (0,), eps=0.0)
    assert d.sum(0).abs().max() < 1e-12 and (d * y).sum(0).abs().max() < 1e-12
    kept = g.square().sum(0) - (g.sum(0).square() + (g * y).sum(0).square()) / 50
    torch.testing.assert_close(d.square().sum(0), kept / x.var(0, correction=0), rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(8, 3), (6, 3, 5), (4, 3, 5, 2), (2, 3, 4, 4)])
def test_batch_norm_is_torchs_in_training_and_evaluation(shape):
    ours = norms.BatchNorm(3, momentum=0.3).double()
    theirs = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)](3, momentum=0.3).double()
    nn.init.normal_(theirs.weight, generator=torch.Generator().manual_seed(2))
    nn.init.normal_(theirs.bias, generator=torch.Generator().manual_seed(3))
    ours.load_state_dict(theirs.state_dict())
    for seed in range(3):
        x = numbers(*shape, seed=seed)
        a, b = (x.clone().requires_grad_() for _ in range(2))
        ya, yb = ours(a), theirs(b)
        torch.testing.assert_close(ya, yb, rtol=0, atol=1e-12)
        mine, other = (
            torch.autograd.grad(y.pow(3).sum(), [z, *layer.parameters()])
            for y, z, layer in ((ya, a, ours), (yb, b, theirs))
        )
        for p, q in zip(mine, other, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-11)
    for name, buffer in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], buffer, rtol=1e-13, atol=0)
    before = copy.deepcopy(ours.state_dict())
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=0, atol=1e-12)
    assert all(torch.equal(before[name], value) for name, value in ours.state_dict().items())


def test_what_is_remembered_is_unbiased_and_what_normalizes_is_not():
    layer, x = norms.BatchNorm(1, affine=False, momentum=1.0).double(), torch.tensor([[0.0], [2.0]]).double()
    assert layer(x).flatten().tolist() == pytest.approx([-1.0, 1.0], abs=1e-5)  # variance 1
    assert layer.running_mean.item() == 1.0 and layer.running_var.item() == 2.0


@pytest.mark.parametrize("shape", [(12, 3), (12, 3, 5)])
def test_ghosts_are_batches_of_their_own_and_their_statistics_are_averaged(shape):
    x, layer, parts = numbers(*shape), norms.BatchNorm(3, ghost_size=4).double(), []
    y = layer(x)
    each = [nn.BatchNorm1d(3).double() for _ in range(3)]
    for part, alone in zip(x.split(4), each, strict=True):
        parts.append(alone(part))
    torch.testing.assert_close(y, torch.cat(parts), rtol=0, atol=1e-12)
    for name in ("running_mean", "running_var"):
        mean = torch.stack([getattr(alone, name) for alone in each]).mean(0)
        torch.testing.assert_close(getattr(layer, name), mean, rtol=1e-12, atol=0)


def test_one_ghost_is_the_batch():
    x, ghost, whole = numbers(6, 3), norms.BatchNorm(3, ghost_size=6).double(), norms.BatchNorm(3).double()
    assert torch.equal(ghost(x), whole(x)) and torch.equal(ghost.running_var, whole.running_var)


def test_ghost_batches_replace_the_layers_and_keep_their_tensors():
    model = models.mlp(5, 3, width=4, depth=3, norm="batch", residual=True)
    model[-3].eval()
    before, buffers, names = list(model.parameters()), list(model.buffers()), list(model.state_dict())
    same = norms.ghost_batches(model, 2)
    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert same is model and len(layers) == 3
    assert all(type(m) is norms.BatchNorm and m.ghost_size == 2 for m in layers)
    assert [m.training for m in layers] == [True, True, False]
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True))
    assert all(a is b for a, b in zip(buffers, model.buffers(), strict=True))
    assert list(model.state_dict()) == names


def test_a_network_with_the_batch_as_its_ghost_trains_like_torchs():
    data = numbers(64, 5).float(), torch.arange(64) % 3
    losses = []
    for change in (lambda model: model, lambda model: norms.ghost_batches(model, None)):
        model = change(models.mlp(5, 3, width=8, depth=3, norm="batch", seed=1)).double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        losses.append(fit(model, (data[0].double(), data[1]), optimizer, steps=20, batch_size=16).loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


def test_training_says_which_batches_do_not_fit():
    data = numbers(65, 5).float(), torch.arange(65) % 3

    def train(ghost_size, batch_size):
        model = norms.ghost_batches(models.mlp(5, 3, width=8, norm="batch"), ghost_size)
        fit(model, data, torch.optim.SGD(model.parameters(), lr=0.1), epochs=1, batch_size=batch_size)

    with pytest.raises(ValueError, match="batch_size must leave no batch of one sample to batch normalization"):
        train(None, 16)
    with pytest.raises(ValueError, match="ghost_size must divide the number of samples, 13, got 4"):
        train(4, 13)
    train(5, 13 * 5)


def test_many_copies_at_once_refuse_batch_statistics():
    model = norms.ghost_batches(models.mlp(4, 3, width=5, norm="batch"), 2)
    with pytest.raises(ValueError, match="model must not contain BatchNorm: its running statistics"):
        rows.check_rows(model)


def test_the_function_works_under_vmap_and_grad():
    """As many copies see it: a layer normalization of ours inside torch.func."""

    class Layer(nn.Module):
        def forward(self, x):
            return norms.normalize(x, "layer")

    net, x = nn.Sequential(nn.Linear(3, 4), Layer()), numbers(2, 6, 3).float()
    own = {name: torch.stack([p, 2 * p]).detach() for name, p in net.named_parameters()}

    def loss(own, x):
        return functional_call(net, own, (x,)).pow(3).sum()

    both = vmap(grad(loss))(own, x)
    for i in range(2):
        alone = grad(loss)({name: p[i] for name, p in own.items()}, x[i])
        for name, g in alone.items():
            torch.testing.assert_close(both[name][i], g, rtol=1e-4, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(1, 6), channels=st.integers(1, 6), positions=st.integers(1, 3),
    groups=st.integers(1, 6), ghost_size=st.integers(1, 6), norm=st.sampled_from(list(norms.AXES)),
)  # fmt: skip
def test_every_set_has_mean_zero_or_the_argument_is_named(n, channels, positions, groups, ghost_size, norm):
    x = numbers(n, channels, positions)
    if n % ghost_size:
        wrong = f"ghost_size must divide the number of samples, {n}, got {ghost_size}"
    elif channels % groups:
        wrong = f"groups must divide the number of channels, {channels}, got {groups}"
    else:
        together = {
            "batch": ghost_size * positions,
            "layer": channels * positions,
            "instance": positions,
            "group": channels // groups * positions,
        }[norm]
        wrong = "" if together > 1 else f"norm='{norm}' needs at least 2 numbers to normalize together, got 1"
    if wrong:
        with pytest.raises(ValueError, match=wrong):
            norms.normalize(x, norm, groups=groups, ghost_size=ghost_size)
        return
    y = norms.normalize(x, norm, groups=groups, ghost_size=ghost_size, eps=0.0)
    first = {  # the set of the first number
        "batch": y[:ghost_size, 0],
        "layer": y[0],
        "instance": y[0, 0],
        "group": y[0, : channels // groups],
    }[norm]
    assert first.mean().abs() < 1e-9 and (first.square().mean() - 1).abs() < 1e-9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: norms.normalize(numbers(4, 3), "row"), "norm must be one of 'batch', 'layer', 'instance', 'group'"),
        (lambda: norms.normalize(numbers(4), "batch"), r"x must have shape \[N, C, ...\]"),
        (lambda: norms.normalize(numbers(0, 3), "batch"), "at least one number"),
        (lambda: norms.normalize(numbers(4, 3), "batch", eps=-1.0), r"eps must be in \[0, inf\), got -1"),
        (lambda: norms.normalize(numbers(4, 3), "instance"), "norm='instance' needs at least 2 numbers"),
        (lambda: norms.normalize(numbers(4, 3), "batch", ghost_size=3), "ghost_size must divide .* 4, got 3"),
        (lambda: norms.normalize(numbers(4, 3), "group", groups=2), "groups must divide .* 3, got 2"),
        (lambda: norms.BatchNorm(0), "channels must be at least 1, got 0"),
        (lambda: norms.BatchNorm(3, eps=0.0), r"eps must be in \(0, inf\), got 0"),
        (lambda: norms.BatchNorm(3, momentum=1.5), r"momentum must be in \[0, 1\], got 1.5"),
        (lambda: norms.BatchNorm(3, ghost_size=0), "ghost_size must be at least 1, got 0"),
        (lambda: norms.BatchNorm(3)(numbers(4, 2).float()), r"x must have shape \[N, 3, ...\], got \[4, 2\]"),
        (lambda: norms.BatchNorm(3)(numbers(1, 3).float()), "norm='batch' needs at least 2 numbers"),
        (
            lambda: norms.ghost_batches(models.mlp(2, 2), 4),
            "model must contain layers of batch normalization, got Sequential",
        ),
        (
            lambda: norms.ghost_batches(nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)), 4),
            "must keep running statistics",
        ),
        (lambda: sliders.norms_figure(8, 0, 2, 4), r"sample must be in 0..7, got 8"),
        (lambda: sliders.norms_figure(0, -1, 2, 4), r"channel must be in 0..7, got -1"),
        (lambda: sliders.norms_figure(0, 0, 3, 4), "groups must divide the number of channels, 8, got 3"),
        (lambda: sliders.norms_figure(0, 0, 2, 3), "ghost_size must divide the number of samples, 8, got 3"),
    ],
)
def test_bad_arguments_of_the_normalizations_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_figure_colours_the_sets_by_hand():
    fig = sliders.norms_figure(sample=5, channel=2, groups=4, ghost_size=2)
    fig.canvas.draw()
    coloured = {ax.get_title().split(":")[0]: ax.images[0].get_array().reshape(sliders.TABLE) for ax in fig.axes}
    expected = {"batch": (slice(4, 6), 2), "layer": (5,), "instance": (5, 2), "group": (5, slice(2, 4))}
    for norm, where in expected.items():
        by_hand = np.zeros(sliders.TABLE)
        by_hand[where] = 1
        by_hand[5, 2, 0] = 2
        assert (coloured[norm] == by_hand).all(), norm
    assert [ax.get_title() for ax in fig.axes] == [
        "batch: 8 numbers together",
        "layer: 32 numbers together",
        "instance: 4 numbers together",
        "group: 8 numbers together",
    ]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_as_in_torch(dtype):
    x = (300 * torch.randn(64, 4, generator=torch.Generator().manual_seed(0))).to(dtype)
    ours, theirs = norms.BatchNorm(4), nn.BatchNorm1d(4)
    for mode in (True, False):
        a, b = ours.train(mode)(x), theirs.train(mode)(x)
        assert a.dtype == b.dtype == dtype
        assert torch.allclose(a.float(), b.float(), atol=0.02)
    assert torch.allclose(ours.running_var, theirs.running_var, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours.train()(nn.Linear(4, 4)(x.float())).dtype == torch.bfloat16


def test_a_layer_that_occurs_twice_is_replaced_by_one():
    norm = nn.BatchNorm1d(3)
    model = norms.ghost_batches(nn.Sequential(norm, nn.ReLU(), norm), 2)
    assert model[0] is model[2] and isinstance(model[0], norms.BatchNorm)
