"""A device that this machine does not have: tensors that say they lie elsewhere, with numbers that can be computed.

They call it "meta", since torch computes nothing there itself; the numbers lie on the CPU, out of sight. As with a GPU
no operation takes tensors from here and from there together (but copies, indices, and arithmetic with a single number
from here), and what is moved between the two is written down.
"""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

THERE = torch.device("meta")
#: Whose kernels take a single number from the CPU; that of ``lerp``, say, does not.
ARITHMETIC = ("add", "sub", "rsub", "mul", "div", "pow", "maximum", "minimum", "where")
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
COPIES, INDICES, NUMBERS = ("copy_", "_to_copy"), ("index", "index_put_"), "_local_scalar_dense"


class There(Tensor):
    """A tensor of that device."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers):
        size, stride, start = numbers.size(), numbers.stride(), numbers.storage_offset()
        options = {"strides": stride, "storage_offset": start, "dtype": numbers.dtype, "device": THERE}
        return Tensor._make_wrapper_subclass(cls, size, **options)

    def __init__(self, numbers):
        self.numbers = numbers

    def __repr__(self):
        return f"There({self.numbers})"

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise AssertionError(f"{function} outside of Elsewhere()")


class Elsewhere(TorchDispatchMode):
    """While it is on, that device exists; ``moved`` lists how many numbers went there or back, each time."""

    def __init__(self):
        super().__init__()
        self.moved = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), function._schema.name.split("::")[1]
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
        inside = [t for t in tensors if isinstance(t, There)]
        scalars = name.strip("_") in (*ARITHMETIC, *COMPARISONS)
        outside = [t for t in tensors if not isinstance(t, There) and (t.dim() or not scalars)]
        allowed = name in COPIES or (name in (*INDICES, "fill_") and isinstance(args[0], There))
        if inside and outside and not allowed:
            raise RuntimeError(f"{name}: expected all tensors to be on the same device")
        there = bool(inside)
        if kwargs.get("device") is not None:
            there = kwargs["device"] == THERE
            kwargs["device"] = torch.device("cpu")
        elif name == "copy_":
            there = isinstance(args[0], There)
        far = outside if there else inside
        if name == NUMBERS and inside:
            self.moved.append(1)
        elif far and name in (*COPIES, *INDICES):
            self.moved.append(max(t.numel() for t in far))
        args, kwargs = tree_map(lambda t: t.numbers if isinstance(t, There) else t, (args, kwargs))
        result = function(*args, **kwargs)
        return tree_map(lambda t: There(t) if isinstance(t, Tensor) and there else t, result)
