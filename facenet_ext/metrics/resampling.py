"""How sure a figure is: replicates of it, with the identities drawn anew."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facenet_ext.metrics import _curves
from facenet_ext.metrics._clusters import (
    Whose,
    count_by_identity,
    draw_signs,
    draw_weights,
    replicate_rates,
)
from facenet_ext.metrics._comparisons import check_share
from facenet_ext.metrics.costs import bayes_threshold, check_costs
from facenet_ext.metrics.intervals import interval_of
from facenet_ext.metrics.sources import PairBlock, PairSource, TensorPairs
from facenet_ext.metrics.thresholds import some_thresholds

__all__ = ["THRESHOLDS", "Replicates", "resample", "resample_identities"]

THRESHOLDS = 256
"""About how many a curve of replicates has."""


@dataclasses.dataclass(frozen=True)
class Replicates:
    """FMR and FNMR of some pairs, and of replicates of them with the identities drawn anew.

    Its methods return a figure of each row: ``[0]`` is of the pairs themselves, the others are of
    the replicates. They are taken from the curve at ``thresholds``, and interpolated between them;
    the figures' own functions are exact. :func:`interval_of` makes an interval of the rows.

    Figures whose threshold is another one in each replicate are taken around a smooth curve, so
    that they vary as with other people, not as this uneven curve has it. One of the best of many
    thresholds (:meth:`eer_convex_hull`, :meth:`min_dcf`, :meth:`min_cllr`) is too good on the pairs
    at hand. Its replicates are better again, on average by as much; :func:`interval_of` takes it
    back.

    Attributes:
        thresholds: [T] float64, ascending; the first is -inf and accepts nothing, the last is inf
            and accepts all.
        fmr: [1 + R, T] float64, ascending along a row, from 0 to 1.
        fnmr: [1 + R, T] float64, descending along a row, from 1 to 0.
        identities: how many there are.
        independent: how many same and how many different pairs certainly have nobody in common.
        pairs: how many same and how many different ones there are.
        costs: [2, T - 1] float64, the mean of log2(1 + exp(-s)) of same pairs from each threshold
            to the next, and of log2(1 + exp(s)) of different ones, where distances are
            log-likelihood ratios -s; else None.
    """

    thresholds: NDArray[np.float64]
    fmr: NDArray[np.float64]
    fnmr: NDArray[np.float64]
    identities: int
    independent: tuple[int, int]
    pairs: tuple[int, int]
    costs: NDArray[np.float64] | None = None

    def at_threshold(self, threshold: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return FMR and FNMR at a threshold that was given as one of ``at``."""
        place = int(np.searchsorted(self.thresholds, threshold))
        if place == len(self.thresholds) or self.thresholds[place] != threshold:
            raise ValueError(f"threshold must be one that was given in `at`, got {threshold}")
        return self.fmr[:, place], self.fnmr[:, place]

    def fnmr_at_fmr(self, fmr: float) -> NDArray[np.float64]:
        """Return FNMR at a wanted FMR, each row at its own threshold; see :func:`.fnmr_at_fmr`."""
        check_share("fmr", fmr)
        return self._moving(functools.partial(_curves.fnmr_at, rate=fmr))

    def eer(self) -> NDArray[np.float64]:
        """Return the equal error rate by interpolation; see :func:`.eer`."""
        return self._moving(_curves.eer)

    def eer_convex_hull(self) -> NDArray[np.float64]:
        """Return the equal error rate of the convex hull; see :func:`.eer_convex_hull`."""
        return self._optimum(_curves.eer_convex_hull)

    def auc(self) -> NDArray[np.float64]:
        """Return the area under the ROC; see :func:`.auc`."""
        return _curves.auc(self.fmr, self.fnmr)

    def min_dcf(
        self, p_target: float = 0.01, *, c_miss: float = 1.0, c_fa: float = 1.0
    ) -> NDArray[np.float64]:
        """Return the minimum detection cost; see :func:`.min_dcf`."""
        check_costs(p_target, c_miss, c_fa)
        miss, alarm = c_miss * p_target, c_fa * (1 - p_target)

        def least(fmr: _curves.Rows, fnmr: _curves.Rows) -> _curves.Rows:
            costs: _curves.Rows = (miss * fnmr + alarm * fmr).min(1) / min(miss, alarm)
            return costs

        return self._optimum(least)

    def min_cllr(self) -> NDArray[np.float64]:
        """Return Cllr after the best calibration; see :func:`.min_cllr`."""
        return self._optimum(_curves.min_cllr)

    def actual_dcf(
        self, p_target: float = 0.01, *, c_miss: float = 1.0, c_fa: float = 1.0
    ) -> NDArray[np.float64]:
        """Return the actual detection cost, where minus Bayes' threshold was given in ``at``."""
        check_costs(p_target, c_miss, c_fa)
        fmr, fnmr = self.at_threshold(-bayes_threshold(p_target, c_miss, c_fa))
        miss, alarm = c_miss * p_target, c_fa * (1 - p_target)
        costs: NDArray[np.float64] = (miss * fnmr + alarm * fmr) / min(miss, alarm)
        return costs

    def cllr(self) -> NDArray[np.float64]:
        """Return the cost of log-likelihood ratios, where distances are such; see :func:`.cllr`."""
        if self.costs is None:
            raise ValueError("cllr needs replicates of `log_likelihood_ratios`")
        of_same, of_different = self.costs
        costs: NDArray[np.float64] = np.diff(self.fmr) @ of_different - np.diff(self.fnmr) @ of_same
        return costs / 2

    @functools.cached_property
    def _around(self) -> tuple[_curves.Rows, _curves.Rows]:
        same, different = self.pairs
        return _curves.around_smooth(self.fmr, self.fnmr, different, same)

    def _moving(self, figure: _curves.Figure) -> _curves.Rows:
        return _curves.moving(figure, self.fmr, self.fnmr, self._around)

    def _optimum(self, figure: _curves.Figure) -> _curves.Rows:
        same, different = self.pairs
        return _curves.optimum(figure, self.fmr, self.fnmr, self._around, different, same)

    def band(
        self, fmr: NDArray[Any] | list[float], confidence: float = 0.95
    ) -> NDArray[np.float64]:
        """Return the interval of FNMR at each of several FMR: a band around the DET curve.

        Returns:
            [2, len(fmr)], the lower and the upper ends.
        """
        ends = [
            interval_of(
                self.fnmr_at_fmr(rate),
                confidence=confidence,
                independent=self.independent[0],
                kind="rate",
            )
            for rate in fmr
        ]
        clipped: NDArray[np.float64] = np.clip(np.array(ends).reshape(-1, 2).T, 0, 1)
        return clipped


