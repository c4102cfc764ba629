"""``facenet_ext::nearest``: emb [M, D], ref_emb [N, D] or None -> 2 x [M, k]. No gradient."""

import torch
from torch import Tensor

from facenet_ext import _library as _library
from facenet_ext.ops._registration import register_fake, value_type

_NAME = "facenet_ext::nearest"
_OPERATOR = torch.ops.facenet_ext.nearest.default


@register_fake(_NAME)
def _fake(emb: Tensor, ref_emb: Tensor | None, k: int, distance: str) -> tuple[Tensor, Tensor]:
    shape = (emb.shape[0], k)
    return (
        emb.new_empty(shape, dtype=value_type(emb.dtype)),
        emb.new_empty(shape, dtype=torch.int64),
    )


def nearest(emb: Tensor, ref_emb: Tensor | None, k: int, distance: str) -> tuple[Tensor, Tensor]:
    """Distances and rows of the k closest: see ``neighbours``."""
    with torch.no_grad():
        distances, indices = _OPERATOR(emb, ref_emb, k, distance)
    return distances, indices
