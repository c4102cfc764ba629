"""The loss over all triplets, forward and backward, ours and as others compute it."""

from benchmarks.cases import MARGIN, Case
from benchmarks.peers import MM, Peer, of_this_library
from benchmarks.plain_torch import Function, all_triplets

OPERATOR, LOSS = "triplet_margin_loss", "TripletMarginLoss"
SAME = "the same loss over all triplets"

CASES = (Case(64, 8), Case(512, 8), Case(1800, 40), Case(8192, 4))
IN_MEMORY = (Case(512, 8), Case(1800, 40))


def _pytorch_metric_learning() -> Function:
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import TripletMarginLoss

    distance = LpDistance(p=2, power=2, normalize_embeddings=False)
    return TripletMarginLoss(margin=MARGIN, distance=distance)


OURS = Peer("facenet_ext", SAME, of_this_library(LOSS))
OURS_SMOOTH = Peer(
    "facenet_ext, smooth",
    "softplus of every triplet",
    of_this_library(LOSS, smooth=True),
    seconds=lambda case: 4e-9 * case.triplets,
)
PLAIN = Peer(
    "plain torch, [N, P, N]",
    SAME,
    lambda: all_triplets,
    bytes=lambda case: 16.0 * case.triplets,
    seconds=lambda case: 6e-9 * case.triplets,
)
METRIC_LEARNING = Peer(
    "pytorch-metric-learning",
    SAME,
    _pytorch_metric_learning,
    bytes=lambda case: 57.0 * case.triplets + (case.n**3 if case.n < 1291 else 0),
    seconds=lambda case: 100e-9 * case.triplets,
)

PEERS = (OURS, OURS_SMOOTH, MM, PLAIN, METRIC_LEARNING)
