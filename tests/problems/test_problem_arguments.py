"""Bad arguments: an error that names argument, value and allowed range."""

import numpy as np
import pytest
import torch
from examples import ALL
from hypothesis import given
from hypothesis import strategies as st

from optcourse import problems
from optcourse.problems import (
    Cosine,
    CosineNodes,
    Huber,
    LeastSquares,
    LongValley,
    OffsetNodes,
    Plateau,
    PseudoHuber,
    Quadratic,
    QuadraticNodes,
    Rosenbrock,
    Saddle,
)

not_positive = st.floats(max_value=0) | st.sampled_from([float("nan"), float("inf"), -float("inf")])
negative = st.floats(max_value=0, exclude_max=True) | st.just(float("nan"))
POSITIVE = [
    (Cosine, {}, "L"),
    (Huber, {"knee": 1.0}, "L"),
    (Huber, {}, "knee"),
    (CosineNodes, {"phases": [0.0, 1.0]}, "L"),
    (Rosenbrock, {}, "b"),
    (LongValley, {}, "steepness"),
    (LongValley, {}, "slope"),
    (Saddle, {}, "L"),
    (problems.BoundedSaddle, {}, "L"),
    (Plateau, {}, "depth"),
    (Plateau, {}, "width"),
]


@pytest.mark.parametrize(("cls", "others", "name"), POSITIVE, ids=lambda v: getattr(v, "__name__", str(v)))
@given(value=not_positive)
def test_scales_must_be_positive(cls, others, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be in \(0"):
        cls(**others, **{name: value})


@given(value=negative)
def test_variances_must_not_be_negative(value):
    with pytest.raises(ValueError, match="^sigma2 must be in"):
        Cosine(sigma2=value)
    with pytest.raises(ValueError, match="^noise_variances must be in"):
        Cosine(dim=2, noise_variances=[1.0, value])
    with pytest.raises(ValueError, match="^eigenvalues must be in"):
        Quadratic([1.0, value])


@given(dim=st.integers(max_value=0))
def test_dim_must_be_at_least_one(dim):
    for cls in (Cosine, PseudoHuber):
        with pytest.raises(ValueError, match=f"^dim must be at least 1, got {dim}"):
            cls(dim=dim)


@given(data=st.data())
def test_x_of_the_wrong_last_dimension_is_refused(data):
    problem = data.draw(st.sampled_from(ALL))
    size = data.draw(st.integers(0, 6).filter(lambda k: k != problem.dim))
    shape = (*data.draw(st.lists(st.integers(0, 3), max_size=2)), size)
    method = data.draw(st.sampled_from(["value", "gradient", "hessian", "delta0"]))
    if method == "delta0" and problem.fstar is None:
        method = "value"
    for x in (np.zeros(shape), torch.zeros(shape)):
        with pytest.raises(ValueError, match=f"^x must have last dimension {problem.dim} "):
            getattr(problem, method)(x)


def test_x_must_be_numbers_with_an_axis(problem):
    for x in (1.0, torch.tensor(1.0)):
        with pytest.raises(ValueError, match=r"^x must have last dimension \d+ .* got shape \(\)"):
            problem.value(x)
    for x in ("abc", None, [[1.0], [1.0, 2.0]], 1j * np.ones(problem.dim), 1j * torch.ones(problem.dim)):
        with pytest.raises(TypeError, match="^x must be an array or a tensor of real numbers"):
            problem.value(x)


@given(data=st.data())
def test_nodes_refuse_another_number_of_rows(data):
    problem = data.draw(st.sampled_from([p for p in ALL if isinstance(p, problems.Distributed)]))
    rows = data.draw(st.integers(0, 6).filter(lambda k: k != problem.n_nodes))
    for method in (problem.node_value, problem.node_gradient):
        with pytest.raises(ValueError, match=rf"^x must have last dimensions \({problem.n_nodes}, {problem.dim}\)"):
            method(np.zeros((rows, problem.dim)))
        with pytest.raises(ValueError, match=r"^x must have last dimensions"):
            method(np.zeros(problem.dim))


@given(batch_size=st.integers(max_value=0))
def test_batch_size_must_be_at_least_one(batch_size):
    for problem in ALL:
        with pytest.raises(ValueError, match="^batch_size must be at least 1, got"):
            problem.stochastic_gradient(np.zeros(problem.dim), np.random.default_rng(0), batch_size)


def test_noise_comes_from_a_numpy_generator(problem):
    for rng in (None, 0, np.random.RandomState(0), torch.Generator()):
        with pytest.raises(TypeError, match=r"^rng must be a numpy\.random\.Generator"):
            problem.stochastic_gradient(np.zeros(problem.dim), rng)


def test_least_squares_batches():
    f = LeastSquares([[1.0], [2.0], [3.0]], 0.0)
    rng = np.random.default_rng(0)
    for call in (
        lambda: f.variance([1.0], 4, replace=False),
        lambda: f.stochastic_gradient([1.0], rng, 4, replace=False),
    ):
        with pytest.raises(ValueError, match=r"^batch_size must be in 1\.\.3, got 4"):
            call()
    for batch in ([3], [-1], [0.5], 0, []):
        with pytest.raises(ValueError, match=r"^batch must hold indices in 0\.\.2"):
            f.batch_gradient([1.0], batch)


BAD = [
    (lambda: Cosine(noise="uniform"), "noise must be one of 'gaussian', 'sign', got 'uniform'"),
    (lambda: Cosine(sigma2=1.0, noise_variances=[1.0]), "sigma2 must be 0 when noise_variances is given"),
    (lambda: Cosine(dim=3, noise_variances=[1.0, 1.0]), "noise_variances must be a number or a vector of 3 numbers"),
    (lambda: Quadratic([0.0, 0.0]), "eigenvalues must contain a number > 0"),
    (lambda: Quadratic([]), "eigenvalues must be a non-empty vector"),
    (lambda: Quadratic([[1.0]]), "eigenvalues must be a non-empty vector"),
    (lambda: Quadratic([1.0, 2.0], minimizer=[1.0]), "minimizer must be a number or a vector of 2"),
    (lambda: Quadratic([1.0, 2.0], rotation=np.eye(3)), r"rotation must have shape \(2, 2\)"),
    (lambda: Quadratic([1.0, 2.0], rotation=2 * np.eye(2)), "rotation must be orthogonal"),
    (lambda: Quadratic([1.0], rotation=[[np.nan]]), "rotation must be orthogonal"),
    (lambda: LeastSquares([1.0, 2.0], [1.0, 2.0]), "features must be a finite, non-zero matrix"),
    (lambda: LeastSquares([[0.0]], [1.0]), "features must be a finite, non-zero matrix"),
    (lambda: LeastSquares([[np.nan]], [1.0]), "features must be a finite, non-zero matrix"),
    (lambda: LeastSquares(np.empty((0, 2)), []), "features must be a finite, non-zero matrix"),
    (lambda: LeastSquares([[1.0]], [1.0, 2.0]), "targets must be a number or a vector of 1"),
    (lambda: OffsetNodes(Cosine(dim=1), [[1.0], [1.0]]), "offsets must sum to zero"),
    (lambda: OffsetNodes(Cosine(dim=1), [[1.0, 0.0], [-1.0, 0.0]]), "offsets must have 1 columns"),
    (lambda: OffsetNodes(Cosine(dim=1), []), r"offsets must have shape \[n\] or \[n, d\]"),
    (lambda: CosineNodes(1.0, phases=0.0), r"phases must have shape \[n\] or \[n, d\]"),
    (lambda: QuadraticNodes([1.0, 2.0], [1.0]), r"b must have the shape of a, \(2, 1\), got \(1, 1\)"),
    (lambda: QuadraticNodes([1.0, 0.0], [1.0, 2.0]), r"a must be in \(0"),
    (lambda: Rosenbrock().local_L(((0, 1), (1, 0))), "region must be .* with low < high"),
    (lambda: Rosenbrock().local_L((0, 1)), "region must be .* with low < high"),
    (lambda: Rosenbrock().local_L(points=1), "points must be at least 2"),
    (lambda: Rosenbrock().local_L(rounds=0), "rounds must be at least 1"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[m for _, m in BAD])
def test_constructor_errors(call, message):
    with pytest.raises(ValueError, match="^" + message):
        call()


def test_wrong_types():
    for base in (lambda x: x, CosineNodes(1.0, [0.0, 1.0])):
        with pytest.raises(TypeError, match="^base must be a problem that is not distributed"):
            OffsetNodes(base, [0.0, 0.0])
    with pytest.raises(TypeError, match="'sigma'"):
        Cosine(sigma=1.0)
    with pytest.raises(TypeError, match="^dim must be an integer, got 2.0"):
        Cosine(dim=2.0)


def test_constants_are_copies_of_the_arguments():
    eigenvalues = np.array([1.0, 2.0])
    f = Quadratic(eigenvalues)
    eigenvalues[:] = 100.0
    assert f.value([1.0, 1.0]) == 1.5


def test_repr_shows_the_constants():
    assert repr(Quadratic([1.0, 4.0], sigma2=2.0)) == "Quadratic(dim=2, L=4, mu=1, fstar=0, sigma2=2)"
