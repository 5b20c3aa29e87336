"""What one call of an equation updates: flat vectors of parameters, gradients and state.

A large parameter is updated where it lies, and so are small ones that lie in a row. Many other small ones are gathered
into a vector that fits the cache, so that the equation runs once instead of once per tensor, and scattered back. No
parameter ever gets other memory.

Both kinds of block have vectors [n], which hold during a step: ``x``, ``g`` and one in ``slots`` per name. ``sizes``
are the elements of each of ``params``, ``states`` their entries in ``optimizer.state``, and ``cut`` turns a vector
into one view per parameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, TypeAlias

import torch
from torch import Tensor


class Alone:
    """One parameter where it lies: the vectors are its own memory, its gradient's and its state's."""

    x: Tensor
    g: Tensor

    def __init__(self, p: Tensor, state: dict[str, Any]) -> None:
        self.params, self.states, self.sizes = [p], [state], [p.numel()]
        self.slots: dict[str, Tensor] = {}
        self.views: list[Tensor] = []
        # Dense strides in the parameter's own order: channels_last stays channels_last.
        self.strides = torch.empty_like(p, device="meta").stride()

    def cut(self, vector: Tensor) -> list[Tensor]:
        """The vector in the parameter's shape and memory format."""
        return [vector.as_strided(self.params[0].shape, self.strides, vector.storage_offset())]

    def flat(self, t: Tensor) -> Tensor:
        """The elements of ``t`` in the order of the parameter's memory: a copy only where they lie otherwise."""
        p = self.params[0]
        if (t.stride(), t.dtype, t.device) != (self.strides, p.dtype, p.device):
            t = torch.empty_strided(p.shape, self.strides, dtype=p.dtype, device=p.device).copy_(t)
        return t.detach().as_strided((t.numel(),), (1,), t.storage_offset())

    def gather(self, slots: dict[str, float]) -> None:
        """State that is missing, or that lies otherwise than the parameter, is made anew."""
        (p,), (state,) = self.params, self.states
        assert p.grad is not None  # a step takes no others
        self.x, self.g, self.slots = self.flat(p), self.flat(p.grad), {}
        for name, initial in slots.items():
            known = entry(state, name, p)
            self.slots[name] = torch.full_like(self.x, initial) if known is None else self.flat(known)
            if known is None or self.slots[name].data_ptr() != known.data_ptr():
                (state[name],) = self.cut(self.slots[name])

    def scatter(self) -> None:
        """Only a parameter that is not dense was copied. The gradient is let go: its memory serves the next one."""
        if self.x.data_ptr() != self.params[0].data_ptr():
            self.params[0].copy_(self.cut(self.x)[0])
        del self.g

    def release(self) -> None:
        """Its state has memory of its own."""


class Packed:
    """Small parameters of one dtype: ``x`` (unless they lie there) and ``g`` are memory that blocks share.

    ``slots`` are this block's own, and the state of every parameter is a view of them.
    """

    def __init__(self, params: list[Tensor], states: list[dict], slots: dict[str, float], x: Tensor, g: Tensor) -> None:
        self.params, self.states, self.sizes = params, states, [p.numel() for p in params]
        self.copied = not in_a_row(params)
        self.x, self.g, self.slots = x if self.copied else params[0].detach().as_strided(x.shape, (1,)), g, {}
        self.x_views, self.g_views, self._views = self.cut(x), self.cut(g), {}
        for name, initial in slots.items():
            self.slots[name] = torch.full_like(x, initial)
            self._views[name] = self.cut(self.slots[name])
            for p, state, view in zip(params, states, self._views[name], strict=True):
                known = entry(state, name, p)
                state[name] = view if known is None else view.copy_(known)
        self.views = [*chain.from_iterable(self._views.values())]

    def cut(self, vector: Tensor) -> list[Tensor]:
        """Contiguous views."""
        return [piece.view(p.shape) for p, piece in zip(self.params, vector.split(self.sizes), strict=True)]

    def gather(self, slots: dict[str, float]) -> None:
        """Copies of parameters and gradients; ``p.grad`` is only read."""
        grads: list[Any] = [p.grad for p in self.params]
        copies = [(self.x, self.x_views, self.params)] if self.copied else []
        for vector, views, tensors in (*copies, (self.g, self.g_views, grads)):
            if all(view.dim() == 1 for view in views):
                torch.cat(tensors, out=vector)  # half the time of as many copies
            else:
                torch._foreach_copy_(views, tensors)

    def scatter(self) -> None:
        """Into the memory where the parameters lie."""
        if self.copied:
            torch._foreach_copy_(self.params, self.x_views)

    def release(self) -> None:
        """Give every state that is still ours memory of its own."""
        for name, views in self._views.items():
            ours = self.slots[name].untyped_storage().data_ptr()
            for state, view in zip(self.states, views, strict=True):
                if state.get(name) is view and view.untyped_storage().data_ptr() == ours:
                    state[name] = view.clone()


Block: TypeAlias = Alone | Packed


def entry(state: dict[str, Any], name: str, p: Tensor) -> Tensor | None:
    """The tensor that ``state`` keeps for ``p`` under a name, if any; ``ValueError`` for one of another shape."""
    value = state.get(name)
    if value is not None and (value := torch.as_tensor(value)).shape != p.shape:
        shapes = f"{tuple(p.shape)} of its parameter, got {tuple(value.shape)}"
        raise ValueError(f"the optimizer's state {name!r} must have the shape {shapes}")
    return value


def portions(params: Iterable[Tensor], limit: int) -> Iterator[list[Tensor]]:
    """Consecutive parameters with fewer than ``limit`` elements together."""
    portion, total = [], 0
    for p in params:
        if portion and total + p.numel() >= limit:
            yield portion
            portion, total = [], 0
        portion.append(p)
        total += p.numel()
    if portion:
        yield portion


def in_a_row(params: list[Tensor]) -> bool:
    """Whether each begins where the one before it ends, in one storage."""
    begins = [(p.untyped_storage().data_ptr(), p.data_ptr()) for p in params]
    ends = [(storage, begin + p.nbytes) for p, (storage, begin) in zip(params, begins, strict=True)]
    return all(p.is_contiguous() for p in params) and begins[1:] == ends[:-1]


def must_be_alone(params: list[Tensor], states: Iterable[dict[str, Any]]) -> set[int]:
    """Ids of parameters that share memory, with each other or (they or their state) with other processes.

    In a gathered copy such a parameter would miss what the others write.
    """
    alone, reach, last = set(), 0, 0
    spans = []
    for p, state in zip(params, states, strict=True):
        if any(isinstance(t, Tensor) and t.device.type == "cpu" and t.is_shared() for t in (p, *state.values())):
            alone.add(id(p))
        extent = 1 + sum((size - 1) * stride for size, stride in zip(p.shape, p.stride(), strict=True))
        spans.append((p.data_ptr(), p.data_ptr() + extent * p.element_size(), id(p)))
    for start, end, key in sorted(spans):
        if start < reach:
            alone |= {last, key}
        if end > reach:
            reach, last = end, key
    return alone
