"""The smallest and the largest arguments that docstrings allow are taken, and the next ones beyond are named; and what
an argument is that is not given.
"""

import importlib
import inspect
import pkgutil

import pytest

from optcourse import theory
from optcourse.theory import (
    adaptive,
    asynchrony,
    batch,
    byzantine,
    communication,
    compressed_gossip,
    compression,
    decay,
    gossip,
    local,
    lookahead,
    momentum,
    sampling,
    sharpness,
    tilted,
)
from optcourse.theory.networks import saddles, signal, signal_residual

TWO = {"L": 2.0, "delta0": 3.0, "sigma2": 0.5, "zeta2": 0.7}
AVERAGE = [[0.5, 0.5], [0.5, 0.5]]
CHOCO = {"spectral_gap": 0.4, "delta": 0.3, "beta": 1.2}
FLAT = {"training_loss": 0.25, "worst_loss": 0.5, "w2": 3.0, "rho": 0.5, "k": 4, "n": 900, "delta": 0.1}
WELLS = {"x": [[0.0]], "depths": [0.5], "centers": [[0.0]], "widths": [1.0]}
SLOW = {"eigenvalues": 0.5, "noise_variances": 0.2, "lr": 0.3}

#: Calculator, its other arguments, the argument with a range, values at or just inside its ends, values just outside.
RANGES = [
    (adaptive.adam_moments, {"mean": 0.0, "steps": 1, "betas": (0.5, 0.5)}, "second_moment", [0.0, 0.3], [-1e-9]),
    (adaptive.adam_moments, {"second_moment": 0.81, "steps": 1, "betas": (0.5, 0.5)}, "mean", [-0.9, 0.9], [0.901]),
    (adaptive.adam_gain, {"betas": (0.5, 0.9)}, "steps", [1, 1.3], [0.99]),
    (adaptive.adam_gain, {"steps": 3}, "betas", [(0.0, 0.0), (0.999, 0.999)], [(1.0, 0.5), (0.5, 1.0), (-1e-9, 0.5)]),
    (adaptive.reddi_problem, {}, "C", [2.0001, 2.5], [2.0]),
    (asynchrony.async_max_step, {"L": 2.0}, "delay", [0, 1, 1.2], [-1e-9, 0.3, 0.999]),
    (asynchrony.delay_max_step, {"eigenvalue": 2.0}, "delay", [0, 1], [-1, 0.5, 1.5]),
    (asynchrony.delay_radius, {"eigenvalue": 2.0, "lr": 0.1}, "delay", [0, 1], [-1]),
    (batch.linear_scaling_edge, {"lr": 0.1, "L": 3.0}, "momentum", [0.0, 0.999], [-1e-9, 1.0]),
    (batch.linear_scaling_error, {"lr": 0.1, "L": 3.0, "G": 2.0}, "steps", [1, 1.4], [0.999]),
    (byzantine.breakdown, {"rule": "median"}, "n_nodes", [1, 2], [0]),
    (byzantine.kappa, {"rule": "median", "n_byzantine": 0}, "n_nodes", [1, 2], [0]),
    (byzantine.kappa, {"rule": "median", "n_nodes": 5}, "n_byzantine", [0, 5], [-1, 6]),
    (byzantine.kappa_lower_bound, {"n_byzantine": 0}, "n_nodes", [1], [0]),
    (byzantine.kappa_lower_bound, {"n_nodes": 5}, "n_byzantine", [0, 5], [-1, 6]),
    (byzantine.clipping_step, {"distance": 1.0, "variance": 2.0, "n_byzantine": 1}, "n_nodes", [1], [0]),
    (byzantine.clipping_step, {"distance": 1.0, "variance": 2.0, "n_nodes": 5}, "n_byzantine", [1, 5], [0, 6]),
    *(
        (
            communication.communication_time,
            {"pattern": p, "message_bytes": 3, "latency": 2, "seconds_per_byte": 1},
            "n_nodes",
            [1, 2],
            [0, 1.5],
        )
        for p in communication.PATTERNS
        if p != "gossip"
    ),
    (
        communication.communication_time,
        {"pattern": "gossip", "message_bytes": 3, "latency": 2, "seconds_per_byte": 1, "n_nodes": 4},
        "degree",
        [0, 1, 3],
        [-1, 4, 0.5],
    ),
    (
        communication.all_reduce_lower_bound,
        {"message_bytes": 3, "latency": 2, "seconds_per_byte": 1},
        "n_nodes",
        [1, 2],
        [0],
    ),
    (communication.ring_crossover_bytes, {"latency": 2, "seconds_per_byte": 1}, "n_nodes", [2, 3], [1]),
    (communication.throughput_speedup, {"compute_time": 3, "communication_time": 1}, "n_nodes", [1, 2], [0]),
    (communication.sparse_ratio, {"size": 5, "kept": 2}, "value_bits", [1], [0]),
    (communication.sparse_ratio, {"size": 5, "kept": 2}, "index_bits", [0, 1], [-1]),
    (communication.sparse_ratio, {"size": 5}, "kept", [1, 5], [0, 6]),
    (communication.quantized_ratio, {"size": 5}, "bits", [1], [0]),
    (communication.quantized_ratio, {"bits": 5}, "size", [1], [0]),
    (communication.low_rank_ratio, {"rows": 5, "columns": 4}, "rank", [1, 4], [0, 5]),
    (compressed_gossip.choco_gossip_step, CHOCO, "spectral_gap", [1e-3, 1.0], [0.0, 1.0001]),
    (compressed_gossip.choco_gossip_step, CHOCO, "delta", [1e-3, 1.0], [0.0, 1.0001]),
    (compressed_gossip.choco_gossip_step, CHOCO, "beta", [0.0, 2.0], [-1e-9, 2.0001]),
    (compression.ef_memory, {"G2": 2.0, "lr": 0.1}, "delta", [1e-3, 1.0], [0.0, 1.0001]),
    (compression.qsgd_variance, {"vector": [1.0, 2.0]}, "levels", [1, 2], [0]),
    (compression.qsgd_omega, {"size": 4}, "levels", [1, 2], [0]),
    (compression.qsgd_omega, {"levels": 4}, "size", [1, 2], [0]),
    (compression.delta_sparse, {"size": 4}, "kept", [1, 4], [0, 5]),
    (compression.delta_sparse, {"kept": 1}, "size", [1, 2], [0]),
    (compression.delta_top_k, {"vector": [1.0, 2.0]}, "kept", [1, 2], [0, 3]),
    (compression.delta_low_rank, {"matrix": [[1.0, 2.0], [3.0, 4.0]]}, "rank", [1, 2], [0, 3]),
    (decay.sgdw_fixed_point, {"curvature": 1, "center": 2, "weight_decay": 1}, "momentum", [0, 0.99], [-1e-9, 1]),
    (decay.equilibrium_rotation, {"weight_decay": 0.5}, "lr", [1.99], [2.0]),
    (gossip.dsgd_max_step, {"L": 2.0}, "spectral_gap", [1e-3, 1.0], [0.0, 1.0001]),
    (gossip.dsgd_bound, TWO | {"spectral_gap": 0.5, "steps": 5, "lr": 0.1}, "n_nodes", [1, 1.3], [0.99]),
    (gossip.dsgd_tuned, TWO | {"spectral_gap": 0.5, "steps": 5}, "n_nodes", [1, 1.3], [0.99]),
    (gossip.mixing_rate, {"topology": "ring"}, "n_nodes", [3, 4], [2]),
    (gossip.mixing_rate, {"topology": "path"}, "n_nodes", [3, 4], [2]),
    (gossip.mixing_rate, {"topology": "star"}, "n_nodes", [3, 4], [2]),
    (gossip.mixing_rate, {"topology": "torus"}, "n_nodes", [9, 16], [4, 8]),
    (gossip.mixing_rate, {"topology": "hypercube"}, "n_nodes", [2, 4], [1, 3]),
    (gossip.mixing_rate, {"topology": "exponential"}, "n_nodes", [2, 3], [1]),
    (gossip.mixing_rate, {"topology": "one_peer_exponential"}, "n_nodes", [2, 3], [1]),
    (gossip.mixing_rate, {"topology": "complete"}, "n_nodes", [2, 3], [1]),
    (local.local_sgd_bound, TWO | {"local_steps": 2, "steps": 5, "lr": 0.1}, "n_nodes", [1, 1.3], [0.99]),
    (local.local_sgd_tuned, TWO | {"local_steps": 2, "steps": 5}, "n_nodes", [1, 1.3], [0.99]),
    (local.local_sgd_max_step, {"L": 2.0}, "local_steps", [1, 1.3], [0.99]),
    (local.fedavg_contraction, {"curvatures": [1.0, 2.0], "lr": 0.1}, "local_steps", [1, 2], [0]),
    (lookahead.stability_edge, {"alpha": 0.5}, "k", [1, 2], [0, 1.5]),
    (lookahead.stability_edge, {"k": 3}, "alpha", [1e-3, 1.0], [0.0, 1.0001]),
    (lookahead.moments, SLOW | {"x0": 1.0, "k": 2, "alpha": 0.5}, "outer_steps", [0, 1], [-1, 0.5]),
    (lookahead.noise_floor, SLOW | {"k": 2, "alpha": 0.5}, "fast_steps", [0, 1], [-1, 0.5]),
    (lookahead.best, {"eigenvalues": [1.0], "x0": 1.0, "noise_variances": 0.1, "k": 1}, "steps", [1, 2], [0]),
    (momentum.hb_radius, {"eigenvalues": 1.0, "lr": 0.1}, "momentum", [0.0, 0.999], [-1e-9, 1.0]),
    (sampling.minibatch, {"batch_size": 1}, "n", [1, 2], [0]),
    (sampling.minibatch, {"n": 4}, "batch_size", [1, 4], [0, 5]),
    (sampling.with_replacement, {"probabilities": [0.25, 0.75]}, "batch_size", [1, 2], [0]),
    (sampling.with_replacement, {}, "probabilities", [[1.0], [0.3, 0.7]], [[0.3, 0.8], [0.3, 0.6], [0.0, 1.0]]),
    (sampling.independent, {}, "probabilities", [[1e-3, 1.0], 0.5], [[0.0, 0.5], [1.001]]),
    (sampling.minibatch_variance, {"gradients": [[1.0], [3.0]]}, "batch_size", [1, 5], [0]),
    (sampling.minibatch_variance, {"gradients": [[1.0], [3.0]], "replace": False}, "batch_size", [1, 2], [0, 3]),
    (saddles.positive_definite_share, {}, "dim", [1, 8], [0, 9]),
    (sharpness.worst_perturbation, {"gradient": [1.0, -2.0], "rho": 0.5}, "p", [1, 1.2], [0.999]),
    (sharpness.sam_cycle, {"curvature": 2.0, "rho": 0.5}, "lr", [0.999], [1.0]),
    (sharpness.sam_cycle_factors, {"eigenvalues": [1.0, 2.0], "lr": 0.1}, "along", [0, 1], [-1, 2]),
    (sharpness.noisy_wells, WELLS, "depths", [[1e-3], [1.0]], [[0.0], [1.001]]),
    (sharpness.swap_noise, {"sharp": (1.0, 0.5)}, "flat", [(0.3, 9.0)], [(0.0, 9.0), (0.5, 0.0)]),
    (sharpness.swap_noise, {"flat": (0.5, 2.0)}, "sharp", [(1.0, 0.5)], [(1.0001, 0.5)]),
    (sharpness.swap_noise, {"flat": (0.5, 2.0), "sharp": (1.0, 0.5)}, "dimension", [1, 1.3], [0.99]),
    *(
        (sharpness.flatness_bound, FLAT, name, inside, outside)
        for name, inside, outside in (
            ("training_loss", [0.0, 0.5], [-1e-9, 0.5001]),
            ("worst_loss", [0.25, 1.0], [0.2499, 1.0001]),
            ("k", [1, 1.3], [0.99]),
            ("n", [2, 2.3], [1.99]),
            ("delta", [1e-3, 0.999], [0.0, 1.0]),
        )
    ),
    (signal.fixed_point, {"sigma_b2": 0.1, "activation": "relu"}, "sigma_w2", [0.0, 1.99], [-1e-9, 2.0]),
    (
        signal.correlation_map,
        {"q": 1.0, "sigma_w2": 1.0, "sigma_b2": 0.1, "activation": "tanh"},
        "c",
        [-1.0, 1.0],
        [-1.0001, 1.0001],
    ),
    (signal.length_spread, {"q": 0.5, "sigma_w2": 1.0, "activation": "tanh"}, "width", [1, 2], [0]),
    (signal.chi, {"sigma_w2": 1.0, "activation": "tanh"}, "q", [0.0, 1000.0], [-1e-9, 1000.1]),
    (signal_residual.relu_cosine, {}, "cosine", [-1.0, 1.0], [-1.0001, 1.0001]),
    (signal_residual.mean_share, {"inputs": [[1.0, 0.0], [0.0, 1.0]]}, "depth", [0, 1], [-1]),
    (signal_residual.skip_moment, {"q0": 2.0, "normalized": True}, "blocks", [0, 0.5], [-1e-9]),
    (signal_residual.branch_to_skip, {"q0": 2.0, "normalized": True}, "block", [1, 1.3], [0.99]),
    (tilted.away_from_extreme, {"t": 2.0}, "n", [1, 1.3], [0.99]),
    (tilted.away_from_extreme, {"n": 3}, "t", [-1e-9, 1e-9], [0.0]),
    (tilted.quantile_bound, {"losses": [1.0, 2.0], "t": 0.5}, "q", [0.0, 0.999], [-1e-9, 1.0]),
    (tilted.superquantile_bound, {"losses": [1.0, 2.0], "t": 0.5}, "q", [0.0, 0.999], [-1e-9, 1.0]),
]


