"""``facenet_ext::softmax_loss``: the loss [] of a softmax over an anchor's pairs, and gradients."""

from torch import Tensor

from facenet_ext import _library as _library
from facenet_ext._validation import Batch
from facenet_ext.ops._fused_loss import FusedLoss

_LOSS = FusedLoss("softmax_loss", arguments=12)


def softmax_loss(batch: Batch, loss: str, temperature: float, reduction: str) -> Tensor:
    """The reduced loss, a scalar: see ``functional``."""
    if batch.across is None:
        return _LOSS(batch, loss, temperature, False, reduction)
    return _LOSS(batch, loss, temperature, True, reduction, has_negatives=batch.has_negatives())
