"""Losses against torch's own, numpy's tilted risk, arithmetic of many digits, and the algorithm written as a loop."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.func import grad, vmap

from optcourse import losses, models
from optcourse.losses import RunningTilt, grouped, tilted, tilted_cross_entropy
from optcourse.optim import SGD
from optcourse.theory import tilted as theory
from optcourse.training import copies

T = [-math.inf, -1e6, -2.0, -1e-3, -1e-12, 0.0, 1e-300, 1e-12, 0.7, 300.0, 1e6, math.inf]
tilts = pytest.mark.parametrize("t", T)


def double(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def value_and_gradient(function, x):
    x = x.detach().requires_grad_()
    found = function(x)
    return found.detach(), torch.autograd.grad(found.sum(), x)[0]


# ------------------------------------------------------------------------------------------ tilted


@tilts
@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_value_and_gradient_are_those_of_theory(t, scale):
    x = scale * double(3, 8).abs()
    found, gradient = value_and_gradient(partial(tilted, t=t), x)
    np.testing.assert_allclose(found, theory.value(losses=x.numpy(), t=t), rtol=1e-13)
    # A float before the exponential is rounded: relative to the weight that costs |t| * loss roundings.
    np.testing.assert_allclose(gradient, theory.weights(losses=x.numpy(), t=t), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("t", [-3.0, -1e-4, 0.0, 1e-9, 2.0])
@pytest.mark.parametrize("log", [True, False])
def test_first_and_second_derivatives(t, log):
    x = double(5).requires_grad_()
    weight = torch.tensor([0.2, 1.0, 0.0, 3.0, 0.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: tilted(x, t, weight=weight, log=log), x)
    assert torch.autograd.gradgradcheck(lambda x: tilted(x, t, log=log), x)


def test_without_care_the_formula_overflows_where_ours_does_not():
    x = torch.tensor([1.0, 50.0, 400.0])
    assert torch.isinf(torch.log(torch.exp(2 * x).mean()) / 2)
    assert tilted(x, 2.0).item() == pytest.approx(400 - math.log(3) / 2, rel=1e-6)


@given(
    values=st.lists(st.floats(0, 100), min_size=1, max_size=9),
    t=st.floats(-50, 50),
    copies=st.lists(st.integers(0, 3), min_size=9, max_size=9),
)
def test_weights_that_are_integers_are_repetitions(values, t, copies):
    counts = torch.tensor(copies[: len(values)])
    x = torch.tensor(values, dtype=torch.float64)
    if counts.sum() == 0:
        assert tilted(x, t, weight=counts).isnan()
    else:
        repeated = tilted(x.repeat_interleave(counts), t)
        assert tilted(x, t, weight=counts).item() == pytest.approx(repeated.item(), rel=1e-9, abs=1e-9)


def test_what_has_no_weight_may_be_anything():
    x = torch.tensor([1.0, 2.0, math.inf, -math.inf])
    for t in (-math.inf, -2.0, 0.0, 3.0, math.inf):
        found, gradient = value_and_gradient(partial(tilted, t=t, weight=torch.tensor([1, 1, 0, 0])), x)
        assert found == tilted(x[:2], t) and gradient.isfinite().all() and (gradient[2:] == 0).all()


def test_infinite_losses_count_only_where_the_tilt_looks_at_them():
    x = torch.tensor([1.0, 3.0, math.inf], dtype=torch.float64)
    assert tilted(x, 1.0) == tilted(x, 0.0) == math.inf
    found, gradient = value_and_gradient(partial(tilted, t=-1.0), x)
    assert found.item() == pytest.approx(-math.log((math.exp(-1) + math.exp(-3)) / 3)) and gradient[2] == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_lower_precision_gives_the_rounded_value(dtype):
    x = (100 * double(200).abs()).to(dtype)
    for t in T:
        found = tilted(x, t)
        assert found.dtype == dtype
        expected = theory.value(losses=x.double().numpy(), t=t)
        assert found.item() == pytest.approx(expected, rel=2 * torch.finfo(dtype).eps)
        assert value_and_gradient(partial(tilted, t=t), x)[1].isfinite().all()


@pytest.mark.parametrize("log", [True, False])
def test_rows_under_vmap_are_the_same(log):
    x, weight = double(4, 6), double(4, 6).abs()
    together = vmap(lambda x, w: tilted(x, -1.3, weight=w, log=log))(x, weight)
    torch.testing.assert_close(together, tilted(x, -1.3, weight=weight, log=log), rtol=0, atol=0)


@pytest.mark.parametrize("t", [-2e-38, 0.0, 2e-38, 1.0])
def test_losses_at_both_ends_of_their_type(t):
    """Their difference is no float any more, their tilted risk is."""
    x = torch.tensor([3e38, -3e38])
    found, gradient = value_and_gradient(partial(tilted, t=t), x)
    assert found.item() == pytest.approx(theory.value(losses=x.double().numpy(), t=t), rel=1e-6)
    assert gradient.isfinite().all()
    wide = torch.tensor([1.7e308, -1.7e308, 0.0], dtype=torch.float64)
    assert tilted(wide, 1e-300).item() == pytest.approx(1.7e308, rel=1e-6)


def test_weights_are_shares_of_any_scale():
    """Neither does their sum overflow nor do they vanish in the losses' type."""
    x, expected = torch.tensor([1.0, 3.0]), tilted(torch.tensor([1.0, 3.0]), 0.7)
    for scale, dtype in ((2e38, torch.float32), (1e-60, torch.float64), (1.5e308, torch.float64), (1, torch.int64)):
        weight = torch.full((2,), scale, dtype=dtype)
        torch.testing.assert_close(tilted(x, 0.7, weight=weight), expected)


