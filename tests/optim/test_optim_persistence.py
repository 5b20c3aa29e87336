"""Saving, loading, copying and moving: state follows its parameters, bit by bit."""

import copy
import io
import pickle

import pytest
import torch
from optim_cases import equal, gap, parameters, train, twins

from optcourse import optim


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_resuming_from_a_file_is_bit_equal(case, dtype, used):
    params = parameters(case.shapes, dtype)
    optimizer = case.make(params)
    train(optimizer, params, range(6))
    file = io.BytesIO()
    torch.save([[p.detach() for p in params], optimizer.state_dict()], file)

    file.seek(0)
    values, saved = torch.load(file)
    others = parameters(case.shapes, dtype, seed=9)
    resumed = case.make(others, lr=0.7)
    if used:
        train(resumed, others, range(20, 23))
    with torch.no_grad():
        for p, value in zip(others, values, strict=True):
            p.copy_(value)
    resumed.load_state_dict(saved)
    for run, group in ((optimizer, params), (resumed, others)):
        train(run, group, range(6, 12))
    assert equal(params, others)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["deepcopy", "pickle"]
)
def test_copies_with_their_model_go_on_alike(case, duplicate):
    model = torch.nn.ParameterList(parameters(case.shapes))
    optimizer = case.make(model.parameters())
    train(optimizer, list(model), range(3))
    twin_model, twin = duplicate((model, optimizer))
    before = [p.detach().clone() for p in model]
    train(twin, list(twin_model), range(3, 7))
    assert equal(model, before), "the copy must not touch the original"
    train(optimizer, list(model), range(3, 7))
    assert equal(model, twin_model)
    assert twin.compile == optimizer.compile


def test_state_dict_holds_copies_without_the_whole_buffer(case):
    shapes = case.shapes if case.name == "Muon" else ((300, 300), (3, 1))
    params = parameters(shapes)
    optimizer = case.make(params)
    train(optimizer, params, range(2))
    saved = optimizer.state_dict()
    for index, p in enumerate(params):
        for value in saved["state"][index].values():
            assert (
                not isinstance(value, torch.Tensor) or value.untyped_storage().nbytes() == p.numel() * p.element_size()
            )
    before = copy.deepcopy(saved)
    train(optimizer, params, range(2, 4))
    for index, state in before["state"].items():
        assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(saved["state"][index][k])) for k, v in state.items())


