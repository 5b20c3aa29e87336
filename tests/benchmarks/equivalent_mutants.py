"""Edits of constants that change nothing that a caller could see, and why: what ``mutate_theory.py`` lets survive.

Each is the module, the function, the edited line and the reason; the script checks that the edit still exists, and that
it still survives.
"""

INTEGER = "an integer is above 1.5 where it is above 1"
ZEROS = "what a row of zeros is divided by: it stays zero"
UNIT = "the unit of the Gram matrix: any power of two near the rows' lengths will do"
SQUARE = "the matrices are square: both sides are the same number"
FAR = "how far beyond the measured batch sizes the noise scale is sought"
SPEED = "which of two ways to the same sums is taken"
TURNS = "where two formulas take turns: both keep their digits there"
BISECTION = "where the bisection starts; it ends at the same step"

EQUIVALENT: list[tuple[str, str, str, str]] = [
    (
        "theory/distributed/local.py",
        "fedavg_fixed_point",
        "pull = np.eye(A.shape[2]) - _kept(A, local_steps, lr)",
        SQUARE,
    ),
    (
        "theory/distributed/local.py",
        "_kept",
        "return np.linalg.matrix_power(np.eye(A.shape[2]) - gamma * A, tau)",
        SQUARE,
    ),
    (
        "theory/distributed/local.py",
        "_curvatures",
        "return A.reshape(-2, 1, 1)",
        "numpy takes every negative side for the one to be found out",
    ),
    (
        "theory/batch.py",
        "steps_to_target.steps",
        "high, low = trials[place], np.where(place > 1, trials[place - 1], 0)",
        BISECTION,
    ),
    (
        "theory/batch.py",
        "steps_to_target.steps",
        "high, low = trials[place], np.where(place > 0, trials[place - 2], 0)",
        BISECTION,
    ),
    (
        "theory/batch.py",
        "steps_to_target.steps",
        "high, low = trials[place], np.where(place > 0, trials[place - 1], 1)",
        BISECTION,
    ),
    ("theory/batch.py", "steps_to_target.steps", "while (high - low > 1.5).any():", INTEGER),
    (
        "nodes/byzantine/aggregators.py",
        "_weiszfeld",
        "force = ((U @ gram) * U).sum(1).clamp(min=1).sqrt()",
        "compared with the number of rows at one place, which is at least 1",
    ),
    (
        "nodes/byzantine/vectors.py",
        "centred_gram",
        "unit = 2.0 ** max(-1533.0, int(torch.frexp(typical).exponent) - 1)",
        UNIT,
    ),
    (
        "nodes/byzantine/vectors.py",
        "centred_gram",
        "unit = 2.0 ** max(-1023, int(torch.frexp(typical).exponent) - 1)",
        UNIT,
    ),
    (
        "nodes/byzantine/vectors.py",
        "centred_gram",
        "unit = 2.0 ** max(-1022, int(torch.frexp(typical).exponent) - 2)",
        UNIT,
    ),
    (
        "nodes/byzantine/vectors.py",
        "lengths",
        "return largest[:, 0] * torch.linalg.vector_norm(Y / largest.where(largest > 0, 1.5), dim=1)",
        ZEROS,
    ),
    (
        "nodes/byzantine/vectors.py",
        "lengths",
        "return largest[:, 0] * torch.linalg.vector_norm(Y / largest.where(largest > 0, 2), dim=1)",
        ZEROS,
    ),
    (
        "nodes/messages/compressors.py",
        "low_rank",
        "sides = [(shape[0], math.prod(shape[1:])) for shape in shapes if len(shape) > 1.5]",
        INTEGER,
    ),
    *(
        ("nodes/messages/compressors.py", "qsgd.compress", f"r = s * (p.abs() / scale.where(scale > 0, {new}))", ZEROS)
        for new in ("1.5", "2")
    ),
    *(
        (
            "nodes/messages/compressors.py",
            "_norms",
            f"unit = buckets / largest.where(largest > 0, {new})[..., None]"
            "  # squares of small or large entries stay in range",
            ZEROS,
        )
        for new in ("1.5", "2")
    ),
    *(
        (
            "theory/batch.py",
            "fit_steps",
            f"low, high = [-np.inf, np.log(B.min()) - {low}], [np.inf, np.log(B.max()) + {high}]",
            FAR,
        )
        for low, high in (("30.0", "20"), ("21", "20"), ("20", "30.0"), ("20", "21"))
    ),
    (
        "theory/tilted.py",
        "weights",
        "extreme = np.where(t > 1, x.max(-1), x.min(-1))[..., None]",
        "what is taken from the losses before softmax, which does so itself; it counts for infinite t alone",
    ),
    *(
        ("theory/tilted.py", function, line.format(new), TURNS)
        for function, line in (
            ("value", "above = np.where(spread <= EPS, away.mean(-1), np.where(spread <= {}, near, far) / t)"),
            ("slope", "divergence = np.where(spread <= {}, near, far) / t**2"),
        )
        for new in ("1.5", "2")
    ),
    *(
        (
            "theory/tilted.py",
            "quantile_bound",
            f"found = np.where(np.abs(s) <= EPS, above / p, np.where(s > {new}, high, low))",
            TURNS,
        )
        for new in ("1.5", "2")
    ),
    (
        "theory/tilted.py",
        "_tilts",
        'real("t", np.where(np.isinf(tilts), 1, tilts))',
        "any finite number in the place of those that need no check",
    ),
    *(
        (
            "theory/sharpness.py",
            "worst_perturbation",
            f"u = np.abs(g) / np.where(largest > 0, largest, {new})  # so that no power overflows",
            ZEROS,
        )
        for new in ("1.5", "2.0")
    ),
    *(
        (
            "theory/sharpness.py",
            "worst_perturbation",
            f"return rho * np.sign(g) * u**power / np.where(length > 0, length, {new})",
            ZEROS,
        )
        for new in ("1.5", "2.0")
    ),
    (
        "nodes/messages/factors.py",
        "matrix_views",
        "matrices = [part.unflatten(1, (shape[0], -1)) for part, shape in parts if len(shape) > 1.5]",
        INTEGER,
    ),
    *(("nodes/network/mixing.py", "", f"SPARSE_FROM = {new}", SPEED) for new in ("96.0", "65")),
]