@pytest.mark.parametrize(
    ("weight", "error", "names"),
    [
        (torch.tensor([1.0, -1.0]), ValueError, "weight must be finite and >= 0"),
        (torch.tensor([1.0, math.inf]), ValueError, "weight must be finite and >= 0"),
        (torch.tensor([1.0, math.nan]), ValueError, "weight must be finite and >= 0"),
        (torch.tensor([1.0, 1.0j]), TypeError, "weight must be a tensor of real numbers"),
        ([1.0, 2.0], TypeError, "weight must be a tensor of real numbers"),
    ],
)
def test_bad_weights_are_named(weight, error, names):
    with pytest.raises(error, match=names):
        tilted(torch.zeros(2), 1.0, weight=weight)


@pytest.mark.parametrize(
    ("x", "t", "options", "error", "names"),
    [
        (torch.tensor([1, 2]), 1.0, {}, TypeError, "losses must be floating-point"),
        (torch.tensor(1.0), 1.0, {}, ValueError, r"losses must have shape \[\.\.\., B\]"),
        (torch.zeros(3, 0), 1.0, {}, ValueError, r"losses must have shape \[\.\.\., B\]"),
        (torch.zeros(3), math.nan, {}, ValueError, "t must be in"),
        (torch.zeros(3), True, {}, TypeError, "t must be a real number"),
        (torch.zeros(3), math.inf, {"log": False}, ValueError, "t must be in"),
    ],
)
def test_bad_arguments_are_named(x, t, options, error, names):
    with pytest.raises(error, match=names):
        tilted(x, t, **options)


# ------------------------------------------------------------------------------------------ groups


def by_hand(x, groups, t, within, balanced):
    parts = [x[groups == g] for g in sorted(set(groups.tolist()))]
    risks = np.array([theory.value(losses=part, t=within) for part in parts])
    sizes = np.array([1 if balanced else len(part) for part in parts])
    return np.log((sizes * np.exp(t * risks)).sum() / sizes.sum()) / t if t else (sizes * risks).sum() / sizes.sum()


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize(("t", "within"), [(0.0, 0.0), (2.0, 0.0), (-1.0, 3.0), (0.0, -2.0)])
def test_groups_are_tilts_of_tilts(t, within, balanced):
    x, groups = double(20, seed=2), torch.randint(4, (20,), generator=torch.Generator().manual_seed(0))
    groups[groups == 2] = 1  # group 2 is absent
    found, gradient = value_and_gradient(
        lambda x: grouped(x, groups, t, within=within, n_groups=5, balanced=balanced), x
    )
    assert found.item() == pytest.approx(by_hand(x.numpy(), groups.numpy(), t, within, balanced), rel=1e-12)
    assert gradient.sum().item() == pytest.approx(1.0) and (gradient > 0).all()


