"""``facenet_ext::pairs_within``: pairs [capacity, 2], distances, count of all. No gradient."""

import torch
from torch import Tensor

from facenet_ext import _library as _library
from facenet_ext.ops._registration import register_fake, value_type

_NAME = "facenet_ext::pairs_within"
_OPERATOR = torch.ops.facenet_ext.pairs_within.default


@register_fake(_NAME)
def _fake(
    emb: Tensor, ref_emb: Tensor | None, radius: float, distance: str, capacity: int
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        emb.new_empty((capacity, 2), dtype=torch.int64),
        emb.new_empty((capacity,), dtype=value_type(emb.dtype)),
        emb.new_empty((), dtype=torch.int64),
    )


def pairs_within(
    emb: Tensor, ref_emb: Tensor | None, radius: float, distance: str, capacity: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs no farther apart than a radius, as many as there is room for: see ``neighbours``."""
    with torch.no_grad():
        pairs, distances, count = _OPERATOR(emb, ref_emb, radius, distance, capacity)
    return pairs, distances, count
