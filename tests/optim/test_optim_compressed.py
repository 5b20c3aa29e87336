"""Compressed weights: steps by hand, the paper's loop, nothing lost with feedback, and everything a wrapper must do."""

import copy
import pickle

import pytest
import torch
from optim_cases import CASES, closure_for, equal, give_gradients, network, parameters, through_a_file, twins
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from optcourse import models, optim
from optcourse.data import digits
from optcourse.optim import Compressed, Grid, Magnitude, compressed_stepper, layer_stepper
from optcourse.training import fit

BASES = {
    "SGD": lambda ps: optim.SGD(ps, lr=0.1, momentum=0.9),
    "Adam": lambda ps: optim.Adam(ps, lr=0.01),
    "torch": lambda ps: torch.optim.AdamW(ps, lr=0.01),
}
COMPRESSORS = {
    "prune": lambda: Magnitude(0.6),
    "round": lambda: Grid(3),
    "at random": lambda: Grid(3, generator=torch.Generator().manual_seed(3)),
}
feedbacks = pytest.mark.parametrize("feedback", [True, False])
compressors = pytest.mark.parametrize("kind", COMPRESSORS)
bases = pytest.mark.parametrize("base", BASES)


def matrix(*entries):
    return nn.Parameter(torch.tensor([entries], dtype=torch.float64))


def follow(optimizer, x, gradients):
    path = []
    for g in gradients:
        x.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
        path.append(tuple(x.tolist()[0]))
    return path


GRADIENTS = [(2.0, 0.0, -0.5), (0.0, 2.0, -0.25), (0.5, 0.0, -1.5)]


@pytest.mark.parametrize(
    ("settings", "path"),
    [  # the largest of three stays; w = (2, 3, 1.5), (2, 1, 1.75), (1.5, 1, 3.25)
        ({}, [(0, 3, 0), (2, 0, 0), (0, 0, 3.25)]),
        ({"every": 2}, [(0, 3, 0), (2, 0, 0), (1.5, 0, 0)]),
        # before pruning: (2, 3, 1.5), (0, 1, 0.25), (-0.5, 1, 1.5)
        ({"feedback": False}, [(0, 3, 0), (0, 1, 0), (0, 0, 1.5)]),
        ({"feedback": False, "every": 2}, [(0, 3, 0), (0, 1, 0), (0, 1, 0)]),
    ],
)
@pytest.mark.parametrize("base", [optim.SGD, torch.optim.SGD])
def test_three_steps_by_hand(settings, path, base):
    x = matrix(4, 3, 1)
    assert follow(Compressed(base([x], lr=1.0), Magnitude(2 / 3), **settings), x, GRADIENTS) == path


@pytest.mark.parametrize("feedback", [True, False])
def test_updates_below_half_a_grid_step_are_lost_without_feedback_only(feedback):
    """Spacing 1, updates of 0.375: 4.625, 4.25 (rounded: 5, 4), ..., and without feedback 5 for ever."""
    x = matrix(5)
    path = follow(Compressed(optim.SGD([x], lr=0.375), Grid(4, scale=7.0), feedback=feedback), x, [(1.0,)] * 4)
    assert path == ([(5,), (4,), (4,), (4,)] if feedback else [(5,)] * 4)  # 4.625, 4.25, 3.875, 3.5 (ties to even)
    y = matrix(5)
    moved = follow(Compressed(optim.SGD([y], lr=0.625), Grid(4, scale=7.0), feedback=feedback), y, [(1.0,)] * 2)
    assert moved == ([(4,), (4,)] if feedback else [(4,), (3,)])


def test_the_loop_of_the_paper():
    """Algorithm 1 of Lin et al.: a mask every p steps, gradients at m ⊙ w, heavy ball on w."""
    p, lr, beta = 3, 0.1, 0.9
    model, reference = network(), network()
    optimizer = Compressed(optim.SGD(model.parameters(), lr=lr, momentum=beta), Magnitude(0.5), every=p)
    optimizer.compress()
    dense = [q.detach().clone() for q in reference.parameters()]
    buffers, masks = [torch.zeros_like(w) for w in dense], []
    for t in range(10):
        if t % p == 0:
            every = torch.cat([w.abs().flatten() for w in dense if w.dim() > 1])
            threshold = every.sort().values[round(0.5 * len(every))]
            masks = [(w.abs() >= threshold).double() if w.dim() > 1 else torch.ones_like(w) for w in dense]
        with torch.no_grad():
            for q, m, w in zip(reference.parameters(), masks, dense, strict=True):
                q.copy_(m * w)
        for q, x in zip(reference.parameters(), model.parameters(), strict=True):
            assert torch.allclose(q, x, rtol=0, atol=1e-13)
        closure_for(reference, reference)()
        for i, q in enumerate(reference.parameters()):
            buffers[i] = beta * buffers[i] + q.grad
            dense[i] = dense[i] - lr * buffers[i]
        optimizer.step(closure_for(model, optimizer))
    with optimizer.dense():
        for q, w in zip(model.parameters(), dense, strict=True):
            assert torch.allclose(q, w, rtol=0, atol=1e-13)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("kind", ["prune", "at random"])
