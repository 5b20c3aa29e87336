"""How a sum over nodes travels: the messages of each all-reduce, and what happens when they are sent.

A *plan* is a list of rounds; in a round every host sends at most one message and receives at most one, all at once.
Carrying a plan out on real vectors shows that every node ends with the sum, and what it cost: the formulas of
``theory.communication`` are the plans' lengths. :func:`sharded` does the same for compressed vectors, whose codes
cannot be added on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from optcourse.arguments import choice, integer, number
from optcourse.nodes.messages.payloads import Compressor, Message, Plain, as_compressor
from optcourse.theory.distributed.communication import PATTERNS


class Transfer(NamedTuple):
    """One message: the ``parts`` of what ``sender`` holds; ``adds`` to the receiver's parts, or replaces them."""

    sender: int
    receiver: int
    parts: tuple[int, ...]
    adds: bool = False


Round = tuple[Transfer, ...]


@dataclass(frozen=True)
class Plan:
    """The messages of one collective operation of ``n_nodes`` nodes, round by round.

    A host is a node, or the server, number ``n_nodes``. With ``gathers`` part j is the whole vector of node j, and a
    node at first holds its own only; otherwise every vector is cut into ``n_parts`` parts. Raises ``ValueError`` for a
    round in which a host sends or receives twice, and for hosts or parts that do not exist.
    """

    pattern: str
    n_nodes: int
    n_parts: int
    rounds: tuple[Round, ...]
    gathers: bool = False

    def __post_init__(self) -> None:
        """Refuse rounds that the wires cannot carry."""
        for k, messages in enumerate(self.rounds):
            for side in ("sender", "receiver"):
                hosts = [getattr(message, side) for message in messages]
                if len(set(hosts)) < len(hosts) or not set(hosts) <= set(range(self.n_hosts)):
                    raise ValueError(f"rounds[{k}] must have distinct {side}s in 0..{self.n_hosts - 1}: {hosts}")
            parts = {part for message in messages for part in message.parts}
            if not parts <= set(range(self.n_parts)):
                raise ValueError(f"rounds[{k}] must send parts in 0..{self.n_parts - 1}, got {sorted(parts)}")

    @property
    def n_hosts(self) -> int:
        """The nodes and, if there is one, the server."""
        return self.n_nodes + (self.pattern == "parameter_server")


class Outcome(NamedTuple):
    """What a plan did: ``total`` [n, d], the sum that each node arrived at, and what it cost.

    ``seconds``: a round takes as long as its longest message. ``messages`` (int64) and ``bytes_sent`` (float64), both
    [hosts]. ``history``, if asked for: what all hosts hold at first and after each round, [rounds + 1, hosts, d].
    """

    total: Tensor
    seconds: float
    messages: Tensor
    bytes_sent: Tensor
    history: Tensor | None


def plan(pattern: str, n_nodes: int, degree: int | None = None) -> Plan:
    """The messages of ``pattern``, one of ``theory.communication.PATTERNS``, for ``n_nodes`` nodes.

    ``gossip`` (with ``degree`` neighbours: i + 1, i - 1, i + 2, ... on a circle) and ``one_peer`` sum over the node and
    its neighbours, all others over everybody. Where n is no power of two, recursive doubling and Rabenseifner run on
    the largest power below it; the surplus nodes hand in their vector before, and get the result after. Sources:
    Thakur, Rabenseifner & Gropp 2005; Patarasuk & Yuan 2009; Bruck, Ho, Kipnis, Upfal & Weathersby 1997 (all-gather).

    Raises ``ValueError`` for an unknown pattern, n_nodes < 1, or a degree that is not in 0..n-1 (for ``gossip``, and
    for it alone).

    >>> for messages in plan("ring", 2).rounds:
    ...     print(*(f"{m.sender} -> {m.receiver}: part {m.parts[0]}" for m in messages), sep=", ")
    0 -> 1: part 0, 1 -> 0: part 1
    0 -> 1: part 1, 1 -> 0: part 0
    """
    choice("pattern", pattern, PATTERNS)
    n = integer("n_nodes", n_nodes, 1)
    if (pattern == "gossip") != (degree is not None):
        raise ValueError(f"degree must be given for gossip and for it alone, got degree = {degree} for {pattern!r}")
    if pattern in ("gossip", "one_peer"):
        heard = min(n - 1, 1) if degree is None else integer("degree", degree, 0, n - 1)
        return Plan(pattern, n, n, tuple(_gossip(n, heard)), gathers=True)
    n_parts, rounds = _PLANS[pattern](n)
    return Plan(pattern, n, n_parts, tuple(map(tuple, rounds)), gathers=pattern == "all_gather")


