"""All pairwise distances, forward, ours and as torch computes them."""

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


def _square(case: Case) -> float:
    return 4.0 * case.n**2


OURS = Peer("facenet_ext", SAME, _ours, bytes=_square, backward=False)
CDIST = Peer(
    "torch.cdist",
    "distances (not squared), by the Gram identity",
    lambda: lambda x, labels: torch.cdist(x, x),
    bytes=_square,
    backward=False,
)
CDIST_DIFFERENCES = Peer(
    "torch.cdist, no mm",
    "distances (not squared), from differences",
    lambda: lambda x, labels: torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist"),
    bytes=_square,
    backward=False,
)
GRAM = Peer(
    "torch.addmm",
    "squared distances, by the Gram identity",
    lambda: lambda x, labels: squared_distances(x),
    bytes=_square,
    backward=False,
)

PEERS = (OURS, MM, MM_INTO, GRAM, CDIST, CDIST_DIFFERENCES)