def test_with_feedback_no_update_of_any_optimizer_is_lost(case, kind):
    """The dense weights are those of the optimizer alone that is given the same gradients: to the last bit."""
    a = parameters(case.shapes)
    b = twins(a)
    optimizer, alone = Compressed(case.make(a), COMPRESSORS[kind](), every=2), case.make(b)
    for seed in range(6):
        give_gradients(a, b, seed=seed)
        optimizer.step()
        alone.step()
    assert not equal(a, b)
    with optimizer.dense():
        assert equal(a, b)


@bases
def test_the_inner_optimizer_begins_as_alone_when_the_start_was_compressed(base):
    """torch's optimizers begin where a parameter's state is empty; ours is out of the way then."""
    a = parameters(((5, 7), (7,)))
    b = twins(a)
    optimizer, alone = Compressed(BASES[base](a), Magnitude(0.5)), BASES[base](b)
    optimizer.compress()
    for seed in range(3):
        give_gradients(a, b, seed=seed)
        optimizer.step()
        alone.step()
    with optimizer.dense():
        assert equal(a, b)


@feedbacks
def test_nothing_to_compress_is_the_inner_optimizer(feedback):
    a = parameters(((5, 7), (7,)))
    b = twins(a)
    optimizer, alone = Compressed(BASES["Adam"](a), Magnitude(0.0), feedback=feedback), BASES["Adam"](b)
    for seed in range(4):
        give_gradients(a, b, seed=seed)
        optimizer.step()
        alone.step()
        assert equal(a, b)


def test_weights_are_compressed_and_biases_are_not_unless_a_group_says_so():
    weight, bias, head, gain = parameters(((4, 5), (5,), (5, 2), (6,)))
    groups = [{"params": [weight, bias]}, {"params": [head], "compress": False}, {"params": [gain], "compress": True}]
    Compressed(optim.SGD(groups, lr=0.1), Magnitude(0.5, scope="layer")).compress()
    assert [int((p == 0).sum()) for p in (weight, bias, head, gain)] == [10, 0, 0, 3]


def test_a_parameter_without_gradient_is_compressed_and_keeps_its_dense_weights():
    (p, q) = parameters(((4, 5), (4, 5)))
    start = q.detach().clone()
    optimizer = Compressed(optim.Adam([p, q]), Magnitude(0.5))
    p.grad = torch.ones_like(p)
    optimizer.step()
    assert int((q == 0).sum()) + int((p == 0).sum()) == 20
    with optimizer.dense():
        assert torch.equal(q, start)
    fresh = Compressed(optim.Adam(twins([p, q])), Magnitude(0.5))
    fresh.load_state_dict(optimizer.state_dict())  # a state that the inner optimizer has not begun


def test_empty_parameters_and_none_at_all():
    for params in ([nn.Parameter(torch.zeros(0, 3)), matrix(1, 2)], [nn.Parameter(torch.ones(3))]):
        for kind in COMPRESSORS.values():
            optimizer = Compressed(optim.SGD(params, lr=0.1), kind())
            for p in params:
                p.grad = torch.zeros_like(p)
            optimizer.step()


@compressors
def test_parameters_keep_their_memory_and_the_global_random_state_stays(kind):
    model = network()
    memory, state = [p.data_ptr() for p in model.parameters()], torch.get_rng_state()
    optimizer = Compressed(BASES["SGD"](model.parameters()), COMPRESSORS[kind]())
    optimizer.compress()
    optimizer.step(closure_for(model, optimizer))
    with optimizer.dense():
        pass
    assert memory == [p.data_ptr() for p in model.parameters()]
    assert torch.equal(state, torch.get_rng_state())


def test_the_closure_is_called_once_where_the_weights_are_compressed():
    model, zeros = network(), []
    optimizer = Compressed(BASES["SGD"](model.parameters()), Magnitude(0.5))
    optimizer.compress()
    inner = closure_for(model, optimizer)

    def closure():
        zeros.append(sum(int((p == 0).sum()) for p in model.parameters() if p.dim() > 1))
        return inner()

    losses = [optimizer.step(closure) for _ in range(3)]
    assert zeros == [18, 18, 18] and losses[0].grad_fn is not None