def test_an_infinite_tilt_over_groups_is_the_worst_group():
    x, groups = double(20, seed=2), torch.arange(20) % 3
    means = torch.stack([x[groups == g].mean() for g in range(3)])
    found, gradient = value_and_gradient(lambda x: grouped(x, groups, math.inf, n_groups=5), x)
    assert found == means.max()
    torch.testing.assert_close(gradient, (groups == means.argmax()) / (groups == means.argmax()).sum().double())
    largest = torch.stack([x[groups == g].max() for g in range(3)])
    found, gradient = value_and_gradient(lambda x: grouped(x, groups, 1.0, within=math.inf, n_groups=5), x)
    sizes = torch.tensor([7.0, 7.0, 6.0], dtype=torch.float64)
    assert found.item() == pytest.approx(torch.log((sizes * largest.exp()).sum() / 20).item())
    assert gradient.isfinite().all() and gradient.sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize("t", [-1.5, 0.0, 2.0])
def test_equal_tilts_at_both_levels_are_the_plain_tilt(t):
    x, groups = double(30, seed=3), torch.arange(30) % 7
    torch.testing.assert_close(grouped(x, groups, t, within=t, n_groups=7), tilted(x, t))


def test_labels_outside_count_in_no_group():
    x, groups = double(6), torch.tensor([0, 1, -1, 7, 1, 0])
    expected = grouped(x[groups.clamp(0, 1) == groups], torch.tensor([0, 1, 1, 0]), 1.0, n_groups=2)
    assert grouped(x, groups, 1.0, n_groups=2) == expected


def test_groups_under_vmap_are_the_same():
    x, groups = double(3, 8), torch.stack([torch.arange(8) % k for k in (2, 3, 4)])
    function = partial(grouped, t=2.0, n_groups=4, balanced=True)
    torch.testing.assert_close(vmap(function)(x, groups), function(x, groups), rtol=0, atol=0)


@pytest.mark.parametrize("within", [0.0, 2.0, math.inf])
def test_an_absent_group_is_no_anomaly(within):
    x = double(4).requires_grad_()
    with torch.autograd.set_detect_anomaly(True):
        found = grouped(x, torch.tensor([0, 0, 2, 2]), 1.0, n_groups=4, within=within)
        (gradient,) = torch.autograd.grad(found, x)
    assert found.isfinite() and gradient.sum().item() == pytest.approx(1.0)


def test_bad_groups_are_named():
    with pytest.raises(TypeError, match="groups must be integers"):
        grouped(torch.zeros(2), torch.zeros(2), 1.0, n_groups=2)
    with pytest.raises(ValueError, match="groups must have the shape of losses"):
        grouped(torch.zeros(2), torch.zeros(2, 1, dtype=torch.int64), 1.0, n_groups=2)
    with pytest.raises(ValueError, match="n_groups must be"):
        grouped(torch.zeros(2), torch.zeros(2, dtype=torch.int64), 1.0, n_groups=0)


# ----------------------------------------------------------------------------------- cross-entropy

SCORES, Y = double(9, 4, seed=5), torch.tensor([0, 1, 3, -100, 2, 2, 0, -100, 1])
CLASSES = torch.tensor([1.0, 0.2, 3.0, 0.0], dtype=torch.float64)


@pytest.mark.parametrize("options", [{}, {"weight": CLASSES}, {"ignore_index": 2}, {"label_smoothing": 0.2}], ids=str)
def test_at_tilt_zero_it_is_torchs(options):
    y = Y.where(Y >= 0, 2) if "ignore_index" in options else Y
    found = value_and_gradient(lambda s: tilted_cross_entropy(s, y, 0.0, **options), SCORES)
    expected = value_and_gradient(lambda s: F.cross_entropy(s, y, **options), SCORES)
    torch.testing.assert_close(found, expected)


