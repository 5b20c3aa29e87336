"""An optimizer never moves a parameter, and keeps no copy of one: whoever shares its memory sees every step."""

import copy
import gc
import io
import types
import weakref

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from optim_cases import MATRICES, Case, equal, gap, give_gradients, parameters, train
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from optcourse import optim


def places(params):
    return [(p.data_ptr(), p.stride(), p.untyped_storage().nbytes()) for p in params]


def test_parameters_stay_where_they_lie(case):
    params = parameters(case.shapes)
    views, before = [p.detach() for p in params], places(params)
    optimizer = case.make(params)
    train(optimizer, params, range(3))
    params[1].grad = None  # another set of gradients, another arrangement
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    train(optimizer, params, range(3, 5))
    assert places(params) == before
    assert equal(params, views) and not equal(params, parameters(case.shapes))


def test_a_saved_layer_has_its_own_size(case):
    model = nn.Sequential(*[nn.Linear(20, 20, bias=False, dtype=torch.float64) for _ in range(30)])
    optimizer = case.make(model.parameters())
    train(optimizer, list(model.parameters()), range(1))
    for saved in (model[-1].state_dict(), optimizer.state_dict()["state"][29]):
        file = io.BytesIO()
        torch.save(saved, file)
        tensors = sum(isinstance(v, torch.Tensor) for v in saved.values())
        assert len(file.getvalue()) < 3200 * tensors + 2500


def test_a_shallow_copy_of_the_model_follows(case):
    model = nn.ParameterList(parameters(case.shapes))
    follower = copy.copy(model)
    train(case.make(model.parameters()), list(model), range(2))
    assert equal(model, follower) and not equal(follower, parameters(case.shapes))


def test_memory_mapped_weights_are_trained_in_their_file(case, tmp_path):
    start = parameters(case.shapes[:1])[0]
    file = np.memmap(tmp_path / "weights", dtype=np.float64, mode="w+", shape=tuple(start.shape))
    p = nn.Parameter(torch.from_numpy(file))
    with torch.no_grad():
        p.copy_(start)
    train(case.make([p]), [p], range(2))
    file.flush()
    written = np.fromfile(tmp_path / "weights").reshape(start.shape)
    assert np.array_equal(written, p.detach().numpy()) and not np.array_equal(written, start.detach().numpy())


