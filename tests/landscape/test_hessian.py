"""Products and spectra against dense Hessians of torch.func, scipy's eigsh, and matrices whose spectrum is chosen."""

import copy
import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, eigsh
from scipy.stats import wasserstein_distance
from torch import nn
from torch.func import functional_call, hessian
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from optcourse import landscape, models
from optcourse.landscape.hessian import WHICH, Density
from optcourse.models.rows import flat_parameters

pytestmark = pytest.mark.usefixtures("one_thread")


def squared(scores, y):
    return (scores.squeeze(1) - y).square().mean()


def samples(n=24, features=5, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, features, generator=generator, dtype=torch.float64)
    return x, torch.randint(classes, (n,), generator=generator)


class Unused(nn.Module):
    """A parameter without influence, one that counts linearly, and one matrix used twice."""

    def __init__(self):
        super().__init__()
        self.unused, self.offset = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
        self.twice = nn.Linear(5, 5)
        self.last = nn.Linear(5, 3)

    def forward(self, x):
        return self.last(self.twice(self.twice(x).tanh()).tanh()) + self.offset


class Attention(nn.Module):
    """Two tokens look at each other; most kernels of attention have no second derivative."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 24), nn.Linear(8, 3)

    def forward(self, x):
        q, k, v = self.first(x.unflatten(0, (-1, 2))).unsqueeze(1).chunk(3, dim=-1)
        return self.last(nn.functional.scaled_dot_product_attention(q, k, v).squeeze(1).flatten(0, 1))


MODELS = {
    "mlp": lambda: models.mlp(5, 3, width=4, depth=2, activation="tanh", seed=1),
    "batch norm": lambda: models.mlp(5, 3, width=4, depth=2, norm="batch", activation="gelu", seed=1),
    "cnn": lambda: models.cnn2d(4, 3, channels=(2,), strides=(2,), blocks=1, norm="batch", activation="tanh", seed=1),
    "unused": Unused,
    "attention": Attention,
}


def case(name, loss=cross_entropy):
    torch.manual_seed(0)
    model = MODELS[name]().double()
    data = samples(features=16 if name == "cnn" else 5)
    return model, loss, data


class ByHand(nn.Module):
    """Batch norm as its formula: torch.func.hessian of torch 2.13 is wrong (not even symmetric) for nn.BatchNorm."""

    def __init__(self, norm):
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, h):
        axes, shape = (0, *range(2, h.dim())), (1, -1, *[1] * (h.dim() - 2))
        away = h - h.mean(axes, keepdim=True)
        normal = away / (away.square().mean(axes, keepdim=True) + self.eps).sqrt()
        return self.weight.view(shape) * normal + self.bias.view(shape)


def by_hand(model):
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                setattr(module, name, ByHand(child))
    return model


def dense(model, loss, data):
    """Forward over reverse, in torch's own way."""
    model, (x, y) = by_hand(model), data
    names, shapes = zip(*[(name, p.shape) for name, p in model.named_parameters()], strict=True)

    def f(w):
        parts = w.split([shape.numel() for shape in shapes])
        return loss(functional_call(model, {n: t.view(s) for n, t, s in zip(names, parts, shapes, strict=True)}, x), y)

    with sdpa_kernel(SDPBackend.MATH):
        return hessian(f)(flat_parameters(model))


@pytest.mark.parametrize("name", MODELS)
def test_products_are_those_of_the_dense_hessian(name):
    model, loss, data = case(name)
    product, d = landscape.hessian_vector_product(model, loss, data), len(flat_parameters(model))
    H = dense(model, loss, data)
    V = torch.randn(3, d, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    scale = H.abs().max().item()
    torch.testing.assert_close(product(V[0]), H @ V[0], rtol=0, atol=1e-12 * scale * d)
    torch.testing.assert_close(product(V), V @ H, rtol=0, atol=1e-12 * scale * d)
    torch.testing.assert_close(product(torch.eye(d).double()), H, rtol=0, atol=1e-12 * scale)


def test_a_product_stays_where_it_was_made_and_leaves_the_model_alone():
    model, loss, data = case("batch norm")
    model.train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    product, v = landscape.hessian_vector_product(model, loss, data), torch.ones(len(flat_parameters(model))).double()
    first = product(v)
    assert model.training and all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2)
    assert torch.equal(product(v), first)
    assert not torch.allclose(landscape.hessian_vector_product(model, loss, data)(v), first)


