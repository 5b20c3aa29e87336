"""Lookahead's equation, and what both wrappers must do: resume, copy, follow schedules, name bad arguments."""

import copy
import pickle

import pytest
import torch
from optim_cases import CASES, closure_for, equal, network, parameters, through_a_file, train, twins
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from optcourse import optim


def wrap(kind, params, base="SGD"):
    make = {"SGD": lambda ps: optim.SGD(ps, lr=0.1, momentum=0.9), "Adam": lambda ps: optim.Adam(ps, lr=0.01)}
    make["torch"] = lambda ps: torch.optim.AdamW(ps, lr=0.01)
    if kind == "Lookahead":
        return optim.Lookahead(make[base](params), k=3)
    if kind == "SAM":
        return optim.SAM(params, make[base], rho=0.1)
    return optim.Lookahead(optim.SAM(params, make[base], rho=0.1), k=3)


KINDS = ["Lookahead", "SAM", "both"]


# Lookahead -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_lookahead_with_alpha_one_is_the_inner_optimizer(case):
    a = parameters(case.shapes)
    b = twins(a)
    train(optim.Lookahead(case.make(a), k=3, alpha=1.0), a, range(8))
    train(case.make(b), b, range(8))
    assert equal(a, b)


@pytest.mark.parametrize("base", [optim.SGD, torch.optim.SGD])
def test_lookahead_trace_by_hand_from_the_first_synchronization_on(base):
    """f = x²/2, rate 1/2, k = 2, alpha = 1/2: fast 1 → 1/2 → 1/4, slow 1 → 5/8 = fast, and so on."""
    p = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = optim.Lookahead(base([p], lr=0.5), k=2, alpha=0.5)
    path = []
    for _ in range(6):
        p.grad = p.detach().clone()
        optimizer.step()
        path.append(p.item())
    q = 5 / 8
    assert path == [1 / 2, q, q / 2, q**2, q**2 / 2, q**3]


def test_lookahead_evaluates_at_slow_weights_on_request():
    p = nn.Parameter(torch.ones(1))
    optimizer = optim.Lookahead(optim.SGD([p], lr=0.5), k=5, alpha=0.25)
    p.grad = torch.ones(1)
    optimizer.step()
    optimizer.synchronize()
    assert p.item() == 1 - 0.25 * 0.5 and optimizer.fast_steps == 0


def test_lookahead_around_lookahead_by_hand():
    """f = x²/2, rate 1/2: the inner one (k = 1) goes half of the way at every step, the outer one at every second.

    An outer synchronization moves the fast weights only: the inner slow ones are state, kept like momentum.
    """
    p = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = optim.Lookahead(optim.Lookahead(optim.SGD([p], lr=0.5), k=1), k=2)
    path = []
    for _ in range(4):
        p.grad = p.detach().clone()
        optimizer.step()
        path.append(p.item())
    inner = [3 / 4, 9 / 16, (9 / 16 + 25 / 64) / 2, 183 / 512]
    assert path == [inner[0], (1 + inner[1]) / 2, inner[2], (25 / 32 + inner[3]) / 2]


def test_a_new_lookahead_around_the_same_optimizer_forgets_the_old_slow_weights():
    p = nn.Parameter(torch.ones(1))
    base = optim.SGD([p], lr=0.5)
    for start in (1.0, 100.0):
        p.data.fill_(start)
        p.grad = torch.ones(1)
        optimizer = optim.Lookahead(base, k=1, alpha=0.5)
        optimizer.step()
        assert p.item() == start - 0.25


@pytest.mark.parametrize("base", [torch.optim.Adam, optim.Adam])
def test_lookahead_leaves_the_inner_state_to_the_inner_optimizer(base):
    """A parameter whose first gradient comes late; a state that its user clears."""
    a, b = (parameters(((3,), (2, 2))) for _ in range(2))
    ours, reference = optim.Lookahead(base(a, lr=0.1), k=2, alpha=1.0), base(b, lr=0.1)
    for step in range(6):
        for params, optimizer in ((a, ours), (b, reference)):
            for p in params[: 1 if step < 3 else 2]:
                p.grad = p.detach() + step
            if step == 5:
                optimizer.state.clear()
            optimizer.step()
    assert equal(a, b)


def test_lookahead_synchronizes_at_once_when_k_is_lowered():
    p = nn.Parameter(torch.ones(1))
    optimizer = optim.Lookahead(optim.SGD([p], lr=0.5), k=5)
    for k in (5, 5, 1):
        optimizer.k, p.grad = k, torch.ones(1)
        optimizer.step()
    assert optimizer.fast_steps == 0 and p.item() == 1 - 0.5 * 1.5


# Both ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["SGD", "Adam", "torch"])
@pytest.mark.parametrize("kind", KINDS)
def test_wrappers_resume_bit_equal(kind, base):
    model = network()
    optimizer = wrap(kind, model.parameters(), base)
    for _ in range(4):
        optimizer.step(closure_for(model, optimizer))
    weights, saved = through_a_file(model.state_dict(), optimizer.state_dict())
    other = network(seed=5)
    other.load_state_dict(weights)
    resumed = wrap(kind, other.parameters(), base)
    resumed.load_state_dict(saved)
    for m, o in ((model, optimizer), (other, resumed)):
        for _ in range(5):
            o.step(closure_for(m, o))
    assert equal(model.parameters(), other.parameters())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"]
)
def test_wrappers_copy_with_their_model(kind, duplicate):
    model = network()
    # pickle needs a class, not a lambda
    optimizer = optim.SAM(model.parameters(), optim.SGD, lr=0.1, momentum=0.9)
    if kind != "SAM":
        optimizer = optim.Lookahead(optimizer if kind == "both" else optimizer.optimizer, k=3)
    for _ in range(4):
        optimizer.step(closure_for(model, optimizer))
    other, twin = duplicate((model, optimizer))
    for m, o in ((model, optimizer), (other, twin)):
        for _ in range(5):
            o.step(closure_for(m, o))
    assert equal(model.parameters(), other.parameters())
    assert not equal(model.parameters(), network().parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_a_scheduler_on_the_wrapper_steers_the_inner_rate(kind):
    model = network()
    optimizer = wrap(kind, model.parameters())
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=20)
    rates = []
    for _ in range(5):
        optimizer.step(closure_for(model, optimizer))
        scheduler.step()
        inner = optimizer.optimizer.optimizer if kind == "both" else optimizer.optimizer
        assert inner.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
        rates.append(inner.param_groups[0]["lr"])
    assert rates == sorted(rates) and rates[-1] > 2 * rates[0]


