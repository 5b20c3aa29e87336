"""The loop against hand-computed traces and hand-written loops."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from optcourse.data import two_moons
from optcourse.models import cnn2d, mlp, softmax_regression
from optcourse.optim import SAM, Lookahead
from optcourse.training import NonFiniteLoss, batches, evaluate, fit


def one_weight(start=2.0):
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(model.weight, start)
    return model


def line(*points):
    """Regression data (x, y) of shape [N, 1]."""
    x, y = torch.tensor(points, dtype=torch.float64).T
    return x[:, None], y[:, None]


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr)


def test_hand_computed_sgd_trace():
    """One sample (1, 0), loss w²: w <- w - 0.25 * 2w = w/2, so w = 2, 1, 1/2, 1/4 and loss = 4, 1, 1/4."""
    model = one_weight()
    h = fit(model, line((1, 0)), sgd(model, 0.25), steps=3, batch_size=1, loss=mse_loss, evaluate_every=1)
    assert h.loss.tolist() == [4, 1, 0.25] and model.weight.item() == 0.25
    assert h.step.tolist() == [0, 1, 2] and h.lr.tolist() == [0.25] * 3 and h.samples.tolist() == [1, 2, 3]
    assert h.eval_step.tolist() == [0, 1, 2, 3] and h.train_loss.tolist() == [4, 1, 0.25, 0.0625]
    assert np.isnan(h.train_accuracy).all() and np.isnan(h.test_loss).all() and not h.interrupted
    assert (np.diff(h.seconds) > 0).all()


def test_equals_a_hand_written_epoch_loop():
    data, ours, theirs = two_moons(samples=100), mlp(2, 2, width=8, seed=1), mlp(2, 2, width=8, seed=1)
    h = fit(ours, data, sgd(ours), epochs=2, batch_size=32, seed=9)
    optimizer, generator, losses = sgd(theirs), torch.Generator().manual_seed(9), []
    for _ in range(2):
        for index in torch.randperm(len(data.y_train), generator=generator).split(32):
            optimizer.zero_grad()
            loss = cross_entropy(theirs(data.x_train[index]), data.y_train[index])
            losses.append(loss.item())
            loss.backward()
            optimizer.step()
    assert h.loss.tolist() == losses and h.samples[-1] == 2 * len(data.y_train)
    with torch.no_grad():
        accuracy = (theirs(data.x_test).argmax(1) == data.y_test).double().mean().item()
    assert h.test_accuracy[-1] == accuracy and len(h.eval_step) == 2


def test_data_order_depends_on_the_seed_only():
    def losses(seed, junk):
        torch.manual_seed(junk)
        model = mlp(2, 2, width=8)
        return fit(model, two_moons(), sgd(model), steps=5, seed=seed).loss.tolist()

    assert losses(0, 1) == losses(0, 2) != losses(1, 1)


def test_batches_without_replacement_are_permutations_and_with_replacement_are_uniform():
    stream = batches(10, 4, torch.Generator().manual_seed(0))
    for _ in range(3):
        epoch = [next(stream) for _ in range(3)]
        assert [len(b) for b in epoch] == [4, 4, 2] and sorted(torch.cat(epoch).tolist()) == list(range(10))
    stream = batches(5, 5, torch.Generator().manual_seed(0), replacement=True)
    drawn = torch.cat([next(stream) for _ in range(4000)])
    counts = torch.bincount(drawn, minlength=5)
    assert (counts - 4000).abs().max() < 4 * np.sqrt(20_000 * 0.2 * 0.8)
    assert any(len(next(stream).unique()) < 5 for _ in range(20))


def test_schedule_function_multiplies_and_rates_are_put_back():
    model = one_weight()
    optimizer = sgd(model, 0.5)
    schedule = lambda step: 1 / (1 + step)  # noqa: E731
    for _ in range(2):  # the second run starts from the same rate
        h = fit(model, line((1, 0)), optimizer, steps=3, batch_size=1, loss=mse_loss, schedule=schedule)
        np.testing.assert_allclose(h.lr, [0.5, 0.25, 0.5 / 3])
        assert optimizer.param_groups[0]["lr"] == 0.5
    optimizer.param_groups[0]["lr"] = 0.1
    h = fit(model, line((1, 0)), optimizer, steps=2, batch_size=1, loss=mse_loss, schedule=schedule)
    np.testing.assert_allclose(h.lr, [0.1, 0.05])


@pytest.mark.parametrize("lr", [1, 0.1, torch.tensor(0.1)], ids=repr)
def test_a_schedule_multiplies_and_puts_back_whatever_the_rate_is(lr):
    model = one_weight()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    h = fit(model, line((1, 0)), optimizer, steps=3, loss=mse_loss, batch_size=1, schedule=lambda k: 0.5**k)
    np.testing.assert_allclose(h.lr, float(lr) * 0.5 ** np.arange(3), rtol=1e-6)
    now = optimizer.param_groups[0]["lr"]
    assert now == lr and isinstance(now, torch.Tensor) == isinstance(lr, torch.Tensor)


def test_a_schedule_starts_from_the_rate_of_now():
    """torch's schedulers leave the rate of their own beginning in the group."""
    model = one_weight()
    optimizer = sgd(model, 1.0)
    options = {"steps": 2, "batch_size": 1, "loss": mse_loss}
    fit(model, line((1, 0)), optimizer, schedule=torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.1), **options)
    optimizer.param_groups[0]["lr"] = 0.05
    assert fit(model, line((1, 0)), optimizer, schedule=lambda k: 1.0, **options).lr.tolist() == [0.05, 0.05]
    assert optimizer.param_groups[0]["initial_lr"] == 1.0  # still the scheduler's


