"""Optimizers whose code is the equation on the slide, at the speed of memory.

==============================  ============================================================================
``sgd``                         :class:`SGD`, :class:`SGDW`, :class:`Lion`
``adaptive``                    :class:`Adagrad`, :class:`RMSprop`, :class:`Adadelta`
``adam``, ``adam_variants``     :class:`Adam`, :class:`AdamW`; :class:`Adamax`, :class:`NAdam`, :class:`RAdam`
``layerwise``, ``projected``    :class:`LARS`, :class:`LAMB`; :class:`SGDP`, :class:`AdamP`
``muon``                        :class:`Muon`, :func:`orthogonalize`
``wrappers``                    :class:`Lookahead`, :class:`SAM`
``compressed``, ``pruning``     :class:`Compressed` weights, with and without feedback, and for rows
                                :func:`compressed_stepper`: :class:`Magnitude`, :func:`gradual` (most of them zero),
                                :class:`Grid` (few bits)
``clipping``                    :func:`adaptive_clip_grad_`
``schedules``                   :func:`warmup`, :func:`step_decay`, :func:`exponential`, :func:`triangular`,
                                :func:`cosine_restarts`
``stepper``                     :func:`stepper`, :func:`layer_stepper`, :func:`lookahead_stepper`, :func:`ascent`: a
                                method, or SAM's climb, as a function of rows, for many rates or copies at once;
                                :class:`RowRule` with the state outside
``engine``                      what they share: one pass over memory, and a state that is the truth
==============================  ============================================================================

All are ``torch.optim`` optimizers: parameter groups, closures, ``state_dict`` and torch's schedulers work.
``compile=True`` turns an equation into one pass over memory.

>>> import torch
>>> from optcourse.optim import Adam
>>> x = torch.nn.Parameter(torch.tensor([3.0, -4.0]))
>>> optimizer = Adam([x], lr=0.5)
>>> (x**2).sum().backward()
>>> optimizer.step()
>>> x.detach()
tensor([ 2.5000, -3.5000])

The equation alone is a pure function, for a batch of nodes or for derivatives through a step:

>>> g = torch.tensor([6.0, -8.0])
>>> numbers = Adam.scalars(1, lr=0.5, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
>>> Adam.update(torch.tensor([3.0, -4.0]), g, torch.zeros(2), torch.zeros(2), **numbers)[0]
tensor([ 2.5000, -3.5000])
"""

from optcourse.optim.adam import Adam, AdamW
from optcourse.optim.adam_variants import Adamax, NAdam, RAdam
from optcourse.optim.adaptive import Adadelta, Adagrad, RMSprop
from optcourse.optim.clipping import adaptive_clip_grad_
from optcourse.optim.compressed import Compressed, compressed_stepper
from optcourse.optim.layerwise import LAMB, LARS
from optcourse.optim.muon import Muon, orthogonalize
from optcourse.optim.projected import SGDP, AdamP
from optcourse.optim.pruning import Grid, Magnitude, gradual
from optcourse.optim.schedules import cosine_restarts, exponential, step_decay, triangular, warmup
from optcourse.optim.sgd import SGD, SGDW, Lion
from optcourse.optim.stepper import RowRule, ascent, layer_stepper, lookahead_stepper, stepper
from optcourse.optim.wrappers import SAM, Lookahead
