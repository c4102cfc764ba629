"""``facenet_ext::select_triplets``: five [T] tensors; T depends on the data. No gradient."""

import torch
from torch import Tensor

from facenet_ext import _library as _library
from facenet_ext._types import Triplets
from facenet_ext._validation import Batch, Rule
from facenet_ext.ops._registration import register_fake, value_type

_NAME = "facenet_ext::select_triplets"
_OPERATOR = torch.ops.facenet_ext.select_triplets.default


@register_fake(_NAME)
def _fake(
    emb: Tensor,
    labels: Tensor,
    ref_emb: Tensor | None,
    ref_labels: Tensor | None,
    anchor_ids: Tensor | None,
    ref_ids: Tensor | None,
    seed: Tensor | None,
    positives: str,
    negatives: str,
    margin: float,
    within_margin: bool,
    fallback: str,
    distance: str,
    cutoff: float,
    nonzero_loss_cutoff: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    count = torch.library.get_ctx().new_dynamic_size()
    value = value_type(emb.dtype)
    return (
        emb.new_empty(count, dtype=torch.int64),
        emb.new_empty(count, dtype=torch.int64),
        emb.new_empty(count, dtype=torch.int64),
        emb.new_empty(count, dtype=value),
        emb.new_empty(count, dtype=value),
    )


def select_triplets(batch: Batch, rule: Rule) -> Triplets:
    """The selected triplets: see ``functional``."""
    with torch.no_grad():
        return Triplets(*_OPERATOR(*batch.tensors(), *rule))
