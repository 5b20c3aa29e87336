"""What constructors and groups take: torch's options, numbers of every kind, and nothing that would be ignored."""

import inspect

import numpy as np
import pytest
import torch
from optim_cases import CASES, Case, equal, gap, give_gradients, parameters, train, twins

from optcourse import optim

CLASSES = [Case(name) for name in sorted({case.name for case in CASES})]
one_of_each = pytest.mark.parametrize("case", CLASSES, ids=str)
THEIRS = ("SGD", "Adam", "AdamW", "Adagrad", "RMSprop", "Adadelta", "Adamax", "NAdam", "RAdam", "Muon")


def matrix():
    return [torch.nn.Parameter(torch.ones(2, 2))]


def test_maximize_is_minimizing_the_negative(case):
    """As an option, and as a setting of one group among others."""
    up, down, mixed = parameters(case.shapes), parameters(case.shapes), parameters(case.shapes)
    runs = [case.make(up, maximize=True), case.make(down)]
    runs.append(case.make([{"params": mixed[::2], "maximize": True}, {"params": mixed[1::2]}]))
    for seed in range(4):
        give_gradients(up, down, mixed, seed=seed)
        for p in (*down, *mixed[1::2]):
            p.grad = -p.grad
        kept = [p.grad.clone() for p in up]
        for run in runs:
            run.step()
        assert equal([p.grad for p in up], kept)
    assert equal(up, down) and equal(up, mixed)


@pytest.mark.parametrize("name", [name for name in THEIRS if name != "Muon"])
def test_maximize_is_torchs(name, exact_counters):
    ours, theirs = parameters([(3, 4), (5,)]), parameters([(3, 4), (5,)])
    settings = {"lr": 0.1, "weight_decay": 0.1, "maximize": True}
    runs = getattr(optim, name)(ours, **settings), getattr(torch.optim, name)(theirs, **settings)
    for seed in range(4 if name == "RAdam" else 10):  # then RAdam differs as documented
        give_gradients(ours, theirs, seed=seed)
        for run in runs:
            run.step()
    assert gap(ours, theirs) < 1e-12


@pytest.mark.parametrize("name", ["Adam", "NAdam", "RAdam"])
def test_decoupled_weight_decay_is_torchs(name, exact_counters):
    ours, theirs = parameters([(3, 4), (5,)]), parameters([(3, 4), (5,)])
    settings = {"lr": 0.1, "weight_decay": 0.3, "decoupled_weight_decay": True}
    runs = getattr(optim, name)(ours, **settings), getattr(torch.optim, name)(theirs, **settings)
    for seed in range(4 if name == "RAdam" else 10):
        give_gradients(ours, theirs, seed=seed)
        for run in runs:
            run.step()
    assert gap(ours, theirs) < 1e-12


@pytest.mark.parametrize("hint", [None, False, True])
@one_of_each
def test_hints_on_speed_are_taken(case, hint):
    a, b = parameters([(3, 4)]), parameters([(3, 4)])
    train(case.make(a, foreach=hint, fused=hint, capturable=False, differentiable=False), a, range(2))
    train(case.make([{"params": b, "foreach": hint}]), b, range(2))
    assert equal(a, b) and not equal(a, parameters([(3, 4)]))


@pytest.mark.parametrize(
    ("option", "value", "error", "words"),
    [
        ("capturable", True, ValueError, "capturable must be False"),
        ("differentiable", True, ValueError, "differentiable must be False"),
        ("differentiable", 1, TypeError, "differentiable must be a bool, got 1"),
        ("foreach", "yes", TypeError, "foreach must be a bool, got 'yes'"),
        ("fused", 1, TypeError, "fused must be a bool, got 1"),
        ("maximize", "yes", TypeError, "maximize must be a bool"),
        ("compile", 1, TypeError, "compile must be a bool"),
        ("lr_typo", 1, TypeError, "lr_typo"),
        ("step", 1, TypeError, "step"),
    ],
)
@one_of_each
def test_what_means_something_else_is_refused_by_name(case, option, value, error, words):
    with pytest.raises(error, match=words):
        case.make(matrix(), **{option: value})
    if option not in ("lr_typo", "step", "compile"):  # labels, in a group
        with pytest.raises(error, match=words):
            case.make([{"params": matrix(), option: value}])


@one_of_each
def test_settings_of_other_methods_are_refused(case):
    known = case.make(matrix()).defaults
    for name in {"momentum", "betas", "rho", "alpha", "trust", "nesterov", "amsgrad", "centered"} - known.keys():
        for make in (lambda n=name: case.make(matrix(), **{n: 0.5}), lambda n=name: case.make([group(**{n: 0.5})])):
            with pytest.raises(TypeError, match=name):
                make()


def group(**settings):
    return {"params": matrix(), **settings}


@pytest.mark.parametrize(("typo", "meant"), [("weightdecay", "weight_decay"), ("maximise", "maximize"), ("Ir", None)])
@one_of_each
def test_a_misspelled_setting_of_a_group_is_refused_and_labels_are_kept(case, typo, meant):
    if meant:
        with pytest.raises(TypeError, match=f"{case.name} has no setting {typo!r} .*did you mean {meant!r}"):
            case.make([group(**{typo: 0})])
        optimizer = case.make(matrix())
        with pytest.raises(TypeError, match=typo):
            optimizer.add_param_group(group(**{typo: 0}))
        assert len(optimizer.param_groups) == 1
    labels = {"name": "head", "initial_lr": 0.1, "lr_scale": 0.5, "use_muon": True}
    optimizer = case.make([group(**labels)])
    assert labels.items() <= optimizer.param_groups[0].items()