def execute(
    plan: Plan, x: Tensor, *, latency: float = 0.0, seconds_per_byte: float = 0.0, record: bool = False
) -> Outcome:
    """Send every message of ``plan``, on the vectors x ``[n, d]`` of its nodes.

    A message of b bytes takes ``latency`` + b ``seconds_per_byte`` seconds; d need not be a multiple of the number of
    parts. ``record`` keeps the ``history``. Raises ``ValueError`` for another number of rows, negative times, or a
    sender without what it should send.

    >>> done = execute(plan("ring", 4), torch.ones(4, 8), latency=1.0)
    >>> done.total[3].tolist(), done.seconds, done.bytes_sent.tolist()
    ([4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0], 6.0, [48.0, 48.0, 48.0, 48.0])
    """
    if x.dim() != 2 or len(x) != plan.n_nodes:
        raise ValueError(f"x must have shape [{plan.n_nodes}, d], got {list(x.shape)}")
    if plan.gathers:
        memory: list[dict[int, Tensor]] = [{i: row} for i, row in enumerate(x)]
    else:
        memory = [dict(enumerate(row.tensor_split(plan.n_parts))) for row in x]
    memory += [{} for _ in range(plan.n_hosts - plan.n_nodes)]
    empty = dict(enumerate(torch.zeros_like(x[0]).tensor_split(plan.n_parts)))

    def holds(parts: dict[int, Tensor]) -> Tensor:
        if plan.gathers:
            return torch.stack(list(parts.values())).sum(0)
        return torch.cat([parts.get(c, nothing) for c, nothing in empty.items()])

    def everything() -> Tensor:
        return torch.stack([holds(parts) for parts in memory])

    wires, history = _Wires(plan.n_hosts, latency, seconds_per_byte), [everything()] if record else None
    for k, transfers in enumerate(plan.rounds):
        sent, arriving = [], []  # all that is sent in a round was held before it
        for sender, receiver, parts, adds in transfers:
            if missing := sorted(set(parts) - set(memory[sender])):
                raise ValueError(f"rounds[{k}]: host {sender} must hold parts {missing} to send them")
            arriving += [(receiver, c, memory[sender][c], adds) for c in parts]
            sent.append((sender, sum(memory[sender][c].nbytes for c in parts)))
        for receiver, c, part, adds in arriving:
            memory[receiver][c] = memory[receiver][c] + part if adds and c in memory[receiver] else part
        wires.round(sent)
        if history is not None:
            history.append(everything())
    return wires.outcome(everything()[: plan.n_nodes], torch.stack(history) if history is not None else None)


def sharded(
    x: Tensor,
    compress: Compressor,
    back: Compressor | None = None,
    *,
    latency: float = 0.0,
    seconds_per_byte: float = 0.0,
) -> Outcome:
    """Sum the compressed vectors x ``[n, d]`` of n nodes: every node decodes and adds one part of them for all.

    Codes cannot be added on the way, but they can be divided. ``compress`` is called on each of n parts, ``[n, d/n]``
    (or a column more). In n - 1 rounds node i sends the code of part i + s to node i + s, its owner, which decodes and
    adds; in n - 1 more it sends the sum of part i to the others, dense, or as a code of ``back``, which is called on
    one row ``[1, d/n]`` after the other. All nodes end with the same bits: the sum of the decoded vectors, or of what
    ``back`` left of it. Each sends (n - 1)/n (1/R + 1) vectors with codes that are R times smaller, and 2 (n - 1)/(nR)
    with ``back`` (``theory.communication.compressed_traffic``). Sources: Tang, Yu, Lian, Zhang & Liu 2019,
    "DoubleSqueeze" (both passes through a server); Tang et al. 2021, "1-bit Adam" (n servers).

    Raises ``ValueError`` unless x is [n, d] with d >= n, or for negative times, ``TypeError`` for what is no
    compressor, and what the compressors raise.

    >>> from optcourse.nodes.messages.compressors import scaled_sign
    >>> done = sharded(torch.tensor([[1.0, -1.0], [1.0, 3.0]]), scaled_sign())
    >>> done.total.tolist(), done.bytes_sent.tolist()  # a code has one scale and one byte, a sum of one entry 4 bytes
    ([[2.0, 2.0], [2.0, 2.0]], [9.0, 9.0])
    """
    if x.dim() != 2 or not 1 <= len(x) <= x.shape[1]:
        raise ValueError(f"x must have shape [n, d] with d >= n >= 1, got {list(x.shape)}")
    compress, back = as_compressor("compress", compress), back and as_compressor("back", back)
    n, wires = len(x), _Wires(len(x), latency, seconds_per_byte)
    codes = [compress(part) for part in x.tensor_split(n, 1)]

    def code(i: int, c: int) -> Message:
        return codes[c].with_payload([t[i : i + 1] for t in codes[c].payload])

    decoded = [message.dense() for message in codes]  # what the owner of part c makes of the code of each node
    sums = [decoded[c][c : c + 1] for c in range(n)]
    for shift in range(1, n):
        for i in range(n):
            owner = (i + shift) % n
            sums[owner] = sums[owner] + decoded[owner][i : i + 1]
        wires.round([(i, code(i, (i + shift) % n).nbytes) for i in range(n)])
    answers = [back(total) if back else Plain((total,)) for total in sums]
    for _ in range(1, n):
        wires.round([(i, answers[i].nbytes) for i in range(n)])
    everything = torch.cat([answer.dense() for answer in answers], 1)  # every node decodes the same n answers
    return wires.outcome(everything.repeat(n, 1))


