"""How much the loss can rise nearby: the highest value in a ball around the parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from optcourse.arguments import integer, real
from optcourse.landscape.objective import evaluation, objective
from optcourse.models.rows import Loss, flat_parameters
from optcourse.optim.wrappers import worst_direction
from optcourse.runtime import progress


@dataclass(frozen=True)
class Sharpness:
    """What :func:`sharpness` found: the ``loss`` at the parameters, after the ``first_order`` perturbation (the one of
    SAM), at the ``worst`` point met, and the ``perturbation`` ``[d]`` that leads there."""

    loss: float
    first_order: float
    worst: float
    perturbation: Tensor

    def __float__(self) -> float:
        """The rise of the loss, max f(w + ε) − f(w), from below."""
        return self.worst - self.loss


def sharpness(
    model: nn.Module,
    loss: Loss,
    data: tuple[Tensor, Tensor],
    rho: float,
    p: float = 2,
    *,
    steps: int = 20,
    batch_norm: str = "train",
) -> Sharpness:
    r"""The highest loss met in the ball :math:`\|\varepsilon\|_p \le \rho` around the parameters: a lower bound on
    the maximum.

    At first the maximum of the linearized loss, :math:`\varepsilon = \rho \arg\max_{\|u\|_p \le 1} \langle u, \nabla
    f(w) \rangle`, in closed form for every p in [1, ∞]. Then up to ``steps`` steps of conditional gradient ascent,

    .. math::
        \varepsilon \leftarrow \varepsilon + \gamma (s - \varepsilon), \qquad
        s = \rho \arg\max_{\|u\|_p \le 1} \langle u, \nabla f(w + \varepsilon) \rangle,

    which stay in the ball without a projection; γ is halved from 1 until the loss rises, and where it does not rise any
    more, that is the end. (γ = 1 is right where f is convex. For p = 2 on a quadratic around its minimum it is power
    iteration, and the rise is :math:`\lambda_{\max} \rho^2 / 2`.) A local maximum may end it early.

    Modes as in :func:`optcourse.landscape.surface`; nothing of the model changes. Raises ``ValueError`` for rho < 0,
    p < 1, and what :func:`optcourse.landscape.surface` refuses.

    Source: Foret et al., Sharpness-Aware Minimization (ICLR 2021), equations (1) and (2); Frank and Wolfe 1956.
    """
    f, w = objective(model, loss, data), flat_parameters(model)
    real("rho", rho, 0.0)
    p = p if p == math.inf else real("p", p, 1.0)
    integer("steps", steps, 0)

    def value_and_gradient(epsilon: Tensor) -> tuple[float, Tensor]:
        at = (w + epsilon).requires_grad_()
        with torch.enable_grad():
            value = f(at)
        return value.item(), torch.autograd.grad(value, at)[0]

    def top(gradient: Tensor) -> Tensor:
        return rho * worst_direction([gradient], p)[0]

    with evaluation(model, batch_norm):
        before, gradient = value_and_gradient(torch.zeros_like(w))
        if not gradient.any():  # a stationary point has no slope to follow: anywhere else has
            gradient = torch.randn(len(w), generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(w)
        epsilon = top(gradient)
        first, gradient = value_and_gradient(epsilon)
        value = first
        if not first > before:  # the tangent points too far: begin at home
            epsilon, (value, gradient) = torch.zeros_like(w), value_and_gradient(torch.zeros_like(w))
        for _ in progress(range(steps), desc="sharpness"):
            away = top(gradient) - epsilon
            for gamma in (2.0**-i for i in range(10)):
                there, slope = value_and_gradient(epsilon + gamma * away)
                if there > value:
                    epsilon, value, gradient = epsilon + gamma * away, there, slope
                    break
            else:
                break
    return Sharpness(before, first, value, epsilon)