@pytest.mark.parametrize("settings", [{"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}, {"lr": 0.1}], ids=str)
def test_parameters_that_share_memory_are_stepped_one_after_the_other(settings):
    """Equal, shifted and transposed views of one memory, among others; torch goes through them in order."""

    def build():
        a, b = (p.detach() for p in parameters([(4, 6), (3, 3)]))
        return [nn.Parameter(t) for t in (b, a, a[1:], a.flatten(), b.t(), torch.ones(5, dtype=torch.float64))]

    ours, theirs = build(), build()
    runs = optim.SGD(ours, **settings), torch.optim.SGD(theirs, foreach=False, **settings)
    for seed in range(4):
        give_gradients(ours, theirs, seed=seed)
        for run in runs:
            run.step()
    assert gap(ours, theirs) < 1e-13 and ours[1].data_ptr() == ours[3].data_ptr()


def test_parameters_tied_between_two_steps(case):
    """Both updates arrive, whatever arrangement the first step found; written one by one, as the oracle does."""
    shapes = (case.shapes[0],) * 2
    params, others = parameters(shapes), parameters(shapes)
    one, many = case.make(params), [case.make([p]) for p in others]
    for seed in range(5):
        if seed == 2:
            params[1].data, others[1].data = params[0].data, others[0].data
        give_gradients(params, others, seed=seed)
        for optimizer in (one, *many):
            optimizer.step()
    assert gap(params, others) < 1e-13


def test_a_parameter_listed_twice_is_stepped_twice_as_in_torch():
    p, q = parameters([(3,)])[0], parameters([(3,)])[0]
    with pytest.warns(UserWarning, match="duplicate parameters"):
        runs = optim.Adam([p, p], lr=0.1), torch.optim.Adam([q, q], lr=0.1, foreach=False)
    for seed in range(3):
        give_gradients([p], [q], seed=seed)
        for run in runs:
            run.step()
    assert gap([p], [q]) < 1e-14 and runs[0].state[p]["step"] == 6


def other_memory(p):
    return p.detach().clone()


def other_order(p):
    return p.detach().mT.contiguous().mT if p.dim() > 1 else p.detach().clone()


def not_dense(p):
    wide = p.detach().new_zeros(*p.shape[:-1], 2 * p.shape[-1])
    wide[..., ::2] = p.detach()
    return wide[..., ::2]


@pytest.mark.parametrize("large", [1, 10**6], ids=["alone", "packed"])
@pytest.mark.parametrize("swap", [other_memory, other_order, not_dense])
def test_the_user_may_give_a_parameter_other_memory(case, swap, large, monkeypatch):
    monkeypatch.setattr(optim.engine.optimizer, "LARGE", large)
    shapes = [s for s in case.shapes if s and 0 not in s]
    params, others = parameters(shapes), parameters(shapes)
    one, reference = case.make(params), case.make(others)
    for seed in range(5):
        if seed == 2:
            for p in params:
                p.data = swap(p)
            before = places(params)
        give_gradients(params, others, seed=seed)
        one.step()
        reference.step()
    assert gap(params, others) < 1e-12 and places(params) == before


def test_parameters_in_a_row_are_stepped_where_they_lie(case):
    """Also when one of the row has no gradient for a while, and from then on another clock, or leaves the row."""
    params, others = parameters(case.shapes), parameters(case.shapes)
    vector_to_parameters(parameters_to_vector(params).detach(), params)
    before, one, many = places(params), case.make(params), [case.make([p]) for p in others]
    for seed in range(6):
        give_gradients(params, others, seed=seed)
        if seed == 2:
            params[1].grad = others[1].grad = None
        if seed == 4:
            params[0].data = params[0].data.clone()
            before[0] = places(params)[0]
        for optimizer in (one, *many):
            optimizer.step()
    assert gap(params, others) < 1e-13 and places(params) == before


def test_parameters_in_a_row_are_not_copied(monkeypatch):
    params = parameters([(3, 4), (5,), (2, 2)])
    vector_to_parameters(parameters_to_vector(params).detach(), params)
    vectors, elementwise = [], optim.engine.optimizer.elementwise
    watch = lambda rule, jobs, *rest: (vectors.extend(jobs), elementwise(rule, jobs, *rest))  # noqa: E731
    monkeypatch.setattr(optim.engine.optimizer, "elementwise", watch)
    train(optim.Adam(params), params, range(1))
    ((x, *_), _) = vectors[0]
    assert len(vectors) == 1 and len(x) == 21 and x.data_ptr() == params[0].data_ptr()


@pytest.mark.parametrize("shape", [(4, 4), (400, 400)], ids=["packed", "alone"])
def test_a_parameter_transposed_in_its_memory(shape):
    """The address and the shape are those of before; state stays with the elements' places in the parameter."""
    params, others = parameters([shape]), parameters([shape])
    runs = optim.Adam(params), torch.optim.Adam(others, foreach=False)
    for seed in range(4):
        if seed == 2:
            params[0].data, others[0].data = params[0].data.t(), others[0].data.t()
        give_gradients(params, others, seed=seed)
        for run in runs:
            run.step()
    assert gap(params, others) < 1e-13


def test_a_parameter_of_another_shape_is_named():
    p = nn.Parameter(torch.ones(4, 3))
    optimizer = optim.Adam([p])
    give_gradients([p], seed=0)
    optimizer.step()
    p.data = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"gradient .*\(2, 3\).*\(4, 3\)"):
        optimizer.step()
    p.grad = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"state 'm' must have the shape \(2, 3\).*got \(4, 3\)"):
        optimizer.step()
    optimizer.state[p].clear()
    optimizer.step()
    assert torch.allclose(p, torch.full((2, 3), 1 - 1e-3))


def reachable_bytes(root, besides):
    """Of all tensors that the containers and objects under ``root`` lead to."""
    stack, seen, storages = [root], set(), {}
    while stack:
        item = stack.pop()
        if id(item) in seen or isinstance(item, (type, types.ModuleType, types.FunctionType)):
            continue
        seen.add(id(item))
        if issubclass(type(item), torch.Tensor):
            storages[item.untyped_storage().data_ptr()] = item.untyped_storage().nbytes()
        else:
            stack += gc.get_referents(item)
    return sum(size for place, size in storages.items() if place not in besides)


def test_memory_is_that_of_the_state_and_a_bounded_scratch(case):
    """90 tensors hold 3.6 MB; a persistent copy of parameters or gradients would be seen."""
    params = [nn.Parameter(torch.ones(100, 100)) for _ in range(90)]
    optimizer = case.make(params)
    train(optimizer, params, range(2))
    besides = {t.untyped_storage().data_ptr() for p in params for t in (p, p.grad)}
    state = len(optimizer.initial_slots(optimizer.param_groups[0])) * 90 * 40_000
    scratch = 4 * 3 * optim.engine.kernels.CACHE
    assert state <= reachable_bytes(optimizer.__dict__, besides) <= state + scratch


def hogwild(model, case, steps):
    torch.set_num_threads(1)
    optimizer = case.make(model)
    for _ in range(steps):
        for p in model:
            p.grad = torch.ones_like(p)
        optimizer.step()


def test_other_processes_see_every_step(case):
    model = nn.ParameterList(parameters(case.shapes[:2] if case.name != "Muon" else MATRICES[:2]))
    model.share_memory()
    alone = [nn.Parameter(p.detach().clone()) for p in model]
    process = mp.get_context("fork").Process(target=hogwild, args=(list(model), case, 3))
    process.start()
    process.join()
    hogwild(alone, case, 3)
    assert process.exitcode == 0 and equal(model, alone)


def test_state_in_shared_memory_is_used_where_it_lies():
    """As in Hogwild with Adam, whose moments the user makes before the processes start."""
    case, params = Case("Adam"), parameters([(3, 4), (5,)])
    optimizer = case.make(params)
    for p in params:
        optimizer.state[p] = {name: torch.zeros_like(p).share_memory_() for name in "mv"}
    kept = [t for p in params for t in optimizer.state[p].values()]
    train(optimizer, params, range(2))
    others = parameters([(3, 4), (5,)])
    reference = case.make(others)
    train(reference, others, range(2))
    expected = [reference.state[p][name] for p in others for name in "mv"]
    assert equal(params, others) and equal(kept, expected) and all(t.is_shared() for t in kept)


def test_a_gradient_is_let_go_after_the_step(case, monkeypatch):
    """The user's zero_grad frees it: one that lived on would cost its memory, and the next one fresh pages."""
    for large in (1, 10**9):
        monkeypatch.setattr(optim.engine.optimizer, "LARGE", large)
        p = torch.nn.Parameter(torch.ones(4, 3))
        optimizer = case.make([p])
        array = np.ones((4, 3), dtype=np.float32)
        p.grad, alive = torch.from_numpy(array), weakref.ref(array)
        optimizer.step()
        p.grad = None
        del array
        gc.collect()
        assert alive() is None
