"""Copies of a network against the networks themselves, one after the other."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from optcourse import models, optim, training
from optcourse.models import rows
from optcourse.training import copies


def three(make):
    return [make(seed=seed).double() for seed in range(3)]


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: models.mlp(16, 4, width=8, depth=2, activation="tanh", seed=seed),
        lambda seed: models.cnn2d(4, 4, channels=(3, 5), norm="layer", seed=seed),
    ],
    ids=["mlp", "cnn"],
)
def test_losses_and_gradients_are_those_of_each_network(make):
    nets, generator = three(make), torch.Generator().manual_seed(0)
    x = torch.randn(3, 6, 16, dtype=torch.float64, generator=generator)
    y = torch.randint(4, (3, 6), generator=generator)
    w = rows.stack(nets).requires_grad_()
    losses = rows.losses(nets[0], w, x, y)
    (gradient,) = torch.autograd.grad(losses.sum(), w)
    for i, net in enumerate(nets):
        loss = cross_entropy(net(x[i]), y[i])
        parts = torch.autograd.grad(loss, list(net.parameters()))
        assert losses[i].item() == pytest.approx(loss.item(), rel=1e-12)
        assert torch.allclose(gradient[i], torch.cat([part.flatten() for part in parts]), rtol=1e-10, atol=1e-14)
        assert torch.allclose(rows.scores(net, w, x)[i].T, net(x[i]), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("copied", "extra", "batches"), [(3, 1, 3), (3, -1, 3), (2, 0, 3)])
def test_shapes_that_do_not_fit_are_refused(copied, extra, batches):
    net = models.mlp(4, 3, width=5, depth=1)
    w = torch.zeros(copied, models.n_parameters(net) + extra)
    with pytest.raises(ValueError, match=r"w must have shape \[rows, 43\]"):
        rows.scores(net, w, torch.zeros(batches, 2, 4))


def signals(n=20):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 16, dtype=torch.float64, generator=generator)
    return x, torch.randint(4, (n,), generator=generator)


def small(seed):
    return models.mlp(16, 4, width=8, depth=1, seed=seed).double()


@pytest.mark.parametrize(
    ("method", "settings"),
    [(optim.SGD, {"momentum": 0.9, "nesterov": True}), (optim.Adam, {"betas": (0.8, 0.99), "eps": 1e-6})],
    ids=["sgd", "adam"],
)
def test_training_side_by_side_is_training_one_after_the_other(method, settings):
    samples, orders, rates = signals(), [7, 3, 5], np.array([0.02, 0.1])
    schedule = 1 / np.sqrt(np.arange(1, 13))  # twelve steps, more than an epoch of four batches, the last one small
    together = copies.train(
        three(small), samples, method, np.outer(schedule, rates), orders=orders, batch_size=6, **settings
    )
    assert together.losses.shape == (12, 2, 3) and together.weights.shape[:2] == (2, 3) and together.looks is None
    for column, rate in enumerate(rates):
        for i, order in enumerate(orders):
            net = small(i)
            optimizer = method(net.parameters(), lr=rate, **settings)
            history = training.fit(
                net, samples, optimizer, steps=12, batch_size=6, seed=order, schedule=lambda t: 1 / np.sqrt(t + 1)
            )
            assert together.losses[:, column, i] == pytest.approx(history.loss, rel=1e-9)
            assert torch.allclose(together.weights[column, i], rows.stack([net])[0], rtol=1e-9, atol=1e-12)


def test_every_network_may_have_rates_of_its_own():
    options = {"orders": [7, 3, 5], "batch_size": 6, "momentum": 0.9}
    lr = np.random.default_rng(0).uniform(0.01, 0.1, (5, 2, 3))
    together = copies.train(three(small), signals(), optim.SGD, lr, **options)
    for i in range(3):
        # The rates of network i for all: in column and row of its own it is the same network.
        alone = copies.train(three(small), signals(), optim.SGD, lr[:, :, i], **options)
        assert np.array_equal(together.losses[:, :, i], alone.losses[:, :, i])
        assert torch.equal(together.weights[:, i], alone.weights[:, i])


@pytest.mark.parametrize("climb", [None, optim.ascent(0.1)])
def test_copies_that_go_through_in_portions_are_the_same(monkeypatch, climb):
    lr, options = np.full((4, 2), 0.1), {"orders": [7, 3, 5], "batch_size": 6, "climb": climb}
    whole = copies.train(three(small), signals(), optim.SGD, lr, **options)
    for cache in (1, 2 * 6 * 16):  # one at a time, two at a time
        monkeypatch.setattr(copies, "CACHE", cache)
        parts = copies.train(three(small), signals(), optim.SGD, lr, **options)
        assert np.array_equal(parts.losses, whole.losses) and torch.equal(parts.weights, whole.weights)


def test_looks_are_taken_at_first_and_after_every_so_many_steps():
    nets, samples, seen = three(small), signals(), []

    def look(w):
        seen.append(w.clone())
        return w[:, :5]

    options = {"orders": range(3), "batch_size": 5}
    lr = np.full((7, 2), 0.1) * [1, 2]
    trained = copies.train(nets, samples, optim.SGD, lr, look=look, every=3, **options)
    assert len(seen) == 3 and trained.looks.shape == (3, 2, 3, 5)
    assert np.array_equal(trained.looks, torch.stack(seen)[..., :5].unflatten(1, (2, 3)).numpy())
    first = rows.stack(nets)
    assert torch.equal(seen[0], first.repeat(2, 1))
    # From the same first parameters the same steps; from others, one for each column, others.
    again = copies.train(nets, samples, optim.SGD, lr[:3], start=first, **options)
    assert torch.equal(again.weights.flatten(0, 1), seen[1])
    further = copies.train(nets, samples, optim.SGD, lr[:3], start=again.weights, **options)
    assert further.losses.shape == (3, 2, 3) and not np.array_equal(further.losses, again.losses)
    assert torch.equal(first, rows.stack(nets))  # nets and start stay as they are


def test_batches_may_be_changed_on_the_way_and_are_the_same_in_every_column():
    samples, batches = signals(), []

    def change(x):
        batches.append(x)
        return 0 * x

    trained = copies.train(
        three(small), samples, optim.SGD, np.zeros((4, 2)), orders=[1, 1, 2], batch_size=5, change=change
    )
    assert all(torch.equal(x[0], x[1]) and not torch.equal(x[0], x[2]) and x.shape == (3, 5, 16) for x in batches)
    assert trained.losses == pytest.approx(np.log(4))  # these networks answer zeros with zeros


def test_another_stepper_gets_the_method_and_rates_that_change_in_place():
    given_rates = []

    def new_step(method, *, lr, own):
        assert method is optim.SGD and own == 4

        def step(x, g):
            given_rates.append(lr.flatten().tolist())
            return x - lr * g

        return step

    lr = np.array([[0.5, 0.25], [0.125, 1.0]])
    options = {"orders": [0, 1], "batch_size": 5}
    nets = three(small)[:2]
    ours = copies.train(nets, signals(), optim.SGD, lr, new_step=new_step, own=4, **options)
    assert given_rates == [[0.5, 0.5, 0.25, 0.25], [0.125, 0.125, 1.0, 1.0]]
    assert np.array_equal(ours.losses, copies.train(nets, signals(), optim.SGD, lr, **options).losses)


def test_labels_of_any_integer_type_and_the_accuracy_of_rows_are_those_of_fit():
    net, (x, _) = small(0), signals()
    y = net(x).argmax(1).roll(1) % 2
    w = rows.stack([net])
    for dtype in (torch.bool, torch.uint8, torch.int32):
        loss, accuracy = rows.evaluate(net, w, x, y.to(dtype))
        assert (loss.item(), accuracy.item()) == pytest.approx(training.evaluate(net, x, y), rel=1e-12)
        assert torch.equal(rows.losses(net, w, x[None], y.to(dtype)[None]), rows.losses(net, w, x[None], y[None]))
    assert 0 < accuracy.item() < 1
    scores = torch.tensor([[1.0, 2.0], [4.0, 3.0], [5.0, 6.0], [8.0, 7.0]])
    assert rows.accuracy(scores, torch.tensor([1, 1, 1, 0])) == 0.75
    assert rows.accuracy(scores, torch.ones(4)).isnan() and rows.accuracy(scores[:, :1], torch.ones(4).long()).isnan()


def test_rows_are_evaluated_as_each_network_and_the_model_stays_as_it_is():
    nets, (x, y) = three(small), signals()
    model = small(7)
    before = rows.stack([model])
    found = torch.stack(rows.evaluate(model, rows.stack(nets), x, y), dim=1)
    assert found.numpy() == pytest.approx(np.array([training.evaluate(net, x, y) for net in nets]), rel=1e-12)
    assert torch.equal(rows.stack([model]), before) and model.training


def normalized(norm):
    return models.mlp(16, 4, width=8, depth=1, norm=norm)


@pytest.mark.parametrize(
    ("nets", "method", "error", "message"),
    [
        ([normalized("batch")], optim.SGD, ValueError, "model must not contain BatchNorm1d"),
        ([normalized("layer"), normalized("group")], optim.SGD, ValueError, "nets must have the same layers"),
        ([small(0), models.mlp(16, 4, width=9, depth=1)], optim.SGD, ValueError, "nets must have the same layers"),
        ([small(0)], optim.SGDP, TypeError, "method must be an element-wise optimizer.*SGDP"),
        ([small(0)], optim.LARS, TypeError, "method must be an element-wise optimizer.*LARS"),
    ],
)
def test_what_cannot_be_trained_side_by_side_is_refused(nets, method, error, message):
    samples = [part.to(next(nets[0].parameters()).dtype) if part.is_floating_point() else part for part in signals()]
    with pytest.raises(error, match=message):
        copies.train(nets, samples, method, np.full((2, 1), 0.1), orders=range(len(nets)), batch_size=5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lr": np.full(3, 0.1)}, r"lr must have shape \[steps, columns\], both at least 1, got \[3\]"),
        ({"lr": np.zeros((0, 2))}, r"lr must have shape .* got \[0, 2\]"),
        ({"lr": np.full((2, 1, 3), 0.1)}, r"lr must have rates for each of 2 nets, got shape \[2, 1, 3\]"),
        ({"lr": np.full((2, 1), np.nan)}, r"lr must be in \[0, inf\), got nan"),
        ({"lr": np.array([[0.1, -1.0]])}, r"lr must be in \[0, inf\), got -1.0"),
        ({"orders": [1]}, "orders must be one seed for each of nets, at least one, got 1 for 2"),
        ({"nets": [], "orders": []}, "got 0 for 0"),
        ({"samples": (torch.zeros(3, 16), torch.zeros(4))}, r"samples must be \(x, y\) of one length, got 3 and 4"),
        ({"labels": torch.zeros(2, 19)}, r"labels must have shape \[2, 20\], got \[2, 19\]"),
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"batch_size": 21}, r"batch_size must be in 1..20, got 21"),
        ({"start": torch.zeros(3, 5)}, r"start must have shape \[2, 172\] or \[1, 2, 172\], got \[3, 5\]"),
    ],
)
def test_bad_arguments_of_training_are_refused(wrong, message):
    arguments = {"nets": [small(0), small(1)], "lr": np.full((2, 1), 0.1), "orders": [0, 1], "batch_size": 5} | wrong
    with pytest.raises(ValueError, match=message):
        copies.train(**{"samples": signals(), "method": optim.SGD} | arguments)


@pytest.mark.parametrize("orders", [[0, 0.5], [True, False], ["0", "1"]])
def test_orders_are_integers(orders):
    with pytest.raises(TypeError, match="orders must be an integer"):
        copies.train([small(0), small(1)], signals(), optim.SGD, np.full((2, 1), 0.1), orders=orders, batch_size=5)


def lookahead(parameters, lr, momentum):
    return optim.Lookahead(optim.SGD(parameters, lr=lr, momentum=momentum), k=3, alpha=0.4)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (optim.LARS, {"trust": 0.02, "momentum": 0.8}),
        (optim.LAMB, {"weight_decay": 0.1}),
        (optim.SGDP, {"momentum": 0.9}),
        (lookahead, {"momentum": 0.9}),
        (torch.optim.RMSprop, {"alpha": 0.9}),
    ],
    ids=["lars", "lamb", "sgdp", "lookahead", "torch"],
)
def test_methods_of_layers_and_wrappers_side_by_side_are_each_alone(method, settings):
    rates, options = np.outer([1.0, 0.5, 0.25, 1.0, 0.5], [0.02, 0.1]), {"orders": [7, 3, 5], "batch_size": 6}
    step = optim.layer_stepper(small(0))
    together = copies.train(three(small), signals(), method, rates, new_step=step, **options, **settings)
    for column in range(2):
        for i, order in enumerate([7, 3, 5]):
            net = small(i)
            optimizer = method(net.parameters(), lr=1.0, **settings)
            training.fit(
                net, signals(), optimizer, steps=5, batch_size=6, seed=order, schedule=lambda t, c=column: rates[t, c]
            )
            assert torch.allclose(together.weights[column, i], rows.stack([net])[0], rtol=1e-9, atol=1e-12)
    assert not torch.allclose(together.weights[0], together.weights[1])


@pytest.mark.parametrize("p", [1, 1.5, 2, 4, np.inf])
def test_a_climb_before_each_step_is_sharpness_aware_minimization(p):
    together = copies.train(
        three(small), signals(), optim.SGD, np.full((6, 1), 0.1), orders=[7, 3, 5], batch_size=6,
        climb=optim.ascent(0.3, p), momentum=0.9,
    )  # fmt: skip
    for i, order in enumerate([7, 3, 5]):
        net = small(i)
        sam = optim.SAM(net.parameters(), optim.SGD, rho=0.3, p=p, lr=0.1, momentum=0.9)
        history = training.fit(net, signals(), sam, steps=6, batch_size=6, seed=order)
        assert together.losses[:, 0, i] == pytest.approx(history.loss, rel=1e-9)  # before the climb
        assert torch.allclose(together.weights[0, i], rows.stack([net])[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("p", [1, 1.5, 2, 4, np.inf])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_climb_has_the_radius_of_its_row_and_attains_the_dual_norm(p, scale):
    g = scale * torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    g[2] = 0
    rho = torch.tensor([[0.0], [0.1], [0.3], [2.0]])
    epsilon = optim.ascent(rho, p)(g)
    assert torch.allclose(epsilon.norm(p, dim=1), rho[:, 0] * torch.tensor([1, 1, 0, 1]), rtol=1e-5)
    dual = np.inf if p == 1 else 1 if p == np.inf else p / (p - 1)
    gain = ((epsilon * g).sum(1) / scale).double()
    assert torch.allclose(gain, (rho[:, 0] * (g / scale).norm(dual, dim=1)).double(), rtol=1e-5)


@pytest.mark.parametrize(
    ("rho", "p", "error", "message"),
    [
        (-0.1, 2, ValueError, "rho must be"),
        (torch.tensor([[0.1], [-0.1]]), 2, ValueError, "rho must be"),
        (0.1, 0.9, ValueError, "p must be"),
        (True, 2, TypeError, "rho must be a real number, got True"),
        ("a", 2, TypeError, "rho must be a real number, got 'a'"),
        (0.1, True, TypeError, "p must be a real number, got True"),
    ],
)
def test_a_climb_of_no_norm_is_refused(rho, p, error, message):
    with pytest.raises(error, match=message):
        optim.ascent(rho, p)


@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 1)])
def test_radii_are_one_number_or_one_for_each_row(shape):
    """[rows] would go along the columns of a square of gradients."""
    with pytest.raises(ValueError, match=r"rho must be one number or have shape \[rows, 1\], got \["):
        optim.ascent(torch.ones(shape))(torch.ones(3, 3))


@pytest.mark.parametrize("p", [1, 1.5, 2, 4])
def test_the_climb_of_many_half_precision_gradients_does_not_overflow(p):
    g = torch.ones(1, 100_000, dtype=torch.float16)
    epsilon = optim.ascent(0.5 * 1e5 ** (1 / p), p)(g)
    assert epsilon.dtype == g.dtype and epsilon.double().norm(p).item() == pytest.approx(0.5 * 1e5 ** (1 / p), rel=1e-3)


@pytest.mark.parametrize("p", [1, 1.5, 2, np.inf])
def test_a_gradient_that_is_no_number_makes_its_row_no_number(p):
    epsilon = optim.ascent(0.5, p)(torch.tensor([[1.0, torch.nan], [3.0, 4.0]]))
    assert epsilon[0].isnan().any() and not epsilon[1].isnan().any()


def test_every_network_may_have_labels_and_all_a_loss_of_their_own():
    (x, y), own = signals(), torch.stack([signals()[1].roll(shift) for shift in range(3)])

    def smooth(scores, targets):
        return cross_entropy(scores, targets, label_smoothing=0.3)

    options = {"orders": [7, 3, 5], "batch_size": 6}
    lr = np.full((6, 2), 0.1)
    together = copies.train(three(small), (x, y), optim.SGD, lr, labels=own, loss=smooth, **options)
    for i, order in enumerate([7, 3, 5]):
        net = small(i)
        history = training.fit(
            net, (x, own[i]), optim.SGD(net.parameters(), lr=0.1), loss=smooth, steps=6, batch_size=6, seed=order
        )
        assert together.losses[:, 1, i] == pytest.approx(history.loss, rel=1e-9)
