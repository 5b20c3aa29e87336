"""Replaying a rule gives what calling the rule gives, to the last bit, or leaves the rule alone."""

import threading

import pytest
import torch
from optim_cases import MATRICES, Case, equal, give_gradients, parameters, twins

from optcourse import optim
from optcourse.optim.engine import kernels, replay
from optcourse.optim.engine.kernels import axpy, elementwise

MORE = [
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    Case("SGDW", {"momentum": 0.0}),
    Case("SGDW", {"weight_decay": 0.0, "nesterov": True}),
    Case("Lion"),
    Case("Adam", {"amsgrad": True, "weight_decay": 0.1, "eps": 0.0}),
    Case("AdamW", {"amsgrad": True, "betas": (0.0, 0.9)}),
    Case("RMSprop", {"momentum": 0.5, "centered": True, "weight_decay": 0.1}),
    Case("Adamax", {"betas": (0.0, 0.0)}),
    Case("NAdam", {"lr": 0.0}),
]


@pytest.fixture
def small_pieces(monkeypatch):
    """Pieces that divide no size; returns a list of what was replayed: True, or False where the rule ran."""
    outcomes = []

    def spy(*arguments):
        outcomes.append(replay.replay(*arguments))
        return outcomes[-1]

    monkeypatch.setattr(replay, "PIECE", 11)
    monkeypatch.setattr(kernels, "LARGE", 1)
    monkeypatch.setattr(kernels, "replay", spy)
    return outcomes


def states(optimizer, params):
    return [v for p in params for v in optimizer.state[p].values() if isinstance(v, torch.Tensor)]


def compare(case, dtype, monkeypatch, steps=8):
    """``steps`` steps of the rule as it is and of its replay, with a rate that changes."""
    shapes = [s for s in (MATRICES if case.name == "Muon" else case.shapes) if 0 not in s]
    params = parameters(shapes, dtype)
    others = twins(params)
    plain, replayed = case.make(params), case.make(others)
    for seed in range(steps):
        give_gradients(params, others, seed=seed)
        for optimizer in (plain, replayed):
            optimizer.param_groups[0]["lr"] *= 0.9
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "LARGE", 10**9)
            plain.step()
        replayed.step()
    assert equal(params, others)
    assert equal(states(plain, params), states(replayed, others))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_every_method_to_the_last_bit(case, dtype, small_pieces, monkeypatch):
    compare(case, dtype, monkeypatch)
    assert small_pieces and all(small_pieces)


@pytest.mark.parametrize("case", MORE, ids=str)
def test_other_settings_to_the_last_bit(case, small_pieces, monkeypatch):
    compare(case, torch.float32, monkeypatch)
    assert small_pieces and all(small_pieces)


def test_bfloat16_runs_as_it_is(small_pieces, monkeypatch):
    compare(Case("Adam"), torch.bfloat16, monkeypatch)
    assert small_pieces and not any(small_pieces)


def vectors(count, length=25):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(length, generator=generator) + 0.5 for _ in range(count)]


def twice(x, y):
    z = x * y
    return z, z


def old_value_is_read_late(x, y):
    m = y + x
    return m.sqrt() / y - x, m


RULES = {
    "one result for two outputs": twice,
    "old value read after the new one": old_value_is_read_late,
    "results unchanged": lambda x, y: (x, y),
    "one input for the other output": lambda x, y: (y, y * 2),
    "both outputs from the other": lambda x, y: (y + 1, x + 1),
    "unused operation": lambda x, y: (x - y, (x * 3, y.abs())[1]),
    "numbers on the left": lambda x, y: (2 / x + 1, -y * 0.5),
    "functions": lambda x, y: (torch.maximum(x, y.sqrt()), torch.lerp(x, y, 0.3)),
    "powers and signs": lambda x, y: ((x - y).sign() * y**3, axpy(0.1, y, x.square())),
    "two inputs in one": lambda x, y: (x * x + y * y, torch.addcmul(x, y, y, value=0.5)),
}
#: Not known to the replay; in the second, symbols that compare like other objects would give a number.
AS_THEY_ARE = {
    "unknown function": lambda x, y: (torch.sin(x), y),
    "comparison": lambda x, y: (x * (x == y), y),
    "number minus vector": lambda x, y: (1 - x, y),
    "attribute": lambda x, y: (x * x.ndim, y),
    "vector from outside": lambda x, y: (x * torch.full_like(y, 2.0), y),
}


@pytest.mark.parametrize("aliased", [True, False], ids=["in place", "elsewhere"])
@pytest.mark.parametrize("name", [*RULES, *AS_THEY_ARE])
def test_any_rule(name, aliased, small_pieces, monkeypatch):
    rule = {**RULES, **AS_THEY_ARE}[name]
    monkeypatch.setattr(kernels, "CACHE", 11)
    x, y = vectors(2)
    expected = [t.clone() for t in rule(x.clone(), y.clone())]
    outputs = [x, y] if aliased else vectors(2)
    elementwise(rule, [(outputs, (x, y))], {})
    if name == "one input for the other output" and aliased:
        assert torch.equal(outputs[0], vectors(2)[1])
    assert small_pieces == [name in RULES]
    assert equal(outputs, expected)


def test_wrong_number_of_results_is_an_error(small_pieces):
    x, y = vectors(2)
    with pytest.raises(ValueError, match="zip"):
        elementwise(lambda x, y: (x + y,), [((x, y), (x, y))], {})


def test_rate_as_a_tensor(small_pieces):
    a = parameters([(60,)], torch.float32)
    b = twins(a)
    give_gradients(a, b, seed=0)
    optim.SGD(a, lr=0.125).step()
    optim.SGD(b, lr=torch.tensor(0.125)).step()
    assert equal(a, b)


def test_threads_do_not_share_buffers(monkeypatch):
    """Many steps at once in two threads, with operations long enough to interleave."""
    monkeypatch.setattr(kernels, "LARGE", 1)
    sets = [parameters([(90_000,)], torch.float32, seed=s) for s in range(2)]
    alone = [twins(ps) for ps in sets]

    def work(params, seed):
        optimizer = optim.Adam(params, lr=0.1, weight_decay=0.1)
        give_gradients(params, seed=seed)
        for _ in range(40):
            optimizer.step()

    for seed, params in enumerate(alone):
        work(params, seed)
    threads = [threading.Thread(target=work, args=(ps, seed)) for seed, ps in enumerate(sets)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, sets, strict=True):
        assert equal(one, other)
