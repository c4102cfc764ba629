"""``facenet_ext::distance_histogram``: counts of pairs by distance. No gradient."""

from collections.abc import Sequence

import torch
from torch import Tensor

from facenet_ext import _library as _library
from facenet_ext.ops._registration import register_fake

_NAME = "facenet_ext::distance_histogram"
_OPERATOR = torch.ops.facenet_ext.distance_histogram.default


@register_fake(_NAME)
def _fake(
    emb: Tensor,
    labels: Tensor,
    ref_emb: Tensor | None,
    ref_labels: Tensor | None,
    distance: str,
    low: Sequence[int],
    shift: int,
    bins: int,
) -> Tensor:
    return emb.new_empty((2, len(low) * (bins + 1) + 2), dtype=torch.int64)


def distance_histogram(
    emb: Tensor,
    labels: Tensor,
    ref_emb: Tensor | None,
    ref_labels: Tensor | None,
    distance: str,
    low: Sequence[int],
    shift: int,
    bins: int,
) -> Tensor:
    """Counts of pairs of one label, and of two, by column: [2, windows * (bins + 1) + 2]."""
    with torch.no_grad():
        counts: Tensor = _OPERATOR(emb, labels, ref_emb, ref_labels, distance, low, shift, bins)
    return counts
