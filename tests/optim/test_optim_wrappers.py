"""Lookahead's equation, and what both wrappers must do: resume, copy, follow schedules, name bad arguments."""

import copy
import io
import pickle

import pytest
import torch
from optim_cases import CASES, closure_for, equal, network, parameters, train, twins
from torch import nn

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


# Both ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["SGD", "Adam", "torch"])
@pytest.mark.parametrize("kind", KINDS)
def test_wrappers_resume_bit_equal(kind, base):
    model = network()
    optimizer = wrap(kind, model.parameters(), base)
    for _ in range(4):
        optimizer.step(closure_for(model, optimizer))
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    weights, saved = torch.load(file)
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
        (lambda p: optim.SAM(p, optim.SGD).load_state_dict(optim.SGD(p).state_dict()), ValueError, "base"),
    ],
)
def test_bad_arguments_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make([nn.Parameter(torch.zeros(2))])
