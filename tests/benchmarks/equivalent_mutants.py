"""Edits of constants that change nothing that a caller could see, and why: what ``mutate_theory.py`` lets survive.

The script checks that each edit still exists, once, and that it still survives.
"""

ZEROS = "what a row of zeros is divided by: it stays zero"
BISECTION = "where the bisection starts; it ends at the same step"
FAR = "how far beyond the measured batch sizes the noise scale is sought"
TURNS = "where two formulas take turns: both keep their digits there"
BLOCKS = "how many messages are decoded at a time; the sums are the same"
SPEED = "which of two ways to the same sums is taken"

#: Reason, module, function, edited lines.
GROUPS = [
    (
        BISECTION,
        "theory/batch.py",
        "steps_to_target.steps",
        [
            "high, low = trials[place], np.where(place > 1, trials[place - 1], 0)",
            "high, low = trials[place], np.where(place > 0, trials[place - 2], 0)",
            "high, low = trials[place], np.where(place > 0, trials[place - 1], 1)",
        ],
    ),
    (FAR, "theory/batch.py", "", ["LONGEST, FAR = 10**7, 30.0", "LONGEST, FAR = 10**7, 21"]),
    (
        ZEROS,
        "theory/sharpness.py",
        "worst_perturbation",
        [f"u = np.abs(g) / np.where(largest > 0, largest, {x})  # so that no power overflows" for x in ("1.5", "2.0")],
    ),
    (
        "what is taken from the losses before softmax, which does so itself; it counts for infinite t alone",
        "theory/tilted.py",
        "weights",
        ["extreme = np.where(t > 1, x.max(-1), x.min(-1))[..., None]"],
    ),
    (
        TURNS,
        "theory/tilted.py",
        "value",
        [
            f"above = np.where(spread <= EPS, away.mean(-1), np.where(spread <= {x}, near, far) / t)"
            for x in ("1.5", "2")
        ],
    ),
    (
        TURNS,
        "theory/tilted.py",
        "slope",
        [f"divergence = np.where(spread <= {x}, near, far) / t**2" for x in ("1.5", "2")],
    ),
    (
        TURNS,
        "theory/tilted.py",
        "quantile_bound",
        [f"found = np.where(np.abs(s) <= EPS, above / p, np.where(s > {x}, high, low))" for x in ("1.5", "2")],
    ),
    (
        "where the search along alpha = 1 starts; it ends in the same valley",
        "theory/lookahead.py",
        "best",
        [
            "starts = [np.unravel_index(gaps.argmin(), gaps.shape), (gaps[:, -1].argmin(), -2)]",
            "starts = [np.unravel_index(gaps.argmin(), gaps.shape), (gaps[:, -2].argmin(), -1)]",
        ],
    ),
    (
        "cancels in the ratio of the two determinants",
        "theory/networks/saddles.py",
        "_determinant",
        [
            "angular = (c**j * s**k - c**k * s**j) @ weights * (end - start) / 3.0",
            "moments = np.array([2 ** ((m - (1 + 1)) / 2) * math.gamma((m + 1) / 2) for m in range(dim)])",
        ],
    ),
    (
        "the next node of a grid that is fine enough",
        "theory/networks/signal.py",
        "",
        [
            f"_COARSE = slice({nodes}, 5)  # [-8, 8] in steps of 0.05, for integrals over two variables"
            for nodes in ("401, 2001", "400, 2002")
        ],
    ),
    (
        "the lower end of a bracket, which it stays",
        "theory/networks/signal.py",
        "_fixed_point_of_tanh",
        ["low = max(b, (1 - 1 / w) / 3.0 if w > 1 else 0.0)"],
    ),
    (
        "a guard against rounding beyond a cosine of 1, which no input is known to need",
        "theory/networks/signal_residual.py",
        "mean_share",
        [f"cosine = np.minimum((cosine + after) / 2 if residual else after, {x})" for x in ("1.5", "2.0")],
    ),
    (
        "any finite number in the place of those that need no check",
        "theory/tilted.py",
        "_tilts",
        ['real("t", np.where(np.isinf(tilts), 1, tilts))'],
    ),
    (
        "compared with the number of rows at one place, which is at least 1",
        "nodes/byzantine/aggregators.py",
        "_weiszfeld",
        ["force = ((U @ gram) * U).sum(1).clamp(min=1).sqrt()"],
    ),
    (
        "the unit of the Gram matrix: any power of two near the rows' lengths will do",
        "nodes/byzantine/vectors.py",
        "centred_gram",
        ["unit = 2.0 ** (int(torch.frexp(typical).exponent) - (1 + 1))"],
    ),
    (
        ZEROS,
        "nodes/byzantine/vectors.py",
        "lengths",
        [
            f"return largest[:, 0] * torch.linalg.vector_norm(Y / largest.where(largest > 0, {x}), dim=1)"
            for x in ("1.5", "2")
        ],
    ),
    (
        ZEROS,
        "nodes/messages/compressors.py",
        "_nonzero",
        [f"return scale.where(scale > 0, {x})" for x in ("1.5", "2")],
    ),
    (SPEED, "nodes/network/mixing.py", "", [f"SPARSE_FROM = {x}" for x in ("96.0", "65")]),
    (
        SPEED,
        "nodes/network/mixing.py",
        "Route.__init__",
        [f"self._sparse = n >= SPARSE_FROM and local.nnz <= {x} * math.prod(local.shape)" for x in ("0.375", "1.25")],
    ),
    (
        "every row has a weight",
        "nodes/network/mixing.py",
        "_steps",
        ["for s in range(int(degrees.max(initial=1))):"],
    ),
    (SPEED, "nodes/network/mixing.py", "Route.__init__", ["self._all = len(split) == 1.5"]),
    (
        "what is added is zero",
        "nodes/network/mixing.py",
        "Route.apply",
        ["total = torch.addmm(flat.new_zeros(()), matrix, flat, beta=1) if self._sparse else matrix @ flat"],
    ),
    (
        BLOCKS,
        "nodes/network/averaging.py",
        "",
        ["_NUMBERS = 2**(22 + 1)"],
    ),
    (
        BLOCKS,
        "nodes/network/averaging.py",
        "read",
        [
            "size = received(q, [t[:2] for t in gathered]).numel() if isinstance(q, Message) else 1",
            "size = received(q, [t[:1] for t in gathered]).numel() if isinstance(q, Message) else 1.5",
            "size = received(q, [t[:1] for t in gathered]).numel() if isinstance(q, Message) else 2",
            "some = max(1.5, _NUMBERS // max(1, size)) if isinstance(q, Message) else n",
            "some = max(2, _NUMBERS // max(1, size)) if isinstance(q, Message) else n",
            "some = max(1, _NUMBERS // max(1.5, size)) if isinstance(q, Message) else n",
            "some = max(1, _NUMBERS // max(2, size)) if isinstance(q, Message) else n",
        ],
    ),
    (
        "a row that nobody reads",
        "theory/distributed/asynchrony.py",
        "random_assignment_rate",
        ["ways = np.eye(2, n + 1)[0]  # summed weights of all ways to place 0 ... n jobs on the nodes so far"],
    ),
    (
        "shape of a trial call whose result is thrown away",
        "nodes/byzantine/aggregators.py",
        "clipping_from_last",
        [
            f"centered_clipping(torch.zeros({s}), 0, None, radius, iterations)  # refuses bad settings now"
            for s in ("2, 1", "1, 2")
        ],
    ),
    (
        "the signature is bound, and nothing is called",
        "nodes/byzantine/wrappers.py",
        "as_aggregator",
        ['return as_called(name, rule, f"{name}(X, n_byzantine=f)", None, n_byzantine=1)'],
    ),
]

#: Module, function, edited line, reason.
EQUIVALENT = [(module, function, line, reason) for reason, module, function, lines in GROUPS for line in lines]
