"""Rules made from rules: what happens to the rows before they are judged."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

from optcourse.arguments import integer
from optcourse.nodes.byzantine.vectors import centred_gram, check_rule, check_vectors, distances
from optcourse.nodes.makers import as_called, maker
from optcourse.nodes.streams import Streams, as_streams

Aggregator = Callable[..., Tensor]


def as_aggregator(name: str, rule: Aggregator) -> Aggregator:
    """``rule`` when it can be called as rules are; ``TypeError`` otherwise, also for a maker of rules itself."""
    return as_called(name, rule, f"{name}(X, n_byzantine=f)", None, n_byzantine=0)


@maker
def bucketing(rule: Aggregator, size: int, random: Streams | torch.Generator) -> Aggregator:
    """``rule`` on the averages of ``size`` rows at a time, drawn at random: mixes unlike honest nodes before judging.

    Each call permutes the rows, cuts them into ceil(n/size) buckets (the last may be smaller) and hands their averages
    to ``rule`` with n_byzantine = min(f, number of buckets), for in the worst case every attacker spoils a bucket of
    its own. The spread of the honest shrinks by ``size``, the tolerated f as well: size < n/(2f).

    ``random`` must draw alike in every process: a ``torch.Generator``, or ``Streams(name, seed, range(n))`` of *all*
    nodes. The wrapper takes what the rule takes. Source: Karimireddy, He & Jaggi 2022, "Byzantine-robust learning on
    heterogeneous datasets via bucketing", Algorithm 1.

    Raises ``ValueError`` for a size < 1, ``TypeError`` for what is no rule and no random numbers; the wrapper, besides
    the rule's errors, ``ValueError`` for streams of another number of nodes.

    >>> from optcourse.nodes.byzantine.aggregators import mean
    >>> X = torch.tensor([[0.0], [4.0], [0.0], [4.0]])
    >>> bucketing(mean, size=2, random=torch.Generator().manual_seed(0))(X, n_byzantine=1)
    tensor([2.])
    """
    as_aggregator("rule", rule)
    integer("size", size, 1)
    if not isinstance(random, torch.Generator):
        as_streams("random", random)

    @wraps(rule)
    def bucketed(X: Tensor, n_byzantine: int, **options) -> Tensor:
        n = len(check_vectors(X))
        f = integer("n_byzantine", n_byzantine, 0, n)
        if isinstance(random, torch.Generator):
            order = torch.randperm(n, generator=random, device=random.device)
        else:
            order = as_streams("random", random, n).uniform(dtype=torch.float64).argsort(stable=True)
        buckets = torch.stack([bucket.mean(0) for bucket in X[order.to(X.device)].split(size)])
        try:
            return rule(buckets, n_byzantine=min(f, len(buckets)), **options)
        except ValueError as error:
            raise ValueError(f"{error} (buckets of size {size} of {n} vectors)") from None

    return bucketed


@maker
def nearest_neighbour_mixing(rule: Aggregator) -> Aggregator:
    r"""``rule`` on the rows after each was replaced by the average of its n-f nearest rows, itself included.

    If the rule has constant kappa, the mixed one has at most 8f/(n-f) (1 + kappa): of the order f/n for every rule
    of bounded kappa, as is the best possible f/(n-2f). Source: Allouah, Farhadkhani, Guerraoui, Gupta, Pinot & Stephan
    2023, "Fixing by mixing: a recipe for optimal Byzantine ML under heterogeneity". The wrapper takes what the rule
    takes; n_byzantine < n/2. Raises ``TypeError`` for what is no rule.

    >>> from optcourse.nodes.byzantine.aggregators import median
    >>> nearest_neighbour_mixing(median)(torch.tensor([[0.0], [1.0], [2.0], [3.0], [1000.0]]), n_byzantine=1)
    tensor([1.5000])
    """
    as_aggregator("rule", rule)

    @wraps(rule)
    def mixed(X: Tensor, n_byzantine: int, **options) -> Tensor:
        f = check_rule(X, n_byzantine, "krum")
        center, Y, gram, _ = centred_gram(X)
        n = len(X)
        nearest = distances(gram).argsort(dim=1, stable=True)[:, : n - f]
        mixing = torch.zeros_like(gram).scatter_(1, nearest, 1 / (n - f))
        return rule((center + mixing @ Y).to(X.dtype), n_byzantine=f, **options)

    return mixed
