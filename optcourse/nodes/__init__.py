"""Distributed nodes, simulated or real: one process that owns all rows is the simulator, ``torchrun`` makes it real.

==============  ===========================================================================================
``algorithms``  ``parallel``: psgd, post_local_sgd, overlap_local_sgd; ``federated``: local_sgd, scaffold, diloco;
                ``server``: fed_adam, fed_yogi, fed_adagrad; ``decentralized``: dsgd, push_sum, gradient_tracking,
                d2, relay_sum, choco; ``compressed``: compressed_sgd (qsgd), error_feedback, powersgd;
                ``asynchronous``: async_sgd; ``robust``: robust_sgd; ``@algorithm`` makes more
``network``     ``Network``: n nodes, of which this process owns some rows: ``mean, mix, exchange, gather``
``messages``    ``compressors``, which make messages small, with real payloads
``byzantine``   ``aggregators`` against ``attacks``
``graphs``      topologies, mixing matrices and their gaps; pictures of them
``time``        simulated seconds and their Gantt charts; schedules; all-reduce plans, message by message;
                real collectives, timed
``samples``     ``shards`` deals the data, ``gradients`` takes all gradients of one model in one call,
                ``train`` trains it for several seeds, ``inversion`` reads the data off a gradient
``run``         real processes from a notebook, from the command line, and runs that survive them
``streams``     randomness: one stream per node
``makers``      functions that make functions, and the one that was handed over uncalled
==============  ===========================================================================================

>>> import torch
>>> from optcourse import nodes
>>> net = nodes.Network(8)
>>> W = nodes.mixing_matrix(nodes.topology("ring", 8))
>>> b = torch.arange(8.0)[:, None]  # node i wants to be at b_i
>>> iterates = nodes.gradient_tracking(net, lambda x: x - b, torch.zeros(8, 1), lr=0.1, W=W)
>>> for x, _ in zip(iterates, range(300)): pass
>>> x.round(decimals=4).flatten().tolist()  # and all end at the mean
[3.5, 3.5, 3.5, 3.5, 3.5, 3.5, 3.5, 3.5]
"""

from optcourse.models.rows import evaluate, flat_parameters
from optcourse.nodes.algorithms.algorithm import ALGORITHMS, algorithm, last_iterate, memory
from optcourse.nodes.algorithms.asynchronous import async_sgd, delay_adaptive
from optcourse.nodes.algorithms.compressed import compressed_sgd, error_feedback, powersgd, qsgd
from optcourse.nodes.algorithms.decentralized import choco, d2, dsgd, gradient_tracking, push_sum, relay_sum
from optcourse.nodes.algorithms.federated import diloco, local_sgd, scaffold
from optcourse.nodes.algorithms.parallel import overlap_local_sgd, post_local_sgd, psgd
from optcourse.nodes.algorithms.participation import clients
from optcourse.nodes.algorithms.robust import robust_sgd
from optcourse.nodes.algorithms.server import fed_adagrad, fed_adam, fed_yogi
from optcourse.nodes.algorithms.step_sizes import rate
from optcourse.nodes.byzantine import aggregators, attacks
from optcourse.nodes.graphs.drawing import draw_topology, node_positions
from optcourse.nodes.graphs.topology import mixing_matrix, one_peer_exponential, spectral_gap, topology
from optcourse.nodes.messages import compressors
from optcourse.nodes.messages.payloads import Message
from optcourse.nodes.network.network import Network, NodeFailed
from optcourse.nodes.run.launch import CannotLaunch, WorkerFailed, launch
from optcourse.nodes.run.record_async import record_async
from optcourse.nodes.samples.gradients import flat_gradient, in_columns
from optcourse.nodes.samples.inversion import first_layer_inputs, match_gradient, repeated_inputs
from optcourse.nodes.samples.shards import Shards, split
from optcourse.nodes.samples.training import train
from optcourse.nodes.streams import Streams
from optcourse.nodes.time.clock import Clock, Interval, constant, exponential, stragglers
from optcourse.nodes.time.schedule import Schedule, asynchronous_schedule
from optcourse.nodes.time.timeline import gantt, idle_share
