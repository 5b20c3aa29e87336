"""State dicts: complete copies when they are saved; torch's names, and no others, when they are loaded."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

#: Our names for what ``torch.optim`` keeps; where the same name means something else, the class says so.
TORCH_NAMES = {
    "exp_avg": "m",
    "momentum_buffer": "m",
    "exp_avg_sq": "v",
    "square_avg": "v",
    "sum": "v",
    "max_exp_avg_sq": "v_max",
    "exp_inf": "u",
    "acc_delta": "u",
    "grad_avg": "mean",
}


def complete_copies(optimizer: Any, saved: dict[str, Any]) -> None:
    """A hook that turns every entry into a copy: a view would drag its whole vector into the file.

    A vector that the settings need, but that is missing since they changed, is saved with its initial value.
    """
    for group, packed in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        slots = optimizer.initial_slots(group)
        for p, key in zip(group["params"], packed["params"], strict=True):
            if entries := saved["state"].get(key):
                fresh = {name: torch.full_like(p, start) for name, start in slots.items() if name not in entries}
                saved["state"][key] = fresh | {k: v.clone() if isinstance(v, Tensor) else v for k, v in entries.items()}


def translated(optimizer: Any, loaded: dict[str, Any]) -> dict[str, Any]:
    """Groups and state as ``load_state_dict`` read them, in our names; ``ValueError`` for what is missing or unknown.

    Settings that an older state dict lacks get this optimizer's defaults.
    """
    entries = loaded["state"].copy()
    for group in loaded["param_groups"]:
        for name, default in optimizer.defaults.items():
            group.setdefault(name, default)
        optimizer.check(group)
        needed = {*optimizer.counters, *optimizer.initial_slots(group)}
        for p in group["params"]:
            if ours := optimizer.from_torch(entries.get(p, {})):
                named = {"misses": needed - ours.keys(), "has": ours.keys() - {*optimizer.counters, *optimizer.slots}}
                if any(named.values()):
                    found = " and ".join(f"{verb} {', '.join(sorted(names))}" for verb, names in named.items() if names)
                    known = ", ".join(sorted(needed))
                    raise ValueError(f"state_dict {found}: {type(optimizer).__name__} keeps {known} of every parameter")
                entries[p] = {k: v.clone() if isinstance(v, Tensor) else v for k, v in ours.items()}
    return {**loaded, "state": entries}


def renamed(entries: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """One parameter's entries in our names. torch's SGD and Muon do not count: their buffer says there was a step."""
    ours = {names.get(name, name): value for name, value in entries.items() if value is not None}
    return {"step": 1, **ours} if ours and "momentum_buffer" in entries else ours
