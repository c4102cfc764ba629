"""``facenet_ext::select_triplets``: five [T] tensors; T depends on the data. No gradient."""

from typing import Any

import torch
from torch import Tensor

from facenet_ext import _library as _library
from facenet_ext._rule import TripletRule
from facenet_ext._types import Triplets
from facenet_ext._validation import Batch
from facenet_ext.ops._registration import register_fake, value_type

_NAME = "facenet_ext::select_triplets"
_OPERATOR = torch.ops.facenet_ext.select_triplets.default


@register_fake(_NAME)
def _fake(emb: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    count = torch.library.get_ctx().new_dynamic_size()
    value = value_type(emb.dtype)
    return (
        emb.new_empty(count, dtype=torch.int64),
        emb.new_empty(count, dtype=torch.int64),
        emb.new_empty(count, dtype=torch.int64),
        emb.new_empty(count, dtype=value),
        emb.new_empty(count, dtype=value),
    )


def select_triplets(batch: Batch, rule: TripletRule, seed: Tensor | None) -> Triplets:
    """The selected triplets: see ``functional``."""
    with torch.no_grad():
        return Triplets(*_OPERATOR(*batch.tensors(), seed, *rule.arguments()))
