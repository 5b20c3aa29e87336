"""What travels between nodes: a dense tensor, or a compressed :class:`Message` with a real payload."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

from torch import Tensor


class Message:
    """m compressed vectors, one per row: the tensors that travel, and how to read them back.

    ``payload`` is a tuple of tensors, each with leading axis m. They, and nothing else, cross the network; ``nbytes``
    counts them. What both sides know beforehand (the length d, a shared seed, shapes) is an attribute of the
    subclass, which implements :meth:`dense`.
    """

    def __init__(self, payload: Sequence[Tensor]) -> None:
        self.payload = tuple(payload)

    @property
    def nbytes(self) -> int:
        """Bytes of all payload tensors together, all m rows."""
        return sum(t.nbytes for t in self.payload)

    def __len__(self) -> int:
        """m, the number of rows."""
        return len(self.payload[0])

    def with_payload(self, payload: Sequence[Tensor]) -> Message:
        """The same kind of message with other payload tensors: what a receiver builds."""
        message = copy.copy(self)
        message.payload = tuple(payload)
        return message

    def dense(self) -> Tensor:
        """The m vectors as ``Tensor[m, d]``, as the receiver reads them."""
        raise NotImplementedError


#: Turns the vectors of my nodes, ``Tensor[m, d]``, into a message.
Compressor = Callable[[Tensor], Message]


def received(q: Tensor | Message, payload: Sequence[Tensor]) -> Tensor:
    """The tensors that arrived, as vectors: read as ``q`` is, if that is a :class:`Message`."""
    return q.with_payload(payload).dense() if isinstance(q, Message) else payload[0]
