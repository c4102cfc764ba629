"""Verifies pairs with an embedding, and measures how well."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from facenet_ext.metrics import KFoldAccuracy, OperatingPoint, auc, eer, kfold_accuracy, val_far
from facenet_ext.quantization import dequantize, quantize
from facenet_ext.train.pairs import Pairs

__all__ = ["Verification", "verify", "without_nan"]

_CHUNK = 100_000
"""Pairs whose embeddings are gathered at once: 100 MB with 128 dimensions."""


@dataclasses.dataclass(frozen=True)
class Verification:
    """How well distances tell same from different.

    Attributes:
        pairs: the pairs that were verified.
        distances: [N] float32, the squared Euclidean distance of each, in [0, 4].
        val_far: VAL at FAR 1e-3 and at 1e-2.
        accuracy: over the folds.
        auc: area under the ROC curve.
        eer: equal error rate.
        quantized: accuracy with a byte per dimension: see :mod:`facenet_ext.quantization`.
    """

    pairs: Pairs
    distances: Tensor
    val_far: tuple[OperatingPoint, OperatingPoint]
    accuracy: KFoldAccuracy
    auc: float
    eer: float
    quantized: KFoldAccuracy

    @property
    def threshold(self) -> float:
        """The mean of the thresholds that the folds were judged with."""
        return self.accuracy.thresholds.mean().item()

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON has them: None where there is no number."""
        figures = {
            "pairs": {
                "same": int(self.pairs.same.sum()),
                "different": int((~self.pairs.same).sum()),
                "folds": len(self.accuracy.accuracies),
            },
            "val_far": [point._asdict() for point in self.val_far],
            "accuracy": {
                "balanced": self.pairs.balanced,
                "mean": self.accuracy.mean,
                "standard_error": self.accuracy.standard_error,
                "folds": self.accuracy.accuracies.tolist(),
                "thresholds": self.accuracy.thresholds.tolist(),
            },
            "auc": self.auc,
            "eer": self.eer,
            "quantized_accuracy": self.quantized.mean,
        }
        return dict(without_nan(figures))


def verify(embeddings: Tensor, pairs: Pairs) -> Verification:
    """Measure the distances of pairs and every metric of them.

    Args:
        embeddings: [N, D] floating point, rows of length 1.
        pairs: pairs of rows.

    Returns:
        A :class:`Verification`.

    Raises:
        ValueError: an embedding is not finite.
    """
    distances = _distances(embeddings, pairs)
    quantized = _distances(dequantize(quantize(embeddings)), pairs)
    return Verification(
        pairs=pairs,
        distances=distances,
        val_far=(val_far(distances, pairs.same, 1e-3), val_far(distances, pairs.same, 1e-2)),
        accuracy=kfold_accuracy(distances, pairs.same, pairs.folds, balanced=pairs.balanced),
        auc=auc(distances, pairs.same),
        eer=eer(distances, pairs.same).rate,
        quantized=kfold_accuracy(quantized, pairs.same, pairs.folds, balanced=pairs.balanced),
    )


def _distances(embeddings: Tensor, pairs: Pairs) -> Tensor:
    chunks = [slice(i, i + _CHUNK) for i in range(0, len(pairs.same), _CHUNK)]
    return torch.cat(
        [
            (embeddings[pairs.first[chunk]] - embeddings[pairs.second[chunk]]).square().sum(1)
            for chunk in chunks
        ]
    )


def without_nan(value: Any) -> Any:
    """Return data with None in place of what is no number, as JSON has it."""
    if isinstance(value, dict):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
