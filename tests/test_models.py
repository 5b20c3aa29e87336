"""Models against torch reference modules, parameter counts by hand, and statistics."""

import inspect

import numpy as np
import pytest
import torch
from torch import nn

from optcourse.models import NORMS, Block, cnn1d, cnn2d, mlp, n_parameters, softmax_regression


def copy_parameters(source, target):
    """The same parameters in order, into a reference written with plain torch layers."""
    for a, b in zip(source.parameters(), target.parameters(), strict=True):
        b.data.copy_(a.data)


def test_softmax_regression_is_linear_and_starts_at_log_classes():
    model = softmax_regression(5, 3)
    assert n_parameters(model) == 5 * 3 + 3 and n_parameters(softmax_regression(5, 3, bias=False)) == 15
    loss = nn.functional.cross_entropy(model(torch.randn(7, 5)), torch.zeros(7, dtype=torch.int64))
    assert loss.item() == pytest.approx(np.log(3))


def test_plain_mlp_equals_torch_layers():
    model = mlp(4, 3, width=8, depth=3, norm="batch", activation="tanh", seed=1)
    reference = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(),
        nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh(),
        nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3),
    )  # fmt: skip
    copy_parameters(model, reference)
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(x), reference(x), rtol=0, atol=0)
    torch.testing.assert_close(model.eval()(x), reference.eval()(x), rtol=0, atol=0)


def test_default_cnn1d_equals_torch_layers():
    model = cnn1d()
    reference = nn.Sequential(
        nn.Unflatten(1, (1, 40)),
        nn.Conv1d(1, 25, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv1d(25, 25, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv1d(25, 25, 5, stride=2, padding=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(125, 10),
    )  # fmt: skip
    copy_parameters(model, reference)
    x = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(x), reference(x), rtol=0, atol=0)
    torch.testing.assert_close(model(x.unsqueeze(1)), reference(x), rtol=0, atol=0)


def test_residual_cnn2d_with_norm_equals_torch_layers():
    model = cnn2d(8, 4, channels=(6,), strides=(2,), blocks=1, residual=True, norm="layer", seed=2)
    opening, norm1, conv = nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.GroupNorm(1, 6), nn.Conv2d(6, 6, 3, padding=1)
    norm2, head = nn.GroupNorm(1, 6), nn.Linear(6 * 4 * 4, 4)
    copy_parameters(model, nn.ModuleList([opening, norm1, conv, norm2, head]))
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    h = opening(x)
    h = h + conv(norm1(h).relu())
    torch.testing.assert_close(model(x), head(norm2(h).relu().flatten(1)), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (mlp(64, 10, width=100, depth=1), 64 * 100 + 100 + 100 * 10 + 10),
        (mlp(40, 10), 4100 + 10100 + 1010),
        (mlp(40, 10, norm="layer"), 4100 + 10100 + 1010 + 2 * 200),
        (mlp(40, 10, residual=True, depth=4), 4100 + 3 * 10100 + 1010),
        (cnn1d(), 25 * 5 + 25 + 2 * (25 * 25 * 5 + 25) + 1250 + 10),
        (cnn2d(), 16 * 9 + 16 + 16 * 32 * 9 + 32 + 32 * 16 * 10 + 10),
        (cnn2d(blocks=2, norm="group"), 160 + 2 * 2320 + 4640 + 2 * 9248 + 5130 + 2 * (16 * 3 + 32 * 3)),
    ],
)
def test_parameter_counts_by_hand(model, count):
    assert n_parameters(model) == count


def test_frozen_parameters_do_not_count():
    model = mlp(4, 2, width=3, depth=1)
    model[1].requires_grad_(False)
    assert n_parameters(model) == 3 * 2 + 2


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
def test_residual_block_with_a_zeroed_branch_is_the_identity(norm):
    for model in (mlp(8, 3, width=8, depth=2, residual=True, norm=norm), cnn1d(blocks=1, residual=True, norm=norm)):
        block = next(m for m in model.modules() if isinstance(m, Block) and m.residual)
        x = torch.randn(4, 8) if isinstance(block.branch[2], nn.Linear) else torch.randn(4, 25, 6)
        assert not torch.equal(block(x), x)
        nn.init.zeros_(block.branch[2].weight)
        assert torch.equal(block(x), x)


@pytest.mark.parametrize(("norm", "axes"), [("batch", (0, 2, 3)), ("layer", (1, 2, 3)), ("instance", (2, 3))])
def test_norm_statistics(norm, axes):
    """Right after the normalization, mean 0 and variance 1 over exactly these axes."""
    model = cnn2d(8, 10, norm=norm, blocks=1)
    layer = next(m for m in model.modules() if isinstance(m, (nn.BatchNorm2d, nn.GroupNorm)))
    x = 3 + 2 * torch.randn(9, 16, 8, 8, generator=torch.Generator().manual_seed(1))
    y = layer(x)
    assert y.mean(axes).abs().max() < 1e-5
    assert (y.var(axes, correction=0) - 1).abs().max() < 1e-4


def test_instance_norm_equals_torch_and_group_norm_uses_several_groups():
    x = torch.randn(3, 16, 5, 5)
    layer = next(m for m in cnn2d(norm="instance").modules() if isinstance(m, nn.GroupNorm))
    torch.testing.assert_close(layer(x), nn.InstanceNorm2d(16)(x))
    groups = [m.num_groups for m in cnn2d(norm="group").modules() if isinstance(m, nn.GroupNorm)]
    assert groups == [8, 8]


@pytest.mark.parametrize("norm", ["layer", "group"])
@pytest.mark.parametrize("width", [3, 4, 5, 6, 8, 16, 20, 32])
def test_normalized_networks_of_any_width_see_their_input_and_learn(norm, width):
    """Groups of one or two units would turn any input into the same few numbers."""
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    signal = cnn1d(2, 2, channels=(width,), strides=(2,), norm=norm)  # one position for each channel
    for model in (mlp(2, 2, width=width, depth=1, norm=norm), signal):
        assert all(len(model(x)[:, i].detach().unique()) > 100 for i in range(2))
        nn.functional.cross_entropy(model(x), (x[:, 0] > 0).long()).backward()
        first = next(m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv1d)))
        assert first.weight.grad.norm() > 1e-3


