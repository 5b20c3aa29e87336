"""The engine that every optimizer of the course shares.

An element-wise optimizer is three things: the vectors it remembers (``slots``), the numbers of one step
(``scalars``) and a pure function ``update(x, g, *slots, **scalars)`` that is the equation on the slide. A method
that looks at whole layers replaces ``update_blocks``, and composes its step of such functions.

Between two steps ``optimizer.state`` is the truth, as in torch: whatever is replaced, cleared or deleted there is what
the next step and the next checkpoint see. Parameters stay in the memory they lie in (``blocks.py``).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from itertools import chain
from operator import is_
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from optcourse.optim.engine.blocks import Alone, Block, Packed, must_be_alone, portions
from optcourse.optim.engine.kernels import BUNDLE, CACHE, LARGE, elementwise, working_dtype
from optcourse.optim.engine.settings import (
    TORCH_NAMES,
    check_group,
    check_names,
    complete_copies,
    number,
    renamed,
    translated,
)

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class Plan(NamedTuple):
    """How the parameters of one group that have gradients are updated, and what that arrangement relies on."""

    params: list[Tensor]
    traits: list
    views: list[Tensor]
    addresses: list[int]
    blocks: list[list[Block]]


class FlatOptimizer(Optimizer):
    """A ``torch.optim.Optimizer`` whose step is one equation over flat vectors.

    Subclasses define ``slots``, ``scalars`` and ``update`` (see :class:`optcourse.optim.Adam`), or ``update_blocks`` in
    its place. They take everything a ``torch.optim`` optimizer takes: parameter groups, closures, schedulers, frozen
    parameters, ``state_dict``. Parameters count their steps one by one, as in torch: a parameter whose gradient is
    ``None`` is left alone and its clock stands still. Many small parameters step fastest where they lie in a row, as
    ``torch.nn.utils.vector_to_parameters`` leaves them: a choice of the user's, an optimizer never moves a parameter.

    Every method takes these ``options`` besides its settings:

    compile : compile the equation into one pass over memory (worth it from about 1e5 parameters; the first step takes
        seconds). Without a working compiler it warns once and runs eagerly.
    maximize : step along the gradient instead of against it; may differ between groups.
    foreach, fused, capturable, differentiable : torch's. The first two are hints on speed, which ours does not need;
        the others must be ``False``, and raise ``ValueError`` otherwise.
    """

    #: Names of all vectors the method may remember.
    slots: ClassVar[tuple[str, ...]] = ()
    #: Names and initial values of the numbers it counts.
    counters: ClassVar[dict[str, float]] = {"step": 0}
    #: Our names for what ``torch.optim`` keeps in its state.
    torch_names: ClassVar[dict[str, str]] = TORCH_NAMES
    #: The equation of an element-wise method: ``update(x, g, *slots, **scalars) -> (x, *slots)``.
    update: ClassVar[Callable[..., tuple[Tensor, ...]]]

    def __init__(
        self,
        params: Iterable,
        settings: dict[str, Any],
        *,
        compile: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        options = {"foreach": foreach, "fused": fused, "capturable": capturable, "differentiable": differentiable}
        check_group({"compile": compile, **options})
        self.compile = compile
        self._forget()
        super().__init__(params, {**number(settings, keep=Tensor), "maximize": maximize})
        self.register_state_dict_post_hook(complete_copies, prepend=True)

    # What a subclass may override -------------------------------------------------------------

    @staticmethod
    def scalars(step: int, **group: Any) -> dict[str, Any]:
        """The numbers that ``update`` needs at step ``step`` = 1, 2, …, from the group's settings."""
        raise NotImplementedError

    @staticmethod
    def count(group: dict[str, Any], step: int) -> dict[str, float]:
        """The counters after one more step."""
        return {"step": step + 1}

    def initial_slots(self, group: dict[str, Any]) -> dict[str, float]:
        """Name and initial value of every vector that this group's settings need."""
        return dict.fromkeys(self.slots, 0.0)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ``ValueError`` or ``TypeError`` that names a setting outside its range."""
        check_group(group)

    def from_torch(self, entries: dict[str, Any]) -> dict[str, Any]:
        """What a state dict, torch's or ours, holds of one parameter, in our names."""
        return renamed(entries, self.torch_names)

    def update_blocks(self, blocks: list[Block], numbers: dict[str, float], group: dict[str, Any]) -> None:
        """One step, in place, of the vectors ``x`` and ``slots`` of ``blocks``, with the gradients in their ``g``.

        ``numbers`` are the counters, which the blocks share, and ``group`` holds the settings as plain numbers. Here
        the equation runs over all elements alike. A method that treats every layer differently replaces this
        function: it may read ``g`` but not change it, and finds the layers by ``block.cut`` and ``block.sizes``.
        """
        jobs = [((b.x, *b.slots.values()), (b.x, b.g, *b.slots.values())) for b in blocks]
        elementwise(type(self).update, jobs, self.scalars(**numbers, **group), self.compile)

    # What torch's users call --------------------------------------------------------------------
    #
    # torch hides ``add_param_group`` and ``zero_grad`` from its compiler, and loads the compiler to do so: a second, at
    # the first optimizer of a process. Unwrapped they are the same without.

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; its settings override the defaults and are checked like them."""
        given = [*param_group]
        inspect.unwrap(Optimizer.add_param_group)(self, param_group)
        group = self.param_groups.pop()
        check_names(type(self).__name__, given, self.defaults)
        self.check(group)
        group.update({name: number(group[name], keep=Tensor) for name in self.defaults})
        self.param_groups.append(group)

    zero_grad = inspect.unwrap(Optimizer.zero_grad)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step on the gradients as they are, or after ``closure`` computed them; returns its loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not same(self._contents(), self._known):
            self._release(self._plans)
        for index, group in enumerate(self.param_groups):
            grads = [p.grad for p in group["params"]]  # kept alive: torch wraps a gradient anew for who asks for it
            params = [p for p, g in zip(group["params"], grads, strict=True) if g is not None]
            settings = number({name: group.get(name, default) for name, default in self.defaults.items()})
            slots = self.initial_slots(settings)
            for blocks in self._plan(index, params, slots) if params else ():
                for block in blocks:
                    self._gather(block, slots, settings["maximize"])
                states = [state for block in blocks for state in block.states]
                clock: dict[str, Any] = {name: type(start)(states[0][name]) for name, start in self.counters.items()}
                numbers = self.count(settings, **clock)
                for name, value in numbers.items():
                    for state in states:
                        state[name] = value
                self.update_blocks(blocks, numbers, settings)
                for block in blocks:
                    block.scatter()
        self._known = self._contents()
        return loss

    def __getstate__(self) -> dict[str, Any]:
        """torch keeps defaults, state and groups; every state leaves its vector, which would come along as a whole."""
        self._release(self._plans)
        return {**super().__getstate__(), "compile": self.compile}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Also called by ``load_state_dict``, then with groups and state as they were saved."""
        if "defaults" not in state:
            state = translated(self, state)
        super().__setstate__(state)
        self._forget()
        if complete_copies not in self._optimizer_state_dict_post_hooks.values():
            self.register_state_dict_post_hook(complete_copies, prepend=True)

    # Memory -----------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._plans: dict[int, Plan] = {}
        self._known: list = []
        self._scratch: dict[tuple, Tensor] = {}

    def _contents(self) -> list:
        """All that ``state`` holds: who is compared by identity with what the last step left there was not changed."""
        states = self.state.values()
        return [*self.state, *states, *chain.from_iterable(states), *chain.from_iterable(map(dict.values, states))]

    def _plan(self, index: int, params: list[Tensor], slots: dict[str, float]) -> list[list[Block]]:
        """Blocks with one clock together; those of the last step, if neither parameters nor state moved since then."""
        traits = [slots, *(p.shape for p in params), *map(Tensor.is_contiguous, params)]
        if known := self._plans.get(index):
            addresses = [*map(Tensor.data_ptr, chain(params, known.views))]
            if same(params, known.params) and traits == known.traits and addresses == known.addresses:
                return known.blocks
            self._release([index])
        blocks = self._arrange(params, slots)
        views = [view for block in chain.from_iterable(blocks) for view in block.views]
        addresses = [*map(Tensor.data_ptr, chain(params, views))]
        self._plans[index] = Plan(params, traits, views, addresses, blocks)
        return blocks

    def _release(self, groups: Iterable[int]) -> None:
        """Give every state of these groups memory of its own."""
        for index in [*groups]:
            for block in chain.from_iterable(self._plans.pop(index).blocks):
                block.release()
        self._known = []

    def _arrange(self, params: list[Tensor], slots: dict[str, float]) -> list[list[Block]]:
        """Large parameters a few together, small ones as many as fit the cache, those that share memory one by one.

        Small ones go together that lie in one storage, or that are copied alike: vectors faster than other shapes.
        """
        plan: list[list[Block]] = []
        large: dict[tuple, list[Block]] = {}
        small: dict[tuple, list[Tensor]] = {}
        alone = must_be_alone(params, map(self.state.__getitem__, params))
        for p in params:
            if p.dtype not in DTYPES:
                raise RuntimeError(f"{type(self).__name__} does not support {p.dtype} parameters, only real ones")
            assert p.grad is not None  # a step takes no others
            if p.grad.shape != p.shape:
                shapes = f"{tuple(p.shape)} of its parameter, got {tuple(p.grad.shape)}"
                raise ValueError(f"a gradient must have the shape {shapes}")
            state = self.state[p]
            for name, start in self.counters.items():
                state[name] = type(start)(start if state.get(name) is None else state[name])
            storage = p.untyped_storage()
            kind = storage.data_ptr() if storage.nbytes() > p.nbytes else p.dim() == 1
            team = p.device, p.dtype, kind, *(state[name] for name in self.counters)
            if id(p) in alone:
                plan.append([Alone(p, state)])
            elif p.numel() >= on(p.device, LARGE):
                large.setdefault(team, []).append(Alone(p, state))
            elif p.numel():
                small.setdefault(team, []).append(p)
        for blocks in large.values():
            plan += [blocks[i : i + BUNDLE] for i in range(0, len(blocks), BUNDLE)]
        for (device, dtype, *_), members in small.items():
            for portion in portions(members, on(device, CACHE)):
                x, g = (self._vector(use, sum(p.numel() for p in portion), dtype, device) for use in "xg")
                plan.append([Packed(portion, [self.state[p] for p in portion], slots, x, g)])
        return plan

    def _gather(self, block: Block, slots: dict[str, float], maximize: bool) -> None:
        try:
            block.gather(slots)
        except RuntimeError as error:
            if all(p.grad is None or p.grad.layout == torch.strided for p in block.params):
                raise
            message = f"{type(self).__name__} does not support sparse gradients: make them dense first"
            raise RuntimeError(message) from error
        if maximize:
            block.g = block.g.neg_() if isinstance(block, Packed) else -block.g

    def _vector(self, use: str, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Memory that the blocks of this optimizer share; what it holds does not last."""
        key = use, dtype, device
        if key not in self._scratch or len(self._scratch[key]) < size:
            self._scratch[key] = torch.empty(size, dtype=dtype, device=device)
        return self._scratch[key][:size]

    def scratch(self, block: Block) -> Tensor:
        """One more vector for a block of a running step, in at least float32."""
        dtype = working_dtype(block.x)
        if isinstance(block, Packed):
            return self._vector("scratch", len(block.x), dtype, block.x.device)
        return torch.empty_like(block.x, dtype=dtype)


def same(these: list, those: list) -> bool:
    """Whether two lists hold the same objects."""
    return len(these) == len(those) and all(map(is_, these, those))


def on(device: torch.device, size: int) -> int:
    """A size that suits a CPU, whose cache a copy must not leave; a GPU has none that matters."""
    return size if device.type == "cpu" else 32 * size
