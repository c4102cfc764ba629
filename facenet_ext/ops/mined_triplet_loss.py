"""``facenet_ext::mined_triplet_loss``: the loss [] and, from the same pass, its gradients."""

from torch import Tensor

from facenet_ext import _library as _library
from facenet_ext._rule import TripletRule
from facenet_ext._validation import Batch
from facenet_ext.ops._fused_loss import FusedLoss

_LOSS = FusedLoss("mined_triplet_loss", arguments=20)


def mined_triplet_loss(
    batch: Batch,
    rule: TripletRule,
    seed: Tensor | None,
    max_per_class: int,
    smooth: bool,
    reduction: str,
) -> Tensor:
    """The reduced loss, a scalar: see ``functional``."""
    return _LOSS(batch, seed, *rule.arguments(), max_per_class, smooth, reduction)