def test_a_step_that_fails_changes_neither_weights_nor_memory():
    model = network()
    optimizer = Compressed(torch.optim.LBFGS([p for p in model.parameters()]), Magnitude(0.5))
    optimizer.compress()
    before = copy.deepcopy([*model.parameters()])
    memory = copy.deepcopy([optimizer.state[p] for p in model.parameters() if p.dim() > 1])
    with pytest.raises(TypeError, match="closure"):
        optimizer.step(closure_for(model, optimizer))
    assert equal(before, model.parameters())
    after = [optimizer.state[p] for p in model.parameters() if p.dim() > 1]
    assert all(torch.equal(a[k], b[k]) for a, b in zip(memory, after, strict=True) for k in a)
    assert optimizer.taken == 0


def test_dense_puts_the_parameters_back_and_allows_no_step_inside():
    model = network()
    optimizer = Compressed(BASES["SGD"](model.parameters()), Magnitude(0.5))
    optimizer.step(closure_for(model, optimizer))
    compressed = copy.deepcopy([*model.parameters()])
    with pytest.raises(KeyboardInterrupt), optimizer.dense(), optimizer.dense():
        assert not equal(compressed, model.parameters())
        raise KeyboardInterrupt
    assert equal(compressed, model.parameters())
    for method in (optimizer.step, optimizer.compress):
        with pytest.raises(RuntimeError, match=r"must not be called inside dense\(\)"), optimizer.dense():
            method()
    optimizer.step(closure_for(model, optimizer))


def test_without_feedback_dense_weights_are_the_parameters():
    x = matrix(4, 3, 1)
    optimizer = Compressed(optim.SGD([x], lr=1.0), Magnitude(2 / 3), feedback=False)
    follow(optimizer, x, GRADIENTS[:1])
    with optimizer.dense():
        assert x.tolist() == [[0, 3, 0]]
    assert optimizer.state[x].keys() & {"compressed_dense", "compressed_form"} == {"compressed_form"}


def test_a_master_copy_is_kept_after_a_change_of_precision():
    model = network()
    optimizer = Compressed(optim.SGD(model.parameters(), lr=0.1), Magnitude(0.5))
    optimizer.step(closure_for(model, optimizer))
    model.float()
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert all(optimizer.state[p]["compressed_dense"].dtype == torch.float32 for p in model.parameters() if p.dim() > 1)


def test_sam_goes_around():
    model = network()
    optimizer = optim.SAM(
        model.parameters(), lambda ps, **kw: Compressed(optim.SGD(ps, **kw), Magnitude(0.5)), rho=0.1, lr=0.1
    )
    for _ in range(3):
        optimizer.step(closure_for(model, optimizer))
    assert sum(int((p == 0).sum()) for p in model.parameters() if p.dim() > 1) == 18


def test_fit_trains_and_evaluates_the_compressed_network():
    model, data = models.mlp(64, 10, width=16, depth=1), digits()
    history = fit(model, data, Compressed(optim.SGD(model.parameters(), lr=0.3), Grid(4)), epochs=5)
    assert history.test_accuracy[-1] > 0.9
    assert all(len(p.unique()) <= 15 for p in model.parameters() if p.dim() > 1)


# What every wrapper must do -------------------------------------------------------------------------


@feedbacks
@compressors
@bases
def test_resumes_bit_equal(kind, base, feedback):
    def make(model):
        return Compressed(BASES[base](model.parameters()), COMPRESSORS[kind](), feedback=feedback, every=3)

    model, other = network(), network(seed=5)
    optimizer, resumed = make(model), make(other)
    for _ in range(4):
        optimizer.step(closure_for(model, optimizer))
    weights, saved = through_a_file(model.state_dict(), optimizer.state_dict())
    resumed.load_state_dict(saved)
    other.load_state_dict(weights)
    for m, o in ((model, optimizer), (other, resumed)):
        for _ in range(5):
            o.step(closure_for(m, o))
    assert equal(model.parameters(), other.parameters()) and resumed.taken == 9