NUMBERS = [np.float32, np.float64, np.array, torch.tensor, lambda v: torch.tensor([v])]


@pytest.mark.parametrize("kind", NUMBERS, ids=["float32", "float64", "0-dim array", "0-dim tensor", "one element"])
def test_numbers_of_other_libraries_are_numbers(case, kind):
    """In the constructor, in a group, and where a schedule writes between two steps."""
    settings = {k: v for k, v in case.make(matrix()).defaults.items() if isinstance(v, float) or k == "betas"}
    settings["lr"] = 0.5
    exact = {k: tuple(number(kind, b) for b in v) if k == "betas" else number(kind, v) for k, v in settings.items()}
    odd = {k: tuple(map(kind, v)) if k == "betas" else kind(v) for k, v in settings.items()}
    plain, constructed, grouped, written = (parameters(case.shapes) for _ in range(4))
    runs = [case.make(plain, **exact), case.make(constructed, **odd), case.make([{"params": grouped, **odd}])]
    runs.append(case.make(written))
    runs[-1].param_groups[0].update(odd)
    for seed in range(3):
        give_gradients(plain, constructed, grouped, written, seed=seed)
        for run in runs:
            run.step()
    assert equal(plain, constructed) and equal(plain, grouped) and equal(plain, written)


def number(kind, value):
    return float(kind(value))


def test_whole_numbers_of_numpy():
    a, b = parameters([(3, 4)]), parameters([(3, 4)])
    train(optim.Muon(a, lr=np.int64(1), ns_steps=np.int64(3), nesterov=np.bool_(False)), a, range(2))
    train(optim.Muon(b, lr=1, ns_steps=3, nesterov=False), b, range(2))
    assert equal(a, b)


@pytest.mark.parametrize("value", [np.float32("nan"), np.float32(-1), torch.tensor(-1.0), np.inf], ids=str)
@one_of_each
def test_bad_numbers_of_other_libraries_are_named(case, value):
    with pytest.raises(ValueError, match=r"lr must be in \[0, inf\)"):
        case.make(matrix(), lr=value)


@pytest.mark.parametrize("value", [np.ones(2), torch.ones(2), "0.1", None, True, 1j], ids=repr)
@one_of_each
def test_what_is_no_number_is_named(case, value):
    with pytest.raises(TypeError, match="lr must be a real number"):
        case.make(matrix(), lr=value)


def test_a_checkpoint_with_numbers_of_numpy_loads_without_them(tmp_path):
    params = parameters([(3,)])
    optimizer = optim.Adam(params, lr=np.float32(0.1), betas=(np.float64(0.5), np.float32(0.75)))
    train(optimizer, params, range(1))
    torch.save(optimizer.state_dict(), tmp_path / "file")
    assert torch.load(tmp_path / "file", weights_only=True)["param_groups"][0]["betas"] == (0.5, 0.75)


@pytest.mark.parametrize("name", [name for name in THEIRS if hasattr(torch.optim, name)])
def test_positional_arguments_are_torchs(name):
    def positional(cls):
        arguments = inspect.signature(cls.__init__).parameters.values()
        names = [a.name for a in arguments if a.kind is a.POSITIONAL_OR_KEYWORD]
        return [n for n in names if n not in ("foreach", "capturable", "maximize", "differentiable")]

    assert positional(getattr(optim, name)) == positional(getattr(torch.optim, name))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fn], ids=str)
@one_of_each
def test_other_kinds_of_numbers_are_refused_by_name(case, dtype):
    p = torch.nn.Parameter(torch.ones(3, 3).to(dtype))
    p.grad = torch.ones(3, 3).to(dtype)
    with pytest.raises(RuntimeError, match=f"{case.name} does not support {dtype} parameters"):
        case.make([p]).step()


@pytest.mark.parametrize("large", [1, 10**6], ids=["alone", "packed"])
@pytest.mark.parametrize("shape", [(3, 3), (9,)])
@one_of_each
def test_sparse_gradients_are_refused_by_name(case, shape, large, monkeypatch):
    monkeypatch.setattr(optim.engine.optimizer, "LARGE", large)
    shape = (3, 3) if case.name == "Muon" else shape
    p = torch.nn.Parameter(torch.ones(shape))
    p.grad = torch.ones(shape).to_sparse()
    with pytest.raises(RuntimeError, match=f"{case.name} does not support sparse"):
        case.make([p]).step()


@pytest.mark.skipif(not hasattr(torch.Tensor, "grad_dtype"), reason="this torch has gradients of one dtype only")
@one_of_each
def test_gradients_of_another_dtype(case):
    params = parameters([(4, 3), (2, 3)])
    others = twins(params)
    for p, q in zip(params, others, strict=True):
        p.grad_dtype = torch.bfloat16
        p.grad = torch.full_like(p, 0.375, dtype=torch.bfloat16)
        q.grad = torch.full_like(q, 0.375)
    case.make(params).step()
    case.make(others).step()
    assert equal(params, others)
