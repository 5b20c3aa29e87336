"""Muon: momentum whose singular values are all pushed towards one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Unpack

import torch
from torch import Tensor

from optcourse.arguments import choice, integer
from optcourse.optim.engine.blocks import Block
from optcourse.optim.engine.kernels import average
from optcourse.optim.engine.settings import Options
from optcourse.optim.layerwise import Layerwise

#: Keller Jordan's quintic: steep at zero, and not quite convergent (singular values end in about 0.7–1.2).
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(
    matrix: Tensor,
    steps: int = 5,
    coefficients: tuple[float, float, float] = COEFFICIENTS,
    eps: float = 1e-7,
    dtype: torch.dtype | None = torch.bfloat16,
) -> Tensor:
    """Newton–Schulz: ``U p(S) Vᵀ`` for ``matrix = U S Vᵀ`` [rows, columns], with ``p`` close to 1.

    Each step is ``X <- a X + b (X Xᵀ) X + c (X Xᵀ)² X``, which acts on the singular values alone. ``dtype`` is
    the arithmetic (bfloat16 as published; ``None`` keeps the matrix's own).
    """
    a, b, c = coefficients
    x = matrix.to(dtype) if dtype is not None else matrix
    tall = matrix.shape[0] > matrix.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)


class Muon(Layerwise):
    r"""Momentum, orthogonalized: the steepest descent step in the spectral norm.

    .. math::
        m &\leftarrow \text{momentum} \cdot m + (1 - \text{momentum}) \, g \\
        d &= m \ \text{ or, nesterov, } \ (1 - \text{momentum}) \, g + \text{momentum} \cdot m \\
        x &\leftarrow (1 - \text{lr} \cdot \text{weight\_decay}) \, x
             - \text{lr} \cdot s \cdot U V^\top \quad \text{for } d = U S V^\top

    For weight matrices of hidden layers; a parameter [rows, …] is used as the matrix [rows, rest],
    and one with fewer than two dimensions raises ``ValueError``: give biases, gains and embeddings
    to AdamW. ``UVᵀ`` is approximated by ``ns_steps`` of :func:`orthogonalize`.
    ``adjust_lr_fn="original"`` (or ``None``) scales by ``s = √max(1, rows/columns)``; ``"match_rms_adamw"`` by
    ``s = 0.2 √max(rows, columns)``, the size of an AdamW step (Liu et al. 2025, Muon is Scalable for LLM Training).
    torch's documentation prints ``m <- momentum m + g``; its code averages as above. The difference is
    a factor that the normalization removes.

    Defaults: torch's; ``momentum=0.95`` with Nesterov, five steps in bfloat16.

    Source: Jordan et al., Muon: An optimizer for hidden layers in neural networks (2024, a web page).
    """

    slots = ("m",)

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = COEFFICIENTS,
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        *,
        ns_dtype: torch.dtype | None = torch.bfloat16,
        **options: Unpack[Options],
    ) -> None:
        settings = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov, "eps": eps}
        newton = {"ns_coefficients": ns_coefficients, "ns_steps": ns_steps, "ns_dtype": ns_dtype}
        super().__init__(params, {**settings, **newton, "adjust_lr_fn": adjust_lr_fn}, **options)

    def check(self, group: dict[str, Any]) -> None:
        """Ranges, and matrices only."""
        super().check(group)
        integer("ns_steps", group["ns_steps"], 1)
        choice("adjust_lr_fn", group["adjust_lr_fn"], (None, "original", "match_rms_adamw"))
        for p in group["params"]:
            if p.dim() < 2:
                raise ValueError(f"params must have two or more dimensions for Muon, got one of shape {tuple(p.shape)}")

    @staticmethod
    def scalars(step: int, *, momentum: float, nesterov: bool, **_) -> dict[str, Any]:
        """What the direction needs."""
        return {"momentum": momentum, "nesterov": nesterov}

    @staticmethod
    def direction(g: Tensor, m: Tensor, *, momentum, nesterov) -> tuple[Tensor, Tensor]:
        """Momentum, or momentum one step ahead."""
        m = average(m, g, momentum)
        return (average(m, g, momentum) if nesterov else m), m

    def look(self, block: Block, d: Tensor, group: dict[str, Any]) -> tuple[Tensor, ...]:
        """Orthogonalize one matrix after the other."""
        newton = {"steps": group["ns_steps"], "eps": group["eps"], "dtype": group["ns_dtype"]}
        for step in block.cut(d):
            matrix = step.flatten(1)
            rotation = orthogonalize(matrix, coefficients=group["ns_coefficients"], **newton)
            rows, columns = matrix.shape
            scale = math.sqrt(max(1, rows / columns))
            if group["adjust_lr_fn"] == "match_rms_adamw":
                scale = 0.2 * math.sqrt(max(rows, columns))
            step.copy_((scale * rotation).view(step.shape))
        return ()

    @staticmethod
    def update(x: Tensor, d: Tensor, *, lr, weight_decay) -> tuple[Tensor]:
        """``x <- (1 - lr weight_decay) x - lr d``; here ``d`` is ``s U Vᵀ``."""
        return ((1 - lr * weight_decay) * x - lr * d,)
