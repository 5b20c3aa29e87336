"""Guarantees for many nodes.

========================  ===========================================================
``communication``         cost of collectives, speed-up, compression ratios
``compression``           compressors, unbiased compression, error feedback
``compressors``           the constants of each compressor, exact or as bounds
``compression_failures``  where biased compressors fail alone, in exact arithmetic
``local``                 local SGD and FedAvg: bounds, drift, exact fixed points
``gossip``                decentralized SGD, mixing rates of graphs, gradient tracking
``gossip_exact``          the same on quadratics: fixed points and rates in closed form
``compressed_gossip``     CHOCO-Gossip: averaging with neighbours by compressed messages
``asynchrony``            delayed gradients: bound, exact stability threshold, rate and noise
``byzantine``             robust aggregation: constants, breakdown points, robust descent
========================  ===========================================================
"""
