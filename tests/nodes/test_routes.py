"""Mixing by parts: what each process needs, sends and adds up, with a wire that is a dictionary."""

import pytest
import torch

from optcourse.nodes.graphs.topology import mixing_matrix, topology
from optcourse.nodes.network import mixing
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
    mixed = torch.cat([route.apply(wait(), exact) for route, wait in zip(routes, waits, strict=True)])
    assert not sent  # all that was sent was wanted
    torch.testing.assert_close(mixed, torch.einsum("ij,j...->i...", W, X), rtol=1e-14, atol=1e-15)


def test_a_route_knows_whom_it_hears():
    W = torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.25, 0.0, 0.75]], dtype=torch.float64)
    route = Route(W, [1, 2], 0)
    assert [heard.tolist() for heard in route.heard] == [[1], [0, 2], [0]]
    assert route.receivers.tolist() == [2.0, 1.0, 1.0] and route.columns.tolist() == [0, 1]