def test_a_group_that_a_callback_removes_leaves_the_other_its_rate():
    model = torch.nn.Linear(2, 2)
    groups = [{"params": [model.weight], "lr": 0.5}, {"params": [model.bias], "lr": 0.25}]
    optimizer, seen = torch.optim.SGD(groups), []

    def freeze(step, _):
        seen.append(optimizer.param_groups[-1]["lr"])
        if step == 1:
            del optimizer.param_groups[0]

    fit(model, two_moons(), optimizer, steps=3, schedule=lambda k: 0.5**k, callbacks=[freeze])
    assert seen == [0.25, 0.125, 0.0625] and optimizer.param_groups[0]["lr"] == 0.25


def test_a_group_added_by_a_callback_follows_the_schedule():
    model = mlp(2, 2, width=8)
    params, seen = list(model.parameters()), []
    optimizer = torch.optim.SGD(params[:-2], lr=0.1)

    def unfreeze(step, _):
        seen.append([group["lr"] for group in optimizer.param_groups])
        if step == 2:
            optimizer.add_param_group({"params": params[-2:], "lr": 0.4})

    fit(model, two_moons(), optimizer, steps=4, schedule=lambda k: 1 / (1 + k), callbacks=[unfreeze])
    assert seen == [[0.1], [0.05], [pytest.approx(0.1 / 3), pytest.approx(0.4 / 3)], [0.025, 0.1]]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.4]


def test_a_torch_scheduler_that_a_new_group_breaks_says_so():
    model = mlp(2, 2, width=8)
    params = list(model.parameters())
    optimizer = torch.optim.SGD(params[:-2], lr=0.1)

    def unfreeze(step, _):
        optimizer.add_param_group({"params": params[-2:]})

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1.0)
    with pytest.raises(ValueError, match="schedule does not fit the optimizer's groups"):
        fit(model, two_moons(), optimizer, steps=4, schedule=scheduler, callbacks=[unfreeze])


def test_a_scheduler_may_sit_on_either_side_of_a_wrapper():
    model = one_weight()
    inner = sgd(model, 0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(inner, 1, 0.5)
    h = fit(model, line((1, 0)), Lookahead(inner), steps=3, batch_size=1, loss=mse_loss, schedule=scheduler)
    np.testing.assert_allclose(h.lr, [0.1, 0.05, 0.025])


def test_torch_scheduler_is_stepped_and_keeps_its_state():
    model = one_weight()
    optimizer = sgd(model, 1e-2)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.1)
    h = fit(model, line((1, 0)), optimizer, steps=5, batch_size=1, loss=mse_loss, schedule=scheduler)
    np.testing.assert_allclose(h.lr, [1e-2, 1e-2, 1e-3, 1e-3, 1e-4])
    assert scheduler.last_epoch == 5


def test_nonfinite_loss_keeps_history_and_parameters():
    """loss w⁴ with w <- w - lr 4w³ explodes: the last parameters with a finite loss stay."""
    model = one_weight()
    quartic = lambda out, y: (out**4).mean()  # noqa: E731
    with pytest.raises(NonFiniteLoss, match=r"loss is (inf|nan) at step \d+ with lr=1") as caught:
        fit(model, line((1, 0)), sgd(model, 1.0), steps=50, batch_size=1, loss=quartic)
    error, w, losses = caught.value, 2.0, []
    while abs(w) < 1e77:  # the fourth power of 1e77 is the last below float64's 1.8e308
        losses.append(w**4)
        w -= 4 * w**3
    np.testing.assert_allclose(error.history.loss, losses, rtol=1e-12)
    assert error.step == len(losses) and error.lr == 1 and not np.isfinite(error.loss)
    assert model.weight.item() == pytest.approx(w)


