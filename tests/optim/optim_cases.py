"""The list that every optimizer enters, and what its tests share."""

import io
from dataclasses import dataclass, field

import torch
from torch import nn

from optcourse import optim


@dataclass(frozen=True)
class Case:
    """An optimizer with settings; ``shapes`` are those it takes."""

    name: str
    settings: dict = field(default_factory=dict)
    shapes: tuple = ((5, 7), (7,), (3, 2, 4), (4, 3, 2, 2), (), (0, 3), (1,))

    @property
    def cls(self):
        return getattr(optim, self.name)

    def make(self, params, **more):
        return self.cls(params, **{**self.settings, **more})

    def __str__(self):
        return "-".join([self.name, *(f"{k}={v}" for k, v in self.settings.items())])


MATRICES = ((5, 7), (7, 5), (4, 3, 2, 2))

CASES = [
    Case("SGD", {"lr": 0.1}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    Case("SGDW", {"lr": 0.1, "weight_decay": 0.1}),
    Case("Lion", {"weight_decay": 0.1}),
    Case("Adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.2}),
    Case("RMSprop", {"weight_decay": 0.1}),
    Case("RMSprop", {"momentum": 0.5, "centered": True}),
    Case("RMSprop", {"momentum": 0.5}),
    Case("RMSprop", {"centered": True}),
    Case("Adadelta", {"weight_decay": 0.1}),
    Case("Adam", {"weight_decay": 0.1}),
    Case("Adam", {"amsgrad": True}),
    Case("AdamW", {"weight_decay": 0.1}),
    Case("Adamax", {"weight_decay": 0.1}),
    Case("NAdam", {"weight_decay": 0.1}),
    Case("RAdam", {"weight_decay": 0.1}),
    Case("LARS", {"lr": 10.0}),
    Case("LAMB"),
    Case("SGDP", {"lr": 0.1, "weight_decay": 0.1, "delta": 2.0}),
    Case("SGDP", {"lr": 0.1, "nesterov": True}),
    Case("AdamP", {"weight_decay": 0.1, "delta": 2.0}),
    Case("Muon", {"lr": 0.1}, MATRICES),
    Case("Muon", {"lr": 0.1, "nesterov": False, "adjust_lr_fn": "match_rms_adamw"}, MATRICES),
]


def parameters(shapes, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)) for s in shapes]


def twins(params):
    return [torch.nn.Parameter(p.detach().clone()) for p in params]


def give_gradients(*copies, seed):
    """The same random gradients to every list of parameters."""
    generator = torch.Generator().manual_seed(1000 + seed)
    for group in zip(*copies, strict=True):
        g = torch.randn(group[0].shape, generator=generator, dtype=torch.float64)
        for p in group:
            p.grad = g.to(p)


def train(optimizer, params, seeds):
    for seed in seeds:
        give_gradients(params, seed=seed)
        optimizer.step()


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def gap(a, b):
    return max((p.double() - q.double()).abs().max().item() for p, q in zip(a, b, strict=True) if p.numel())


def network(seed=0, norm=False):
    torch.manual_seed(seed)
    middle = [nn.BatchNorm1d(6)] if norm else []
    return nn.Sequential(nn.Linear(4, 6), *middle, nn.Tanh(), nn.Linear(6, 2)).double()


DATA = torch.randn(16, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def closure_for(model, optimizer):
    def closure():
        optimizer.zero_grad()
        loss = model(DATA).square().mean()
        loss.backward()
        return loss

    return closure


def through_a_file(*values):
    """What a checkpoint with these values gives back."""
    file = io.BytesIO()
    torch.save([*values], file)
    file.seek(0)
    return torch.load(file)
