"""The mean over all nodes: its weights, what it costs whom, and the sum of what was gathered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from optcourse.nodes.messages.payloads import Message, received

#: Numbers that are read from compressed messages at once, so that the vectors of all nodes never lie side by side.
_NUMBERS = 2**22


def weights(weight: Tensor | None, n: int) -> tuple[Tensor | None, Tensor]:
    """The weight of each node in a mean, float64 [n] (None: 1/n), and the mask of those that have one.

    Raises ``ValueError`` for another shape, for complex numbers, and unless all are finite and one is not 0,
    ``TypeError`` for what is no tensor and no list of numbers.
    """
    if weight is None:
        return None, torch.ones(n, dtype=torch.bool)
    try:
        given = torch.as_tensor(weight).detach()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"weight must be a tensor of shape [{n}], got {weight!r}") from None
    if given.is_complex():
        raise ValueError(f"weight must be real, got {weight}")
    weight = given.double()
    if weight.shape != (n,) or not torch.isfinite(weight).all() or not (weight != 0).any():
        raise ValueError(f"weight must be finite, of shape [{n}] and not all zero, got {weight}")
    return weight, weight != 0


def weighted_sum(weight: Tensor, q: Tensor) -> Tensor:
    """sum_j weight_j q_j over the rows with a weight: what stands in the others may be NaN."""
    sends = weight != 0
    return (weight[sends].to(q).reshape(-1, *[1] * (q.dim() - 1)) * q[sends]).sum(0)


def price(q: Tensor | Message, n_bytes: float, sends: Tensor, hand_out: bool) -> tuple[float, float | None]:
    """What each node that ``sends`` [n] puts on the wire for a mean of messages of ``n_bytes``, in bytes.

    A dense mean as a ring all-reduce, messages by an all-gather. With ``hand_out`` the senders share the work of giving
    the result to all others: the mean, or the gathered messages, whose bytes are returned as well (None: nobody waits).
    """
    senders = int(sends.sum())
    gathered = isinstance(q, Message)
    each = (senders - 1) * n_bytes if gathered else 2 * (1 - 1 / senders) * n_bytes
    if not hand_out or senders == len(sends):
        return each, None
    handed = senders * n_bytes if gathered else n_bytes
    return each + (len(sends) - senders) / senders * handed, handed


def total(q: Tensor | Message, gathered: Sequence[Tensor], weight: Tensor | None) -> Tensor:
    """sum_j weight_j q_j (None: the mean) of what all nodes sent, ``[...]``; messages are read some at a time.

    Only the sum and the vectors that are read together are dense: one vector of ``_NUMBERS`` numbers or more, several
    shorter ones.
    """
    whole = torch.zeros(())
    for first, rows in read(q, gathered):
        part = rows.sum(0) if weight is None else weighted_sum(weight[first : first + len(rows)], rows)
        del rows  # before the next ones are read
        whole = part if first == 0 else whole.add_(part)
    return whole / len(gathered[0]) if weight is None else whole


def read(q: Tensor | Message, gathered: Sequence[Tensor]) -> Iterator[tuple[int, Tensor]]:
    """(place of the first, vectors ``[m, ...]``): what arrived, messages some at a time.

    Of the same ``gathered`` rows every process makes the same pieces, whatever it owns.
    """
    if not isinstance(q, Message):
        yield 0, gathered[0]
        return
    size = received(q, [t[:1] for t in gathered]).numel()
    some = max(1, _NUMBERS // max(1, size))
    for first in range(0, len(gathered[0]), some):
        yield first, received(q, [t[first : first + some] for t in gathered])


def silent(q: Tensor | Message, gathered: Sequence[Tensor]) -> Tensor:
    """Which of the nodes sent NaN or infinity, bool [n] on the CPU, wherever the vectors are."""
    return torch.cat([~torch.isfinite(rows.reshape(len(rows), -1)).all(1) for _, rows in read(q, gathered)]).cpu()
