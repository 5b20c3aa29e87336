"""What one call of an equation updates: flat vectors of parameters, gradients and state.

A large parameter is updated where it lies. Many small ones are gathered into a vector that fits the cache, so that
the equation runs once instead of once per tensor, and scattered back. No parameter ever gets other memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import is_
from typing import Any

import torch
from torch import Tensor


class Block:
    """Parameters that are updated together, as vectors [n]: ``x``, ``g`` and one in ``slots`` per name.

    ``sizes`` are the elements of each parameter, ``states`` its entries in ``optimizer.state``, and ``cut`` turns a
    vector into one view per parameter, of the parameter's shape.
    """

    params: list[Tensor]
    sizes: list[int]
    states: list[dict[str, Any]]
    x: Tensor
    g: Tensor
    slots: dict[str, Tensor]

    def cut(self, vector: Tensor) -> list[Tensor]:
        """One view per parameter of a flat vector."""
        raise NotImplementedError

    def gather(self, slots: dict[str, float]) -> None:
        """Before a step: fill ``x``, ``g`` and ``slots``."""
        raise NotImplementedError

    def scatter(self) -> None:
        """After a step: ``x`` goes back to the parameters."""
        raise NotImplementedError

    def intact(self) -> bool:
        """Whether ``states`` still hold what this block put there."""
        return True

    def release(self) -> None:
        """Give every state that is a part of a vector of this block memory of its own."""


class Alone(Block):
    """One parameter where it lies: the vectors are its own memory, its gradient's and its state's."""

    def __init__(self, p: Tensor, state: dict[str, Any]) -> None:
        self.params, self.states, self.sizes = [p], [state], [p.numel()]
        # Dense strides in the parameter's own order: channels_last stays channels_last.
        self.strides = torch.empty_like(p, device="meta").stride()

    def cut(self, vector: Tensor) -> list[Tensor]:
        """The vector in the parameter's shape and memory format."""
        return [vector.as_strided(self.params[0].shape, self.strides, vector.storage_offset())]

    def _flat(self, t: Tensor) -> Tensor:
        """The elements of ``t`` in the order of the parameter's memory: a copy only where they lie otherwise."""
        p = self.params[0]
        if (t.stride(), t.dtype, t.device) != (self.strides, p.dtype, p.device):
            t = torch.empty_strided(p.shape, self.strides, dtype=p.dtype, device=p.device).copy_(t)
        return t.detach().as_strided((t.numel(),), (1,), t.storage_offset())

    def gather(self, slots: dict[str, float]) -> None:
        """State that is missing, or that lies otherwise than the parameter, is made anew."""
        (p,), (state,) = self.params, self.states
        self.x, self.g, self.slots = self._flat(p), self._flat(p.grad), {}
        for name, initial in slots.items():
            known = entry(state, name, p)
            self.slots[name] = torch.full_like(self.x, initial) if known is None else self._flat(known)
            if known is None or self.slots[name].data_ptr() != known.data_ptr():
                (state[name],) = self.cut(self.slots[name])

    def scatter(self) -> None:
        """Only a parameter that is not dense was copied."""
        if self.x.data_ptr() != self.params[0].data_ptr():
            self.params[0].copy_(self.cut(self.x)[0])


class Packed(Block):
    """Many small parameters of one dtype: ``x`` and ``g`` are memory that blocks share, used only during a step.

    ``slots`` are vectors of this block, and every parameter's state is a view of them.
    """

    def __init__(self, params: list[Tensor], states: list[dict], slots: dict[str, float], x: Tensor, g: Tensor) -> None:
        self.params, self.states, self.sizes = params, states, [p.numel() for p in params]
        self.x, self.g, self.slots, self._views = x, g, {}, {}
        self.flat = all(p.dim() == 1 for p in params)
        self._x_views, self._g_views = self.cut(x), self.cut(g)
        for name, initial in slots.items():
            self.slots[name] = torch.full_like(x, initial)
            views = self.cut(self.slots[name])
            for p, state, view in zip(params, states, views, strict=True):
                known = entry(state, name, p)
                state[name] = view if known is None else view.copy_(known)
            self._views[name] = views, [view.data_ptr() for view in views]

    def cut(self, vector: Tensor) -> list[Tensor]:
        """Contiguous views."""
        return [piece.view(p.shape) for p, piece in zip(self.params, vector.split(self.sizes), strict=True)]

    def gather(self, slots: dict[str, float]) -> None:
        """Copies of parameters and gradients; ``p.grad`` is only read."""
        self._copy(self.params, self.x, self._x_views)
        self._copy([p.grad for p in self.params], self.g, self._g_views)

    def _copy(self, tensors: list[Tensor], vector: Tensor, views: list[Tensor]) -> None:
        if self.flat:
            torch.cat(tensors, out=vector)  # half the time of as many copies
        else:
            torch._foreach_copy_(views, tensors)

    def scatter(self) -> None:
        """Into the memory where the parameters lie."""
        torch._foreach_copy_(self.params, self._x_views)

    def intact(self) -> bool:
        """By identity and address: ``state[p][name] = t`` and ``state[p][name].data = t`` are both seen."""
        for name, (views, addresses) in self._views.items():
            found = [state.get(name) for state in self.states]
            if not all(map(is_, found, views)) or [view.data_ptr() for view in views] != addresses:
                return False
        return True

    def release(self) -> None:
        """Views that were changed meanwhile are not ours any more."""
        for name, (views, addresses) in self._views.items():
            for state, view, address in zip(self.states, views, addresses, strict=True):
                if state.get(name) is view and view.data_ptr() == address:
                    state[name] = view.clone()


def entry(state: dict[str, Any], name: str, p: Tensor) -> Tensor | None:
    """The tensor that ``state`` keeps for ``p`` under a name, if any; ``ValueError`` for one of another shape."""
    if (value := state.get(name)) is None:
        return None
    value = torch.as_tensor(value)
    if value.shape != p.shape:
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
