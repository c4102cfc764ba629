"""``facenet_ext::triplet_margin_loss``: the loss [] over all triplets of a kind, and gradients."""

from torch import Tensor

from facenet_ext import _library as _library
from facenet_ext._validation import Batch
from facenet_ext.ops._fused_loss import FusedLoss

_LOSS = FusedLoss("triplet_margin_loss", arguments=14)


def triplet_margin_loss(
    batch: Batch,
    triplets: str,
    margin: float,
    distance: str,
    max_per_class: int,
    smooth: bool,
    reduction: str,
) -> Tensor:
    """The reduced loss, a scalar: see ``functional``."""
    return _LOSS(batch, triplets, margin, distance, max_per_class, smooth, reduction)
