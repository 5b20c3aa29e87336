"""Every guarantee at one point whose arguments are all away from 1 and from each other.

An instance with L = 1 or one node cannot tell L from L^2, nor a sum over nodes from one node.
"""

import importlib
import inspect
import pkgutil

import numpy as np

from optcourse import theory

#: Name of an argument -> its unit and its value; lr is within every limit of a step size.
ARGUMENTS = {
    "L": ("loss/length^2", 2.3),
    "mu": ("loss/length^2", 0.7),
    "smoothness": ("loss/length^2", 2.9),
    "eigenvalue": ("loss/length^2", 1.3),
    "M": ("loss/length^3", 0.23),
    "G": ("loss/length", 2.6),
    "R": ("length", 1.7),
    "r": ("length", 0.6),
    "D_inf": ("length", 1.6),
    "rho": ("length", 0.55),
    "delta0": ("loss", 1.9),
    "spread": ("loss", 2.2),
    "sigma2": ("loss^2/length^2", 3.1),
    "sigma2_opt": ("loss^2/length^2", 2.1),
    "zeta2": ("loss^2/length^2", 2.7),
    "G2": ("loss^2/length^2", 5.3),
    "memory2": ("length^2", 0.33),
    "w2": ("length^2", 35.0),
    "e0": ("length^2", 4.1),
    "t": ("1/loss", 0.37),
    "lr": ("length^2/loss", 0.031),
    "losses": ("loss", [0.4, 1.1, 2.6, 3.0]),
    "gradients": ("loss/length", [[0.5, -1.4], [2.0, 0.3], [-0.7, 0.9]]),
    "omega": ("1", 2.4),
    "kappa": ("1", 0.45),
    "delta": ("1", 0.3),
    "beta": ("1", 1.4),
    "spectral_gap": ("1", 0.35),
    "consensus_lr": ("1", 0.004),
    "q": ("1", 0.6),
    "training_loss": ("1", 0.11),
    "worst_loss": ("1", 0.19),
    "steps": ("1", 7),
    "n_nodes": ("1", 5),
    "local_steps": ("1", 3),
    "delay": ("1", 4),
    "batch_size": ("1", 6),
    "shift": ("1", 61.0),
    "k": ("1", 40),
    "n": ("1", 3000),
}
#: Where an argument means something else.
OTHERWISE = {
    "conjugate_gradients": {"R": ("loss^0.5", 1.7)},  # the energy norm
    "sgd_convex": {"lr": ("length^2/loss", [0.3, 0.2, 0.05])},
    "tune_step": {
        "r0": ("loss", 1.9),
        "b": ("loss^3/length^4", 0.43),
        "e": ("loss^4/length^6", 0.81),
        "d": ("loss/length^2", 3.3),
    },
}


def guarantees():
    """All calculators that return a ``Bound``, by name."""
    found = {}
    for module in pkgutil.walk_packages(theory.__path__, "optcourse.theory."):
        for name, function in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction):
            if function.__module__ == module.name and inspect.signature(function).return_annotation == "Bound":
                found[name] = function
    return found


def point(function):
    """Name of an argument -> (unit, value)."""
    known = ARGUMENTS | OTHERWISE.get(function.__name__, {})
    return {name: known[name] for name in inspect.signature(function).parameters}


def at(function, **changed):
    """The guarantee at its point, but for the arguments in ``changed``."""
    return function(**{name: value for name, (_, value) in point(function).items()} | changed)


def powers(unit):
    """The powers of loss and length in a unit such as ``loss^2/length^3``."""
    found = dict.fromkeys(("loss", "length"), 0.0)
    for sign, part in zip((1, -1), (unit + "/1").split("/"), strict=False):
        if part != "1":
            name, _, power = part.partition("^")
            found[name] += sign * float(power or 1)
    return found["loss"], found["length"]


def in_other_units(value, unit, loss, length):
    """A quantity whose loss is measured in units that are ``loss`` times smaller, and whose lengths alike."""
    loss_power, length_power = powers(unit)
    if loss_power == length_power == 0:
        return value
    return np.asarray(value) * loss**loss_power * length**length_power
