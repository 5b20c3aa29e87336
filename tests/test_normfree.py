"""Normalizer-free parts against loops over rows, torch's layers, frequencies of masks, and networks layer by layer."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from optcourse import data, models, optim
from optcourse.models import normfree, rows
from optcourse.theory import signal
from optcourse.training import copies, fit


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# ---------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("shape", [(7, 11), (4, 3, 5), (4, 3, 5, 5)])
def test_standardized_rows_by_a_loop(shape):
    W = 3 * randn(*shape) + 5
    got = normfree.standardize(W)
    for row, ours in zip(W.numpy(), got.numpy(), strict=True):
        np.testing.assert_allclose(ours, (row - row.mean()) / (np.sqrt(row.size) * row.std()), rtol=1e-12, atol=1e-14)


@given(scale=st.floats(0.1, 100), shift=st.floats(-100, 100))
def test_scale_and_shift_of_a_row_do_not_matter(scale, shift):
    W = randn(3, 20)
    assert torch.allclose(normfree.standardize(scale * W + shift), normfree.standardize(W), atol=1e-10)


def test_a_constant_row_becomes_zero_and_has_a_gradient():
    W = torch.ones(2, 5, requires_grad=True)
    out = normfree.standardize(W)
    out.sum().backward()
    assert out.eq(0).all() and W.grad.isfinite().all()


@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 1, 1)])
def test_rows_of_one_number_are_refused(shape):
    with pytest.raises(ValueError, match="weight must have shape"):
        normfree.standardize(torch.ones(shape))


def test_a_convolution_is_the_linear_layer_on_patches():
    """So the fan-in is channels times positions."""
    conv = normfree.WSConv2d(3, 4, 3, padding=1, stride=2).double()
    nn.init.normal_(conv.gain), nn.init.normal_(conv.weight, 2.0)
    linear = normfree.WSLinear(27, 4).double()
    for name in ("gain", "bias", "weight"):
        getattr(linear, name).data.copy_(getattr(conv, name).data.view_as(getattr(linear, name)))
    x = randn(2, 3, 6, 6)
    patches = F.unfold(x, 3, padding=1, stride=2).transpose(1, 2)
    assert torch.allclose(conv(x).flatten(2).transpose(1, 2), linear(patches), atol=1e-12)


def test_gradients_are_orthogonal_to_the_row_and_to_ones():
    layer = normfree.WSLinear(9, 5).double()
    layer(randn(7, 9)).tanh().square().sum().backward()
    W, g = layer.weight.detach(), layer.weight.grad
    assert (g * W).sum(1).abs().max() < 1e-12 and g.sum(1).abs().max() < 1e-12 and g.norm() > 0.1


def test_the_gain_is_the_one_of_theory():
    assert signal.centred_gain("relu") == pytest.approx(normfree.RELU_GAIN, rel=1e-12)
    z = randn(1_000_000, dtype=torch.float32)
    for beta in (1.0, 3.0):  # a standard error of 0.2 %
        assert normfree.ScaledReLU(beta)(beta * z).var().item() == pytest.approx(1.0, rel=0.01)


# ------------------------------------------------------------------------------------------ masks


def test_dropout_keeps_the_expectation_and_has_the_stated_variance():
    torch.manual_seed(0)
    x, p, n = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), 0.3, 200_000
    y = normfree.Dropout(p)(x.expand(n, 3))
    assert sorted(set(y[:, 0].tolist())) == pytest.approx([0.0, 1 / 0.7])
    error = math.sqrt(p / (1 - p) / n)
    assert ((y.mean(0) / x - 1).abs() < 5 * error).all()
    assert torch.allclose(y.var(0), p / (1 - p) * x**2, rtol=0.02)
    assert torch.corrcoef(y.T).fill_diagonal_(0).abs().max() < 5 / math.sqrt(n)


def test_whole_samples_are_kept_or_dropped():
    torch.manual_seed(1)
    x = randn(2000, 3, 4)
    y = normfree.Dropout(0.25, whole=True)(x)
    ratio = (y / x).flatten(1)
    assert (ratio - ratio[:, :1]).abs().max() < 1e-12 and ratio[:, 0].mean().item() == pytest.approx(1, abs=0.07)
    assert torch.equal(normfree.Dropout(0.25, whole=True).eval()(x), x)


def test_dropout_in_the_same_proportion_as_torch():
    x = torch.ones(100_000)
    torch.manual_seed(2)
    ours, theirs = normfree.Dropout(0.6)(x[None])[0], nn.Dropout(0.6)(x)
    assert ours.unique().tolist() == pytest.approx(theirs.unique().tolist())
    assert ours.mean().item() == pytest.approx(theirs.mean().item(), abs=0.03)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_probabilities_outside_of_the_range_are_refused(p):
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\)"):
        normfree.Dropout(p)


# ----------------------------------------------------------------------------------------- blocks


def test_a_block_by_hand():
    block = normfree.NFBlock(normfree.WSLinear(6, 6), beta=2.0, alpha=0.3, skip_gain=0.7).double()
    nn.init.normal_(block.layer.gain)
    h = randn(4, 6)
    W = block.layer.gain.detach()[:, None] * normfree.standardize(block.layer.weight.detach())
    branch = (math.sqrt(2 / (1 - 1 / math.pi)) * (h / 2.0).clamp(min=0)) @ W.T + block.layer.bias.detach()
    assert torch.allclose(block(h), h + 0.3 * block.gain.item() * branch, atol=1e-7)  # the gain was single precision


def test_a_gain_of_zero_is_the_identity():
    h = randn(4, 6, dtype=torch.float32)
    assert torch.equal(normfree.NFBlock(normfree.WSLinear(6, 6), skip_gain=0.0)(h), h)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_variances_grow_as_the_betas_say(alpha):
    net = normfree.nf_mlp(256, 10, width=256, depth=20, alpha=alpha, seed=3)
    h = net[1](randn(256, 256, dtype=torch.float32))
    for k, block in enumerate(list(net)[2:22]):
        assert block.activation.beta == pytest.approx(math.sqrt(1 + k * alpha**2))
        assert h.var(0, correction=0).mean().item() == pytest.approx(1 + k * alpha**2, rel=0.1)  # of width 256
        h = block(h)


def test_one_seed_is_one_network():
    one, same, other = (normfree.nf_mlp(8, 3, width=6, depth=2, seed=s) for s in (0, 0, 1))
    assert torch.equal(rows.flat_parameters(one), rows.flat_parameters(same))
    assert not torch.equal(rows.flat_parameters(one), rows.flat_parameters(other))


def test_its_parts_can_be_left_out():
    plain = normfree.nf_mlp(8, 3, width=6, depth=2, standardized=False, dropout=0.1, stochastic_depth=0.2)
    assert type(plain[2].layer) is nn.Linear and plain[2].mask.p == 0.2 and plain[2].mask.whole and plain[-2].p == 0.1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"width": 1}, "width must be at least 2"),
        ({"depth": -1}, "depth must be at least 0"),
        ({"alpha": -0.5}, r"alpha must be in \[0, 1e\+06\]"),
        ({"skip_gain": float("inf")}, "skip_gain must be in"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"stochastic_depth": -0.1}, r"stochastic_depth must be in \[0, 1\)"),
        ({"seed": -1}, "seed must be in"),
    ],
)
def test_bad_arguments_are_named(bad, message):
    with pytest.raises(ValueError, match=message):
        normfree.nf_mlp(8, 3, **bad)


def test_many_networks_side_by_side_are_the_networks_themselves():
    nets = [normfree.nf_mlp(16, 4, width=8, depth=3, seed=s).double() for s in range(3)]
    x = randn(3, 6, 16)
    scores = rows.scores(nets[0], rows.stack(nets), x)
    for net, batch, ours in zip(nets, x, scores, strict=True):
        assert torch.allclose(ours.T, net(batch), atol=1e-12)


@pytest.mark.parametrize("option", ["dropout", "stochastic_depth"])
def test_masks_are_refused_in_rows_while_training(option):
    net = normfree.nf_mlp(16, 4, width=8, depth=2, **{option: 0.3})
    with pytest.raises(ValueError, match="its random numbers would not belong to a row"):
        rows.check_rows(net)
    rows.check_rows(net.eval())


# --------------------------------------------------------------------------------------- clipping


def test_hidden_weights_are_the_matrices_before_the_last_layer():
    net = normfree.nf_mlp(8, 3, width=6, depth=2)
    assert [id(p) for p in normfree.hidden_weights(net)] == [
        id(layer.weight) for layer in (net[1], net[2].layer, net[3].layer)
    ]
    mlp = models.mlp(8, 3, width=6, depth=2)
    assert [p.shape for p in normfree.hidden_weights(mlp)] == [(6, 8), (6, 6)]


def test_clipping_freezes_gains_that_start_at_zero_unless_only_weights_are_clipped():
    digits = data.digits(seed=0)

    def gains(choose):
        net = normfree.nf_mlp(64, 10, width=16, depth=3, skip_gain=0.0, seed=0)

        def clip(p):
            optim.adaptive_clip_grad_(p, 0.04)

        for p in choose(net):
            p.register_post_accumulate_grad_hook(clip)
        fit(net, digits, optim.SGD(net.parameters(), lr=0.5), steps=40, batch_size=256)
        return np.array([abs(block.gain.item()) for block in list(net)[2:5]])

    # 40 steps of SGD, each at most lr * clip_factor * eps long while the gain is shorter than eps
    assert (gains(lambda net: list(net.parameters())) <= 40 * 0.5 * 0.04 * 1e-3).all()
    assert (gains(normfree.hidden_weights) > 0.05).any()


# --------------------------------------------------------------------------------------- very deep


def by_hand(net, x):
    """The network layer by layer, with torch's own derivatives."""
    h = torch.tanh(x @ net.first)
    for W, b in zip(net.W, net.b, strict=True):
        h = torch.tanh(h @ W + b)
    return h @ net.readout + net.offset


