"""What the optimizers share: one step, one equation, and the memory between.

=============  ======================================================================
``optimizer``  :class:`FlatOptimizer`, a ``torch.optim.Optimizer`` of one equation
``blocks``     parameters that are updated together, and their state
``settings``   names and ranges of settings; state dicts, ours and torch's
``kernels``    one pass over memory, compiled or piece by piece
``replay``     the same pass without a compiler and without allocations
=============  ======================================================================
"""