def resample_identities(
    distances: Tensor,
    same: Tensor,
    first: Tensor,
    second: Tensor | None = None,
    *,
    labels: Tensor | None = None,
    at: tuple[float, ...] = (),
    log_likelihood_ratios: bool = False,
    replicates: int = 1000,
    seed: int = 0,
) -> Replicates:
    """Draw the identities anew, many times, and compute FMR and FNMR of each replicate.

    Pairs that share an identity are not independent, so identities are drawn with replacement, as
    many as there are. The pairs are counted once, in chunks, for each identity and at some hundred
    thresholds, where the counts are exact. Replicates come of these counts.

    Two systems are compared on the same pairs with one ``seed``: replicate k of both then has the
    same identities. See :func:`paired_difference`.

    Args:
        distances: [N] floating point, the distance of each pair; smaller means more alike.
        same: [N] bool, whether the pair is of one identity.
        first: [N] integers, the identity of one side of each pair, from 0; with ``labels`` its
            place there.
        second: [N] integers, that of the other side; None where each comparison is of one identity,
            as a search in a fixed gallery.
        labels: [items] integers, the identity of each item.
        at: thresholds at which rates are wanted exactly, beside those that are chosen.
        log_likelihood_ratios: whether distances are log-likelihood ratios with the sign changed.
        replicates: how many, 2 or more.
        seed: of the drawing.

    Returns:
        A :class:`Replicates`.

    Raises:
        TypeError: ``distances`` is not floating point, ``same`` is not bool, or identities are not
            integers.
        ValueError: shapes do not fit, a distance is NaN, one of the two kinds of pair is missing,
            an identity is out of range, or there is only one.

    Example:
        >>> first, second = torch.triu_indices(60, 60, offset=1)
        >>> labels = torch.arange(60) // 3
        >>> same = labels[first] == labels[second]
        >>> distances = torch.linspace(0, 1, len(same)) + ~same
        >>> drawn = resample_identities(distances, same, first, second, labels=labels)
        >>> drawn.identities, drawn.eer().shape
        (20, (1001,))

    Source: Bolle, Ratha, Pankanti, *Error analysis of pattern recognition systems: the subsets
    bootstrap*, Computer Vision and Image Understanding 2004; Fogliato, Patil, Perona, *Confidence
    intervals for error rates in 1:1 matching tasks*, International Journal of Computer Vision 2024.
    """
    items = None if labels is None else len(labels)
    pairs = TensorPairs.of(distances, same, first, second, items=items)
    return resample(
        pairs,
        labels,
        thresholds=np.append(some_thresholds(pairs.sorted(), THRESHOLDS), at),
        log_likelihood_ratios=log_likelihood_ratios,
        replicates=replicates,
        seed=seed,
    )


