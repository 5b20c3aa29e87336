"""``optimizer.state`` is the truth at every step, whatever was done to it between two steps."""

import copy
import pickle
from collections import defaultdict

import pytest
import torch
from optim_cases import Case, equal, gap, give_gradients, parameters, train, twins

from optcourse import optim


def tensors(state):
    return {name: t for name, t in state.items() if isinstance(t, torch.Tensor) and name != "step"}


def clear(state, p, q):
    state[p].clear()


def forget(state, p, q):
    del state[p]


def zeros(state, p, q):
    for entries in state.values():
        for name, value in entries.items():
            entries[name] = torch.zeros_like(value) if isinstance(value, torch.Tensor) else 0


def another(state, p, q):
    for name, t in tensors(state[p]).items():
        state[p][name] = t + 0.5


def another_dtype(state, p, q):
    state[p].update({name: t.float().double() + 0.25 for name, t in tensors(state[p]).items()})


def another_order(state, p, q):
    state[p].update({name: t.mT.contiguous().mT for name, t in tensors(state[p]).items() if t.dim() > 1})


def data(state, p, q):
    for t in tensors(state[p]).values():
        t.data = t.data + 0.5


def in_place(state, p, q):
    for t in tensors(state[p]).values():
        t.mul_(0.5)


def delete(state, p, q):
    for name in [*tensors(state[p])][:1]:
        del state[p][name]


def exchange(state, p, q):
    state[p], state[q] = state[q], state[p]


def exchange_tensors(state, p, q):
    for name in tensors(state[p]):
        state[p][name], state[q][name] = state[q][name], state[p][name]


def new_dicts(state, p, q):
    state[p] = {name: t + 0.5 if isinstance(t, torch.Tensor) else t for name, t in state[p].items()}


def clock(state, p, q):
    state[p]["step"] = torch.tensor(9.0)


EDITS = [clear, forget, zeros, another, another_dtype, another_order, data, in_place, delete]
EDITS += [exchange, exchange_tensors, new_dicts, clock]


@pytest.mark.parametrize("large", [1, 10**6], ids=["alone", "packed"])
@pytest.mark.parametrize("edit", EDITS, ids=lambda e: e.__name__)
def test_edits_are_what_the_next_step_and_the_next_checkpoint_see(case, edit, large, monkeypatch):
    """The oracle: an optimizer that never stepped and is handed what the state says."""
    monkeypatch.setattr(optim.engine.optimizer, "LARGE", large)
    shape = case.shapes[0]
    params = parameters([shape, shape, shape[::-1]])
    optimizer = case.make(params)
    train(optimizer, params, range(3))
    edit(optimizer.state, *params[:2])
    others = twins(params)
    fresh = case.make(others)
    for p, q in zip(params, others, strict=True):
        if p in optimizer.state:
            fresh.state[q] = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in optimizer.state[p].items()}
    saved = optimizer.state_dict()
    third = twins(params)
    resumed = case.make(third)
    resumed.load_state_dict(saved)
    for run, group in ((optimizer, params), (fresh, others), (resumed, third)):
        train(run, group, range(3, 6))
    assert equal(params, others) and equal(params, third)
    for p, q in zip(params, others, strict=True):
        assert optimizer.state[p].keys() == fresh.state[q].keys()
        assert equal(tensors(optimizer.state[p]).values(), tensors(fresh.state[q]).values())


TORCHS = [
    Case("SGD", {"lr": 0.1, "momentum": 0.9}),
    Case("Adam", {"lr": 0.1}),
    Case("Adamax", {"lr": 0.1}),
    Case("Adadelta"),
    Case("RMSprop", {"momentum": 0.5}),
    Case("Adagrad"),
]


