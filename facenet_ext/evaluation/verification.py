"""Verifies pairs with an embedding, and measures how well."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import torch
from torch import Tensor

from facenet_ext.common.files import without_nan
from facenet_ext.data.pairs import Pairs
from facenet_ext.evaluation.compared import Compared
from facenet_ext.metrics import (
    KFoldAccuracy,
    OperatingPoint,
    Roc,
    Summary,
    auc,
    eer,
    kfold_accuracy,
    roc,
    val_far,
)
from facenet_ext.metrics.sources import TensorPairs
from facenet_ext.quantization import dequantize, quantize

__all__ = [
    "FEW_IDENTITIES",
    "Verification",
    "curve_as_dict",
    "verify",
]

FEW_IDENTITIES = 20
"""With fewer identities the figures depend more on who these are than on the embedding."""

_GRADES = (
    (0.6, "Hardly better than guessing"),
    (0.8, "Weak"),
    (0.95, "Fair"),
    (0.99, "Good"),
    (math.inf, "Very good"),
)
"""The grade of an accuracy is the first with a limit above it; 0.5 is guessing."""

_POINTS = 512
"""About the most points of a stored curve."""

_CHUNK = 100_000
"""Pairs whose embeddings are gathered at once: 100 MB with 128 dimensions."""


@dataclasses.dataclass(frozen=True)
class Verification:
    """How well distances tell same from different.

    Attributes:
        pairs: the pairs that were verified.
        distances: [N] float32, the squared Euclidean distance of each, in [0, 4].
        val_far: VAL at FAR 1e-3 and at 1e-2.
        accuracy: over the folds. Where there are too few identities for two folds, there is one: it
            is judged with the threshold that is best on itself, and has no standard error.
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

    @functools.cached_property
    def compared(self) -> Compared:
        """The pairs with their distances; with their identities where these are known."""
        pairs = self.pairs
        known = pairs.identities is not None and pairs.identities > 1
        labels = pairs.labels if known else None
        source = TensorPairs(self.distances, pairs.same, pairs.first, pairs.second)
        return Compared(source, self.threshold, labels)

    @property
    def summary(self) -> Summary:
        """The figures of the field with intervals over people, where it is known who they are."""
        return self.compared.summary

    @property
    def false_accepts(self) -> float:
        """FAR at the threshold."""
        return (self.distances[~self.pairs.same] <= self.threshold).double().mean().item()

    @property
    def verdict(self) -> str:
        """What the figures say, in a sentence."""
        accuracy, same = self.accuracy.mean, self.pairs.same
        missed = (self.distances[same] > self.threshold).double().mean().item()
        grade = next(words for limit, words in _GRADES if accuracy < limit)
        few = f", as far as {self.pairs.identities} people tell" if self.few else ""
        return (
            f"{grade}{few}: the model judges {accuracy:.1%} of pairs rightly; its threshold takes "
            f"{self.false_accepts:.1%} of pairs of two people for one person, and {missed:.1%} of "
            "pairs of one person for two."
        )

    @property
    def few(self) -> str:
        """A sentence where there are too few identities for the figures to mean much, else ""."""
        count = self.pairs.identities
        if count is None or count >= FEW_IDENTITIES:
            return ""
        return (
            f"only {count} identities are verified, so these figures mean little: give "
            f"{FEW_IDENTITIES} or more"
        )

    @property
    def measured(self) -> str:
        """How accuracy was measured, in a few words."""
        thresholds = self.accuracy.thresholds
        if len(thresholds) < 2:
            return f"best threshold of these very pairs, {self.threshold:.3f}: too few for folds"
        return f"{len(thresholds)} folds, threshold {self.threshold:.3f} ± {thresholds.std():.3f}"

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON has them: None where there is no number."""
        figures = {
            "identities": self.pairs.identities,
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
            "threshold": self.threshold,
            "auc": self.auc,
            "eer": self.eer,
            "quantized_accuracy": self.quantized.mean,
            "curve": curve_as_dict(roc(self.distances, self.pairs.same)),
        }
        return dict(without_nan(figures))


def verify(embeddings: Tensor, pairs: Pairs, spread: Tensor | None = None) -> Verification:
    """Measure the distances of pairs and every metric of them.

    Args:
        embeddings: [N, D] floating point, rows of length 1; or means of such, of videos.
        pairs: pairs of rows.
        spread: [N], where rows are means, as of a video's frames: the mean squared distance of
            the frames from their mean. The distance of two rows is then the mean over all pairs of
            their frames.

    Returns:
        A :class:`Verification`.

    Raises:
        ValueError: an embedding is not finite.
    """
    distances = _distances(embeddings, pairs, spread)
    quantized = _distances(dequantize(quantize(embeddings)), pairs, spread)
    return Verification(
        pairs=pairs,
        distances=distances,
        val_far=(val_far(distances, pairs.same, 1e-3), val_far(distances, pairs.same, 1e-2)),
        accuracy=_accuracy(distances, pairs),
        auc=auc(distances, pairs.same),
        eer=eer(distances, pairs.same).rate,
        quantized=_accuracy(quantized, pairs),
    )


def _accuracy(distances: Tensor, pairs: Pairs) -> KFoldAccuracy:
    if pairs.folds.ndim == 1 or pairs.folds.any():
        return kfold_accuracy(distances, pairs.same, pairs.folds, balanced=pairs.balanced)
    # One fold: it is given twice, so that the threshold that is best on the one judges the other.
    twice = kfold_accuracy(
        distances.repeat(2),
        pairs.same.repeat(2),
        torch.arange(2).repeat_interleave(len(distances)),
        balanced=pairs.balanced,
    )
    return KFoldAccuracy(twice.mean, math.nan, twice.accuracies[:1], twice.thresholds[:1])


def _distances(embeddings: Tensor, pairs: Pairs, spread: Tensor | None) -> Tensor:
    chunks = [slice(i, i + _CHUNK) for i in range(0, len(pairs.same), _CHUNK)]
    distances = torch.cat(
        [
            (embeddings[pairs.first[chunk]] - embeddings[pairs.second[chunk]]).square().sum(1)
            for chunk in chunks
        ]
    )
    if spread is not None:
        distances += spread[pairs.first] + spread[pairs.second]
    return distances


def curve_as_dict(curve: Roc) -> dict[str, list[float]]:
    """Return a ROC curve as JSON has it: the points where FAR changes, at most about 512.

    Where there are more, small rates keep every point, and large ones lose some.
    """
    far, last = curve.far, curve.far.numel() - 1
    steps = torch.cat([(far[1:] != far[:-1]).nonzero().flatten(), torch.tensor([last])])
    if len(steps) > _POINTS:  # evenly by rank for one half, by logarithm for the other
        even = torch.linspace(0, len(steps) - 1, _POINTS // 2)
        small = torch.logspace(0, math.log10(len(steps)), _POINTS // 2) - 1
        chosen = torch.cat([even, small]).round().long().clamp(max=len(steps) - 1)
        steps = steps[torch.unique(chosen)]
    steps = steps[curve.thresholds[steps].isfinite()]
    names = ("thresholds", "val", "far")
    return {name: values[steps].tolist() for name, values in zip(names, curve, strict=True)}
