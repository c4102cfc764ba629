"""Error rates by groups: of women and men, of ages, of cameras."""

from __future__ import annotations

import dataclasses
import math
import sys

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facenet_ext.metrics._clusters import Whose, count_by_identity, draw_weights, replicate_rates
from facenet_ext.metrics.intervals import Interval, interval_of
from facenet_ext.metrics.sources import PairBlock, PairSource, TensorPairs
from facenet_ext.metrics.thresholds import remark_on

__all__ = ["GroupRates", "error_rates_by_group"]


@dataclasses.dataclass(frozen=True)
class GroupRates:
    """Error rates of the pairs with one side in a group and the other in the same or another.

    Attributes:
        groups: the numbers of the two groups, the smaller first; twice the same for one group.
        same: number of pairs of one identity.
        different: number of pairs of two.
        false_matches: number of different pairs that are accepted.
        false_non_matches: number of same pairs that are rejected.
        fmr: false match rate; NaN without different pairs.
        fnmr: false non-match rate; NaN without same pairs.
        fmr_interval: NaN where there is none.
        fnmr_interval: NaN where there is none.
    """

    groups: tuple[int, int]
    same: int
    different: int
    false_matches: int
    false_non_matches: int
    fmr: float
    fnmr: float
    fmr_interval: Interval
    fnmr_interval: Interval

    @property
    def fmr_remark(self) -> str:
        """What to know before the false match rate is used, see :attr:`.ErrorRates.remark`."""
        return remark_on(self.false_matches, 30) if self.different else "no different pairs"

    @property
    def fnmr_remark(self) -> str:
        """What to know before the false non-match rate is used."""
        return remark_on(30, self.false_non_matches) if self.same else "no same pairs"


def error_rates_by_group(
    distances: Tensor,
    same: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    labels: Tensor | None,
    groups: Tensor,
    threshold: float,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> tuple[GroupRates, ...]:
    """Compute FMR and FNMR at one threshold for each group and each pair of groups.

    Intervals come of drawing identities anew, as those of :func:`.resample_identities`. Identities
    are drawn from all groups together, so the differences of groups may be read from one drawing.

    Args:
        distances: [N] floating point, the distance of each pair; smaller means more alike.
        same: [N] bool, whether the pair is of one identity.
        first: [N] integers, the item on one side of each pair.
        second: [N] integers, the item on the other side.
        labels: [items] integers, the identity of each item; None where that is not known: then
            there are no intervals.
        groups: [items] integers, the group of each item; -1 where it is not known: pairs with such
            an item are left out.
        threshold: of the distance, the same for all: pairs up to it are accepted.
        confidence: of the intervals, in (0, 1).
        replicates: how many the intervals come of.
        seed: of the drawing.

    Returns:
        A :class:`GroupRates` for each pair of groups that has pairs, ordered by their numbers.

    Raises:
        TypeError: as :func:`.resample_identities`, or groups are not integers.
        ValueError: as there; or there is no group for each item, one is below -1, or the threshold
            is NaN.

    Example:
        >>> first, second = torch.triu_indices(6, 6, offset=1)
        >>> labels, groups = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 0, 0, 0, 1, 1])
        >>> same = labels[first] == labels[second]
        >>> rates = error_rates_by_group(
        ...     1.0 - same.float(), same, first, second, labels=labels, groups=groups, threshold=0.5
        ... )
        >>> [(one.groups, one.same, one.different) for one in rates]
        [((0, 0), 2, 4), ((0, 1), 0, 8), ((1, 1), 1, 0)]

    Source: Grother, Ngan, Hanaoka, *Face Recognition Vendor Test, part 3: demographic effects*,
    NIST IR 8280, 2019, section 4.
    """
    items = len(groups if labels is None else labels)
    pairs = TensorPairs.of(distances, same, first, second, items=items)
    return rates_of_groups(pairs, labels, groups, threshold, confidence, replicates, seed)


def rates_of_groups(
    pairs: PairSource,
    labels: Tensor | None,
    groups: Tensor,
    threshold: float,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> tuple[GroupRates, ...]:
    """Do what :func:`error_rates_by_group` does, for pairs of any source."""
    if math.isnan(threshold):
        raise ValueError("threshold must be a number, got nan")
    if groups.is_floating_point() or groups.dtype == torch.bool:
        raise TypeError(f"groups must be integers, got {groups.dtype}")
    known, labels = labels is not None, torch.arange(len(groups)) if labels is None else labels
    if groups.shape != labels.shape or (len(groups) and int(groups.min()) < -1):
        raise ValueError(
            f"groups must be -1 or more, one for each of {len(labels)} labels, got shape "
            f"{tuple(groups.shape)}"
        )
    names, number = np.unique(groups.detach().cpu().numpy(), return_inverse=True)
    total = len(names)

    def columns(block: PairBlock) -> NDArray[np.int64]:
        assert block.second is not None
        sides = number[block.first], number[block.second]
        low, high = np.minimum(*sides), np.maximum(*sides)
        accepted = block.distances.astype(np.float64) <= min(threshold, sys.float_info.max)
        column = ((low * total + high) * 2 + ~block.same) * 2 + ~accepted
        return np.where(names[low] < 0, -1, column)

    whose = Whose.of(pairs.used, labels)
    counts = count_by_identity(pairs.blocks(), whose, columns, 4 * total * total)
    weights = draw_weights(len(counts.by_identity), replicates, seed)

    def rate(begin: int, complement: bool) -> tuple[float, Interval]:
        kind = slice(begin, begin + 2)
        if not counts.totals[kind].any():
            return math.nan, Interval(math.nan, math.nan)
        rows = replicate_rates(counts, kind, weights)[:, 0]
        rows = 1 - rows if complement else rows
        if not known:
            return float(rows[0]), Interval(math.nan, math.nan)
        low, high = interval_of(
            rows, confidence=confidence, independent=counts.independent(kind), kind="rate"
        )
        return float(rows[0]), Interval(low, high)

    rates = []
    for low in range(total):
        for high in range(low, total):
            begin = 4 * (low * total + high)
            matches, misses, false_matches, rejected = counts.totals[begin : begin + 4].tolist()
            if not matches + misses + false_matches + rejected:
                continue
            fnmr, fnmr_interval = rate(begin, complement=True)
            fmr, fmr_interval = rate(begin + 2, complement=False)
            rates.append(
                GroupRates(
                    (int(names[low]), int(names[high])),
                    same=matches + misses,
                    different=false_matches + rejected,
                    false_matches=false_matches,
                    false_non_matches=misses,
                    fmr=fmr,
                    fnmr=fnmr,
                    fmr_interval=fmr_interval,
                    fnmr_interval=fnmr_interval,
                )
            )
    return tuple(rates)