class _Wires:
    """What messages cost: a round takes as long as its longest message."""

    def __init__(self, hosts: int, latency: float, seconds_per_byte: float) -> None:
        self.latency, self.seconds = number("latency", latency, 0), 0.0
        self.seconds_per_byte = number("seconds_per_byte", seconds_per_byte, 0)
        self.messages, self.bytes_sent = (torch.zeros(hosts, dtype=dtype) for dtype in (torch.int64, torch.float64))

    def round(self, sent: list[tuple[int, int]]) -> None:
        """One message from each of these hosts, of that many bytes."""
        senders, n_bytes = torch.tensor(sent, dtype=torch.int64).view(-1, 2).T
        self.messages.index_add_(0, senders, torch.ones_like(senders))
        self.bytes_sent.index_add_(0, senders, n_bytes.double())
        self.seconds += self.latency + self.seconds_per_byte * max((each for _, each in sent), default=0)

    def outcome(self, total: Tensor, history: Tensor | None = None) -> Outcome:
        return Outcome(total, self.seconds, self.messages, self.bytes_sent, history)


# ---------------------------------------------------------------------- the patterns: n -> (number of parts, rounds)


def _parameter_server(n: int) -> tuple[int, list[Round]]:
    return 1, [(Transfer(i, n, (0,), adds=True),) for i in range(n)] + [(Transfer(n, i, (0,)),) for i in range(n)]


def _all_gather(n: int) -> tuple[int, list[Round]]:
    """Bruck: node i knows the vectors i, i + 1, ..., and fetches as many again from node i + bit."""

    def known(i: int, bit: int) -> tuple[int, ...]:
        return tuple((i + k) % n for k in range(min(bit, n - bit)))

    return n, [tuple(Transfer(i, (i - bit) % n, known(i, bit)) for i in range(n)) for bit in _bits(n)]


def _recursive_doubling(n: int) -> tuple[int, list[Round]]:
    p = _power_below(n)
    core = [tuple(Transfer(i, i ^ bit, (0,), adds=True) for i in range(p)) for bit in _bits(p)]
    return 1, _folded(core, n, 1)


def _binomial_tree(n: int) -> tuple[int, list[Round]]:
    pairs = [[(i, i + bit) for i in range(0, n - bit, 2 * bit)] for bit in _bits(n)]  # (parent, child)
    up = [tuple(Transfer(child, parent, (0,), adds=True) for parent, child in level) for level in pairs]
    return 1, up + [tuple(Transfer(parent, child, (0,)) for parent, child in level) for level in reversed(pairs)]


def _ring(n: int) -> tuple[int, list[Round]]:
    """Reduce-scatter: after n - 1 steps node i has the sum of part i + 1. All-gather: the sums go once around."""
    scatter = [tuple(Transfer(i, (i + 1) % n, ((i - s) % n,), adds=True) for i in range(n)) for s in range(n - 1)]
    return n, scatter + [tuple(Transfer(i, (i + 1) % n, ((i + 1 - s) % n,)) for i in range(n)) for s in range(n - 1)]


def _rabenseifner(n: int) -> tuple[int, list[Round]]:
    """Reduce-scatter by halving: partners give each other the half that the other keeps. All-gather backwards."""
    p = _power_below(n)
    ranges, scatter, gather = [range(p)] * p, [], []
    for bit in reversed(_bits(p)):
        kept = [ranges[i][bit:] if i & bit else ranges[i][:bit] for i in range(p)]
        scatter.append(tuple(Transfer(i, i ^ bit, tuple(kept[i ^ bit]), adds=True) for i in range(p)))
        gather.append(tuple(Transfer(i, i ^ bit, tuple(kept[i])) for i in range(p)))
        ranges = kept
    return p, _folded(scatter + gather[::-1], n, p)


_PLANS: dict[str, Callable[[int], tuple[int, list[Round]]]] = {
    "parameter_server": _parameter_server,
    "all_gather": _all_gather,
    "recursive_doubling": _recursive_doubling,
    "binomial_tree": _binomial_tree,
    "ring": _ring,
    "rabenseifner": _rabenseifner,
}


def _gossip(n: int, degree: int) -> list[Round]:
    both = [shift for k in range(1, n) for shift in (k, n - k)]
    shifts = list(dict.fromkeys(both))[:degree]  # 1, n - 1, 2, n - 2, ...: each neighbour once
    return [tuple(Transfer((i + shift) % n, i, ((i + shift) % n,)) for i in range(n)) for shift in shifts]


def _folded(core: list[Round], n: int, n_parts: int) -> list[Round]:
    """``core`` on the first p nodes; each of the others has one of them take part for it."""
    p, whole = _power_below(n), tuple(range(n_parts))
    if n == p:
        return core
    before = tuple(Transfer(p + j, j, whole, adds=True) for j in range(n - p))
    return [before, *core, tuple(Transfer(j, p + j, whole) for j in range(n - p))]


def _power_below(n: int) -> int:
    return 1 << (n.bit_length() - 1)


def _bits(n: int) -> list[int]:
    """The powers of two below n."""
    return [1 << k for k in range((n - 1).bit_length())]