def test_images_and_probabilities_as_torch_takes_them():
    scores, y = double(2, 3, 4, 5), torch.randint(3, (2, 4, 5), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(tilted_cross_entropy(scores, y, 0.0), F.cross_entropy(scores, y))
    probabilities = torch.softmax(double(2, 3, 4, 5, seed=7), 1)
    torch.testing.assert_close(tilted_cross_entropy(scores, probabilities, 0.0), F.cross_entropy(scores, probabilities))


def test_ignored_samples_do_not_matter_to_the_tilt():
    kept = Y >= 0
    for t in (-2.0, 0.0, 3.0):
        expected = tilted_cross_entropy(SCORES[kept], Y[kept], t)
        torch.testing.assert_close(tilted_cross_entropy(SCORES, Y, t), expected)
    assert tilted_cross_entropy(SCORES, torch.full((9,), -100), 1.0).isnan()  # as in torch


def test_class_weights_and_smoothing_together_are_refused():
    with pytest.raises(ValueError, match="weight must be None with label_smoothing"):
        tilted_cross_entropy(SCORES, Y, 1.0, weight=CLASSES, label_smoothing=0.1)
    for wrong in (torch.ones(5), torch.ones(3), torch.ones(4, 1)):
        with pytest.raises(ValueError, match=r"weight must have one entry a class, \[4\]"):
            tilted_cross_entropy(SCORES, Y, 1.0, weight=wrong)


@pytest.mark.parametrize("q", [0.0, 0.3, 0.7, 1.0])
def test_generalized_cross_entropy_is_its_papers_formula(q):
    kept = Y >= 0
    p = torch.softmax(SCORES[kept], 1).gather(1, Y[kept].unsqueeze(1))
    expected = ((1 - p**q) / q).mean() if q else -p.log().mean()
    torch.testing.assert_close(losses.generalized_cross_entropy(SCORES, Y, q), expected)
    with pytest.raises(ValueError, match="q must be in"):
        losses.generalized_cross_entropy(SCORES, Y, 1.5)
    with pytest.raises(TypeError, match="y must be labels"):
        losses.generalized_cross_entropy(SCORES, torch.softmax(SCORES, 1), q)
    with pytest.raises(TypeError, match="label_smoothing"):
        losses.generalized_cross_entropy(SCORES, Y, q, label_smoothing=0.1)  # pyright: ignore


def test_copies_train_with_a_tilted_loss_as_one_network_does():
    nets = [models.mlp(3, 4, width=5, depth=1, seed=s) for s in (0, 1)]
    x, y = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 4
    loss = partial(tilted_cross_entropy, t=-1.5)
    runs = copies.train(nets, (x, y), SGD, np.full((6, 1), 0.3), orders=[0, 1], batch_size=12, loss=loss)
    for i, net in enumerate(nets):
        net, seen = copy.deepcopy(net), []
        for _ in range(6):
            found = loss(net(x), y)
            seen.append(found.item())
            for p, g in zip(net.parameters(), torch.autograd.grad(found, list(net.parameters())), strict=True):
                p.data -= 0.3 * g
        np.testing.assert_allclose(runs.losses[:, 0, i], seen, rtol=1e-5)


# ----------------------------------------------------------------------------------------- pinball


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
def test_pinball_is_smallest_at_the_quantile(q):
    target = double(101).sort().values
    at = [losses.pinball(c.expand(101), target, q).item() for c in target]
    assert int(np.argmin(at)) == round(q * 100)
    half = losses.pinball(torch.zeros(101), target, 0.5, reduction="none")
    torch.testing.assert_close(2 * half, target.abs())
    assert losses.pinball(torch.zeros(101), target, q, reduction="sum") == pytest.approx(
        losses.pinball(torch.zeros(101), target, q).item() * 101
    )


def test_pinball_refuses_what_would_broadcast():
    with pytest.raises(ValueError, match="prediction and target must have the same shape"):
        losses.pinball(torch.zeros(5, 1), torch.zeros(5), 0.5)
    with pytest.raises(ValueError, match="q must be in"):
        losses.pinball(torch.zeros(5), torch.zeros(5), 1.0)
    with pytest.raises(ValueError, match="reduction must be one of"):
        losses.pinball(torch.zeros(5), torch.zeros(5), 0.5, reduction="median")


# ------------------------------------------------------------------------------------ running tilt


@pytest.mark.parametrize("t", [-2.0, -0.3, 0.4, 3.0])
def test_running_tilt_is_algorithm_2(t):
    """The estimate as exp(tR), which the paper's update averages, and the weights exp(t l)/exp(tR)."""
    running, expected = RunningTilt(t, rate=0.3), None
    for k in range(6):
        x = double(5, seed=k).abs()
        e = torch.exp(t * x).mean()
        expected = e if expected is None else 0.7 * expected + 0.3 * e
        found, gradient = value_and_gradient(running, x)
        assert found.item() == pytest.approx(math.log(expected) / t, rel=1e-12)
        torch.testing.assert_close(gradient, torch.exp(t * x) / expected / 5)


def test_rate_one_is_the_batchs_own_tilt():
    running, x = RunningTilt(2.0, rate=1.0), double(4)
    running(double(4, seed=1))
    torch.testing.assert_close(value_and_gradient(running, x), value_and_gradient(partial(tilted, t=2.0), x))


@given(
    batches=st.lists(st.lists(st.floats(0, 1e6), min_size=3, max_size=3), min_size=1, max_size=5),
    t=st.floats(-1e3, 1e3),
    rate=st.floats(0.01, 1.0),
)
def test_the_weights_add_up_to_at_most_one_over_the_rate(batches, t, rate):
    running = RunningTilt(t, rate)
    for batch in batches:
        _, gradient = value_and_gradient(running, torch.tensor(batch, dtype=torch.float64))
        assert (gradient >= 0).all() and gradient.sum() <= (1 + 1e-6) / rate


def test_the_estimate_is_saved_and_continues_bit_for_bit():
    batches = [double(2, 5, seed=k) for k in range(6)]
    whole, first, second = (RunningTilt(1.5, 0.2, shape=(2,)) for _ in range(3))
    expected = [value_and_gradient(whole, x) for x in batches]
    for x in batches[:3]:
        first(x)
    second.load_state_dict(first.state_dict())
    for x, pair in zip(batches[3:], expected[3:], strict=True):
        torch.testing.assert_close(value_and_gradient(second, x), pair, rtol=0, atol=0)


def test_the_estimate_stays_in_evaluation_and_for_a_broken_batch():
    running = RunningTilt(1.0, 0.5)
    running(torch.tensor([0.0, 1.0]))
    before = running.risk.clone()
    running(torch.tensor([0.0, math.nan]))
    running(torch.tensor([0.0, math.inf]))
    running.eval()(torch.tensor([5.0, 7.0]))
    assert torch.equal(running.risk, before) and not running.risk.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("far", [8.0, 50.0, 1000.0, 6e4])
def test_in_evaluation_losses_far_above_the_estimate_leave_the_value_alone(dtype, far):
    running = RunningTilt(2.0, 0.1)
    running(torch.tensor([0.1, 0.2], dtype=dtype))
    found, gradient = value_and_gradient(running.eval(), torch.tensor([0.1, far], dtype=dtype))
    assert found == running.risk.to(dtype) and gradient.isfinite().all() and gradient[1] > gradient[0]


def test_an_infinite_loss_is_no_nan():
    x = torch.tensor([math.inf, 2.0])
    found, gradient = value_and_gradient(RunningTilt(-1.0), x)
    assert found == tilted(x, -1.0) and gradient.tolist() == pytest.approx([0.0, 1.0])
    found, gradient = value_and_gradient(RunningTilt(1.0), x)
    assert found == math.inf and not gradient.isnan().any()
    assert value_and_gradient(RunningTilt(1.0), torch.tensor([math.nan, 2.0]))[0].isnan()


def test_a_state_is_not_changed_inside_a_transform():
    for transformed in (vmap, grad):
        running = RunningTilt(1.0)
        running(torch.tensor([0.0, 1.0]))
        before = running.risk.clone()
        x = torch.rand(3, 2) if transformed is vmap else torch.rand(2)
        with pytest.raises(RuntimeError):
            transformed(running)(x)
        assert type(running.risk) is torch.Tensor and torch.equal(running.risk, before)
        assert transformed(running.eval())(x).isfinite().all()


def test_many_copies_are_each_their_own():
    together, alone = RunningTilt(-1.0, 0.2, shape=(3,)), [RunningTilt(-1.0, 0.2) for _ in range(3)]
    for k in range(4):
        x = double(3, 5, seed=k)
        torch.testing.assert_close(together(x), torch.stack([f(row) for f, row in zip(alone, x, strict=True)]))


def test_half_precision_keeps_the_type():
    x = torch.tensor([1.0, 300.0, 2.0], dtype=torch.float16)
    found, gradient = value_and_gradient(RunningTilt(2.0), x)
    assert found.dtype == gradient.dtype == torch.float16 and gradient.tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"t": math.inf}, "t must be in"),
        ({"t": 1.0, "rate": 0.0}, "rate must be in"),
        ({"t": math.nan}, "t must be in"),
    ],
)
def test_bad_settings_of_the_running_tilt_are_named(options, names):
    with pytest.raises(ValueError, match=names):
        RunningTilt(**options)
    with pytest.raises(ValueError, match="losses must have shape"):
        RunningTilt(1.0)(torch.zeros(2, 3))
    with pytest.raises(TypeError, match="losses must be floating-point"):
        RunningTilt(1.0)(torch.tensor([1, 2]))
