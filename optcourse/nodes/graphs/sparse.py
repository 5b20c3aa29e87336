"""Mixing matrices between torch (dense or CSR) and scipy: what ``graphs`` is built from."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from optcourse.arguments import choice

DTYPES = (torch.float32, torch.float64)


def tensor(n: int, i: np.ndarray, j: np.ndarray, value: np.ndarray, dtype: torch.dtype, sparse: bool) -> Tensor:
    """The matrix with the entries W[i, j] = value, dense or CSR; several for one place are added."""
    choice("dtype", dtype, DTYPES)
    W = sp.csr_array((value, (i, j)), shape=(n, n))
    return as_torch(W, dtype) if sparse else torch.from_numpy(W.toarray()).to(dtype)


def as_torch(W: sp.csr_array, dtype: torch.dtype) -> Tensor:
    """A CSR matrix of scipy, square or not, as a CSR tensor."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse", UserWarning)  # torch calls CSR tensors a beta feature
        return torch.sparse_csr_tensor(
            torch.from_numpy(W.indptr).long(),
            torch.from_numpy(W.indices).long(),
            torch.from_numpy(W.data).to(dtype),
            W.shape,
            check_invariants=True,
        )


def csr(W: Tensor) -> sp.csr_array:
    """A dense or CSR tensor as a float64 matrix of scipy."""
    if not isinstance(W, Tensor):
        raise TypeError(f"W must be a tensor, got {type(W).__name__}")
    if W.ndim != 2 or W.layout not in (torch.strided, torch.sparse_csr) or W.dtype not in DTYPES:
        got = f"{W.layout}, {W.dtype}, shape {list(W.shape)}"
        raise ValueError(f"W must be a dense or CSR matrix of float32 or float64, got {got}")
    W = W.detach().cpu().double()
    if W.layout == torch.strided:
        return sp.csr_array(W.numpy())
    parts = (W.values(), W.col_indices(), W.crow_indices())
    return sp.csr_array(tuple(part.numpy() for part in parts), shape=tuple(W.shape))


def component_sizes(links: sp.sparray) -> list[int]:
    """How many nodes the strongly connected components have, the largest first."""
    return sorted(np.bincount(connected_components(links, connection="strong")[1]).tolist(), reverse=True)


def listed(items: Iterable) -> str:
    """The first eight of them."""
    items = list(items)
    return ", ".join(map(str, items[:8])) + (", ..." if len(items) > 8 else "")
