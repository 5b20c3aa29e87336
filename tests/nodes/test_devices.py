"""Compressors, streams, optimizers and contests on another device: they stay there, and the numbers are the same."""

import math
from functools import partial

import pytest
import torch
from compressor_cases import COMPRESSORS, D, normal, same
from elsewhere import THERE, Elsewhere, There

from optcourse import models, optim
from optcourse.nodes.graphs.topology import mixing_matrix, topology
from optcourse.nodes.messages.payloads import Message, Plain
from optcourse.nodes.network.network import Network
from optcourse.nodes.streams import Streams
from optcourse.training import contest


def test_the_device_that_is_not_there_is_as_strict_as_one_that_is():
    with Elsewhere() as device:
        x = torch.arange(6.0).to(THERE)
        assert x.device == (2 * x).device == torch.ones(3, device=THERE).device == torch.ones_like(x).device == THERE
        assert device.moved == [6]
        for forbidden in (lambda: x + torch.ones(6), lambda: torch.ones(6)[x.long()], lambda: torch.cat([x, x.cpu()])):
            with pytest.raises(RuntimeError, match=r"same device|device of index"):
                forbidden()
        device.moved.clear()
        assert (x + torch.tensor(1.0))[torch.tensor([1, 2])].cpu().tolist() == [2.0, 3.0]
        assert float(x.max()) == 5.0 and bool((x > 1).any())
        assert device.moved == [2, 2, 1, 1]


@pytest.fixture
def generators(monkeypatch):
    """torch has no generator for the device that is not there."""
    new = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": new("cpu"))


def pieces(q: Message):
    return [*q.payload, q.dense()]


@pytest.mark.parametrize("own", [False, True], ids=["numbers of the CPU", "numbers of its own"])
@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_compressor_leaves_vectors_on_their_device(name, own, generators, monkeypatch):
    nodes, p = range(3), normal(3, D, torch.float32).round(decimals=2)  # with ties
    expected = [pieces(q) for q in map(COMPRESSORS[name](nodes), (p, -p))]
    if own:
        monkeypatch.setattr(Streams.__init__, "__defaults__", (THERE,))
    compress = COMPRESSORS[name](nodes)
    with Elsewhere() as device:
        rows = p.to(THERE)
        device.moved.clear()
        found = [pieces(compress(x)) for x in (rows, -rows)]
    assert all(isinstance(t, There) for message in found for t in message)
    assert all(
        same(t.numbers, right) for pair in zip(found, expected, strict=True) for t, right in zip(*pair, strict=True)
    )
    drawn = name.startswith(("random_k", "qsgd", "low_rank"))
    # One number at a time, to see whether all is well. Else at most what the CPU drew, once a call.
    assert len([n for n in device.moved if n > 1]) == (2 if drawn and not own else 0)


def test_streams_draw_on_their_device_what_they_are(generators):
    here, there = Streams("data", 3, [4, 5]), Streams("data", 3, [4, 5], THERE)
    highs = torch.tensor([3, 5])
    with Elsewhere() as device:
        for _ in range(3):
            drawn = [
                (here.uniform(4), there.uniform(4)),
                (here.normal(5000, dtype=torch.float64), there.normal(5000, dtype=torch.float64)),
                (here.integers(7, 2), there.integers(7, 2)),
                (here.integers(highs, 2), there.integers(highs, 2)),
                (here.uniform(4, rows=[1]), there.uniform(4, rows=[1])),
                (here.uniform(2, rows=[]), there.uniform(2, rows=[])),
            ]
            assert all(isinstance(b, There) and same(a, b.numbers) for a, b in drawn)
        assert max(device.moved) == 2  # the bounds of two nodes
    assert Streams("data", 0, [], THERE).device == THERE


def test_all_steps_of_a_contest_are_taken_where_the_networks_are():
    """Every stepper of lecture 20, through the training of many copies: the numbers of the CPU, up to rounding."""
    methods = {"Adam": optim.Adam, "RAdam": optim.RAdam, "Lion": optim.Lion, "SGDP": optim.SGDP, "LAMB": optim.LAMB}

    def race(place):
        net = models.mlp(3, 2, width=4, depth=1).to(place)
        layers = optim.layer_stepper(net)
        field = {name: partial(layers if name in ("SGDP", "LAMB") else optim.stepper, m) for name, m in methods.items()}
        x = normal(20, 3, torch.float32)
        samples = x.to(place), (x[:, 0] > 0).long().to(place)
        field["Muon"] = partial(contest.muon_stepper(net), None)
        rates = {name: [0.01, 0.1] for name in field}
        return contest.race([net], samples, samples, field, rates, orders=[0], batch_size=5, steps=4, every=2)

    expected = race("cpu")
    with Elsewhere() as device:
        found = race(THERE)
    for name, losses in expected.items():
        assert found[name] == pytest.approx(losses, rel=1e-5), name
    assert max(device.moved) <= 80  # batches' indices, and the losses of a look; no weights of twelve copies


@pytest.mark.parametrize("name", ["SGD", "Adam", "Adagrad", "Lion", "LARS", "LAMB", "Muon"])
def test_an_optimizer_steps_where_the_parameters_are(name):
    def trained(place):
        shapes = [(4, 5), (6, 7)] if name == "Muon" else [(30, 4), (7,), (3, 2, 2, 2)]
        params = [normal(1, math.prod(shape)).view(shape).to(place).requires_grad_() for shape in shapes]
        optimizer = getattr(optim, name)(params, lr=0.1)
        for k in range(3):
            for p in params:
                p.grad = (k + 1) * p.detach().sign()
            optimizer.step()
        return params

    expected = trained("cpu")
    with Elsewhere():
        found = trained(THERE)
    for p, right in zip(found, expected, strict=True):
        assert p.device == THERE and same(p.numbers, right.detach())


@pytest.mark.parametrize("exact", [False, True], ids=["plain", "exact"])
@pytest.mark.parametrize("message", [False, True], ids=["dense", "message"])
def test_mixing_and_means_of_vectors_elsewhere_stay_there_and_name_who_sent_nan(message, exact):
    W = mixing_matrix(topology("ring", 6))
    x = normal(6, D, torch.float64)

    def calls(rows):
        net = Network(6, exact=exact)
        q = Plain((rows,)) if message else rows
        return [partial(net.mix, W, q), partial(net.mean, q), partial(net.gather, q)]

    expected = [call() for call in calls(x.clone())]
    with Elsewhere():
        found = [call() for call in calls(x.clone().to(THERE))]
        x[2, 1] = math.nan
        for call in calls(x.to(THERE))[:2]:
            with pytest.raises(ValueError, match="node 2 sent NaN"):
                call()
    for there, right in zip(found, expected, strict=True):
        assert isinstance(there, There)
        torch.testing.assert_close(there.numbers, right, rtol=1e-14, atol=1e-14)