def resample(
    pairs: PairSource,
    labels: Tensor | None,
    *,
    thresholds: NDArray[Any],
    log_likelihood_ratios: bool,
    replicates: int,
    seed: int,
    of: Literal["all", "identities", "pairs"] = "all",
) -> Replicates:
    """Do what :func:`resample_identities` does, at given thresholds, for pairs of any source."""
    if replicates < 2:
        raise ValueError(f"replicates must be 2 or more, got {replicates}")
    whose = Whose.of(pairs.used, labels)
    if whose.identities < 2:
        raise ValueError("first and second must have two identities or more, got 1")
    edges = np.unique(thresholds.astype(np.float64))
    width = len(edges) + 1
    costs = np.zeros((2, width))

    def columns(block: PairBlock) -> NDArray[np.int64]:
        column = np.searchsorted(edges, block.distances) + np.where(block.same, 0, width)
        if log_likelihood_ratios:
            signed = np.where(block.same, block.distances, -block.distances)
            softplus = torch.nn.functional.softplus(torch.from_numpy(signed).double(), threshold=40)
            cost = softplus.numpy() / math.log(2)
            costs[:] += np.bincount(column, cost, 2 * width).reshape(2, width)
        return column

    counts = count_by_identity(pairs.blocks(), whose, columns, 2 * width)
    kinds = slice(0, width), slice(width, 2 * width)
    if of == "pairs":
        weights = draw_signs(replicates, seed)
    else:
        weights = draw_weights(len(counts.by_identity), replicates, seed)
    matches, false_matches = (replicate_rates(counts, kind, weights, of) for kind in kinds)
    per_bin = counts.totals.reshape(2, width)
    return Replicates(
        np.concatenate([[-np.inf], edges, [np.inf]]),
        fmr=np.pad(false_matches, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1))),
        fnmr=1 - np.pad(matches, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1))),
        identities=counts.identities,
        independent=(counts.independent(kinds[0]), counts.independent(kinds[1])),
        pairs=(int(per_bin[0].sum()), int(per_bin[1].sum())),
        costs=costs / np.maximum(per_bin, 1) if log_likelihood_ratios else None,
    )