@pytest.mark.parametrize("weights", ["orthogonal", "gaussian"])
def test_a_deep_network_layer_by_layer(weights):
    net = normfree.DeepTanh(5, 3, width=4, depth=7, weights=weights, sigma_w2=1.3, sigma_b2=0.2, q=0.5).double()
    x, v = randn(6, 5), randn(6, 3, seed=1)
    ours, theirs = net(x), by_hand(net, x)
    assert torch.allclose(ours, theirs, atol=1e-14)
    gradients = [torch.autograd.grad((out * v).sum(), list(net.parameters())) for out in (ours, theirs)]
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-13)


def test_deep_networks_side_by_side_are_the_networks_themselves():
    nets = [normfree.DeepTanh(5, 3, width=4, depth=6, sigma_b2=0.1, seed=s).double() for s in range(3)]
    x, y = randn(3, 6, 5), torch.tensor([[0, 1, 2, 0, 1, 2]] * 3)
    w = rows.stack(nets).requires_grad_()
    losses = rows.losses(nets[0], w, x, y)
    (gradient,) = torch.autograd.grad(losses.sum(), w)
    for i, net in enumerate(nets):
        loss = F.cross_entropy(by_hand(net, x[i]), y[i])
        parts = torch.autograd.grad(loss, list(net.parameters()))
        assert losses[i].item() == pytest.approx(loss.item(), rel=1e-12)
        assert torch.allclose(gradient[i], torch.cat([p.flatten() for p in parts]), rtol=1e-9, atol=1e-13)