@pytest.mark.parametrize("kind", KINDS)
def test_groups_added_to_a_wrapper_are_trained(kind):
    model = network()
    optimizer = wrap(kind, model[0].parameters())
    optimizer.step(closure_for(model, optimizer))
    start = model[2].weight.detach().clone()
    optimizer.add_param_group({"params": list(model[2].parameters()), "lr": 0.01})
    for _ in range(3):
        model.zero_grad()
        optimizer.step(closure_for(model, optimizer))
    assert not torch.equal(model[2].weight, start)
    assert len(optimizer.param_groups) == 2


@pytest.mark.parametrize("flatten", [False, True])
@pytest.mark.parametrize("base", ["SGD", "Adam", "torch"])
@pytest.mark.parametrize("kind", KINDS)
def test_distributed_checkpoints_resume_bit_equal(kind, base, flatten):
    options = StateDictOptions(flatten_optimizer_state_dict=flatten)
    model, other = network(), network(seed=5)
    optimizer, resumed = (wrap(kind, m.parameters(), base) for m in (model, other))
    for _ in range(4):
        optimizer.step(closure_for(model, optimizer))
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer, options=options))
    other.load_state_dict(model.state_dict())
    set_optimizer_state_dict(other, resumed, saved, options=options)
    for m, o in ((model, optimizer), (other, resumed)):
        for _ in range(5):
            o.step(closure_for(m, o))
    assert equal(model.parameters(), other.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_hooks_of_a_wrapper_are_called_once_each(kind):
    model, log = network(), []
    optimizer = wrap(kind, model.parameters())
    names = ["step_pre", "step_post", "state_dict_pre", "state_dict_post", "load_state_dict_pre"]
    for name in (*names, "load_state_dict_post"):
        getattr(optimizer, f"register_{name}_hook")(lambda *_, name=name: log.append(name))
    optimizer.step(closure_for(model, optimizer))
    optimizer.load_state_dict(optimizer.state_dict())
    assert log == [*names, "load_state_dict_post"]


@pytest.mark.parametrize("kind", KINDS)
def test_hooks_may_replace_the_state_dict(kind):
    model, other = network(), network()
    optimizer, resumed = (wrap(kind, m.parameters(), "torch") for m in (model, other))
    optimizer.register_state_dict_post_hook(lambda _, saved: {"wrapped": saved})
    resumed.register_load_state_dict_pre_hook(lambda _, saved: saved["wrapped"])
    optimizer.step(closure_for(model, optimizer))
    resumed.load_state_dict(optimizer.state_dict())
    assert list(optimizer.state_dict()) == ["wrapped"]
    assert repr(resumed.state_dict()) == repr(optimizer.state_dict()["wrapped"])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_replaced_in_the_inner_optimizer_is_replaced_in_the_wrapper(kind):
    model = network()
    optimizer = wrap(kind, model.parameters(), "torch")
    optimizer.step(closure_for(model, optimizer))
    optimizer.optimizer.load_state_dict(optimizer.optimizer.state_dict())
    for name in ("param_groups", "state", "defaults"):
        assert getattr(optimizer, name) is getattr(optimizer.optimizer, name)


@pytest.mark.parametrize("kind", KINDS)
def test_wrappers_keep_the_names_of_parameters(kind):
    model = network()
    optimizer = wrap(kind, model.named_parameters(), "torch")
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == [name for name, _ in model.named_parameters()]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda p: optim.Lookahead(p), TypeError, "optimizer must be"),
        (lambda p: optim.Lookahead(optim.SGD(p), k=0), ValueError, "k must be at least 1, got 0"),
        (lambda p: optim.Lookahead(optim.SGD(p), k=2.5), TypeError, "k must be an integer"),
        (lambda p: optim.Lookahead(optim.SGD(p), alpha=1.5), ValueError, r"alpha must be in \[0, 1\], got 1.5"),
        (lambda p: optim.SAM(p, optim.SGD, rho=-1), ValueError, r"rho must be in \[0, inf\), got -1"),
        (lambda p: optim.SAM(p, optim.SGD, p=0.5), ValueError, r"p must be in \[1, inf\), got 0.5"),
        (lambda p: optim.SAM(p, optim.SGD, lr=-1.0), ValueError, "lr must be"),
        (lambda p: optim.SAM(p, lambda ps: None), TypeError, "optimizer must be"),
        (lambda p: optim.SAM(p, optim.SGD).load_state_dict(optim.SGD(p).state_dict()), ValueError, "sam_rho, sam_p"),
        (lambda p: optim.Lookahead(optim.SGD(p)).load_state_dict({}), ValueError, "lookahead_k.*got no group"),
    ],
)
def test_bad_arguments_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make([nn.Parameter(torch.zeros(2))])
