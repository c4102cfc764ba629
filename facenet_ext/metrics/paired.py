"""Two systems on the same pairs: the difference of a figure, and how sure it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facenet_ext.metrics._clusters import scale_of
from facenet_ext.metrics.intervals import Difference, paired_difference
from facenet_ext.metrics.resampling import THRESHOLDS, Replicates, resample
from facenet_ext.metrics.sources import PairSource, TensorPairs
from facenet_ext.metrics.thresholds import some_thresholds

__all__ = ["PairedReplicates", "resample_paired", "resample_sources"]

Rows = NDArray[np.float64]


class PairedReplicates(NamedTuple):
    """Replicates of two systems, with the same identities and with the same pairs drawn.

    A replicate of identities counts what is a single pair's own twice, once for each end. Of one
    system, deviations are multiplied by the root of (V - P) / V, where V is their variance and P
    that of pairs alone. A difference has a V and a P of its own: what is hard for both systems
    cancels, be it a person or a pair.

    Attributes:
        identities: of both systems; deviations have the variance V.
        pairs: of both systems; deviations have the variance P.
    """

    identities: tuple[Replicates, Replicates]
    pairs: tuple[Replicates, Replicates]

    def difference(
        self,
        figure: Callable[[Replicates], Rows],
        values: tuple[float, float] | None = None,
        *,
        besides: tuple[Rows, Rows] | None = None,
        confidence: float = 0.95,
    ) -> Difference:
        """Return the first system's figure minus the second's.

        Args:
            figure: of each row of replicates.
            values: the exact figures, which the interval is around; by default those of the rows.
            besides: [R] each, what replicates of either vary by besides, with the same identities.
            confidence: of the interval, in (0, 1).
        """
        gap, alone = (figure(one) - figure(other) for one, other in (self.identities, self.pairs))
        value = gap[0] if values is None else values[0] - values[1]
        scale = scale_of(gap[1:].var(keepdims=True), alone[1:].var(keepdims=True))
        rows = value + np.append(0, scale * (gap[1:] - gap[0]))
        if besides is not None:
            more = besides[0] - besides[1]
            rows[1:] += more - more.mean()
        return paired_difference(
            rows,
            np.zeros_like(rows),
            confidence=confidence,
            independent=min(self.identities[0].independent),
        )


def resample_paired(
    distances: tuple[Tensor, Tensor],
    same: Tensor,
    first: Tensor,
    second: Tensor | None = None,
    *,
    labels: Tensor | None = None,
    at: tuple[float, ...] = (),
    replicates: int = 1000,
    seed: int = 0,
) -> PairedReplicates:
    """Draw the identities anew, the same for two systems, to tell how sure a difference is.

    Args:
        distances: [N] floating point each, of the same pairs by either system.
        same: see :func:`.resample_identities`, for this and all the others.
        first: see there.
        second: see there.
        labels: see there.
        at: see there.
        replicates: see there.
        seed: see there.

    Returns:
        The :class:`PairedReplicates`.

    Raises:
        TypeError, ValueError: as :func:`.resample_identities`.

    Example:
        >>> import torch
        >>> labels = torch.arange(120) // 3
        >>> first, second = torch.triu_indices(120, 120, offset=1)
        >>> same = labels[first] == labels[second]
        >>> noise = torch.randn(2, len(same), generator=torch.Generator().manual_seed(0))
        >>> near, far = noise[0] + 3 * ~same, noise.sum(0) + 3 * ~same
        >>> drawn = resample_paired((near, far), same, first, second, labels=labels)
        >>> drawn.difference(Replicates.eer).interval.high < 0  # the first is better
        True

    Source: see :func:`.paired_difference`; the variance is that of :func:`.resample_identities`.
    """
    items = None if labels is None else len(labels)
    one, other = (TensorPairs.of(some, same, first, second, items=items) for some in distances)
    return resample_sources((one, labels), (other, labels), at=at, replicates=replicates, seed=seed)


def resample_sources(
    one: tuple[PairSource, Tensor | None],
    other: tuple[PairSource, Tensor | None],
    *,
    at: tuple[float, ...] = (),
    replicates: int = 1000,
    seed: int = 0,
) -> PairedReplicates:
    """Do what :func:`resample_paired` does, for the same pairs of two sources with labels."""

    def draw(
        source: tuple[PairSource, Tensor | None], of: Literal["identities", "pairs"]
    ) -> Replicates:
        pairs, labels = source
        return resample(
            pairs,
            labels,
            thresholds=np.append(some_thresholds(pairs.sorted(), THRESHOLDS), at),
            log_likelihood_ratios=False,
            replicates=replicates,
            seed=seed,
            of=of,
        )

    return PairedReplicates(
        (draw(one, "identities"), draw(other, "identities")),
        (draw(one, "pairs"), draw(other, "pairs")),
    )