def test_batch_norm_by_running_statistics_is_another_function():
    model, loss, data = case("batch norm")
    v = torch.ones(len(flat_parameters(model))).double()
    train, running = (landscape.hessian_vector_product(model, loss, data, batch_norm=m)(v) for m in ("train", "eval"))
    assert not torch.allclose(train, running)
    torch.testing.assert_close(running, _by_differences(model.eval(), loss, data, v), rtol=1e-6, atol=1e-8)


def _by_differences(model, loss, data, v, h=1e-5):
    w, gradients = flat_parameters(model), []
    for sign in (1, -1):
        nn.utils.vector_to_parameters(w + sign * h * v, model.parameters())
        parts = torch.autograd.grad(loss(model(data[0]), data[1]), list(model.parameters()))
        gradients.append(torch.cat([part.flatten() for part in parts]))
    nn.utils.vector_to_parameters(w, model.parameters())
    return (gradients[0] - gradients[1]) / (2 * h)


@pytest.mark.parametrize("kind", [landscape.hessian_vector_product, landscape.gauss_newton_product])
def test_many_products_go_in_parts_and_are_those_of_single_vectors(kind):
    net = models.mlp(5, 3, width=6, depth=2, activation="tanh", seed=1).double()
    product = kind(net, cross_entropy, samples())
    v = torch.randn(70, models.n_parameters(net), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = torch.stack([product(one) for one in v])  # 70 is two parts of 32 and a rest
    torch.testing.assert_close(product(v), expected, rtol=0, atol=1e-14)
    with pytest.raises(ValueError, match="v must have shape"):
        product(v[:, 1:])


def test_products_take_and_give_the_type_of_the_vector():
    model = models.mlp(5, 3, width=4, depth=2, activation="tanh", seed=1)
    x, y = samples()
    product = landscape.hessian_vector_product(model, cross_entropy, (x.float(), y))
    v = torch.ones(models.n_parameters(model), dtype=torch.float64)
    assert product(v).dtype == torch.float64 and product(v.float()).dtype == torch.float32
    exact = landscape.hessian_vector_product(model.double(), cross_entropy, (x, y))(v)
    torch.testing.assert_close(product(v), exact, rtol=1e-4, atol=1e-5)


def test_least_squares_has_the_hessian_of_linear_algebra():
    model, (x, _) = nn.Linear(5, 1, bias=False).double(), samples()
    data = x, torch.ones(len(x)).double()
    H = 2 * x.T @ x / len(x)
    eye = torch.eye(5).double()
    for make in (landscape.hessian_vector_product, landscape.gauss_newton_product):
        torch.testing.assert_close(make(model, squared, data)(eye), H, rtol=1e-12, atol=1e-12)


def test_a_linear_loss_has_no_curvature():
    model, data = nn.Linear(5, 1).double(), samples()
    for make in (landscape.hessian_vector_product, landscape.gauss_newton_product):
        product = make(model, lambda scores, y: scores.mean(), data)
        assert torch.equal(product(torch.ones(6).double()), torch.zeros(6).double())


@pytest.mark.parametrize("name", MODELS)
def test_gauss_newton_is_jacobian_curvature_jacobian(name):
    model, loss, (x, y) = case(name)
    d = len(flat_parameters(model))
    G = landscape.gauss_newton_product(model, loss, (x, y))(torch.eye(d).double())
    model = by_hand(model)
    parameters = dict(model.named_parameters())
    J = torch.func.jacrev(lambda p: functional_call(model, p, x))({k: p.detach() for k, p in parameters.items()})
    J = torch.cat([part.flatten(2) for part in J.values()], dim=2)  # [n, classes, d]
    P = model(x).softmax(1).detach()
    curvature = torch.diag_embed(P) - P[:, :, None] * P[:, None, :]  # of cross-entropy, by hand
    expected = torch.einsum("nci,nck,nkj->ij", J, curvature, J) / len(x)
    torch.testing.assert_close(G, expected, rtol=0, atol=1e-12)
    assert torch.linalg.eigvalsh(G).min() > -1e-12


# ------------------------------------------------------------------------------------------- Lanczos


@functools.cache
def trained(seed=0):
    """A small network after some steps of gradient descent, and its dense Hessian."""
    data = samples(n=60, features=6, seed=seed)
    model = models.mlp(6, 3, width=7, depth=2, activation="tanh", seed=seed).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        cross_entropy(model(data[0]), data[1]).backward()
        optimizer.step()
    product = landscape.hessian_vector_product(model, cross_entropy, data)
    return product, dense(model, cross_entropy, data)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("which", WHICH)
def test_eigenvalues_are_those_of_the_dense_hessian_and_of_scipy(seed, which):
    product, H = trained(seed)
    d, exact = len(H), np.linalg.eigvalsh(H.numpy())
    found = landscape.eigenvalues(product, d, 4, which, tolerance=1e-8)
    order = {"largest": -exact, "smallest": exact, "magnitude": -np.abs(exact)}[which]
    np.testing.assert_allclose(found.values, exact[np.argsort(order)[:4]], rtol=0, atol=1e-8 * np.abs(exact).max())
    operator = LinearOperator((d, d), lambda v: product(torch.from_numpy(v.ravel().copy())).numpy(), dtype=float)
    theirs = eigsh(operator, 4, which={"largest": "LA", "smallest": "SA", "magnitude": "LM"}[which], tol=1e-12)[0]
    np.testing.assert_allclose(np.sort(found.values), np.sort(theirs), rtol=0, atol=1e-8 * np.abs(exact).max())
    torch.testing.assert_close(found.vectors @ found.vectors.T, torch.eye(4).double(), rtol=0, atol=1e-10)
    left = (found.vectors @ H - torch.as_tensor(found.values.copy())[:, None] * found.vectors).norm(dim=1)
    np.testing.assert_allclose(left, found.residuals, rtol=1e-3, atol=1e-12 * np.abs(exact).max())


def test_residuals_bound_the_distance_to_an_eigenvalue_at_every_step():
    """Ten products: far from converged, the bound is what is known."""
    product, H = trained()
    exact = np.linalg.eigvalsh(H.numpy())
    start = torch.randn(len(H), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for found in landscape.lanczos(product, start, 10):
        values, _, residuals = found.ritz()
        distance = np.abs(values[:, None] - exact).min(1)
        assert (distance <= residuals + 1e-13).all()
    assert residuals.max() > 1e-3 * exact.max()


def test_vectors_stay_orthogonal_where_plain_lanczos_loses_them():
    product, H = trained()
    start = torch.randn(len(H), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    *_, found = landscape.lanczos(product, start, 100)
    assert (found.Q @ found.Q.T - torch.eye(100).double()).abs().max() < 1e-12
    q, before, beta, plain = start / start.norm(), torch.zeros_like(start), 0.0, []
    for _ in range(100):  # the textbook's three terms
        plain.append(q)
        z = product(q) - beta * before
        z = z - (z @ q) * q
        beta, before, q = z.norm(), q, z / z.norm()
    plain = torch.stack(plain)
    assert (plain @ plain.T - torch.eye(100).double()).abs().max() > 1e-3


def diagonal(values):
    values = torch.as_tensor(values, dtype=torch.float64)
    return lambda v: values * v


@given(
    values=st.lists(st.sampled_from([-5.0, -1.0, -1e-3, 0.0, 1e-6, 1.0, 1.5, 1e4]), min_size=1, max_size=12),
    steps=st.integers(1, 15),
    seed=st.integers(0, 1000),
)
def test_any_spectrum_is_seen_from_inside(values, steps, seed):
    """Repeated, zero and far eigenvalues; rotated. Rounding is in units of the largest."""
    rng, d = np.random.default_rng(seed), len(values)
    U = np.linalg.qr(rng.normal(size=(d, d)))[0]
    A, scale = torch.as_tensor(U @ np.diag(values) @ U.T), max(np.abs(values).max(), 1e-300)
    *_, found = landscape.lanczos(lambda v: A @ v, torch.as_tensor(rng.normal(size=d)), steps)
    m = len(found.diagonal)
    assert m <= min(steps, d) and (found.Q @ found.Q.T - torch.eye(m).double()).abs().max() < 1e-10
    ritz, _, residuals = found.ritz()
    assert (np.abs(ritz[:, None] - values).min(1) <= residuals + 1e-11 * scale).all()
    assert min(values) - 1e-11 * scale <= ritz.min() and ritz.max() <= max(values) + 1e-11 * scale
    if m == d or m < steps:  # the space has ended: nothing is left over
        assert residuals.max() <= 1e-11 * scale


def test_the_method_ends_where_the_space_ends():
    start = torch.tensor([1.0, 1.0, 0.0, 0.0])
    steps = list(landscape.lanczos(diagonal([3.0, 1.0, 7.0, 9.0]), start, 4))  # the start sees two eigenvectors
    assert len(steps) == 2 and steps[-1].beside[-1] == 0
    np.testing.assert_allclose(steps[-1].ritz()[0], [1.0, 3.0], rtol=1e-14)
    whole = landscape.eigenvalues(diagonal(np.arange(20.0)), 20, 20, tolerance=1e-12)
    np.testing.assert_allclose(whole.values, np.arange(19.0, -1, -1), atol=1e-12)
    assert whole.products == 20


@pytest.mark.parametrize(
    ("which", "expected"), [("largest", [7, 5, 2]), ("smallest", [-9, -4, 0]), ("magnitude", [-9, 7, 5])]
)
def test_each_end_of_a_spectrum_with_both_signs(which, expected):
    product = diagonal([2.0, -9.0, 0.0, 7.0, -4.0, 1.0, 5.0])
    np.testing.assert_allclose(landscape.eigenvalues(product, 7, 3, which).values, expected, atol=1e-9)


def test_what_cannot_be_found_is_said():
    with pytest.raises(ArithmeticError, match="raise steps or tolerance"):
        landscape.eigenvalues(diagonal(np.linspace(0, 1, 500)), 500, 3, steps=5)
    with pytest.raises(ArithmeticError, match="fewer than k different"):
        landscape.eigenvalues(diagonal(np.ones(5)), 5, 2)


# ------------------------------------------------------------------------------------ the whole spectrum


@pytest.mark.parametrize("seed", range(5))
def test_the_density_is_within_its_stated_error(seed):
    product, H = trained(seed % 3)
    exact = np.linalg.eigvalsh(H.numpy())
    for probes, steps in ((1, 10), (10, 10), (10, 40)):
        found = landscape.spectral_density(product, len(H), probes, steps, seed=seed)
        off = wasserstein_distance(found.nodes, exact, found.weights)
        crude = np.ptp(exact) * (np.pi / (4 * steps) + 1 / np.sqrt(2 * len(H) * probes))
        assert off <= found.error <= crude
        assert found.weights.sum() == pytest.approx(1, rel=1e-12) and found.weights.min() >= 0


def test_the_error_of_the_probes_is_as_large_as_stated():
    """d steps leave only it. Eigenvectors in general position make the bound on the variance almost an equality, so
    the mean distance is E|z| = sqrt(2/pi) = .80 of the standard deviation, within some .02 for 200 probes."""
    rng, d = np.random.default_rng(0), 40
    values, U = np.sort(rng.normal(size=d)), np.linalg.qr(rng.normal(size=(d, d)))[0]
    A, ratios = torch.as_tensor(U @ np.diag(values) @ U.T), []
    for seed in range(200):
        found = landscape.spectral_density(lambda v: A @ v, d, 1, d, seed=seed)
        ratios.append(wasserstein_distance(found.nodes, values, found.weights) / found.error)
    assert 0.7 < np.mean(ratios) < 0.9


def test_moments_up_to_twice_the_steps_are_exact():
    """One probe: the quadrature integrates t^k, k <= 2m - 1, exactly against the spectral measure of its vector."""
    product, H = trained()
    lam, U = np.linalg.eigh(H.numpy())
    d, m, scale = len(lam), 4, np.abs(lam).max()
    found = landscape.spectral_density(product, d, 1, m, seed=3)
    signs = 2 * torch.randint(2, (d,), generator=torch.Generator().manual_seed(3)).double() - 1
    measure = (U.T @ signs.numpy()) ** 2 / d
    for k in range(2 * m + 1):
        ours, theirs = found.weights @ (found.nodes / scale) ** k, measure @ (lam / scale) ** k
        if k < 2 * m:
            assert ours == pytest.approx(theirs, abs=1e-13)
        else:
            assert abs(ours - theirs) > 1e-10


def test_all_products_give_the_whole_measure_of_the_probe():
    """d steps: what is left is the error of one probe, which a diagonal matrix does not have."""
    values = np.sort(np.random.default_rng(0).normal(size=12))
    found = landscape.spectral_density(diagonal(values), 12, 2, 12)
    assert wasserstein_distance(found.nodes, values, found.weights) < 1e-10
    np.testing.assert_allclose(found.cumulative(values + 1e-9), np.arange(1, 13) / 12, rtol=1e-9)


def test_a_smooth_density_is_a_mixture_of_gaussians():
    density = Density(np.array([0.0, 2.0]), np.array([0.25, 0.75]), 0.0)
    t = np.linspace(-8, 10, 4001)
    smooth = density.smooth(t, 0.5)
    assert np.trapezoid(smooth, t) == pytest.approx(1, rel=1e-9)
    assert np.trapezoid(t * smooth, t) == pytest.approx(1.5, rel=1e-9)
    assert np.trapezoid((t - 1.5) ** 2 * smooth, t) == pytest.approx(0.75 + 0.25, rel=1e-9)
    np.testing.assert_array_equal(density.cumulative([-1.0, 0.0, 1.0, 2.0]), [0, 0.25, 0.25, 1])


def test_the_trace_is_unbiased_with_the_variance_of_its_docstring():
    H = trained()[1]
    exact, probes = H.trace().item(), 2000
    found = landscape.hutchinson_trace(lambda v: H @ v, len(H), probes, seed=1)
    variance = 2 * (H.square().sum() - H.diagonal().square().sum()).item()
    assert abs(found.value - exact) < 4 * np.sqrt(variance / probes)
    assert found.stderr == pytest.approx(np.sqrt(variance / probes), rel=0.1)  # 4 errors of a variance of 2000 numbers
    assert landscape.hutchinson_trace(diagonal([1.0, 2.0, 4.0]), 3, 2).value == 7


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: landscape.eigenvalues(p, 0), "d must be at least 1"),
        (lambda p: landscape.eigenvalues(p, 3, 4), r"k must be in 1\.\.3, got 4"),
        (lambda p: landscape.eigenvalues(p, 3, 1, "LA"), "which must be one of 'largest'"),
        (lambda p: landscape.eigenvalues(p, 3, tolerance=0.0), "tolerance"),
        (lambda p: landscape.eigenvalues(p, 3, 2, steps=1), "steps must be at least 2"),
        (lambda p: landscape.eigenvalues(p, 3, seed=-1), "seed"),
        (lambda p: landscape.spectral_density(p, 3, 0), "probes"),
        (lambda p: landscape.spectral_density(p, 3, 1, 0), "steps"),
        (lambda p: landscape.hutchinson_trace(p, 3, 1), "probes must be at least 2"),
        (lambda p: next(landscape.lanczos(p, torch.zeros(3), 2)), "start must be a finite vector that is not zero"),
        (lambda p: next(landscape.lanczos(p, torch.ones(3, 1), 2)), "start"),
        (lambda p: next(landscape.lanczos(lambda v: v / 0, torch.ones(3), 2)), "product must return finite numbers"),
        (lambda p: landscape.spectral_density(p, 3).smooth(0.0, 0.0), "width"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(diagonal([1.0, 2.0, 3.0]))


@given(length=st.integers(0, 42), rows=st.integers(0, 2))
def test_a_vector_of_another_length_is_refused(length, rows):
    model = models.mlp(4, 3, width=5, depth=1).double()
    product = landscape.hessian_vector_product(model, cross_entropy, samples(features=4))
    with pytest.raises(ValueError, match=r"v must have shape \[43\] or \[k, 43\]"):
        product(torch.zeros(rows, length) if rows else torch.zeros(length))


@pytest.mark.parametrize("make", [landscape.hessian_vector_product, landscape.gauss_newton_product])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, loss, x, y: (nn.ReLU(), loss, (x, y)), "model must have parameters"),
        (lambda m, loss, x, y: (m, loss, (x[1:], y)), "data must be .x, y. of the same length"),
        (lambda m, loss, x, y: (m, loss, (x[:0], y[:0])), "data must be"),
        (lambda m, loss, x, y: (m, lambda s, y: s.mean(1), (x, y)), r"loss must return one number, got shape \[24\]"),
    ],
)
def test_models_losses_and_data_that_do_not_fit_are_named(make, change, message):
    model, loss, (x, y) = case("mlp")
    with pytest.raises(ValueError, match=message):
        make(*change(model, loss, x, y))