def test_convolutions_are_described_by_their_signature():
    for build in (cnn1d, cnn2d):
        named = inspect.signature(build).parameters.values()
        assert not [p.name for p in named if p.kind is p.VAR_KEYWORD or p.annotation is p.empty]


def test_one_seed_gives_one_model_whatever_the_global_state():
    for build in (mlp, cnn1d, cnn2d):
        args = (40, 10) if build is mlp else ()
        torch.manual_seed(1)
        a, state = build(*args, seed=3), torch.get_rng_state()
        torch.manual_seed(1)
        assert torch.equal(state, torch.get_rng_state())  # building did not draw from the global generator
        torch.manual_seed(2)
        b, c = build(*args, seed=3), build(*args, seed=4)
        x = torch.randn(5, 64 if build is cnn2d else 40)
        assert torch.equal(a(x), b(x)) and not torch.equal(a(x), c(x))


def test_he_initialization_keeps_the_scale_of_a_deep_relu_network():
    """E q_l is constant for weights N(0, 2/fan_in): the mean square before each activation."""
    x = torch.randn(64, 500, generator=torch.Generator().manual_seed(0))
    model = mlp(500, 10, width=500, depth=10, seed=0)
    first, last = model[1](x).square().mean(), model[:11](x).square().mean()
    assert first.item() == pytest.approx(2, rel=0.05)
    assert 0.5 < (last / first).item() < 2


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("residual", [False, True])
def test_every_variant_trains_one_step(norm, residual):
    models = [cnn1d(norm=norm, residual=residual, blocks=1), cnn2d(norm=norm, residual=residual, blocks=1)]
    if norm != "instance":
        models.append(mlp(40, 10, norm=norm, residual=residual))
    for model in models:
        x = torch.randn(8, 64 if model[1].__class__ is nn.Unflatten and len(model[1].unflattened_size) == 3 else 40)
        nn.functional.cross_entropy(model(x), torch.arange(8)).backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mlp(0, 2), "features must be at least 1, got 0"),
        (lambda: mlp(2, 2, depth=0), "depth"),
        (lambda: mlp(2, 2, width=0), "width"),
        (lambda: mlp(2, 2, norm="instance"), "norm must be one of 'none', 'batch', 'layer', 'group', got 'instance'"),
        (lambda: mlp(2, 2, activation="sine"), "activation must be one of"),
        (lambda: mlp(2, 2, seed=-1), "seed"),
        (lambda: softmax_regression(2, 1), "classes must be at least 2"),
        (lambda: cnn1d(0), "length"),
        (lambda: cnn1d(kernel_size=4), "kernel_size must be odd"),
        (lambda: cnn1d(channels=(3, 3)), "channels and strides must have the same length"),
        (lambda: cnn1d(residual=True), "blocks must be at least 1, got 0"),
        (lambda: cnn2d(norm="none "), "norm must be one of"),
        (
            lambda: cnn2d(4, channels=(4, 4), strides=(2, 2), norm="instance"),
            "at least 3 numbers.*got 1",
        ),
        (lambda: cnn1d(8, channels=(4,), strides=(4,), norm="instance"), "norm='instance' needs at least 3 .* got 2"),
        (lambda: mlp(2, 2, width=2, norm="layer"), "norm='layer' needs at least 3 numbers.*got 2"),
        (lambda: mlp(2, 2, width=1, norm="group"), "norm='group' needs at least 3 numbers.*got 1"),
        (lambda: cnn2d(1, channels=(2,), strides=(1,), norm="layer"), "norm='layer' needs at least 3 numbers"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