@pytest.mark.parametrize(
    ("calculator", "others", "argument", "inside", "outside"), RANGES, ids=[f"{r[0].__name__}-{r[2]}" for r in RANGES]
)
def test_a_range_ends_where_it_says(calculator, others, argument, inside, outside):
    for value in inside:
        calculator(**others | {argument: value})
    for value in outside:
        with pytest.raises((ValueError, TypeError), match=r"must|needs"):
            calculator(**others | {argument: value})


#: What numbers are that are not given: one sample, one node, no momentum, no noise, numbers of single precision.
DEFAULTS = {
    **dict.fromkeys(("batch_size", "n_nodes", "rank", "chi", "dimension"), 1),
    **dict.fromkeys(("momentum", "noise", "fast_steps"), 0),
    **dict.fromkeys(("value_bits", "index_bits"), 32),
    **{"confidence": 0.95, "delta": 0.05, "p": 2},
}


def test_arguments_that_are_not_given():
    found = set()
    for module in pkgutil.walk_packages(theory.__path__, "optcourse.theory."):
        for name, function in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction):
            ours = function.__module__ == module.name and not name.startswith("_")
            for argument in inspect.signature(function).parameters.values() if ours else ():
                if type(argument.default) in (int, float):
                    assert argument.default == DEFAULTS[argument.name], f"{module.name}.{name}"
                    found.add(argument.name)
    assert found == set(DEFAULTS)