@pytest.mark.parametrize("edit", [zeros, clear, another, in_place, data, exchange], ids=lambda e: e.__name__)
@pytest.mark.parametrize("case", TORCHS, ids=str)
def test_edits_do_what_they_do_to_torch(case, edit):
    ours, theirs = parameters([(3, 4), (3, 4), (5,)]), parameters([(3, 4), (3, 4), (5,)])
    runs = case.make(ours), getattr(torch.optim, case.name)(theirs, **case.settings)
    for seed in range(6):
        give_gradients(ours, theirs, seed=seed)
        for run in runs:
            run.step()
        if seed == 2:
            edit(runs[0].state, *ours[:2])
            edit(runs[1].state, *theirs[:2])
    assert gap(ours, theirs) < 1e-12


def test_another_state_object(case):
    params = parameters(case.shapes)
    optimizer = case.make(params)
    train(optimizer, params, range(3))
    optimizer.state = defaultdict(dict)
    others = twins(params)
    train(optimizer, params, range(3, 5))
    train(case.make(others), others, range(3, 5))
    assert equal(params, others)


def test_tensors_taken_out_of_the_state_are_not_written_to(case):
    params = parameters(case.shapes)
    optimizer = case.make(params)
    train(optimizer, params, range(2))
    taken = tensors(optimizer.state[params[0]])
    values = {name: t.clone() for name, t in taken.items()}
    optimizer.state[params[0]] = {}
    train(optimizer, params, range(2, 4))
    assert equal(taken.values(), values.values())


def test_a_state_dict_can_be_loaded_twice(case):
    """The loaded optimizer does not write into it, however large a parameter is."""
    params = parameters(case.shapes)
    optimizer = case.make(params)
    train(optimizer, params, range(3))
    saved, before = optimizer.state_dict(), copy.deepcopy(optimizer.state_dict())
    for _ in range(2):
        others = twins(params)
        resumed = case.make(others)
        resumed.load_state_dict(saved)
        train(resumed, others, range(3, 5))
    assert pickle.dumps(saved["param_groups"]) == pickle.dumps(before["param_groups"])
    for key, entries in before["state"].items():
        assert equal(tensors(entries).values(), tensors(saved["state"][key]).values())


def test_a_pickled_optimizer_has_the_size_of_its_state(case):
    params = parameters([case.shapes[0]] * 40)
    optimizer = case.make(params)
    train(optimizer, params, range(1))
    numbers = sum(t.numel() for state in optimizer.state.values() for t in tensors(state).values())
    held = sum(p.numel() for p in params)
    assert len(pickle.dumps(optimizer)) < 8 * (numbers + held) + 40 * 1500 * 3
    copied = pickle.loads(pickle.dumps(optimizer))
    assert copied.state_dict()["state"][0].keys() == optimizer.state_dict()["state"][0].keys()


@pytest.mark.parametrize(
    ("case", "settings"),
    [
        (Case("SGD", {"lr": 0.1}), {"momentum": 0.5}),
        (Case("RMSprop"), {"momentum": 0.5}),
        (Case("RMSprop"), {"centered": True}),
        (Case("Adam"), {"amsgrad": True}),
    ],
    ids=str,
)
def test_settings_that_start_to_need_a_vector(case, settings):
    """Switched on between two steps: the vector starts at its initial value, live and from a checkpoint."""
    params = parameters(case.shapes)
    optimizer = case.make(params)
    train(optimizer, params, range(2))
    optimizer.param_groups[0].update(settings)
    others = twins(params)
    resumed = case.make(others)
    resumed.load_state_dict(optimizer.state_dict())
    for run, group in ((optimizer, params), (resumed, others)):
        train(run, group, range(2, 5))
    assert equal(params, others)


def test_a_state_dict_hook_may_return_a_dict_of_its_own(case):
    params = parameters(case.shapes)
    optimizer = case.make(params)
    train(optimizer, params, range(2))
    optimizer.register_state_dict_post_hook(lambda o, saved: {"mine": saved})
    saved = optimizer.state_dict()["mine"]
    before = copy.deepcopy(saved)
    train(optimizer, params, range(2, 3))
    for key, entries in before["state"].items():
        assert equal(tensors(entries).values(), tensors(saved["state"][key]).values())
    assert any(tensors(entries) for entries in saved["state"].values()) or case.settings == {"lr": 0.1}
