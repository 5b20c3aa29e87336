"""Step for step against torch.optim, where it has the method; documented differences where it has another."""

import itertools
import math

import pytest
import torch
from optim_cases import MATRICES, gap, give_gradients, parameters, twins

from optcourse import optim

SHAPES = ((5, 7), (7,), (3, 2, 4), ())

SAME = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adagrad", {}),
    ("Adagrad", {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.2}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.5, "weight_decay": 0.1}),
    ("RMSprop", {"centered": True, "alpha": 0.8}),
    ("RMSprop", {"centered": True, "momentum": 0.5}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.8, "weight_decay": 0.1}),
    ("Adam", {}),
    ("Adam", {"betas": (0.7, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"amsgrad": True}),
    ("AdamW", {}),
    ("AdamW", {"weight_decay": 0.3, "amsgrad": True}),
    ("Adamax", {"weight_decay": 0.1}),
    ("NAdam", {}),
    ("NAdam", {"momentum_decay": 0.05, "weight_decay": 0.1}),
]


def run_both(theirs, ours, a, b, steps):
    for seed in range(steps):
        give_gradients(a, b, seed=seed)
        theirs.step()
        ours.step()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-5)], ids=["64", "32"])
@pytest.mark.parametrize(("name", "settings"), SAME, ids=lambda v: str(v))
def test_two_hundred_steps_equal_torch(name, settings, dtype, tolerance, exact_counters):
    torch.set_default_dtype(dtype)
    a = parameters(SHAPES, dtype)
    b = twins(a)
    run_both(getattr(torch.optim, name)(a, **settings), getattr(optim, name)(b, **settings), a, b, 200)
    assert gap(a, parameters(SHAPES, dtype)) > 1e-3, "the comparison needs a run that goes somewhere"
    assert gap(a, b) < tolerance * max(1.0, max(p.abs().max().item() for p in a))


def test_defaults_are_torchs():
    for name in {name for name, _ in SAME}:
        p = [torch.nn.Parameter(torch.zeros(2))]
        theirs, ours = getattr(torch.optim, name)(p).defaults, getattr(optim, name)(p).defaults
        assert {k: theirs[k] for k in ours if k in theirs} == {k: v for k, v in ours.items() if k in theirs}


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.8, 0.95)])
def test_radam_equals_torch_apart_from_the_threshold(betas, monkeypatch):
    monkeypatch.setattr(optim.RAdam, "threshold", 5.0)
    a = parameters(SHAPES)
    b = twins(a)
    settings = {"betas": betas, "weight_decay": 0.1}
    run_both(torch.optim.RAdam(a, **settings), optim.RAdam(b, **settings), a, b, 100)
    assert gap(a, b) < 1e-14


def test_radam_rectifies_from_four_as_the_paper_does():
    """At β₂ = 0.999, ρ passes 4 at step 5 and 5 at step 6: only step 5 differs from torch's."""
    beta2, limit = 0.999, 1999.0
    rho = [limit - 2 * t * beta2**t / (1 - beta2**t) for t in range(1, 8)]
    assert rho[3] < 4 < rho[4] < 5 < rho[5]
    moves = []
    for cls in (torch.optim.RAdam, optim.RAdam):
        p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer, path = cls([p], lr=1.0), [0.0]
        for _ in range(7):
            p.grad = torch.full_like(p, 3.0)
            optimizer.step()
            path.append(p.item())
        moves.append([b - a for a, b in itertools.pairwise(path)])
    differing = [t + 1 for t, (a, b) in enumerate(zip(*moves, strict=True)) if abs(a - b) > 1e-9]
    assert differing == [5]
    r = math.sqrt((rho[4] - 4) * (rho[4] - 2) * limit / ((limit - 4) * (limit - 2) * rho[4]))
    assert moves[0][4] == pytest.approx(-3.0)  # torch: not yet adaptive, the plain momentum step
    assert moves[1][4] == pytest.approx(-r)  # ours: r_5 times the sign


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
@pytest.mark.parametrize("settings", [{}, {"nesterov": False}, {"weight_decay": 0.0, "momentum": 0.8}], ids=str)
@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_muon_equals_torch(settings, adjust):
    shapes = [s for s in MATRICES if len(s) == 2]
    a = parameters(shapes, torch.float32)
    b = twins(a)
    theirs = torch.optim.Muon(a, lr=0.02, adjust_lr_fn=adjust, **settings)
    run_both(theirs, optim.Muon(b, lr=0.02, adjust_lr_fn=adjust, **settings), a, b, 50)
    assert gap(a, parameters(shapes, torch.float32)) > 0.05
    assert gap(a, b) < 1e-4


RESUMED = [*SAME, ("RAdam", {}), ("RAdam", {"decoupled_weight_decay": True, "weight_decay": 0.1})]
RESUMED += [("Adam", {"decoupled_weight_decay": True, "weight_decay": 0.1}), ("SGD", {"maximize": True})]
RESUMED += [("Muon", {}), ("Muon", {"adjust_lr_fn": "match_rms_adamw", "nesterov": False})]


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "used"])
@pytest.mark.parametrize(("name", "settings"), RESUMED, ids=lambda v: str(v))
def test_a_state_dict_of_torch_goes_on_as_in_torch(name, settings, fresh, exact_counters):
    """The settings come from the state dict as well; RAdam differs only at step 5."""
    if not hasattr(torch.optim, name):
        pytest.skip(f"this torch has no {name}")
    a = parameters([s for s in MATRICES if len(s) == 2] if name == "Muon" else SHAPES)
    theirs = getattr(torch.optim, name)(a, **settings)
    for seed in range(10):
        give_gradients(a, seed=seed)
        theirs.step()
    b = twins(a)
    ours = getattr(optim, name)(b, lr=0.7)
    if not fresh:
        give_gradients(b, seed=99)
        ours.step()
        for p, q in zip(a, b, strict=True):
            q.data.copy_(p.detach())
    ours.load_state_dict(theirs.state_dict())
    run_both(theirs, ours, a, b, 10)
    assert gap(a, b) < 1e-12


def test_the_buffer_that_torchs_sgd_has_not_made_yet():
    a = parameters(SHAPES)
    theirs = torch.optim.SGD(a, lr=0.1, momentum=0.9, dampening=0.5)
    saved = theirs.state_dict()
    saved["state"] = {i: {"momentum_buffer": None} for i in range(len(a))}
    b = twins(a)
    ours = optim.SGD(b)
    ours.load_state_dict(saved)
    run_both(theirs, ours, a, b, 3)
    assert gap(a, b) < 1e-14