def test_changing_the_dtype_of_the_module_goes_on_in_the_new_one(case):
    params = parameters(case.shapes, torch.float32)
    model = torch.nn.ParameterList(params)
    optimizer = case.make(model.parameters())
    train(optimizer, list(model), range(3))
    saved = optimizer.state_dict()
    model.double()
    others = twins(list(model))
    reference = case.make(others)
    reference.load_state_dict(saved)
    train(optimizer, list(model), range(3, 6))
    train(reference, others, range(3, 6))
    assert equal(model, others)
    tensors = [v for state in optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
    assert all(v.dtype == torch.float64 for v in tensors)


def test_loading_weights_into_the_model_keeps_the_optimizer_attached(case):
    model = torch.nn.ParameterList(parameters(case.shapes))
    optimizer = case.make(model.parameters())
    train(optimizer, list(model), range(2))
    model.load_state_dict(torch.nn.ParameterList(parameters(case.shapes, seed=5)).state_dict())
    before = [p.detach().clone() for p in model]
    assert equal(before, parameters(case.shapes, seed=5))
    train(optimizer, list(model), range(2, 3))
    assert all(p.numel() == 0 or not torch.equal(p, q) for p, q in zip(model, before, strict=True))


def test_clearing_the_state_starts_afresh(case):
    params = parameters(case.shapes)
    optimizer = case.make(params)
    train(optimizer, params, range(3))
    optimizer.state.clear()
    others = twins(params)
    train(optimizer, params, range(3, 6))
    train(case.make(others), others, range(3, 6))
    assert equal(params, others)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_moving_the_model_to_cuda_moves_the_optimizer(case):
    model = torch.nn.ParameterList(parameters(case.shapes))
    optimizer = case.make(model.parameters())
    train(optimizer, list(model), range(2))
    others = twins(list(model))
    reference = case.make(others)
    reference.load_state_dict(optimizer.state_dict())
    model.cuda()
    train(optimizer, list(model), range(2, 6))
    train(reference, others, range(2, 6))
    assert all(p.is_cuda for p in model)
    assert gap([p.cpu() for p in model], others) < (1e-2 if case.name == "Muon" else 1e-10)


def saved_by(case):
    params = parameters(case.shapes)
    optimizer = case.make(params)
    train(optimizer, params, range(2))
    return params, optimizer


def test_what_a_state_dict_misses_or_has_too_much_is_refused_by_name(case):
    params, optimizer = saved_by(case)
    before, whole = [p.detach().clone() for p in params], optimizer.state_dict()
    for name in whole["state"][0] if len(whole["state"][0]) > 1 else ():  # without any entry: not stepped yet
        saved = copy.deepcopy(whole)
        del saved["state"][0][name]
        with pytest.raises(ValueError, match=f"state_dict misses {name}: {case.name} keeps .*{name}"):
            optimizer.load_state_dict(saved)
    for name in ("exp_avg_typo", "mu_ratio"):
        saved = copy.deepcopy(whole)
        saved["state"][1][name] = torch.zeros(2)
        with pytest.raises(ValueError, match=f"state_dict has {name}: {case.name} keeps"):
            optimizer.load_state_dict(saved)
    others = twins(params)  # a refused state dict changes nothing
    reference = case.make(others)
    reference.load_state_dict(whole)
    train(optimizer, params, range(2, 4))
    train(reference, others, range(2, 4))
    assert equal(params, others) and not equal(params, before)


def test_a_state_dict_of_another_method_is_refused(case):
    params, optimizer = saved_by(case)
    other = torch.optim.Rprop(twins(params))
    for p in other.param_groups[0]["params"]:
        p.grad = torch.ones_like(p)
    other.step()
    with pytest.raises(ValueError, match=r"state_dict .*prev"):
        optimizer.load_state_dict(other.state_dict())


@pytest.mark.parametrize(
    ("saved_by", "loaded_by", "setting"),
    [(optim.Adagrad, optim.RMSprop, "lr_decay"), (torch.optim.Adam, optim.RAdam, "amsgrad")],
)
def test_entries_of_one_name_in_another_method_are_refused(saved_by, loaded_by, setting):
    """A sum of squares is no average of squares, though both are called v."""
    p = torch.nn.Parameter(torch.ones(3))
    saved, other = saved_by([p], lr=0.1), loaded_by([p], lr=0.1)
    p.grad = torch.ones(3)
    saved.step()
    with pytest.raises(ValueError, match=f"no setting '{setting}'"):
        other.load_state_dict(saved.state_dict())


def test_bad_settings_in_a_state_dict_are_refused(case):
    _, optimizer = saved_by(case)
    for name, value in (("lr", -1.0), ("capturable", True), ("maximize", "yes")):
        saved = optimizer.state_dict()
        saved["param_groups"][0][name] = value
        with pytest.raises((ValueError, TypeError), match=f"{name} must be"):
            optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["lr"] >= 0


def test_an_older_state_dict_without_a_newer_setting_gets_the_default(case):
    params, optimizer = saved_by(case)
    for name in [*optimizer.defaults]:
        saved = optimizer.state_dict()
        del saved["param_groups"][0][name]
        resumed = case.make(twins(params))
        resumed.load_state_dict(saved)
        assert resumed.param_groups[0][name] == resumed.defaults[name]
        train(resumed, resumed.param_groups[0]["params"], range(1))


def test_what_schedulers_keep_in_a_group_is_loaded(case):
    params, optimizer = saved_by(case)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9, cycle_momentum=False)
    resumed = case.make(twins(params))
    resumed.load_state_dict(optimizer.state_dict())
    assert resumed.param_groups[0]["max_lr"] == 0.1
