"""``facenet_ext::distance_histogram``: counts [2, bins + 2] of pairs by distance. No gradient."""

import torch
from torch import Tensor

from facenet_ext import _library as _library
from facenet_ext.ops._registration import register_fake, register_vmap_as_loop

_NAME = "facenet_ext::distance_histogram"
_OPERATOR = torch.ops.facenet_ext.distance_histogram.default


@register_fake(_NAME)
def _fake(
    emb: Tensor,
    labels: Tensor,
    ref_emb: Tensor | None,
    ref_labels: Tensor | None,
    distance: str,
    low: int,
    shift: int,
    bins: int,
) -> Tensor:
    return emb.new_empty((2, bins + 2), dtype=torch.int64)


register_vmap_as_loop(_OPERATOR)


def distance_histogram(
    emb: Tensor,
    labels: Tensor,
    ref_emb: Tensor | None,
    ref_labels: Tensor | None,
    distance: str,
    low: int,
    shift: int,
    bins: int,
) -> Tensor:
    """Counts of pairs of one label and of others by bin: see ``all_pairs``."""
    with torch.no_grad():
        counts: Tensor = _OPERATOR(emb, labels, ref_emb, ref_labels, distance, low, shift, bins)
    return counts
