"""All pairwise distances, forward, ours and as torch computes them."""

from functools import partial

import torch

from benchmarks.cases import Case
from benchmarks.peers import MM, MM_INTO, Peer
from benchmarks.plain_torch import Function, squared_distances

SAME = "squared distances, from differences"

# A class size of 1: distances read no labels.
CASES = tuple(Case(n, 1) for n in (512, 1800, 8192))


def _ours() -> Function:
    import facenet_ext.functional

    return lambda x, labels: facenet_ext.functional.pairwise_squared_distance(x)


_peer = partial(Peer, bytes=lambda case: 4.0 * case.n**2, backward=False)
OURS = _peer("facenet_ext", SAME, _ours)
CDIST = _peer(
    "torch.cdist",
    "distances (not squared), by the Gram identity",
    lambda: lambda x, labels: torch.cdist(x, x),
)
CDIST_DIFFERENCES = _peer(
    "torch.cdist, no mm",
    "distances (not squared), from differences",
    lambda: lambda x, labels: torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist"),
)
GRAM = _peer(
    "torch.addmm",
    "squared distances, by the Gram identity",
    lambda: lambda x, labels: squared_distances(x),
)

PEERS = (OURS, MM, MM_INTO, GRAM, CDIST, CDIST_DIFFERENCES)
