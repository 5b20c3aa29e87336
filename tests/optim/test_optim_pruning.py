"""Masks against torch.nn.utils.prune, grids by hand and in the mean, the ramp of Zhu and Gupta, bad input."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from optcourse import measure
from optcourse.optim import Grid, Magnitude, gradual


def tensors(*shapes, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def compress(compressor, *weights, step=0):
    return compressor.apply(weights, compressor.choose(weights, step))


# Pruning ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.77, 0.99, 1.0])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_masks_are_those_of_torch(sparsity, scope):
    weights = tensors((6, 7), (3, 5, 2), (4, 4))
    weights[1] *= 3
    owners = [nn.Module() for _ in weights]
    for owner, w in zip(owners, weights, strict=True):
        owner.weight = nn.Parameter(w.clone())
    if scope == "global":
        pairs = [(owner, "weight") for owner in owners]
        prune.global_unstructured(pairs, prune.L1Unstructured, amount=float(sparsity))
    else:
        for owner in owners:
            prune.l1_unstructured(owner, "weight", amount=float(sparsity))
    for owner, ours in zip(owners, compress(Magnitude(sparsity, scope), *weights), strict=True):
        assert torch.equal(owner.weight, ours)


@given(sparsity=st.floats(0, 1), seed=st.integers(0, 99), ties=st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_share_is_exact_and_what_stays_is_as_large_as_what_goes(sparsity, seed, ties):
    weights = tensors((3, 4), (5, 6), seed=seed)
    weights = [w.round() + 10 if ties else w for w in weights]
    kept = torch.cat([x.flatten() for x in compress(Magnitude(sparsity), *weights)])
    before = torch.cat([w.flatten() for w in weights])
    assert int((kept == 0).sum()) == round(sparsity * 42)
    assert torch.equal(kept[kept != 0], before[kept != 0])
    if (kept == 0).any() and (kept != 0).any():
        assert before[kept == 0].abs().max() <= before[kept != 0].abs().min()


def test_what_is_pruned_is_zero_whatever_it_was():
    """mask * w would be NaN, and -0 for negative weights."""
    (x,) = Magnitude(0.5).apply([torch.tensor([[math.inf, -1.0, math.nan]])], [torch.tensor([[0.0, 0.0, 1.0]])])
    assert x[0, :2].tolist() == [0, 0] and not torch.signbit(x[0, :2]).any() and x[0, 2].isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_masks_in_other_precisions(dtype):
    weights = tensors((8, 9), dtype=dtype)
    (x,) = compress(Magnitude(0.75), *weights)
    assert x.dtype == dtype and int((x == 0).sum()) == 54


def test_the_schedule_is_asked_at_the_step():
    (w,) = tensors((10, 10))
    assert [int((compress(Magnitude(lambda t: t / 10), w, step=t)[0] == 0).sum()) for t in (0, 3, 10)] == [0, 30, 100]
    with pytest.raises(ValueError, match=r"sparsity must be in \[0, 1\], got 1.5"):
        compress(Magnitude(lambda t: 1.5), w)


def test_the_ramp_of_zhu_and_gupta():
    """s = 0.9, s0 = 0.1, from step 4 to 12; at half of it 0.9 - 0.8/8, at a quarter 0.9 - 0.8 (3/4)^3."""
    found = [gradual(t, sparsity=0.9, end=12, begin=4, initial=0.1) for t in (0, 4, 6, 8, 12, 100)]
    assert found == pytest.approx([0.1, 0.1, 0.9 - 0.8 * 27 / 64, 0.8, 0.9, 0.9], abs=1e-15)


# Grids -----------------------------------------------------------------------------------------------


def test_points_by_hand():
    """Three bits: thirds of the scale; two bits: its sign and zero."""
    w = torch.tensor([[3.0, 1.4, -1.6, 0.5, -0.2, 2.5]], dtype=torch.float64)
    assert compress(Grid(3), w)[0].tolist() == [[3, 1, -2, 0, 0, 2]]  # 0.5 and 2.5 go to the even neighbour
    assert compress(Grid(2), w)[0].tolist() == [[3, 0, -3, 0, 0, 3]]
    assert compress(Grid(3, scale=1.5), w)[0].tolist() == [[1.5, 1.5, -1.5, 0.5, 0, 1.5]]


@pytest.mark.parametrize("generator", [None, torch.Generator().manual_seed(0)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_points_are_few_symmetric_and_stay_where_they_are(dtype, generator):
    grid = Grid(5, generator=generator)
    (x,) = compress(grid, *tensors((40, 50), dtype=dtype))
    assert x.dtype == dtype and len(x.unique()) <= 2 * grid.levels + 1 == 31
    y = x
    for _ in range(
        20
    ):  # rounded at random, a point that bfloat16 holds three digits of went to the next one now and then
        y = compress(grid, y)[0]
    assert torch.equal(y, x)
    with_negative = compress(Grid(5), x, -x)
    assert torch.equal(with_negative[0], -with_negative[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_empty_tensors(dtype):
    empty = torch.zeros(0, 3, dtype=dtype)
    for compressor in (Grid(4), Grid(4, scale=1.0), Grid(4, generator=torch.Generator()), Magnitude(0.5)):
        assert compress(compressor, empty)[0].shape == (0, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_largest_and_the_smallest_numbers(dtype):
    top = torch.finfo(dtype).max
    assert compress(Grid(4), torch.tensor([[top, -top, 0.0]], dtype=dtype))[0].tolist() == [[top, -top, 0]]
    assert compress(Grid(4), torch.zeros(2, 2, dtype=dtype))[0].tolist() == [[0, 0], [0, 0]]
    tiny = torch.full((1, 2), torch.finfo(dtype).tiny, dtype=dtype)
    assert torch.equal(compress(Grid(4), tiny)[0], tiny)
    assert compress(Grid(4), torch.tensor([[1.0, math.nan]], dtype=dtype))[0].isnan().any()


@pytest.mark.parametrize(
    ("dtype", "scale"), [(torch.float16, 1e30), (torch.float16, 1e-30), (torch.float32, 1e300), (torch.float32, 1e-300)]
)
def test_a_scale_that_the_precision_does_not_hold_is_refused(dtype, scale):
    """Infinite it made every weight NaN, zero every weight zero."""
    with pytest.raises(ValueError, match=f"scale for {dtype} must be in"):
        compress(Grid(4, scale=scale), *tensors((2, 3), dtype=dtype))
    assert compress(Grid(4, scale=scale), *tensors((2, 3)))[0].isfinite().all()


def test_rounding_at_random_has_the_right_mean_variance_and_points():
    """u = w q / s is floor(u) or floor(u) + 1: mean u, variance p (1 - p). Ten positions, 20,000 draws of each."""
    u = torch.linspace(-2.9, 2.9, 10, dtype=torch.float64)
    grid = Grid(3, scale=3.0, generator=torch.Generator().manual_seed(1))
    x = compress(grid, u.expand(20_000, -1))[0]
    assert ((x == u.floor()) | (x == u.floor() + 1)).all()
    p = (u - u.floor()).numpy()
    mean = measure.mean(x.numpy())
    assert np.abs(mean.errors_from(u.numpy())).max() < 4
    square = measure.mean(((x - u) ** 2).numpy())
    assert np.abs(square.errors_from(p * (1 - p))).max() < 4
    assert np.abs(measure.mean(compress(Grid(3, scale=3.0), u.expand(2, -1))[0].numpy() - u.numpy()).value).max() > 0.2


def test_the_interval_of_that_mean_covers_it():
    """Of 400 intervals of 95 % from 200 draws each, 380 are expected; 3.9 standard deviations are 17."""
    grid = Grid(3, scale=3.0, generator=torch.Generator().manual_seed(2))
    x = compress(grid, torch.full((200, 400), 0.3, dtype=torch.float64))[0]
    mean = measure.mean(x.numpy())
    assert 363 <= ((mean.low <= 0.3) & (0.3 <= mean.high)).sum() <= 397


def test_a_grid_is_repeatable_and_leaves_the_global_state_alone():
    (w,) = tensors((5, 5))
    state = torch.get_rng_state()
    draws = [compress(Grid(4, generator=torch.Generator().manual_seed(7)), w)[0] for _ in range(2)]
    assert torch.equal(*draws) and torch.equal(state, torch.get_rng_state())


@given(bits=st.integers(2, 12), seed=st.integers(0, 99), random=st.booleans(), size=st.floats(1e-3, 1e3))
@settings(max_examples=60, deadline=None)
def test_no_weight_moves_further_than_a_grid_step(bits, seed, random, size):
    (w,) = tensors((4, 5), seed=seed)
    grid = Grid(bits, generator=torch.Generator().manual_seed(seed) if random else None)
    (x,) = compress(grid, size * w)
    step = float((size * w).abs().max()) / grid.levels
    assert (x - size * w).abs().max() <= step * (1 if random else 0.5) * (1 + 1e-9)


# Bad input -------------------------------------------------------------------------------------------

NUMBERS = st.one_of(st.floats(max_value=-1e-9), st.floats(min_value=1.000001), st.just(math.nan))


@given(value=NUMBERS)
@settings(max_examples=50, deadline=None)
def test_a_sparsity_outside_of_zero_to_one_is_refused(value):
    for make in (
        lambda: Magnitude(value),
        lambda: gradual(1, sparsity=value, end=3),
        lambda: gradual(1, sparsity=0.5, end=3, initial=value),
    ):
        with pytest.raises(ValueError, match=r"(sparsity|initial) must be in \[0, 1\]"):
            make()


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Magnitude(True), TypeError, "sparsity must be a real number"),
        (lambda: Magnitude("0.5"), TypeError, "sparsity must be a real number"),
        (lambda: Magnitude(0.5, "tensor"), ValueError, "scope must be one of 'global', 'layer'"),
        (lambda: Grid(1), ValueError, "bits must be in 2..24, got 1"),
        (lambda: Grid(25), ValueError, "bits must be in 2..24, got 25"),
        (lambda: Grid(4.0), TypeError, "bits must be an integer"),
        (lambda: Grid(True), TypeError, "bits must be an integer"),
        (lambda: Grid(4, scale=0.0), ValueError, r"scale must be in \(0, inf\), got 0.0"),
        (lambda: Grid(4, scale=math.inf), ValueError, "scale must be in"),
        (lambda: Grid(4, scale=math.nan), ValueError, "scale must be in"),
        (lambda: Grid(4, generator=3), TypeError, "generator must be a torch.Generator or None, got 3"),
        (lambda: gradual(-1, sparsity=0.5, end=3), ValueError, r"step must be in \[0, inf\), got -1"),
        (lambda: gradual(1, sparsity=0.5, end=3, begin=3), ValueError, "end must be at least 4, got 3"),
        (lambda: gradual(1, sparsity=0.5, end=3, begin=-1), ValueError, "begin must be at least 0"),
    ],
)
def test_bad_arguments_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make()
