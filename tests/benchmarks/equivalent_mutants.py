"""Edits of constants that change nothing that a caller could see, and why: what ``mutate_theory.py`` lets survive.

The script checks that each edit still exists, once, and that it still survives.
"""

#: Reason, module, function, edited lines.
GROUPS = [
    (
        "where two formulas take turns: both keep their digits there",
        "theory/bound.py",
        "power",
        ["return np.where(lost < 0.75, np.exp(steps * np.log1p(-lost)), kept**steps)"],
    ),
    (
        "where two formulas take turns: both keep their digits there",
        "theory/quadratic.py",
        "sgd_moments",
        ["left, fallen = np.where(abs(lost) < 0.75, (1 + little, -little), (r**k, 1 - r**k))"],
    ),
    (
        "a margin for rounding: a somewhat larger or smaller one holds as well",
        "theory/tilted.py",
        "quantile_bound",
        [
            "rounded = 1 + (6.0 + x.shape[-1] / 2) * EPS",
            "rounded = 1 + (5 + x.shape[-1] / 2) * EPS",
            "rounded = 1 + (4 + x.shape[-1] / 3.0) * EPS",
        ],
    ),
    (
        "the same formula with a margin for rounding",
        "theory/tilted.py",
        "quantile_bound",
        ["found = np.where(np.abs(s) <= EPS * p, above / p, np.where(t < 1, falling, found))"],
    ),
    (
        "the scale of the pulls cancels; only when the iteration stops depends on it",
        "nodes/byzantine/aggregators.py",
        "_weiszfeld",
        [
            "pull = 1.5 / np.sqrt(np.maximum(lengths2 - 2 * inner + mix @ inner, np.finfo(float).tiny))",
            "pull = 2 / np.sqrt(np.maximum(lengths2 - 2 * inner + mix @ inner, np.finfo(float).tiny))",
        ],
    ),
    (
        "where two formulas take turns: both keep their digits there",
        "theory/tilted.py",
        "",
        ["TURN = 1.5", "TURN = 2"],
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
        "a grid that is fine enough, moved by 0.01",
        "theory/networks/signal.py",
        "",
        ["_COARSE = slice(401, 2001, 5)  # [-8, 8] in steps of 0.05, for integrals over two variables"],
    ),
    (
        "the same nodes: the last one is number 2000",
        "theory/networks/signal.py",
        "",
        ["_COARSE = slice(400, 2002, 5)  # [-8, 8] in steps of 0.05, for integrals over two variables"],
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
        "compared with the number of rows at one place, which is at least 1",
        "nodes/byzantine/aggregators.py",
        "_weiszfeld",
        ["force = ((U @ gram) * U).sum(1).clamp(min=1).sqrt()"],
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
        "no victim yet: the first round, always one of warm-up, chooses it",
        "nodes/byzantine/attacks.py",
        "mimic.lies",
        ["history[:] = [torch.tensor([0, 1, len(honest)]), torch.zeros_like(z), z]"],
    ),
    (
        "the unit of the Gram matrix: any power of two near the rows' lengths will do",
        "nodes/byzantine/vectors.py",
        "centred_gram",
        ["unit = 2.0 ** (int(torch.frexp(typical).exponent) - (1 + 1))"],
    ),
    (
        "the signature is bound, and nothing is called",
        "nodes/byzantine/wrappers.py",
        "as_aggregator",
        ['return as_called(name, rule, f"{name}(X, n_byzantine=f)", None, n_byzantine=1)'],
    ),
    (
        "how many messages are decoded at a time; the sums are the same up to rounding",
        "nodes/network/averaging.py",
        "",
        ["_NUMBERS = 2**(22 + 1)"],
    ),
]

#: Module, function, edited line, reason.
EQUIVALENT = [(module, function, line, reason) for reason, module, function, lines in GROUPS for line in lines]
