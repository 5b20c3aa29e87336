"""Planes against one evaluation after the other, hand-made planes, and a principal component analysis of sklearn."""

import copy
import importlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch import nn
from torch.nn.functional import cross_entropy

from optcourse import landscape, models
from optcourse.landscape.objective import evaluation
from optcourse.landscape.surface import Plane
from optcourse.models import rows
from optcourse.models.rows import flat_parameters

pytestmark = pytest.mark.usefixtures("one_thread")
module = importlib.import_module("optcourse.landscape.surface")  # in the room the function has the name


def squared(scores, y):
    return (scores - nn.functional.one_hot(y, scores.shape[1])).square().mean()


def samples(n=16, features=16, classes=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, features, generator=generator, dtype=torch.float64)
    return x.to(dtype), torch.randint(classes, (n,), generator=generator)


class Odd(nn.Module):
    """A forward pass of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(16, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.norm(self.first(x)).sin() * 1.1)


class Recurrent(nn.Module):
    """Layers that vmap has no rule for."""

    def __init__(self):
        super().__init__()
        self.cells, self.last = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.last(self.cells(x.unflatten(1, (4, 4)))[0][:, -1])


class Tied(nn.Module):
    """One matrix in two layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.last(self.second(self.first(x).tanh()))


class Counting(Odd):
    """What counts its calls in a buffer, and looks at values: nothing that vmap could do."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return super().forward(x) if float(x.sum() + self.first.weight.sum()) < 1e9 else x


MODELS = {
    "mlp": lambda: models.mlp(16, 3, width=5, depth=2, seed=1),
    "mlp batch": lambda: models.mlp(16, 3, width=5, depth=3, norm="batch", activation="tanh", seed=1),
    "cnn1d batch": lambda: models.cnn1d(16, 3, channels=(3,), strides=(2,), blocks=2, norm="batch", seed=1),
    "cnn2d batch": lambda: models.cnn2d(
        4, 3, channels=(3,), strides=(1,), blocks=2, residual=True, norm="batch", seed=1
    ),
    "cnn2d layer": lambda: models.cnn2d(4, 3, channels=(3,), strides=(2,), blocks=1, norm="layer", seed=1),
    "dropout": lambda: nn.Sequential(nn.Linear(16, 5), nn.Dropout(0.5), nn.ReLU(), nn.Linear(5, 3)),
    "odd": Odd,
    "tied": Tied,
}
ONE_BY_ONE = {"counting": Counting, "recurrent": Recurrent}
ROWS = [name for name in MODELS if name not in ("odd", "tied")]  # without vmap


def make(name, dtype=torch.float64, source=MODELS):
    torch.manual_seed(0)
    model = source[name]().to(dtype)
    for norm in (m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return model


def one_by_one(model, loss, data, plane, mode):
    """The oracle: a copy of the module, its parameters replaced, a plain call."""
    own, values = copy.deepcopy(model).eval(), np.empty(plane.values.shape)
    if mode == "train":
        for norm in (m for m in own.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
            norm.train()
    for i, a in enumerate(plane.alphas):
        for j, b in enumerate(plane.betas):
            w = flat_parameters(model) + a * plane.directions[0] + b * plane.directions[1]
            nn.utils.vector_to_parameters(w, own.parameters())
            with torch.no_grad():
                values[i, j] = loss(own(data[0]), data[1])
    return values


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("loss", [cross_entropy, squared, rows.accuracy], ids=["cross entropy", "squared", "accuracy"])
@pytest.mark.parametrize("name", MODELS)
def test_a_plane_is_what_one_evaluation_after_the_other_finds(name, loss, mode):
    model, data = make(name), samples()
    directions = landscape.random_directions(model, seed=3)
    plane = landscape.surface(model, loss, data, directions, span=0.5, points=5, batch_norm=mode)
    assert plane.way == "batched"
    np.testing.assert_allclose(plane.values, one_by_one(model, loss, data, plane, mode), rtol=1e-12)


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_what_cannot_be_batched_goes_point_by_point_and_says_so(name):
    model, data = make(name, source=ONE_BY_ONE), samples()
    plane = landscape.surface(model, cross_entropy, data, landscape.random_directions(model), points=4)
    assert plane.way.startswith("one by one: RuntimeError")
    np.testing.assert_allclose(plane.values, one_by_one(model, cross_entropy, data, plane, "train"), rtol=1e-12)
    assert not any(calls.any() for key, calls in model.named_buffers() if key == "calls")


def test_a_hook_that_rows_would_not_see_is_noticed():
    model, data = make("mlp"), samples()
    model[1].register_forward_hook(lambda module, inputs, output: 2 * output)
    plane = landscape.surface(model, cross_entropy, data, landscape.random_directions(model), points=4)
    assert plane.way.startswith("one by one: together, the loss at the center would be")
    np.testing.assert_allclose(plane.values, one_by_one(model, cross_entropy, data, plane, "train"), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_point_has_the_same_bits_however_many_are_evaluated_together(name, mode, dtype, monkeypatch):
    model, data = make(name, dtype), samples(32, dtype=dtype)
    arguments = model, cross_entropy, data, landscape.random_directions(model)
    found = []
    for most in (256, 7, 1):
        monkeypatch.setitem(module.MOST, "cpu", most)
        found.append(landscape.surface(*arguments, points=6, batch_norm=mode).values)
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["mlp batch", "cnn1d batch", "cnn2d batch"])
def test_rows_of_batch_norm_have_their_own_batches_and_leave_the_buffers_alone(name, training):
    model, generator = make(name).train(training), torch.Generator().manual_seed(0)
    before = copy.deepcopy(model.state_dict())
    w = flat_parameters(model) + 0.1 * torch.randn(3, len(flat_parameters(model)), generator=generator).double()
    x = torch.randn(3, 7, 16, generator=generator).double()
    w.requires_grad_()
    found = rows.apply(model, w, x)
    (gradient,) = torch.autograd.grad(found.sin().sum(), w)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    for i in range(3):
        own = copy.deepcopy(model)
        nn.utils.vector_to_parameters(w[i].detach(), own.parameters())
        scores = own(x[i])
        torch.testing.assert_close(found[i].T, scores, rtol=1e-10, atol=1e-12)
        parts = torch.autograd.grad(scores.sin().sum(), list(own.parameters()))
        torch.testing.assert_close(gradient[i], torch.cat([part.flatten() for part in parts]), rtol=1e-9, atol=1e-11)


def test_one_number_has_no_statistics():
    model = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))
    with pytest.raises(ValueError, match="batch norm needs more than one number"):
        rows.apply(model, flat_parameters(model)[None], torch.ones(1, 1, 4))


def test_rows_do_not_share_the_random_numbers_of_dropout():
    with pytest.raises(RuntimeError, match="random"):
        rows.apply(model := make("dropout").train(), flat_parameters(model)[None], samples()[0][None])


def test_memory_decides_how_many_points_are_evaluated_together(monkeypatch):
    model, data, seen = make("cnn2d batch"), samples(), []
    apply = module.apply
    monkeypatch.setattr(module, "apply", lambda net, w, x: seen.append(len(w)) or apply(net, w, x))
    monkeypatch.setitem(module.MEMORY, "cpu", 10 * 8 * 16 * 16 * 27)  # ten times 16 samples and positions, 3 * 9
    landscape.surface(model, cross_entropy, data, landscape.random_directions(model), points=6)
    assert seen == [1, 10, 10, 10, 6]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_an_interruption_leaves_the_model_as_it_was(failure, mode):
    model, data, calls = make("mlp batch").train(), samples(), []
    model[2].branch[0].eval()  # a mixture of modes
    before = copy.deepcopy(model.state_dict())
    buffers = {name: id(b) for name, b in model.named_buffers()}

    def loss(scores, y):
        calls.append(1)
        if len(calls) > 3:
            raise failure("stop")
        return cross_entropy(scores, y)

    with pytest.raises(failure):
        landscape.surface(model, loss, data, landscape.random_directions(model), points=20, batch_norm=mode)
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert buffers == {name: id(b) for name, b in model.named_buffers()}
    assert model.training and not model[2].branch[0].training and model[3].branch[0].training
    assert all(m.track_running_stats for m in model.modules() if isinstance(m, nn.BatchNorm1d))


def test_instance_norm_with_running_statistics_has_both_modes():
    norm = nn.InstanceNorm1d(2, track_running_stats=True)
    model = nn.Sequential(nn.Unflatten(1, (2, 8)), norm, nn.Flatten(), nn.Linear(16, 3)).double()
    norm.running_mean.fill_(1.0)
    for mode in ("train", "eval"):
        own = copy.deepcopy(model).eval()
        own[1].train(mode == "train")
        data = samples()
        with evaluation(model, mode):
            torch.testing.assert_close(model(data[0]), own(data[0]), rtol=1e-12, atol=1e-12)
    assert norm.running_mean.tolist() == [1.0, 1.0]


# -------------------------------------------------------------------------------------- directions


def test_every_filter_of_a_direction_is_as_long_as_the_models():
    model = make("cnn2d batch")
    for direction in landscape.filter_normalized(model, seed=1):
        for part, p in zip(rows.split(list(model.parameters()), direction[None]), model.parameters(), strict=True):
            if p.dim() > 1:
                torch.testing.assert_close(part[0].flatten(1).norm(dim=1), p.flatten(1).norm(dim=1))
            else:
                assert not part.any()
    for direction in landscape.filter_normalized(model, seed=1, vectors="normalized"):
        for part, p in zip(rows.split(list(model.parameters()), direction[None]), model.parameters(), strict=True):
            own = p.flatten(1).norm(dim=1) if p.dim() > 1 else p.norm()
            torch.testing.assert_close(part[0].flatten(1).norm(dim=1) if p.dim() > 1 else part[0].norm(), own)


def test_a_filter_of_zeros_stays_where_it_is():
    model = make("mlp")
    with torch.no_grad():
        model[1].weight[2] = 0
    parts = rows.split(list(model.parameters()), landscape.filter_normalized(model))
    assert not parts[0][:, 2].any() and parts[0][:, 3].all()


def test_filter_normalized_planes_do_not_see_the_scale_of_layers():
    """ReLU between two layers: a times the first and 1/a times the second is the same function, and the same plane."""
    model = models.mlp(16, 3, width=5, depth=1, seed=1).double()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[1].weight.mul_(8)  # a power of two: exact
        other[4].weight.mul_(1 / 8)
    planes, plain = (
        [landscape.surface(m, cross_entropy, samples(), make(m), points=5).values for m in (model, other)]
        for make in (landscape.filter_normalized, landscape.random_directions)
    )
    np.testing.assert_allclose(planes[0], planes[1], rtol=1e-12)
    assert np.abs(plain[0] - plain[1]).max() > 0.1


def test_one_seed_gives_one_plane_in_every_type_and_another_seed_another():
    single, double = make("mlp", torch.float32), make("mlp")
    a, b = landscape.random_directions(single, 4), landscape.random_directions(double, 4)
    assert torch.equal(a, b.float()) and not torch.equal(a, landscape.random_directions(single, 5))
    assert abs(a.double().mean()) < 5 / a.numel() ** 0.5 and abs(a.std() - 1) < 5 / (2 * a.numel()) ** 0.5
    assert abs(a[0] @ a[1]) < 5 * a.shape[1] ** 0.5


def test_principal_directions_are_those_of_sklearn():
    generator = torch.Generator().manual_seed(0)
    path = torch.randn(12, 30, generator=generator, dtype=torch.float64).cumsum(0) + 5
    directions, share = landscape.pca_directions(path)
    away = (path - path[-1]).numpy()
    theirs = PCA(2).fit(np.concatenate([away, -away]))  # symmetric: its mean is zero, as the last point is here
    overlap = np.abs(theirs.components_ @ directions.numpy().T)
    np.testing.assert_allclose(overlap, np.eye(2), atol=1e-10)
    assert share == pytest.approx(theirs.explained_variance_ratio_.sum(), rel=1e-10)
    assert (directions @ (path[0] - path[-1]) >= 0).all()


def test_a_path_in_a_plane_is_explained_wholly():
    circle = torch.stack([torch.linspace(0, 3, 20).cos(), torch.linspace(0, 3, 20).sin()], dim=1).double()
    basis = torch.randn(2, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert landscape.pca_directions(circle @ basis)[1] == pytest.approx(1, abs=1e-12)


def test_coordinates_find_points_of_the_plane_again():
    model = make("mlp")
    w, generator = flat_parameters(model), torch.Generator().manual_seed(0)
    fast, slow = (w + torch.randn(len(w), generator=generator, dtype=torch.float64) for _ in range(2))
    given = fast - w, slow - w  # directions that are neither of length one nor at right angles
    span = ((-0.5, 1.5), (-1.0, 1.0))
    plane = landscape.surface(model, cross_entropy, samples(), given, span=span, points=5)
    found = plane.coordinates(torch.stack([w, fast, slow, 0.5 * (fast + slow)]))
    np.testing.assert_allclose(found, [[0, 0], [1, 0], [0, 1], [0.5, 0.5]], atol=1e-10)
    assert plane.region == span and plane.alphas.tolist() == [-0.5, 0, 0.5, 1, 1.5]
    nn.utils.vector_to_parameters(fast, model.parameters())
    with torch.no_grad():
        x, y = samples()
        assert plane.value([1.0, 0.0]) == pytest.approx(cross_entropy(model(x), y).item(), rel=1e-12)


# ---------------------------------------------------------------------------------------- roughness


def plane_of(function, points=41):
    t = np.linspace(-2, 2, points)
    return Plane(t, t, function(*np.meshgrid(t, t, indexing="ij")), torch.zeros(2), torch.eye(2), "by hand")


def test_minima_and_curvatures_of_planes_made_by_hand():
    bowl = plane_of(lambda a, b: a**2 + 3 * b**2 + a * b)
    exact = np.linalg.eigvalsh([[2, 1], [1, 6]])
    assert bowl.minima == 1 and bowl.roughness == 0
    np.testing.assert_allclose(bowl.curvatures, np.broadcast_to(exact, bowl.curvatures.shape), rtol=1e-9)
    saddle = plane_of(lambda a, b: 2 * a**2 - b**2)
    assert saddle.minima == 0 and saddle.roughness == pytest.approx(0.5, rel=1e-9)
    waves = plane_of(lambda a, b: np.sin(2 * np.pi * a) + np.sin(2 * np.pi * b), points=81)
    assert waves.minima == 16 and waves.roughness == pytest.approx(1, rel=1e-9)  # upside down it is itself
    flat, hill = plane_of(lambda a, b: 0 * a), plane_of(lambda a, b: -(a**2) - b**2)
    assert flat.minima == hill.minima == 0 and np.isnan(flat.roughness) and hill.roughness == np.inf


def test_a_loss_that_overflows_keeps_its_minima_and_has_no_roughness():
    plane = plane_of(lambda a, b: np.where(a > 1.5, np.inf, a**2 + b**2))
    assert plane.minima == 1 and np.isnan(plane.roughness)
    assert plane.value([1.9, 0.0]) == plane.values[np.isfinite(plane.values)].max()


# --------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"span": 0.0}, ValueError, "span must be in"),
        ({"span": ((0.0, 1.0), (1.0, 1.0))}, ValueError, "span must be a number > 0 or"),
        ({"span": (0.0, 1.0)}, ValueError, "span must be a number > 0 or"),
        ({"span": "wide"}, TypeError, "span"),
        ({"points": 2}, ValueError, "points must be at least 3"),
        ({"batch_norm": "running"}, ValueError, "batch_norm must be one of 'train', 'eval'"),
        ({"directions": torch.zeros(2, 7)}, ValueError, r"directions must be finite and of shape \[2, 133\]"),
        ({"directions": torch.ones(2, 133)}, ValueError, "directions must span a plane"),
        ({"directions": torch.full((2, 133), torch.nan)}, ValueError, "directions must be finite"),
        ({"data": (torch.ones(3, 16).double(), torch.zeros(2).long())}, ValueError, "data must be"),
        ({"loss": lambda scores, y: scores.mean(1)}, ValueError, "loss must return one number"),
        ({"model": nn.ReLU()}, ValueError, "model must have parameters"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    model = options.pop("model", make("mlp"))
    directions = options.pop("directions", landscape.random_directions(make("mlp")))
    data, loss = options.pop("data", samples()), options.pop("loss", cross_entropy)
    with pytest.raises(error, match=message):
        landscape.surface(model, loss, data, directions, **{"points": 3, **options})


@given(shape=st.lists(st.integers(0, 4), min_size=0, max_size=3).filter(lambda s: not (len(s) == 2 and s[0] > 2)))
def test_no_path_that_is_too_short_is_taken(shape):
    with pytest.raises(ValueError, match="trajectory must hold at least three"):
        landscape.pca_directions(torch.zeros(shape))


def test_paths_on_a_line_and_other_mistakes_are_named():
    with pytest.raises(ValueError, match="must not lie on one line"):
        landscape.pca_directions(torch.arange(5.0)[:, None] * torch.ones(7))
    with pytest.raises(ValueError, match="vectors must be one of"):
        landscape.filter_normalized(make("mlp"), vectors="copied")
    for call in (landscape.filter_normalized, landscape.random_directions):
        with pytest.raises(ValueError, match="seed must be"):
            call(make("mlp"), -1)


def test_a_plane_without_a_finite_loss_is_named():
    axis = np.linspace(-1, 1, 3)
    plane = Plane(axis, axis, np.full((3, 3), np.inf), torch.zeros(2), torch.eye(2), "batched")
    with pytest.raises(ValueError, match="no finite loss"):
        plane.value([0.0, 0.0])
    with pytest.raises(ValueError, match="must hold a finite loss"):
        landscape.draw_planes({"plane": plane})