def test_copies_train_a_deep_network_as_fit_does():
    x, y = randn(24, 5), torch.arange(24) % 3
    nets = [normfree.DeepTanh(5, 3, width=4, depth=6, seed=s).double() for s in range(2)]
    together = copies.train(nets, (x, y), optim.Adam, np.full((9, 1), 0.01), orders=[4, 5], batch_size=8)
    for i, net in enumerate(nets):
        alone = fit(net, (x, y), optim.Adam(net.parameters(), lr=0.01), steps=9, batch_size=8, seed=4 + i)
        np.testing.assert_allclose(together.losses[:, 0, i], alone.loss, rtol=1e-9)


def test_orthogonal_weights_are_orthogonal_and_gaussian_ones_are_not():
    W = normfree.DeepTanh(4, 3, width=16, depth=50, sigma_w2=1.5).W.detach().double()
    assert torch.allclose(W @ W.transpose(1, 2), 1.5 * torch.eye(16, dtype=torch.float64), atol=1e-5)
    # uniform over the group: traces have mean 0 and variance 1
    trace = W.diagonal(dim1=1, dim2=2).sum(1) / math.sqrt(1.5)
    assert abs(trace.mean()) < 4 / math.sqrt(50) and 0.4 < trace.var() < 2
    G = normfree.DeepTanh(4, 3, width=64, depth=50, sigma_w2=1.5, weights="gaussian").W.detach()
    assert G.var().item() == pytest.approx(1.5 / 64, rel=0.02)


def test_a_critical_network_keeps_the_length_of_the_signal():
    w, b = signal.critical(q=0.25, activation="tanh")
    net = normfree.DeepTanh(64, 10, width=512, depth=20, weights="gaussian", sigma_w2=w, sigma_b2=b, q=0.25)
    x = randn(32, 64, dtype=torch.float32)
    h = x @ net.first
    for W, c in zip(net.W, net.b, strict=True):
        assert h.square().mean().item() == pytest.approx(0.25, rel=0.15)  # of one network of width 512
        h = torch.tanh(h) @ W + c
    assert net(x).var().item() == pytest.approx(1.0, rel=0.5)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"depth": 0}, "depth must be at least 1"),
        ({"weights": "uniform"}, "weights must be one of 'orthogonal', 'gaussian'"),
        ({"q": 0.0}, r"q must be in \(0, inf\)"),
        ({"sigma_w2": -1.0}, r"sigma_w2 must be in \[0, inf\)"),
        ({"sigma_b2": -1.0}, r"sigma_b2 must be in \[0, inf\)"),
    ],
)
def test_bad_arguments_of_the_deep_network_are_named(bad, message):
    with pytest.raises(ValueError, match=message):
        normfree.DeepTanh(4, 3, **({"depth": 2, "width": 4} | bad))
