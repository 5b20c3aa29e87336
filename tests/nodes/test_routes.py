"""Mixing by parts: what each process needs, sends and adds up, with a wire that is a dictionary."""

import weakref

import pytest
import torch

from optcourse.nodes import Network, compressors
from optcourse.nodes.graphs.topology import mixing_matrix, topology
from optcourse.nodes.network import averaging, mixing
from optcourse.nodes.network.mixing import Route


class Wire:
    """One end of a wire between processes: what is sent waits in ``sent`` until the other end asks for it."""

    def __init__(self, rank, sent):
        self.rank, self.sent = rank, sent

    def start_exchange(self, send, into):
        self.sent.update({(self.rank, to): rows.clone() for to, rows in send.items()})

        def wait():
            for source, buffer in into.items():
                buffer.copy_(self.sent.pop((source, self.rank)))

        return wait


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("split", [[5], [2, 3], [4, 1], [1, 2, 2], [1] * 5])
@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
def test_the_parts_of_a_mixture_are_those_of_the_whole(split, shape, exact, monkeypatch):
    monkeypatch.setattr(mixing, "SPARSE_FROM", 4)  # a ring of five is then sparse for three processes and more
    W = mixing_matrix(topology("ring", 5), "uniform").double()
    X = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    routes = [Route(W, split, rank) for rank in range(len(split))]
    assert [len(heard) for heard in routes[0].heard] == [2] * 5 and routes[0].receivers.tolist() == [2.0] * 5
    sent = {}
    waits = [
        route.start(Wire(r, sent), part) for r, (route, part) in enumerate(zip(routes, X.split(split), strict=True))
    ]
    mixed = torch.cat([route.apply([(0, wait())], exact) for route, wait in zip(routes, waits, strict=True)])
    assert not sent  # all that was sent was wanted
    torch.testing.assert_close(mixed, torch.einsum("ij,j...->i...", W, X), rtol=1e-14, atol=1e-15)


def test_a_route_knows_whom_it_hears():
    W = torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.25, 0.0, 0.75]], dtype=torch.float64)
    route = Route(W, [1, 2], 0)
    assert [heard.tolist() for heard in route.heard] == [[1], [0, 2], [0]]
    assert route.receivers.tolist() == [2.0, 1.0, 1.0] and route.columns.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("n", "degree", "layout"),
    [(63, 2, torch.strided), (64, 2, torch.sparse_csr), (64, 15, torch.sparse_csr), (64, 16, torch.strided)],
)
def test_a_large_matrix_of_which_a_quarter_is_filled_is_sparse(n, degree, layout):
    """Every node weighs itself and the next ``degree``: of 64 by 64 entries a quarter are 16 a row."""
    W = sum(torch.eye(n, dtype=torch.float64).roll(s, 1) for s in range(degree + 1)) / (degree + 1)
    assert Route(W, [n], 0)._matrix(0, n, torch.float32, torch.device("cpu")).layout == layout


# ---- messages some at a time


def top_3(n, dtype=torch.float64):
    return compressors.top_k(3)(torch.randn(n, 100, dtype=dtype, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("sparse_from", [2, 100])
@pytest.mark.parametrize("numbers", [1, 300, 500])
def test_pieces_of_messages_give_the_mixture_of_all(monkeypatch, numbers, sparse_from):
    monkeypatch.setattr(mixing, "SPARSE_FROM", sparse_from)
    W, q = mixing_matrix(topology("ring", 16)), top_3(16, torch.float32)
    together = {exact: Network(16, exact=exact).mix(W, q) for exact in (True, False)}
    monkeypatch.setattr(averaging, "_NUMBERS", numbers)
    assert torch.equal(Network(16, exact=True).mix(W, q), together[True])  # to the last bit
    torch.testing.assert_close(Network(16).mix(W, q), together[False])
    torch.testing.assert_close(together[False].double(), W.double() @ q.dense().double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("numbers", "rows"), [(1, 1), (300, 3)])
def test_a_mixture_of_messages_forgets_what_it_has_read(monkeypatch, numbers, rows, exact):
    """Of 16 messages as many are dense at any time as are read at once."""
    monkeypatch.setattr(averaging, "_NUMBERS", numbers)
    W, q, alive, most = mixing_matrix(topology("complete", 16)), top_3(16), set(), []
    dense = type(q).dense

    def watched(self):
        out = dense(self)
        name = (len(most), len(out))
        alive.add(name)
        weakref.finalize(out, alive.discard, name)
        most.append(sum(rows for _, rows in alive))
        return out

    monkeypatch.setattr(type(q), "dense", watched)
    Network(16, exact=exact).mix(W, q)
    assert max(most) == rows and not alive


def test_the_neighbour_whose_message_is_not_finite_is_found_in_a_later_piece(monkeypatch):
    monkeypatch.setattr(averaging, "_NUMBERS", 200)
    q = top_3(16)
    q.payload[0][11, 1] = torch.inf
    with pytest.raises(ValueError, match="node 11 sent NaN or infinity"):
        Network(16).mix(mixing_matrix(topology("ring", 16)), q)
