"""Optimizers around optimizers: Lookahead (slow and fast weights) and SAM (the worst nearby gradient)."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from optcourse.arguments import integer, real


def _inner(name: str) -> Any:
    """An attribute that is the inner optimizer's: nothing here can go stale when it is replaced there."""
    return property(lambda self: getattr(self.optimizer, name), lambda self, to: setattr(self.optimizer, name, to))


def setting(name: str) -> Any:
    """A number of a wrapper. It lives in the first parameter group, so every checkpoint holds it."""
    return property(
        lambda self: self.param_groups[0][self.prefix + name],
        lambda self, to: self.param_groups[0].update({self.prefix + name: to}),
    )


class Wrapper(Optimizer):
    """An optimizer around another one, whose groups, state and defaults are its own.

    So a scheduler can sit on either, and ``state_dict`` is the inner one's with the wrapper's entries among its
    groups and states, under names that begin with :attr:`prefix`: all tools that know torch's layout can read it.
    """

    #: What it remembers for each parameter, in ``state[p][prefix + name]``.
    slots: ClassVar[tuple[str, ...]] = ()
    optimizer: Optimizer
    param_groups, state, defaults = _inner("param_groups"), _inner("state"), _inner("defaults")

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {optimizer!r}")
        self.__setstate__({"optimizer": optimizer})  # torch's constructor would collect groups of our own

    @property
    def prefix(self) -> str:
        """``"lookahead_"``; ``"lookahead_sam_"`` around SAM: no two wrappers on one optimizer share a name."""
        inner = self.optimizer.prefix if isinstance(self.optimizer, Wrapper) else ""
        return f"{type(self).__name__.lower()}_{inner}"

    def parameters(self) -> list[Tensor]:
        """All parameters, in order."""
        return [p for group in self.param_groups for p in group["params"]]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the inner optimizer."""
        self.optimizer.add_param_group(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients as the inner optimizer does."""
        self.optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The inner optimizer's, which holds our entries too; hooks of both run."""
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        return self._through(self._optimizer_state_dict_post_hooks, self.optimizer.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` saved; ``ValueError`` if another kind of optimizer saved it. Hooks run."""
        state_dict = self._through(self._optimizer_load_state_dict_pre_hooks, dict(state_dict))
        groups = state_dict.get("param_groups") or [{}]
        missing = [name for name in self.param_groups[0] if name.startswith(self.prefix) and name not in groups[0]]
        if missing:
            wanted = f"{type(self).__name__}, with {', '.join(missing)} in its first parameter group"
            raise ValueError(f"state_dict must be one saved by {wanted}, got {', '.join(groups[0]) or 'no group'}")
        names, saved = {self.prefix + slot for slot in self.slots}, state_dict["state"]
        rest = {key: {name: v for name, v in state.items() if name not in names} for key, state in saved.items()}
        self.optimizer.load_state_dict({**state_dict, "state": rest})
        for key, p in zip((key for group in groups for key in group["params"]), self.parameters(), strict=True):
            for name in names & saved.get(key, {}).keys():
                self.state[p][name] = saved[key][name].detach().to(p, copy=True)
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    def _through(self, hooks: dict[int, Callable], state_dict: dict[str, Any]) -> dict[str, Any]:
        for hook in hooks.values():
            result = hook(self, state_dict)
            state_dict = state_dict if result is None else result
        return state_dict

    def __getstate__(self) -> dict[str, Any]:
        """The inner optimizer keeps everything."""
        return {"optimizer": self.optimizer}


class Lookahead(Wrapper):
    r"""k steps forward, one step back.

    .. math::
        \theta &\leftarrow \text{k steps of the inner optimizer from } \phi \\
        \phi &\leftarrow \phi + \alpha (\theta - \phi), \qquad \theta \leftarrow \phi

    The fast weights ``θ`` are the parameters; the slow ones ``φ`` start as the parameters at the first step.
    ``alpha=1`` is the inner optimizer. The inner state (momentum) is kept at a synchronization. Some
    libraries start ``φ`` at the first synchronization instead, which makes that one do nothing.

    ``optimizer``: any ``torch.optim.Optimizer``. Defaults: ``k=5``, ``alpha=0.5`` are the paper's.
    Evaluate after a synchronization, or call :meth:`synchronize`: in between the parameters are ``θ``.

    Source: Zhang, Lucas, Hinton and Ba, Lookahead Optimizer: k steps forward, 1 step back
    (NeurIPS 2019), Algorithm 1.
    """

    slots = ("slow",)
    k, alpha, fast_steps = map(setting, ("k", "alpha", "fast_steps"))

    def __init__(self, optimizer: Optimizer, k: int = 5, alpha: float = 0.5) -> None:
        super().__init__(optimizer)
        self.k, self.alpha, self.fast_steps = integer("k", k, 1), real("alpha", alpha, 0.0, 1.0), 0
        for state in self.state.values():  # of an earlier Lookahead around the same optimizer
            state.pop(self.prefix + "slow", None)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One fast step, and after every ``k`` of them a synchronization."""
        name, slow = self.prefix + "slow", {}
        try:
            for p in self.parameters():  # kept apart meanwhile: torch's optimizers begin where a state is empty
                kept = self.state.get(p, {}).pop(name, None)
                slow[p] = p.detach().clone() if kept is None else kept.to(p)
            loss = self.optimizer.step(closure)
        finally:
            for p, weights in slow.items():
                if p.grad is not None or not torch.equal(p, weights):  # what has not moved needs no second copy
                    self.state[p][name] = weights
        self.fast_steps += 1
        if self.fast_steps >= self.k:
            self.synchronize()
        return loss

    @torch.no_grad()
    def synchronize(self) -> None:
        """Move the slow weights towards the fast ones, and the fast ones onto them."""
        name = self.prefix + "slow"
        for p in self.parameters():
            if name in self.state.get(p, {}):
                slow = self.state[p][name].to(p)  # after module.double() or module.to(device)
                self.state[p][name] = slow.copy_(p) if self.alpha == 1 else slow.lerp_(p, self.alpha)
                p.copy_(slow)
        self.fast_steps = 0


class SAM(Wrapper):
    r"""Sharpness-aware minimization: descend with the gradient of the worst point nearby.

    .. math::
        g &= \nabla f(x), \qquad \tfrac1p + \tfrac1q = 1 \\
        \hat\varepsilon &= \arg\max_{\|\varepsilon\|_p \le \rho} \langle \varepsilon, g \rangle
          = \rho \, \operatorname{sign}(g) \, |g|^{q-1} / (\|g\|_q^q)^{1/p} \\
        x &\leftarrow \text{a step of the base optimizer from } x \text{ with } \nabla f(x + \hat\varepsilon)

    Norms run over all parameters with gradients together. ``p`` may be any number in [1, ∞], ``math.inf``
    included (``ρ sign(g)``); at ``p = 1`` the whole of ``ρ`` goes to the largest coordinate. Most libraries
    have p = 2 only. A zero gradient is not perturbed; where a group says ``maximize``, the worst point is the lowest.

    Call ``step(closure)`` with a closure that clears the gradients, computes the loss, calls ``backward``
    and returns the loss; it runs twice, and the first loss is returned. Or compute the gradients, call
    :meth:`first_step`, compute them again, call :meth:`second_step`. Parameters are restored exactly, bit by bit,
    and so are the buffers of their modules: batch-norm layers normalize as usual in the second pass, but would count
    the data twice, at weights that nobody keeps.

    ``base_optimizer``: a class or function called with ``(params, **defaults)``. Default: the paper's ``rho=0.05``.
    Raises ``RuntimeError`` for sparse gradients, before anything has moved.

    Source: Foret, Kleiner, Mobahi and Neyshabur, Sharpness-Aware Minimization for Efficiently Improving
    Generalization (ICLR 2021), equation (2) and Algorithm 1.
    """

    rho, p = map(setting, ("rho", "p"))
    #: What to put back while the parameters are at x + ε̂.
    _home: list[tuple[Tensor, Tensor]] | None = None
    _buffers: Sequence[tuple[nn.Module, str, Tensor]] = ()
    #: The number of our parameters and the modules that hold them.
    _owners: tuple[int, Sequence[nn.Module]] = (0, ())

    def __init__(
        self,
        params: Iterable,
        base_optimizer: Callable[..., Optimizer],
        rho: float = 0.05,
        p: float = 2,
        **defaults: Any,
    ) -> None:
        super().__init__(base_optimizer(params, **defaults))
        self.rho, self.p = real("rho", rho, 0.0), p if p == math.inf else real("p", p, 1.0)

    @torch.no_grad()
    def first_step(self) -> None:
        """Climb from ``x`` to ``x + ε̂``."""
        if self._home:
            raise RuntimeError("SAM.first_step was called twice: call second_step (or return_home) in between")
        signs = {p: -1 if group.get("maximize") else 1 for group in self.param_groups for p in group["params"]}
        params = [p for p in signs if p.grad is not None and p.numel()]
        if any(p.grad.layout != torch.strided for p in params):
            raise RuntimeError("SAM does not support sparse gradients: make them dense first")
        direction = worst_direction([p.grad for p in params], self.p) if params else []
        self._buffers, self._home = self._running_statistics(), [(p, p.detach().clone()) for p in params]
        for p, epsilon in zip(params, direction, strict=True):
            p.add_(epsilon.to(p), alpha=signs[p] * self.rho)

    @torch.no_grad()
    def return_home(self) -> None:
        """Go back from ``x + ε̂`` to ``x``, for instance when the second pass has failed."""
        for p, home in self._home or ():
            p.copy_(home)
        for module, name, value in self._buffers:
            getattr(module, name).copy_(value)
        self._home, self._buffers = None, ()

    def second_step(self) -> None:
        """Return to ``x`` and let the base optimizer use the gradients found at ``x + ε̂``."""
        if self._home is None:
            raise RuntimeError("SAM.second_step needs a first_step before it")
        self.step()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Both passes; without a closure only the end of them, where the gradients at ``x + ε̂`` are known."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
            try:
                self.first_step()
                with torch.enable_grad():
                    closure()
            except BaseException:
                self.return_home()
                raise
        elif self._home is None and not self._stationary():
            raise TypeError("closure must be given: SAM computes the gradient twice (or use first_step/second_step)")
        self.return_home()
        self.optimizer.step()
        return loss

    def _stationary(self) -> bool:
        """Whether all gradients are known to be zero: then x + ε̂ is x, and the second ones are known too."""
        grads = [p.grad for p in self.parameters() if p.grad is not None]
        return bool(grads) and not any(g.layout != torch.strided or g.any() for g in grads)

    def _running_statistics(self) -> list[tuple[nn.Module, str, Tensor]]:
        """Copies of the buffers of all modules that hold our parameters."""
        parameters = self.parameters()
        if self._owners[0] != len(parameters):
            self._owners = len(parameters), owners(parameters)
        modules = {id(module): module for owner in self._owners[1] for module in owner.modules()}.values()
        places = {id(b): (module, name) for module in modules for name, b in module.named_buffers(recurse=False)}
        return [(module, name, getattr(module, name).detach().clone()) for module, name in places.values()]


def owners(parameters: Iterable[Tensor]) -> list[nn.Module]:
    """All living modules that hold one of the parameters, themselves or in a submodule.

    An optimizer is given tensors, which do not know their modules. A hook would tell which modules run, but not
    in compiled or scripted code; so they are looked for among all objects (some 0.1 s), once.
    """
    wanted, found = {id(p) for p in parameters}, []
    for module in (thing for thing in gc.get_objects() if issubclass(type(thing), nn.Module)):
        with suppress(Exception):  # whose constructor failed half-way: not ours
            if any(id(p) in wanted for p in module.parameters()):
                found.append(module)
    return found


def worst_direction(grads: list[Tensor], p: float) -> list[Tensor]:
    """The unit-``p``-norm direction that maximizes ``⟨ε, g⟩`` over all tensors of ``grads`` together.

    Scaling ``g`` does not change it, so powers are taken of ``|g| / max |g|``, in at least float32: they cannot
    overflow. Zero if the gradient is zero; NaN where that makes it unknown.
    """
    tops = torch.stack([g.abs().max().double().cpu() for g in grads])
    largest = tops.max()
    if largest == 0:
        return [torch.zeros_like(g) for g in grads]
    if p == math.inf:
        return [g.sgn() for g in grads]
    if p == 1:  # all mass on one coordinate of largest modulus
        result = [torch.zeros_like(g, memory_format=torch.contiguous_format) for g in grads]
        winner = int(tops.argmax())
        flat = grads[winner].reshape(-1)
        place = flat.abs().argmax()
        result[winner].view(-1)[place] = flat[place] / flat[place].abs()
        return result
    q = p / (p - 1)
    unit = [g.to(torch.promote_types(g.dtype, torch.float32)) / largest for g in grads]
    powers = [u.sgn() * u.abs() ** (q - 1) for u in unit]
    total = sum((u.abs() ** q).sum(dtype=torch.float64).cpu() for u in unit)  # ||g / max||_q^q
    return [power / float(total ** (1 / p)) for power in powers]
