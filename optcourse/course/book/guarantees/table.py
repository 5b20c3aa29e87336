"""All guarantees of ``optcourse.theory``, all their instances, and the formulas that need none."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

from optcourse import theory
from optcourse.course.book.guarantees import compression, delays, descent, many_nodes, noise, tilted
from optcourse.course.book.guarantees.instance import Instance

#: The topic that an exact formula belongs to; that of a guarantee is its instance's.
_EXACT = {
    "02.2": "sampling.minibatch_variance",
    "02.4": "sgd.sgd_step",
    "02.7": "quadratic.sgd_moments quadratic.expected_gap quadratic.noise_floor",
    "02.8": "sgd.sgd_iters",
    "03.1": "gradient_descent.gd_contraction",
    "03.2": "saddles.escape_steps saddles.plateau_time saddles.positive_definite_share",
    "03.3": "newton.newton_radius",
    "04.1": "momentum.hb_radius momentum.hb_is_stable",
    "04.2": "momentum.nag_radius",
    "04.4": "momentum.hb_parameters momentum.nag_coefficient",
    "04.5": "momentum.lessard_counterexample",
    "04.6": "momentum.hb_stationary_variance momentum.nag_stationary_variance",
    "05.4": "adaptive.adam_moments adaptive.adam_gain",
    "05.6": "adaptive.radam_length adaptive.radam_rectification adaptive.adaptive_rate_variance",
    "05.9": "adaptive.reddi_problem",
    "07.2": "decay.sgdw_to_l2",
    "07.4": "decay.equilibrium_norm decay.norm_growth",
    "08.4": "signal_residual.relu_cosine signal_residual.mean_share",
    "08.5": "signal_residual.skip_moment signal_residual.branch_to_skip",
    "09.2": "signal.length_spread",
    "09.3": "signal.squared_singular_values",
    "10.1": "lookahead.stability_edge lookahead.moments lookahead.noise_floor",
    "11.1": "sharpness.noisy_wells sharpness.swap_noise sharpness.swap_radius",
    "11.3": "sharpness.worst_perturbation",
    "11.4": "sharpness.sam_cycle sharpness.sam_cycle_factors",
    "13.2": "batch.linear_scaling_edge",
    "13.6": "batch.noise_scale batch.optimal_step batch.noise_scale_from_norms batch.noise_scale_from_gradients",
    "14.2": "communication.ring_crossover_bytes",
    "15.5": "bound.transient",
    "16.2": "local.fedavg_fixed_point",
    "17.1": "gossip.mixing_rate",
    "17.2": "gossip.dsgd_transient",
    "17.3": "gossip_exact.dsgd_fixed_point gossip_exact.gradient_tracking_rate",
    "17.4": "compressed_gossip.choco_gossip_step",
    "18.2": "asynchrony.delay_max_step asynchrony.delay_best_step asynchrony.delay_radius asynchrony.delay_noise_floor",
    "18.3": "asynchrony.random_assignment_rate",
    "19.2": "byzantine.breakdown byzantine.kappa byzantine.kappa_lower_bound byzantine.clipping_radius "
    "byzantine.clipping_step",
}
TOPICS = {place: topic for topic, places in _EXACT.items() for place in places.split()}


def instances() -> list[Instance]:
    """Every instance, in the order of the modules."""
    modules = (descent, noise, tilted, many_nodes, delays, compression)
    return [instance for module in modules for instance in module.INSTANCES]


def guarantees() -> dict[str, Callable[..., Any]]:
    """``module.function`` -> every function of the theory that returns a ``Bound`` or has an instance."""
    instanced = {instance.guarantee for instance in instances()}
    return {place(f): f for f in _functions() if _returns_bound(f) or f in instanced}


def exact_formulas() -> dict[str, Callable[..., Any]]:
    """``module.function`` -> the other functions of the theory whose docstring has a statement."""
    return {place(f): f for f in _functions() if "Statement" in (f.__doc__ or "") and place(f) not in guarantees()}


def place(function: Callable[..., Any]) -> str:
    """How the handbook names a function: ``sgd.sgd_bound``."""
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


def _returns_bound(function: Callable[..., Any]) -> bool:
    return inspect.signature(function).return_annotation == "Bound"


@functools.cache
def _functions() -> list[Callable[..., Any]]:
    """The public functions of the theory, module by module in the order in which they are written."""
    found = []
    for module in pkgutil.walk_packages(theory.__path__, "optcourse.theory."):
        members = inspect.getmembers(importlib.import_module(module.name), inspect.isfunction)
        own = [f for name, f in members if f.__module__ == module.name and not name.startswith("_")]
        found += sorted(own, key=lambda f: f.__code__.co_firstlineno)
    return found
