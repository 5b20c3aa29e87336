"""What every optimizer must do, whatever its equation. An optimizer enters by being listed in optim_cases.py."""

import copy

import pytest
import torch
from optim_cases import CASES, Case, equal, gap, give_gradients, parameters, train, twins

from optcourse import optim
from optcourse.optim.engine import kernels
from optcourse.optim.engine import optimizer as engine
from optcourse.optim.wrappers import Wrapper


def test_every_public_optimizer_is_listed():
    classes = {name: value for name, value in vars(optim).items() if isinstance(value, type)}
    public = {n for n, c in classes.items() if issubclass(c, torch.optim.Optimizer) and not issubclass(c, Wrapper)}
    assert public == {case.name for case in CASES}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_moves_every_parameter_and_leaves_gradients_alone(case, dtype):
    params = parameters(case.shapes, dtype)
    start = twins(params)
    optimizer = case.make(params, lr=0.5)
    for seed in range(5):
        give_gradients(params, seed=seed)
        grads = [(p.grad, p.grad.clone()) for p in params]
        optimizer.step()
        assert all(p.grad is g and torch.equal(g, old) for p, (g, old) in zip(params, grads, strict=True))
    for p, q in zip(params, start, strict=True):
        assert p.dtype == dtype and p.shape == q.shape and p.is_leaf and p.isfinite().all()
        assert p.numel() == 0 or dtype == torch.bfloat16 or not torch.equal(p, q)


def test_bfloat16_is_computed_in_float32_and_rounded_once_a_step(case):
    low = parameters(case.shapes, torch.bfloat16)
    high = [torch.nn.Parameter(p.detach().float()) for p in low]
    runs = case.make(low), case.make(high)
    for seed in range(10):
        give_gradients(low, seed=seed)
        for p, q in zip(low, high, strict=True):
            q.grad = p.grad.float()
        for run in runs:
            run.step()
        with torch.no_grad():
            for q in high:
                for value in (q, *runs[1].state[q].values()):
                    if isinstance(value, torch.Tensor):
                        value.copy_(value.bfloat16())
    assert gap(low, high) <= 2**-6  # two units in the last place of numbers between 2 and 4


def test_one_flat_buffer_equals_one_optimizer_per_parameter(case):
    together = parameters(case.shapes)
    apart = twins(together)
    one, many = case.make(together), [case.make([p]) for p in apart]
    for seed in range(8):
        give_gradients(together, apart, seed=seed)
        one.step()
        for optimizer in many:
            optimizer.step()
    assert gap(together, apart) < 1e-13


@pytest.mark.parametrize(("large", "piece"), [(1, 10**6), (12, 5), (10**6, 3)])
def test_block_and_piece_sizes_do_not_matter(case, large, piece, monkeypatch):
    shapes = [s for s in case.shapes if 0 not in s]
    params, others = parameters(shapes), parameters(shapes)
    train(case.make(params), params, range(5))
    monkeypatch.setattr(engine, "LARGE", large)
    monkeypatch.setattr(engine, "CACHE", piece)
    monkeypatch.setattr(kernels, "CACHE", piece)
    train(case.make(others), others, range(5))
    assert gap(params, others) < 1e-13


def test_parameters_without_gradient_stand_still_and_so_do_their_clocks(case):
    together = parameters(case.shapes)
    apart = twins(together)
    one, many = case.make(together), [case.make([p]) for p in apart]
    absent = {2: {0}, 3: {0, 2}, 4: set(range(len(together))), 6: {1}}
    for seed in range(9):
        give_gradients(together, apart, seed=seed)
        for i in absent.get(seed, ()):
            together[i].grad = apart[i].grad = None
        held = [p.detach().clone() for p in together]
        one.step()
        for optimizer in many:
            optimizer.step()
        for i in absent.get(seed, ()):
            assert torch.equal(together[i], held[i])
    assert gap(together, apart) < 1e-13
    for optimizer, p, q in zip(many, together, apart, strict=True):
        assert p.numel() == 0 or one.state[p]["step"] == optimizer.state[q]["step"]


def test_frozen_parameters_are_not_touched(case):
    params = parameters(case.shapes)
    params[1].requires_grad_(False)
    frozen = params[1].clone()
    optimizer = case.make(params)
    live = [p for p in params if p.requires_grad]
    train(optimizer, live, range(3))
    assert torch.equal(params[1], frozen) and params[1] not in optimizer.state


def test_groups_have_their_own_settings_and_can_be_added(case):
    params = parameters(case.shapes)
    apart = twins(params)
    one = case.make([{"params": params[:1], "lr": 0.03}, {"params": params[1:2]}])
    first, second, third = case.make(apart[:1], lr=0.03), case.make(apart[1:2]), case.make(apart[2:], lr=0.2)
    for seed in range(6):
        give_gradients(params, apart, seed=seed)
        if seed == 2:
            one.add_param_group({"params": params[2:], "lr": 0.2})
        one.step()
        for optimizer in (first, second, *([third] if seed >= 2 else [])):
            optimizer.step()
    assert gap(params, apart) < 1e-13


