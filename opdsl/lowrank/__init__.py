"""Low-rank networks and their reduction to tiny ones: LRNR, FastLRNR, sparse physics-informed backpropagation.

    >>> import numpy as np, opdsl
    >>> net = opdsl.lowrank.network(2, width=200, rank=6, backend="numpy", seed=0)
    >>> points = np.random.default_rng(0).random((12, 2))
    >>> fast = opdsl.lowrank.reduce(net, points, rank=6)
    >>> fast.width, bool(np.abs(fast(points) - net(points)).max() < 0.05)
    (6, True)

Reference: Cho et al., arXiv:2410.04001 (FastLRNR, SPInProp); Cho et al., NeurIPS 2023 (hyper-LRNR).
"""

from opdsl.lowrank.network import LRNR as LRNR
from opdsl.lowrank.network import network as network
from opdsl.lowrank.record import Reduction as Reduction
from opdsl.lowrank.reduction import reduce as reduce
