"""The engine that every optimizer of the course shares.

An element-wise optimizer is three things: the vectors it remembers (``slots``), the numbers of one step
(``scalars``) and a pure function ``update(x, g, *slots, **scalars)`` that is the equation on the slide.
The engine brings parameters, gradients and state into long vectors, so that the equation runs once over
all small parameters of a group instead of once per tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from optcourse.arguments import real
from optcourse.optim.kernels import LARGE, elementwise, working_dtype

#: The allowed range of every hyper-parameter: low, high, and whether the ends are excluded.
RANGES: dict[str, dict[str, Any]] = {
    "lr": {"low": 0.0},
    "momentum": {"low": 0.0, "high": 1.0, "open_high": True},
    "dampening": {"low": 0.0, "high": 1.0},
    "betas": {"low": 0.0, "high": 1.0, "open_high": True},
    "alpha": {"low": 0.0, "high": 1.0, "open_high": True},
    "rho": {"low": 0.0, "high": 1.0, "open_high": True},
    "eps": {"low": 0.0},
    "weight_decay": {"low": 0.0},
    "lr_decay": {"low": 0.0},
    "initial_accumulator_value": {"low": 0.0},
    "momentum_decay": {"low": 0.0},
    "trust": {"low": 0.0, "open_low": True},
    "delta": {"low": 0.0},
    "wd_ratio": {"low": 0.0, "high": 1.0},
}


class Block:
    """Parameters that are updated together: many small ones in one buffer, or one large one where it lies.

    ``x`` is the flat vector, ``slots`` the flat state, ``cut`` turns a flat vector into one view per
    parameter, in the parameter's own memory format.
    """

    def __init__(self, params: list[Tensor], states: list[dict], slots: dict[str, float]) -> None:
        self.params, self.states = params, states
        self.sizes = [p.numel() for p in params]
        # Dense strides in the parameter's own order: channels_last stays channels_last.
        self.strides = [torch.empty_like(p, device="meta").stride() for p in params]
        self.alone = len(params) == 1 and params[0].stride() == self.strides[0]
        if self.alone:
            self.x = _flat(params[0].data)
        else:
            self.x = params[0].data.new_empty(sum(self.sizes))
            for p, view in zip(params, self.cut(self.x), strict=True):
                view.copy_(p.data)
                p.data = view
        self.gradient: Tensor | None = None
        self.slots = {name: self._gather_state(name, initial) for name, initial in slots.items()}

    def _gather_state(self, name: str, initial: float) -> Tensor:
        vector = torch.full_like(self.x, initial)
        for state, view in zip(self.states, self.cut(vector), strict=True):
            if name in state:
                view.copy_(state[name])
            state[name] = view
        return vector

    def cut(self, vector: Tensor) -> list[Tensor]:
        """One view per parameter of a flat vector."""
        pieces = zip(self.params, vector.split(self.sizes), self.strides, strict=True)
        return [piece.as_strided(p.shape, stride, piece.storage_offset()) for p, piece, stride in pieces]

    def gather(self) -> Tensor:
        """All gradients as one flat vector; ``p.grad`` is only read."""
        grads = [p.grad for p in self.params]
        if self.alone and grads[0].stride() == self.strides[0] and grads[0].dtype == self.x.dtype:
            return _flat(grads[0])
        if self.gradient is None:
            self.gradient = torch.empty_like(self.x)
            self.gradient_views = self.cut(self.gradient)
        torch._foreach_copy_(self.gradient_views, grads)
        return self.gradient


#: Blocks on one device, of one dtype, that counted the same steps; and their counters.
Team = tuple[dict[str, float], list[Block]]


class FlatOptimizer(Optimizer):
    """A ``torch.optim.Optimizer`` whose step is one equation over flat vectors.

    Subclasses define ``slots``, ``scalars`` and ``update``; see :class:`optcourse.optim.Adam`. They take
    everything a ``torch.optim`` optimizer takes: parameter groups, closures, schedulers, frozen
    parameters, ``state_dict``. Parameters count their steps one by one, as in torch: a parameter whose
    gradient is ``None`` is left alone and its clock stands still.

    ``compile=True`` compiles the equation into one pass over memory (worth it from about 1e5
    parameters; the first step takes seconds). Without a working compiler it warns once and runs eagerly.
    Small parameters become views into a shared buffer at the first step: keep references to
    parameters, not to ``p.data``.
    """

    #: Names of the vectors the method remembers, all starting at zero.
    slots: ClassVar[tuple[str, ...]] = ()
    #: Names and initial values of the numbers it counts.
    counters: ClassVar[dict[str, float]] = {"step": 0}
    #: The equation of an element-wise method: ``update(x, g, *slots, **scalars) -> (x, *slots)``.
    update: ClassVar[Callable[..., tuple[Tensor, ...]]]

    def __init__(self, params: Iterable, compile: bool = False, **defaults: Any) -> None:
        if not isinstance(compile, bool):
            raise TypeError(f"compile must be a bool, got {compile!r}")
        self.compile = compile
        self._forget_buffers()
        super().__init__(params, defaults)

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
        for name in RANGES.keys() & self.defaults.keys():
            check_range(name, group[name])

    def update_blocks(self, blocks: list[Block], grads: list[Tensor], numbers: dict, group: dict[str, Any]) -> None:
        """One step for blocks that share their counters ``numbers``; ``grads`` are their flat gradients."""
        jobs = [((b.x, *b.slots.values()), (b.x, g, *b.slots.values())) for b, g in zip(blocks, grads, strict=True)]
        elementwise(type(self).update, jobs, self.scalars(**numbers, **group), self.compile)

    # What torch's users call --------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; its settings override the defaults and are checked like them."""
        self.check({**self.defaults, **param_group})
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step on the gradients as they are, or after ``closure`` computed them; returns its loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for index, group in enumerate(self.param_groups):
            params = [p for p in group["params"] if p.grad is not None]
            for numbers, blocks in self._teams(index, group, params) if params else ():
                grads = [self._gather(block) for block in blocks]
                numbers.update(self.count(group, **numbers))
                for block in blocks:
                    for state in block.states:
                        state.update(numbers)
                self.update_blocks(blocks, grads, numbers, group)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """As in torch, with copies: a view would drag its whole buffer into the file."""
        saved = super().state_dict()
        saved["state"] = {
            key: {name: v.clone() if isinstance(v, Tensor) else v for name, v in state.items()}
            for key, state in saved["state"].items()
        }
        return saved

    def __getstate__(self) -> dict[str, Any]:
        """torch keeps defaults, state and groups; buffers are rebuilt."""
        return {**super().__getstate__(), "compile": self.compile}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Also called by ``load_state_dict``: the loaded state is not in our buffers yet."""
        super().__setstate__(state)
        self._forget_buffers()

    # Buffers --------------------------------------------------------------------------------------

    def _forget_buffers(self) -> None:
        self._plans: dict[int, tuple[list[int], dict[str, float], list[Team]]] = {}
        self._scratch: dict[tuple, Tensor] = {}

    def _teams(self, index: int, group: dict[str, Any], params: list[Tensor]) -> list[Team]:
        """The group's blocks by what they share, rebuilt when parameters moved or others have gradients now."""
        slots = self.initial_slots(group)
        pointers = [p.data_ptr() for p in params]
        known = self._plans.get(index)
        if known is not None:
            old_pointers, old_slots, teams = known
            same_state = all(self.state.get(b.params[0]) is b.states[0] for _, blocks in teams for b in blocks)
            if pointers == old_pointers and slots == old_slots and same_state:
                return teams
        members: dict[tuple, dict[int | None, list[Tensor]]] = {}
        for p in params:
            if p.numel() == 0:
                continue
            if not p.is_floating_point():
                raise RuntimeError(f"{type(self).__name__} does not support {p.dtype} parameters, only real ones")
            state = self.state[p]
            for name, initial in self.counters.items():
                state[name] = type(initial)(state.get(name, initial))
            # A team shares device, dtype and clock, and one buffer; on the CPU large parameters stay alone.
            team = members.setdefault((p.device, p.dtype, *(state[name] for name in self.counters)), {})
            large = id(p) if p.device.type == "cpu" and p.numel() >= LARGE else None
            team.setdefault(large, []).append(p)
        teams = []
        for (_, _, *numbers), team in members.items():
            blocks = [Block(together, [self.state[p] for p in together], slots) for together in team.values()]
            teams.append((dict(zip(self.counters, numbers, strict=True)), blocks))
        self._plans[index] = ([p.data_ptr() for p in params], slots, teams)
        return teams

    def _gather(self, block: Block) -> Tensor:
        try:
            return block.gather()
        except RuntimeError as error:
            if all(p.grad.layout == torch.strided for p in block.params):
                raise
            message = f"{type(self).__name__} does not support sparse gradients: make them dense first"
            raise RuntimeError(message) from error

    def scratch(self, blocks: list[Block]) -> list[Tensor]:
        """One more vector for every block of a team, in at least float32; what it holds does not last."""
        x = blocks[0].x
        key, total = (x.device, working_dtype(x)), sum(len(block.x) for block in blocks)
        if key not in self._scratch or len(self._scratch[key]) < total:
            self._scratch[key] = torch.empty(total, device=x.device, dtype=working_dtype(x))
        return list(self._scratch[key][:total].split([len(block.x) for block in blocks]))


def check_range(name: str, value: Any) -> None:
    """Raise an error that names the hyper-parameter when it is outside :data:`RANGES`."""
    if name == "betas":
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise ValueError(f"betas must be a pair of numbers in [0, 1), got {value!r}")
        for i, beta in enumerate(value):
            real(f"betas[{i}]", beta, **RANGES[name])
        return
    number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if not isinstance(number, (int, float)):
        raise TypeError(f"{name} must be a real number, got {value!r}")
    real(name, number, **RANGES[name])


def check_switch(name: str, value: Any) -> None:
    """Raise ``TypeError`` when a switch is no bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, got {value!r}")


def _flat(t: Tensor) -> Tensor:
    """All elements of a dense tensor in memory order, without copying."""
    return t.as_strided((t.numel(),), (1,), t.storage_offset())