LBFGS = partial(torch.optim.LBFGS, lr=1e5)
SEVERAL = {
    "LBFGS": LBFGS,
    "line search": partial(LBFGS, line_search_fn="strong_wolfe"),
    "Lookahead": lambda params: Lookahead(LBFGS(params)),
    "SAM": lambda params: SAM(params, torch.optim.SGD, rho=1e4, lr=0.1),
}


@pytest.mark.parametrize("make", SEVERAL.values(), ids=SEVERAL)
@pytest.mark.parametrize("bad", [np.inf, KeyboardInterrupt, RuntimeError("the user's")], ids=repr)
def test_an_update_that_fails_at_a_later_evaluation_is_undone(make, bad):
    """The first evaluation at w = 2 succeeds, the second one is far away."""
    model = nn.Sequential(one_weight(), nn.BatchNorm1d(1, affine=False, dtype=torch.float64))
    before, evaluations = copy.deepcopy(model.state_dict()), []

    def loss(out, y):
        if not torch.is_grad_enabled():
            return out.square().mean()
        evaluations.append(1)
        if len(evaluations) > 1 and not isinstance(bad, float):
            raise bad
        return model[0].weight.square().sum() + (bad if len(evaluations) > 1 else 0.0)

    def run():
        return fit(model, line((1, 0), (3, 0)), make(model.parameters()), steps=5, batch_size=None, loss=loss)

    if bad is KeyboardInterrupt:
        assert run().interrupted
    else:
        with pytest.raises(NonFiniteLoss if isinstance(bad, float) else RuntimeError):
            run()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_statistics_of_a_batch_that_is_not_finite_are_not_kept():
    model = nn.Sequential(nn.BatchNorm1d(1, dtype=torch.float64), one_weight())
    x, y = line((1, 0), (2, 0), (3, 0), (float("nan"), 0))
    with pytest.raises(NonFiniteLoss) as caught:
        fit(model, (x, y), sgd(model), steps=9, batch_size=2, loss=mse_loss)
    assert model[0].running_mean.isfinite().all() and model[0].num_batches_tracked == caught.value.step


def test_nan_in_the_data_is_caught_at_the_first_step():
    model = one_weight()
    with pytest.raises(NonFiniteLoss) as caught:
        fit(model, line((float("nan"), 0)), sgd(model), steps=5, batch_size=1, loss=mse_loss)
    assert caught.value.step == 0 and len(caught.value.history.loss) == 0 and model.weight.item() == 2


def test_interrupt_returns_the_history_so_far():
    def impatient(step, model):
        if step == 4:
            raise KeyboardInterrupt

    model = mlp(2, 2, width=4)
    h = fit(model, two_moons(), sgd(model), steps=100, callbacks=[impatient])
    assert h.interrupted and len(h.loss) == 4 and h.eval_step.tolist() == [0]


def test_a_callback_sees_every_update_and_can_stop():
    seen = []

    def callback(step, model):
        seen.append((step, model.weight.item()))
        return step == 2

    model = one_weight()
    h = fit(model, line((1, 0)), sgd(model, 0.25), steps=9, batch_size=1, loss=mse_loss, callbacks=[callback])
    assert seen == [(1, 1.0), (2, 0.5)] and len(h.loss) == 2 and h.eval_step.tolist() == [0, 2]


def test_evaluation_restores_the_mode_of_every_module():
    model = mlp(2, 2, width=4, norm="batch")
    frozen = next(m for m in model.modules() if isinstance(m, nn.BatchNorm1d))
    x, y = torch.randn(6, 2), torch.tensor([0, 1, 0, 1, 0, 1])
    model.train()
    frozen.eval()
    mean = frozen.running_mean.clone()
    evaluate(model, x, y)
    assert model.training and not frozen.training and torch.equal(frozen.running_mean, mean)
    model.eval()
    fit(model, (x, y), sgd(model), steps=1, batch_size=6)
    assert not torch.equal(frozen.running_mean, mean)  # trained in training mode


def test_evaluate_uses_running_statistics():
    model = nn.BatchNorm1d(2, affine=False)
    x = torch.tensor([[3.0, 1.0], [2.0, 5.0]])  # running mean 0, variance 1: the scores are x
    loss, accuracy = evaluate(model, x, torch.tensor([0, 0]))
    assert accuracy == 0.5 and loss == pytest.approx((np.log1p(np.exp(-2)) + np.log1p(np.exp(3))) / 2, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32], ids=str)
