"""Optimizers around optimizers: Lookahead (slow and fast weights) and SAM (the worst nearby gradient)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim import Optimizer

from optcourse.arguments import integer, real


class Wrapper(Optimizer):
    """An optimizer that owns another one and shares its groups, state and defaults.

    So a scheduler can sit on either, ``zero_grad`` and ``add_param_group`` reach the inner one, and
    ``state_dict`` holds the inner one's under ``"base"`` beside the wrapper's own entries.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {optimizer!r}")
        self.optimizer = optimizer
        super().__init__(optimizer.param_groups, optimizer.defaults)
        self._share()

    def _share(self) -> None:
        self.param_groups = self.optimizer.param_groups
        self.state = self.optimizer.state
        self.defaults = self.optimizer.defaults

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the inner optimizer (torch's constructor calls this before we share)."""
        if self.param_groups is self.optimizer.param_groups:
            self.optimizer.add_param_group(param_group)
        else:
            super().add_param_group(param_group)

    def own_state(self) -> dict[str, Any]:
        """What the wrapper itself must save."""
        raise NotImplementedError

    def load_own_state(self, saved: dict[str, Any]) -> None:
        """The inverse of :meth:`own_state`."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """``{"base": the inner optimizer's state_dict, ...}``."""
        return {"base": self.optimizer.state_dict(), **self.own_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` saved; ``ValueError`` if it came from a bare optimizer."""
        if "base" not in state_dict:
            wanted = f"state_dict must be one saved by {type(self).__name__}, with an entry 'base'"
            raise ValueError(f"{wanted}, got the entries {list(state_dict)}")
        self.optimizer.load_state_dict(state_dict["base"])
        self._share()
        self.load_own_state(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        """The inner optimizer keeps the groups and their state."""
        return {"optimizer": self.optimizer, **self.own_state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Wrap the unpickled inner optimizer anew."""
        self.__init__(state["optimizer"])
        self.load_own_state(state)

    def parameters(self) -> list[Tensor]:
        """All parameters of all groups, in order."""
        return [p for group in self.param_groups for p in group["params"]]


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

    def __init__(self, optimizer: Optimizer, k: int = 5, alpha: float = 0.5) -> None:
        self.k = integer("k", k, 1)
        self.alpha = real("alpha", alpha, 0.0, 1.0)
        self.fast_steps = 0
        self.slow: dict[Tensor, Tensor] = {}
        super().__init__(optimizer)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One fast step, and after every ``k`` of them a synchronization."""
        for p in self.parameters():
            if p not in self.slow:
                self.slow[p] = p.detach().clone()
        loss = self.optimizer.step(closure)
        self.fast_steps += 1
        if self.fast_steps == self.k:
            self.synchronize()
        return loss

    @torch.no_grad()
    def synchronize(self) -> None:
        """Move the slow weights towards the fast ones, and the fast ones onto them."""
        for p, slow in self.slow.items():
            slow = slow.to(p)  # after module.double() or module.to(device)
            self.slow[p] = slow.copy_(p) if self.alpha == 1 else slow.lerp_(p, self.alpha)
            p.copy_(slow)
        self.fast_steps = 0

    def own_state(self) -> dict[str, Any]:
        """Settings, position in the cycle and slow weights in parameter order."""
        slow = [self.slow[p].clone() if p in self.slow else None for p in self.parameters()]
        return {"k": self.k, "alpha": self.alpha, "fast_steps": self.fast_steps, "slow": slow}

    def load_own_state(self, saved: dict[str, Any]) -> None:
        """The inverse; slow weights move to their parameter's device and dtype."""
        self.k, self.alpha, self.fast_steps = saved["k"], saved["alpha"], saved["fast_steps"]
        pairs = zip(self.parameters(), saved["slow"], strict=True)
        self.slow = {p: slow.detach().to(p).clone() for p, slow in pairs if slow is not None}


class SAM(Wrapper):
    r"""Sharpness-aware minimization: descend with the gradient of the worst point nearby.

    .. math::
        g &= \nabla f(x), \qquad \tfrac1p + \tfrac1q = 1 \\
        \hat\varepsilon &= \arg\max_{\|\varepsilon\|_p \le \rho} \langle \varepsilon, g \rangle
          = \rho \, \operatorname{sign}(g) \, |g|^{q-1} / (\|g\|_q^q)^{1/p} \\
        x &\leftarrow \text{a step of the base optimizer from } x \text{ with } \nabla f(x + \hat\varepsilon)

    Norms run over all parameters with gradients together. ``p`` may be any number in [1, ∞], ``math.inf``
    included (``ρ sign(g)``); at ``p = 1`` the whole of ``ρ`` goes to the largest coordinate. Most libraries
    have p = 2 only. A zero gradient is not perturbed.

    Call ``step(closure)`` with a closure that clears the gradients, computes the loss, calls ``backward``
    and returns the loss; it runs twice, and the first loss is returned. Or compute the gradients, call
    :meth:`first_step`, compute them again, call :meth:`second_step`. In the second pass
    batch-norm layers normalize as usual, but their running statistics are put back afterwards: the data would
    be counted twice, at weights that nobody keeps. Parameters are restored exactly, bit by bit.

    ``base_optimizer``: a class or function called with ``(params, **defaults)``. Default: the paper's ``rho=0.05``.

    Source: Foret, Kleiner, Mobahi and Neyshabur, Sharpness-Aware Minimization for Efficiently Improving
    Generalization (ICLR 2021), equation (2) and Algorithm 1.
    """

    def __init__(
        self,
        params: Iterable,
        base_optimizer: Callable[..., Optimizer],
        rho: float = 0.05,
        p: float = 2,
        **defaults: Any,
    ) -> None:
        self.rho = real("rho", rho, 0.0)
        self.p = p if p == math.inf else real("p", p, 1.0)
        self._home: list[tuple[Tensor, Tensor]] = []
        self._statistics: NormStatistics | None = None
        super().__init__(base_optimizer(params, **defaults))

    @torch.no_grad()
    def first_step(self) -> None:
        """Climb from ``x`` to ``x + ε̂``; the next forward pass leaves batch-norm statistics alone."""
        if self._home:
            raise RuntimeError("SAM.first_step was called twice: call second_step in between")
        parameters = [p for p in self.parameters() if p.grad is not None and p.numel()]
        self._home = [(p, p.detach().clone()) for p in parameters]
        for p, epsilon in zip(parameters, worst_direction([p.grad for p in parameters], self.p), strict=True):
            p.add_(epsilon.to(p), alpha=self.rho)
        self._statistics = NormStatistics()

    @torch.no_grad()
    def second_step(self) -> None:
        """Return to ``x`` and let the base optimizer use the gradients found at ``x + ε̂``."""
        self._return_home()
        self.optimizer.step()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Both passes; ``closure`` is needed, since the gradient is computed twice."""
        if closure is None:
            raise TypeError(
                "closure must be given: SAM.step computes the gradient twice (or use first_step/second_step)"
            )
        with torch.enable_grad():
            loss = closure()
        self.first_step()
        try:
            with torch.enable_grad():
                closure()
        except BaseException:
            self._return_home()
            raise
        self.second_step()
        return loss

    @torch.no_grad()
    def _return_home(self) -> None:
        if self._statistics is None:
            raise RuntimeError("SAM.second_step needs a first_step before it")
        for p, home in self._home:
            p.copy_(home)
        self._statistics.restore()
        self._home, self._statistics = [], None

    def own_state(self) -> dict[str, Any]:
        """Radius and norm."""
        return {"rho": self.rho, "p": self.p}

    def load_own_state(self, saved: dict[str, Any]) -> None:
        """The inverse."""
        self.rho, self.p = saved["rho"], saved["p"]

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Wrap the unpickled inner optimizer anew; a perturbation under way is not kept."""
        optimizer = state["optimizer"]
        self.__init__([], lambda _: optimizer)
        self.load_own_state(state)


def worst_direction(grads: list[Tensor], p: float) -> list[Tensor]:
    """The unit-``p``-norm direction that maximizes ``⟨ε, g⟩`` over all tensors of ``grads`` together.

    Scaling ``g`` does not change it, so powers are taken of ``|g| / max |g|``: they cannot overflow.
    Zero if the gradient is zero.
    """
    largest = max((g.abs().max().double().cpu() for g in grads), default=0.0)
    if largest == 0:
        return [torch.zeros_like(g) for g in grads]
    if p == math.inf:
        return [g.sign() for g in grads]
    if p == 1:
        return _one_hot(grads, largest)
    q = p / (p - 1)
    unit = [g / largest.to(g) for g in grads]
    powers = [u.sign() * u.abs() ** (q - 1) for u in unit]
    total = sum((u.abs() ** q).sum(dtype=torch.float64).cpu() for u in unit)  # ||g / max||_q^q
    return [power / float(total ** (1 / p)) for power in powers]


def _one_hot(grads: list[Tensor], largest: Tensor) -> list[Tensor]:
    """All mass on one coordinate of largest modulus."""
    result = [torch.zeros_like(g, memory_format=torch.contiguous_format) for g in grads]
    winner = next(i for i, g in enumerate(grads) if g.abs().max().double() == largest)
    place = grads[winner].abs().argmax()
    result[winner].view(-1)[place] = grads[winner].reshape(-1)[place].sign()
    return result


class NormStatistics:
    """Remembers the running statistics of every normalization layer that runs, to put them back.

    The layers are found as they run, by a hook on all modules: an optimizer knows parameters, not layers.
    """

    def __init__(self) -> None:
        self.saved: dict[torch.nn.Module, dict[str, Tensor]] = {}
        self.hook = register_module_forward_pre_hook(self._remember)

    def _remember(self, module: torch.nn.Module, inputs: Any) -> None:
        is_norm = isinstance(module, torch.nn.modules.batchnorm._NormBase)
        if is_norm and module.training and module not in self.saved:
            self.saved[module] = {name: b.detach().clone() for name, b in module.named_buffers(recurse=False)}

    def restore(self) -> None:
        """Stop listening and put back every buffer."""
        self.hook.remove()
        for module, buffers in self.saved.items():
            for name, value in buffers.items():
                getattr(module, name).copy_(value)