def test_closure_is_called_with_gradients_enabled_and_its_loss_returned(case):
    params = parameters(case.shapes)
    apart = twins(params)
    optimizer, reference = case.make(params), case.make(apart)

    def closure(group=params, run=optimizer):
        run.zero_grad()
        loss = sum((p**2).sum() for p in group)
        loss.backward()
        return loss

    for _ in range(3):
        expected = closure(apart, reference)
        reference.step()
        assert torch.equal(optimizer.step(closure), expected)
    assert equal(params, apart)


def test_gradients_set_to_zero_or_to_none_give_the_same_run(case):
    runs = []
    for set_to_none in (False, True):
        params = parameters(case.shapes)
        optimizer = case.make(params)
        for _ in range(4):
            optimizer.zero_grad(set_to_none=set_to_none)
            sum((p**2).sum() for p in params).backward()
            optimizer.step()
        runs.append(params)
    assert equal(*runs)


SCHEDULERS = {
    "StepLR": lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.5),
    "LambdaLR": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda t: optim.warmup(t, steps=20)),
    "CosineAnnealingLR": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 8),
    "ReduceLROnPlateau": lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=1),
    "OneCycleLR": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=10, cycle_momentum=cycles(o)),
    "CyclicLR": lambda o: torch.optim.lr_scheduler.CyclicLR(o, 0.01, 0.1, 3, cycle_momentum=cycles(o)),
}


def cycles(optimizer):
    return "momentum" in optimizer.defaults or "betas" in optimizer.defaults


@pytest.mark.parametrize("name", SCHEDULERS)
def test_torch_schedulers_steer_the_rate(case, name):
    params = parameters(case.shapes)
    replay = twins(params)
    optimizer = case.make(params)
    scheduler = SCHEDULERS[name](optimizer)
    by_hand = case.make(replay)
    for seed in range(8):
        settings = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
        by_hand.param_groups[0].update(copy.deepcopy(settings))
        give_gradients(params, replay, seed=seed)
        optimizer.step()
        by_hand.step()
        scheduler.step(*([1.0] if name == "ReduceLROnPlateau" else []))
    assert equal(params, replay)
    assert optimizer.param_groups[0]["lr"] != case.make(parameters(case.shapes)).param_groups[0]["lr"]
    assert cycles(optimizer) or case.name in ("Adagrad", "Adadelta")


def test_memory_formats_survive_and_do_not_change_the_result(case):
    plain = parameters(((4, 3, 2, 2), (6, 5)))
    odd = [
        torch.nn.Parameter(plain[0].detach().clone().to(memory_format=torch.channels_last)),
        torch.nn.Parameter(plain[1].detach().t().contiguous().t()),
    ]
    strides = [p.stride() for p in odd]
    runs = [case.make(plain), case.make(odd)]
    for seed in range(4):
        give_gradients(plain, odd, seed=seed)
        odd[1].grad = odd[1].grad.contiguous()  # another layout than the parameter's
        for run in runs:
            run.step()
    assert [p.stride() for p in odd] == strides
    assert gap(plain, odd) < 1e-12


def test_a_gradient_that_is_an_expanded_number_is_read_correctly(case):
    params = parameters(case.shapes[:1])
    others = twins(params)
    params[0].grad = torch.tensor(0.5, dtype=torch.float64).expand(params[0].shape)
    others[0].grad = params[0].grad.contiguous()
    case.make(params).step()
    case.make(others).step()
    assert equal(params, others)


def test_without_any_gradient_nothing_happens(case):
    params = parameters(case.shapes)
    start = twins(params)
    optimizer = case.make(params)
    assert optimizer.step() is None
    assert equal(params, start) and not optimizer.state


def test_sparse_and_complex_gradients_are_refused_by_name(case):
    p = torch.nn.Parameter(torch.ones(3, 3))
    p.grad = torch.eye(3).to_sparse()
    with pytest.raises(RuntimeError, match=f"{case.name} does not support sparse"):
        case.make([p]).step()
    z = torch.nn.Parameter(torch.ones(3, 3, dtype=torch.complex64))
    z.grad = torch.ones_like(z)
    with pytest.raises(RuntimeError, match=f"{case.name} does not support .*complex"):
        case.make([z]).step()


def test_muon_wants_matrices():
    with pytest.raises(ValueError, match=r"params must have two or more dimensions for Muon.*\(7,\)"):
        Case("Muon").make(parameters([(7,)]))
