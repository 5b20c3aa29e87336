"""What travels between nodes: a dense tensor, or a compressed :class:`Message` of some kind with a real payload.

A receiver holds rows of many nodes: :meth:`Message.with_payload` takes any number of rows. Row i of ``dense()``
depends on row i of the payload alone, to the last bit, so that sender and receiver read the same numbers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from optcourse.nodes.makers import as_called
from optcourse.nodes.messages.factors import Shapes, matrix_views, products
from optcourse.nodes.messages.packing import pack, unpack
from optcourse.nodes.network.checks import described


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


def as_compressor(name: str, compress: Compressor) -> Compressor:
    """``compress``, which has to answer with a message: a call raises ``TypeError`` if it does not.

    Raises ``TypeError`` for what is no function of p, and for a maker of compressors itself (``top_k``, not its result
    ``top_k(10)``).
    """
    as_called(name, compress, f"{name}(p)", None)

    def checked(p: Tensor) -> Message:
        q = compress(p)
        if not isinstance(q, Message):
            raise TypeError(f"{name} must return a Message, as nodes.compressors do, got {described(q)}")
        return q

    return checked


def received(q: Tensor | Message, payload: Sequence[Tensor]) -> Tensor:
    """The tensors that arrived, as vectors: read as ``q`` is, if that is a :class:`Message`."""
    return q.with_payload(payload).dense() if isinstance(q, Message) else payload[0]


class Plain(Message):
    """Payload: the vectors themselves, ``[m, d]``."""

    def dense(self) -> Tensor:
        """The payload."""
        return self.payload[0]


class Sparse(Message):
    """Payload: values ``[m, k]`` and their positions, int32 ``[m, k]``. Known to both sides: ``size`` = d.

    Positions that are ``shared``, ``[k]``, the same for every node, are known to both sides as well.
    """

    def __init__(self, values: Tensor, indices: Tensor, size: int, shared: bool = False) -> None:
        super().__init__((values,) if shared else (values, indices.int()))
        self.indices, self.size = indices[0] if shared else None, size

    def dense(self) -> Tensor:
        """Zeros but for the values."""
        values = self.payload[0]
        indices = self.payload[1].long() if self.indices is None else self.indices.expand_as(values)
        return values.new_zeros(len(values), self.size).scatter_(1, indices, values)


class Beside(Message):
    """Vectors made of ``parts`` equal pieces, each with a message of its own: ``inner`` has m ``parts`` rows."""

    def __init__(self, inner: Message, parts: int) -> None:
        super().__init__([t.unflatten(0, (-1, parts)) for t in inner.payload])
        self.inner = inner

    def dense(self) -> Tensor:
        """The pieces, as the inner message reads them, one behind the other."""
        pieces = self.inner.with_payload([t.flatten(0, 1) for t in self.payload]).dense()
        return pieces.reshape(len(self), -1)


class Quantized(Message):
    """Payload: norms ``[m, buckets]`` and packed codes, uint8. Known: ``size`` = d, ``levels`` = s and ``bucket``.

    Entry i of a bucket with norm N and code c in 0..2s is N (c - s)/s.
    """

    def __init__(self, norms: Tensor, codes: Tensor, levels: int, bucket: int) -> None:
        self.bits = (2 * levels).bit_length()  # ceil(log2(2 s + 1))
        self.size, self.levels, self.bucket = codes.shape[1], levels, bucket
        super().__init__((norms, pack(codes, self.bits)))

    def dense(self) -> Tensor:
        """The codes, read as multiples of norm/levels."""
        norms, packed = self.payload
        codes = unpack(packed, self.bits, self.size)
        return spread(norms, self.bucket, self.size) * ((codes - self.levels).to(norms.dtype) / self.levels)


class Signs(Message):
    """Payload: scales ``[m]`` and one bit per entry, uint8 ``[m, ceil(d/8)]``. Known to both sides: ``size`` = d."""

    def __init__(self, scales: Tensor, positive: Tensor) -> None:
        super().__init__((scales, pack(positive, 1)))
        self.size = positive.shape[1]

    def dense(self) -> Tensor:
        """scale where the bit is 1, -scale where it is 0."""
        scales, packed = self.payload
        return torch.where(unpack(packed, 1, self.size).bool(), scales[:, None], -scales[:, None])


class Factors(Message):
    """Payload: for every matrix P ``[a, r]`` and Q ``[b, r]``, then the other parameters, in one row of values.

    Known to both sides: ``shapes`` and ``rank``.
    """

    def __init__(self, factors: list[tuple[Tensor, Tensor]], rest: list[Tensor], shapes: Shapes, rank: int) -> None:
        super().__init__((torch.cat([t.flatten(1) for pair in factors for t in pair] + rest, dim=1),))
        self.shapes, self.rank = shapes, rank

    def dense(self) -> Tensor:
        """P Q^T in the place of every matrix."""
        (values,) = self.payload
        x = values.new_empty(len(values), sum(map(math.prod, self.shapes)))
        matrices, rest = matrix_views(x, self.shapes)
        lengths = [side * self.rank for M in matrices for side in M.shape[1:]] + [r.shape[1] for r in rest]
        parts = iter(values.split(lengths, dim=1))
        for M in matrices:
            P, Q = (next(parts).unflatten(1, (side, self.rank)) for side in M.shape[1:])
            M.copy_(products(P, Q.mT))
        for r in rest:
            r.copy_(next(parts))
        return x


def spread(norms: Tensor, bucket: int, size: int) -> Tensor:
    """For every entry the norm of its bucket."""
    return norms if norms.shape[1] == 1 else norms.repeat_interleave(bucket, dim=1)[:, :size]