def test_labels_of_any_integer_type_are_labels(dtype):
    data = two_moons(samples=100)
    histories = []
    for y in (data.y_train, data.y_train.to(dtype)):
        model = mlp(2, 2, width=8)
        histories.append(fit(model, (data.x_train, y), sgd(model), steps=5, batch_size=20))
    for name in ("loss", "train_loss", "train_accuracy"):
        assert getattr(histories[0], name).tolist() == getattr(histories[1], name).tolist()
    assert histories[1].train_accuracy[-1] > 0.5


def test_one_score_for_two_classes_has_no_accuracy():
    model, y = one_weight(), torch.tensor([True, False])
    loss = lambda out, y: binary_cross_entropy_with_logits(out[:, 0], y.double())  # noqa: E731
    assert np.isnan(evaluate(model, torch.ones(2, 1, dtype=torch.float64), y, loss=loss)[1])


@pytest.mark.parametrize(("samples", "batch_size"), [(65, 64), (9, 4), (5, 1), (1, None)])
def test_batch_norm_of_one_sample_is_refused_before_training(samples, batch_size):
    x, y = torch.randn(samples, 2), torch.zeros(samples, dtype=torch.int64)
    model = mlp(2, 2, width=8, norm="batch")
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    with pytest.raises(ValueError, match=f"batch_size must leave no batch of one sample.* for {samples} samples"):
        fit(model, (x, y), sgd(model), epochs=1, batch_size=batch_size)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_one_sample_is_enough_where_nothing_or_more_than_samples_is_averaged():
    y = torch.zeros(9, dtype=torch.int64)
    images = cnn2d(4, 2, channels=(3,), strides=(1,), norm="batch")
    fit(images, (torch.randn(9, 16), y), sgd(images), epochs=1, batch_size=4)
    for options in ({"steps": 2}, {"steps": 5, "replacement": True}):  # never comes to the ninth sample alone
        model = mlp(2, 2, width=8, norm="batch")
        fit(model, (torch.randn(9, 2), y), sgd(model), batch_size=4, **options)
    model = mlp(2, 2, width=8, norm="layer")
    fit(model, (torch.randn(9, 2), y), sgd(model), epochs=1, batch_size=4)


def test_lbfgs_solves_a_least_squares_problem():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    y = torch.randn(30, 1, generator=generator, dtype=torch.float64)
    model = nn.Linear(3, 1, bias=False, dtype=torch.float64)
    accuracy = {
        "tolerance_grad": 1e-12,
        "tolerance_change": 1e-14,
    }  # torch's own stop is at 1e-9, too early from some starts
    optimizer = torch.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe", **accuracy)
    h = fit(model, (x, y), optimizer, steps=5, batch_size=None, loss=mse_loss)
    solution = np.linalg.lstsq(x.numpy(), y.numpy(), rcond=None)[0]
    np.testing.assert_allclose(model.weight.detach().numpy().T, solution, atol=1e-6)
    assert h.samples[0] > 30  # several evaluations in one step are all counted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of epochs and steps"),
        ({"epochs": 1, "steps": 1}, "exactly one of epochs and steps"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"epochs": -1}, "epochs must be at least 1, got -1"),
        ({"steps": 1, "batch_size": 0}, r"batch_size must be in 1..750, got 0"),
        ({"steps": 1, "batch_size": 751}, r"batch_size must be in 1..750, got 751"),
        ({"steps": 1, "evaluate_every": 0}, "evaluate_every"),
        ({"steps": 1, "seed": -1}, "seed"),
        ({"steps": 1.5}, "steps must be an integer, got 1.5"),
        ({"steps": 1, "schedule": 0.1}, "schedule must be a function"),
        ({"steps": 1, "schedule": lambda k: -1.0}, r"schedule\(step\) must be in \[0, inf\), got -1.0"),
        ({"steps": 1, "schedule": lambda k: None}, r"schedule\(step\) must be a real number, got None"),
    ],
)
def test_bad_arguments_are_named(options, message):
    model = softmax_regression(2, 2)
    with pytest.raises((ValueError, TypeError), match=message):
        fit(model, two_moons(), sgd(model), **options)


def test_foreign_and_metric_schedulers_are_refused():
    model = softmax_regression(2, 2)
    other = torch.optim.lr_scheduler.StepLR(sgd(softmax_regression(2, 2)), 1)
    with pytest.raises(ValueError, match="another optimizer"):
        fit(model, two_moons(), sgd(model), steps=1, schedule=other)
    optimizer = sgd(model)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    with pytest.raises(ValueError, match="needs a metric"):
        fit(model, two_moons(), optimizer, steps=1, schedule=plateau)
    with pytest.raises(ValueError, match="same length >= 1, got lengths 3 and 2"):
        fit(model, (torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64)), optimizer, steps=1)