@pytest.mark.parametrize("kind", ["prune", "round"])
@bases
def test_distributed_checkpoints_resume_bit_equal(kind, base):
    model, other = network(), network(seed=5)
    optimizer, resumed = (Compressed(BASES[base](m.parameters()), COMPRESSORS[kind](), every=3) for m in (model, other))
    for _ in range(4):
        optimizer.step(closure_for(model, optimizer))
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer))
    other.load_state_dict(model.state_dict())
    set_optimizer_state_dict(other, resumed, saved)
    for m, o in ((model, optimizer), (other, resumed)):
        for _ in range(5):
            o.step(closure_for(m, o))
    assert equal(model.parameters(), other.parameters())


@compressors
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_copies_with_its_model(kind, duplicate):
    if kind == "at random" and duplicate is not copy.deepcopy:
        pytest.skip("torch's generators are not pickled by every version")
    model = network()
    optimizer = Compressed(BASES["SGD"](model.parameters()), COMPRESSORS[kind]())
    for _ in range(4):
        optimizer.step(closure_for(model, optimizer))
    other, twin = duplicate((model, optimizer))
    if kind == "at random":
        twin.compressor.generator.set_state(optimizer.compressor.generator.get_state())
    for m, o in ((model, optimizer), (other, twin)):
        for _ in range(3):
            o.step(closure_for(m, o))
    assert equal(model.parameters(), other.parameters())


def test_a_scheduler_and_zero_grad_reach_the_inner_optimizer():
    model = network()
    optimizer = Compressed(optim.SGD(model.parameters(), lr=0.1, momentum=0.9), Magnitude(0.5))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    optimizer.step(closure_for(model, optimizer))
    scheduler.step()
    assert optimizer.optimizer.param_groups[0]["lr"] == 0.05
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_a_new_one_around_the_same_optimizer_forgets_the_old_weights():
    x = matrix(4, 3, 1)
    base = optim.SGD([x], lr=1.0)
    follow(Compressed(base, Magnitude(2 / 3)), x, GRADIENTS[:1])
    x.data.copy_(torch.tensor([[4.0, 3.0, 1.0]]))
    assert follow(Compressed(base, Magnitude(2 / 3)), x, GRADIENTS[:1]) == [(0, 3, 0)]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda p: Compressed([p], Magnitude(0.5)), TypeError, "optimizer must be a torch.optim.Optimizer"),
        (lambda p: Compressed(optim.SGD([p]), 0.5), TypeError, "compressor must have the methods choose and apply"),
        (lambda p: Compressed(optim.SAM([p], optim.SGD), Grid(4)), TypeError, "must not be SAM, which goes around"),
        (lambda p: Compressed(optim.SGD([p]), Grid(4), every=0), ValueError, "every must be at least 1, got 0"),
        (lambda p: Compressed(optim.SGD([p]), Grid(4), every=True), TypeError, "every must be an integer"),
        (lambda p: Compressed(optim.SGD([p]), Grid(4), feedback="no"), ValueError, "feedback must be one of"),
        (
            lambda p: Compressed(optim.SGD([p]), Grid(4)).load_state_dict(optim.SGD([p]).state_dict()),
            ValueError,
            "compressed_feedback",
        ),
        (lambda p: compressed_stepper(nn.Linear(2, 1), Grid(4), every=0), ValueError, "every must be at least 1"),
        (lambda p: compressed_stepper(nn.Linear(2, 1), Grid(4), feedback=2), ValueError, "feedback must be one of"),
    ],
)
def test_bad_arguments_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make(nn.Parameter(torch.zeros(2, 2)))


# Rows ------------------------------------------------------------------------------------------------


@feedbacks
@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize(
    "compressor",
    [Magnitude(lambda t: 0.1 * t), Magnitude(0.7, scope="layer"), Grid(3)],
    ids=["a rising share", "layer by layer", "grid"],
)
def test_rows_step_as_one_optimizer_each(compressor, every, feedback):
    net = network()
    d = sum(p.numel() for p in net.parameters())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, d, generator=generator, dtype=torch.float64)
    rates = torch.tensor([[0.1], [0.2], [0.3]], dtype=torch.float64)

    def single(params, lr):
        return Compressed(optim.SGD(params, lr=lr, momentum=0.9), compressor, feedback=feedback, every=every)

    ours = compressed_stepper(net, compressor, feedback=feedback, every=every)(optim.SGD, lr=rates, momentum=0.9)
    reference, y = layer_stepper(net)(single, lr=rates), x
    for _ in range(8):
        g = torch.randn(3, d, generator=generator, dtype=torch.float64)
        before = x.clone()
        new, y = ours(x, g), reference(y, g)
        assert torch.equal(x, before)  # the caller's
        x = new
        assert torch.allclose(x, y, rtol=0, atol=1e-14)
