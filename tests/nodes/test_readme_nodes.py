"""The block about rules of one's own runs as it stands; what its arguments must be is said."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch

from optcourse import nodes, optim

TEXTS = Path(__file__).parents[2] / "optcourse" / "course" / "book" / "texts"
README = (TEXTS / "package.md").read_text(encoding="utf-8")


def test_the_block_runs_as_it_stands():
    (block,) = [code for code in re.findall(r"```python\n(.*?)```", README, re.S) if "@nodes.algorithm" in code]
    names: dict = {"__name__": "readme"}
    exec(compile(block, "package.md", "exec"), names)
    ends = nodes.last_iterate(names["gossip"], 2000)
    assert (ends.mean() - 3.5).abs() < 0.05  # the mean of the targets
    assert 0 < names["last"].mean() < 7  # on its way to the weighted mean of the targets


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"optimizer": partial(optim.SGD, lr=0.5)}, ValueError, r"optimizer must have no lr of its own .*got lr = 0.5"),
        ({"server": partial(optim.SGD, 0.1)}, TypeError, "server must be .* with keywords only"),
    ],
)
def test_rules_of_local_steps_are_refused_by_name(options, error, message):
    with pytest.raises(error, match=message):
        next(nodes.local_sgd(nodes.Network(2), torch.ones_like, torch.zeros(2, 1), 0.1, local_steps=2, **options))


@pytest.mark.parametrize("options", [{"aggregate": "mda"}, {"attack": "mimic"}])
def test_what_is_no_function_is_no_rule_and_no_attack(options):
    with pytest.raises(TypeError, match=f"{next(iter(options))} must be a function"):
        net = nodes.Network(5)
        settings = {"aggregate": nodes.aggregators.median, "n_byzantine": 1} | options
        next(nodes.robust_sgd(net, torch.ones_like, torch.zeros(5, 1), 0.1, **settings))
