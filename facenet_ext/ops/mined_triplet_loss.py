"""``facenet_ext::mined_triplet_loss``: the loss [] and, from the same pass, its gradients."""

from torch import Tensor

from facenet_ext import _library as _library
from facenet_ext._validation import Batch, Rule
from facenet_ext.ops._fused_loss import FusedLoss

_LOSS = FusedLoss("mined_triplet_loss", arguments=20)


def mined_triplet_loss(
    batch: Batch, rule: Rule, max_per_class: int, smooth: bool, reduction: str
) -> Tensor:
    """The reduced loss, a scalar: see ``functional``."""
    return _LOSS(batch, *rule, max_per_class, smooth, reduction)
