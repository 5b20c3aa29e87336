"""What users hand to an optimizer, settings and state dicts: what it may be, and errors that name what it is not."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from optcourse.arguments import real

#: The allowed interval of every number.
RANGES = {
    "lr": "[0, inf)",
    "momentum": "[0, 1)",
    "dampening": "[0, 1]",
    "betas": "[0, 1)",
    "alpha": "[0, 1)",
    "rho": "[0, 1)",
    "eps": "[0, inf)",
    "weight_decay": "[0, inf)",
    "lr_decay": "[0, inf)",
    "initial_accumulator_value": "[0, inf)",
    "momentum_decay": "[0, inf)",
    "trust": "(0, inf)",
    "delta": "[0, inf)",
    "wd_ratio": "[0, 1]",
}
SWITCHES = ("nesterov", "amsgrad", "centered", "decoupled_weight_decay", "maximize", "compile")
#: torch's hints on speed, which mean the same here whatever they are; and what only torch's optimizers can do.
HINTS, TORCHS = ("foreach", "fused"), ("capturable", "differentiable")


class Options(TypedDict, total=False):
    """What every optimizer takes besides its settings; see :class:`optcourse.optim.engine.optimizer.FlatOptimizer`."""

    compile: bool
    maximize: bool
    foreach: bool | None
    fused: bool | None
    capturable: bool
    differentiable: bool


def number(value: Any, keep: type | tuple[type, ...] = ()) -> Any:
    """Numbers of NumPy and tensors of one element as plain numbers, also inside a pair or a dict; the rest as it is."""
    if isinstance(value, dict):
        return {name: number(v, keep) for name, v in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(number(v, keep) for v in value)
    if isinstance(value, keep) or not isinstance(value, (np.generic, np.ndarray, Tensor)):
        return value
    return value.item() if (value.numel() if isinstance(value, Tensor) else value.size) == 1 else value


def check_group(group: dict[str, Any]) -> None:
    """Raise ``ValueError`` or ``TypeError`` that names a setting outside its range; labels are not looked at."""
    for name, value in number({name: value for name, value in group.items() if name != "params"}).items():
        if name == "betas":
            if not isinstance(value, (tuple, list)) or len(value) != 2:
                raise ValueError(f"betas must be a pair of numbers in [0, 1), got {value!r}")
            for i, beta in enumerate(value):
                check_number(f"betas[{i}]", beta, RANGES[name])
        elif name in RANGES:
            check_number(name, value, RANGES[name])
        elif name in (*SWITCHES, *TORCHS) or (name in HINTS and value is not None):
            if not isinstance(value, bool):
                raise TypeError(f"{name} must be a bool, got {value!r}")
            if name in TORCHS and value:
                raise ValueError(f"{name} must be False: the optimizers of optcourse have no such form, got True")


def check_number(name: str, value: Any, interval: str) -> None:
    """Raise an error that names the number when it is outside an interval such as ``"[0, 1)"``."""
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a real number, got {value!r}")
    low, high = map(float, interval[1:-1].split(","))
    real(name, value, low, high, open_low=interval[0] == "(", open_high=interval[-1] == ")")


def check_names(method: str, names: Iterable[str], settings: Iterable[str], error: type[Exception] = TypeError) -> None:
    """Raise ``error`` for a name in a parameter group that is, or is meant as, a setting the method has not.

    Other names are labels, which torch's users and schedulers put into groups.
    """
    settings, labels = [*settings], ("params", "param_names", "name", "initial_lr", *HINTS, *TORCHS)
    for name in names:
        if name in settings or name in labels:
            continue
        meant = difflib.get_close_matches(name, settings, n=1, cutoff=0.8)
        if meant or name in RANGES or name in SWITCHES:
            hint = f", did you mean {meant[0]!r}?" if meant else f"; its settings are {', '.join(settings)}"
            raise error(f"{method} has no setting {name!r} in a parameter group{hint}")


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
                ours = slots if optimizer.counters.keys() <= entries.keys() else {}  # else only a wrapper's state
                fresh = {name: torch.full_like(p, start) for name, start in ours.items() if name not in entries}
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
        check_names(type(optimizer).__name__, group, optimizer.defaults, ValueError)
    return {**loaded, "state": entries}


def renamed(entries: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """One parameter's entries in our names. torch's SGD and Muon do not count: their buffer says there was a step."""
    ours = {names.get(name, name): value for name, value in entries.items() if value is not None}
    return {"step": 1, **ours} if ours and "momentum_buffer" in entries else ours