@pytest.mark.parametrize("make", [landscape.hessian_vector_product, landscape.gauss_newton_product])
def test_running_statistics_that_move_later_do_not_change_the_product(make):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y = torch.randn(20, 3, dtype=torch.float64), torch.arange(20) % 2
    product, buffers = make(net, cross_entropy, (x, y), batch_norm="eval"), list(net.buffers())
    eye = torch.eye(len(flat_parameters(net)), dtype=torch.float64)
    before = product(eye)
    net(3 * x + 1)
    assert torch.equal(product(eye), before)
    assert all(a is b for a, b in zip(net.buffers(), buffers, strict=True))


def test_second_derivatives_that_cannot_be_are_an_error():
    class Bent(torch.autograd.Function):
        """x_0^2 x_1 with a gradient that no function has."""

        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return (x[0] ** 2 * x[1]).reshape(())

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * torch.stack([2 * x[0] * x[1], 2 * x[0] ** 2])

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))

        def forward(self, x):
            return Bent.apply(self.w).expand(len(x))

    with pytest.raises(ArithmeticError, match="not symmetric"):
        landscape.hessian_vector_product(Net(), lambda s, y: s.mean(), (torch.zeros(2), torch.zeros(2)))


def test_a_loss_that_is_no_tensor_is_named():
    with pytest.raises(ValueError, match="loss must return one number, got 1.0, no tensor"):
        landscape.hessian_vector_product(nn.Linear(2, 1), lambda s, y: 1.0, (torch.zeros(2, 2), torch.zeros(2)))
