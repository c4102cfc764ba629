"""Pairs counted for each identity, and rates with the identities drawn anew.

Pairs that share an identity are not independent: somebody who is hard to recognise is so in each
of their pairs. So identities are drawn, not pairs. Where identity i is drawn w_i times,

- a pair of identity i with itself counts w_i times: a copy of somebody is compared with itself, not
  with other copies, as in the subset bootstrap;
- a pair of identities i and j would count w_i w_j times, which is w_i + w_j - 1 and a product of
  deviations that is small when there are many identities. The sum needs only how many pairs each
  identity has up to each threshold, so all replicates are one product of matrices.

The sum counts what is a single pair's own noise twice, once for each end (the product does so three
times). With e_ij the deviation of the pairs of i and j, and r_i = sum over j of e_ij, its variance
is V = sum of r_i^2, and that of the rate is V - P with P = sum over i < j of e_ij^2. So deviations
are multiplied by the root of (V - P) / V, which lies between 1/2 (pairs are independent) and 1.
P comes from a table of the pairs of identities that are dealt to a fixed number of buckets at
random: the deviations add up to zero, so those of others in a bucket cancel.

Source: Bolle, Ratha, Pankanti, *Error analysis of pattern recognition systems: the subsets
bootstrap*, Computer Vision and Image Understanding 2004; Owen, *The pigeonhole bootstrap*, Annals
of Applied Statistics 2007; Aronow, Samii, Assenova, *Cluster-robust variance estimation for dyadic
data*, Political Analysis 2015; Fogliato, Patil, Perona, *Confidence intervals for error rates in
1:1 matching tasks*, International Journal of Computer Vision 2024.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facenet_ext.metrics.sources import PairBlock

__all__ = [
    "Counts",
    "Whose",
    "count_by_identity",
    "draw_signs",
    "draw_weights",
    "replicate_rates",
    "scale_of",
]

_GROUPS = 2048
"""Most identities that are drawn one by one; more are dealt to so many groups at random, and the
groups are drawn. The variance is then off by sqrt(2 / 2048), 3 %, at random."""

_BUCKETS = 1024  # for pairs of identities


class Whose(NamedTuple):
    """Whose each item is.

    Attributes:
        place: [items] int64, the number of the identity of each, from 0 without gaps; -1 for an
            item that is in no pair.
        identities: how many there are.
    """

    place: NDArray[np.int64]
    identities: int

    @classmethod
    def of(cls, used: NDArray[np.bool_], labels: Tensor | None) -> Whose:
        """Number the identities that occur.

        Args:
            used: [items] whether each is in a pair.
            labels: [items or more] integers, the identity of each; None where items are identities.
        """
        place = np.full(len(used), -1)
        if labels is None:
            place[used] = np.arange(used.sum())
        elif labels.is_floating_point() or labels.dtype == torch.bool:
            raise TypeError(f"labels must be integers, got {labels.dtype}")
        else:
            names = labels.detach().cpu().numpy()[: len(used)][used]
            place[used] = np.unique(names, return_inverse=True)[1]
        return cls(place, int(place.max()) + 1)


@dataclasses.dataclass(frozen=True)
class Counts:
    """How many pairs there are in each column: in all, of each identity, of pairs of identities.

    Attributes:
        totals: [columns] int64, each pair once.
        by_identity: [groups, columns] int32, each pair once for each of its identities.
        by_bucket: [buckets, columns] int32, pairs of two identities, those of the same two in one
            bucket.
        identities: number of identities.
    """

    totals: NDArray[np.int64]
    by_identity: NDArray[np.int32]
    by_bucket: NDArray[np.int32]
    identities: int

    def __sub__(self, some: Counts) -> Counts:
        """Return the counts of the pairs that are not among some of them."""
        return Counts(
            self.totals - some.totals,
            self.by_identity - some.by_identity,
            self.by_bucket - some.by_bucket,
            self.identities,
        )

    def independent(self, columns: slice) -> int:
        """Return how many pairs in some columns certainly have nobody in common."""
        own = int(self.by_identity[:, columns].any(1).sum())
        return own // 2 if self.by_bucket[:, columns].any() else own


def count_by_identity(
    blocks: Iterable[PairBlock],
    whose: Whose,
    columns: Callable[[PairBlock], NDArray[np.int64]],
    width: int,
) -> Counts:
    """Count the pairs of each column, in one pass.

    Args:
        blocks: of the pairs.
        whose: the items are.
        columns: gives the column of each pair of a block, or -1 for a pair to leave out.
        width: number of columns.
    """
    groups = min(whose.identities, _GROUPS)
    group = np.arange(whose.identities)
    if groups < whose.identities:
        group = np.random.default_rng(0).permutation(group) % groups
    totals = np.zeros(width, np.int64)
    by_identity = np.zeros((groups, width), np.int32)
    by_bucket = np.zeros((_BUCKETS, width), np.int32)

    def add(table: NDArray[np.int32], rows: NDArray[Any], column: NDArray[np.int64]) -> None:
        counted = np.bincount(rows * width + column, minlength=table.size).reshape(table.shape)
        np.add(table, counted, out=table, casting="same_kind")

    for block in blocks:
        column, one = columns(block), whose.place[block.first]
        other = None if block.second is None else whose.place[block.second]
        counted = column >= 0
        if not counted.all():
            column, one = column[counted], one[counted]
            other = None if other is None else other[counted]
        totals += np.bincount(column, minlength=width)
        add(by_identity, group[one], column)
        if other is not None and (two := one != other).any():
            column, one, other = column[two], one[two], other[two]
            add(by_identity, group[other], column)
            add(by_bucket, _bucket(np.minimum(one, other), np.maximum(one, other)), column)
    return Counts(totals, by_identity, by_bucket, whose.identities)


def _bucket(low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
    """Deal pairs of identities to buckets, by multiplicative hashing."""
    mixed = low.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + high.astype(np.uint64)
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    return (mixed >> np.uint64(40)).astype(np.int64) % _BUCKETS


def draw_weights(groups: int, replicates: int, seed: int) -> NDArray[np.float32]:
    """Return how much more or less often than once each identity is drawn.

    Over all replicates each is drawn as often (the balanced bootstrap), so that the mean of
    replicates is no matter of chance.

    Returns:
        [replicates, groups]; scaled by sqrt(groups / (groups - 1)), as a variance is that is
        estimated from deviations from a mean.

    Source: Davison, Hinkley, Schechtman, *Efficient bootstrap simulation*, Biometrika 1986.
    """
    generator = np.random.default_rng(seed)
    weights = np.empty((replicates, groups), np.float32)
    for row in weights:
        row[:] = np.bincount(generator.integers(groups, size=groups), minlength=groups)
    weights -= weights.mean(0)
    weights *= np.sqrt(groups / max(1, groups - 1))
    return weights


def draw_signs(replicates: int, seed: int) -> NDArray[np.float32]:
    """Return 1 or -1 for each bucket of pairs of identities, [replicates, buckets]."""
    drawn = np.random.default_rng(seed).integers(2, size=(replicates, _BUCKETS))
    signs: NDArray[np.float32] = (2 * drawn - 1).astype(np.float32)
    signs *= np.sqrt(_BUCKETS / (_BUCKETS - 1))
    return signs


def replicate_rates(
    counts: Counts,
    columns: slice,
    weights: NDArray[np.float32],
    of: Literal["all", "identities", "pairs"] = "all",
) -> NDArray[np.float64]:
    """Return which share of the pairs in some columns is in the first k of them.

    Args:
        counts: of the pairs.
        columns: K + 1 of them, ascending.
        weights: of the identities, or of the buckets.
        of: what varies: ``"identities"`` with the variance V, ``"pairs"`` alone with P, or
            ``"all"`` with V - P.

    Returns:
        [1 + replicates, K]; the first row is of the pairs themselves. Rows ascend.
    """
    totals = counts.totals[columns].cumsum()
    rates = totals[:-1] / max(1, totals[-1])

    def residuals(table: NDArray[np.int32]) -> NDArray[np.float64]:
        accepted = table[:, columns].cumsum(1, dtype=np.float64)
        every: NDArray[np.float64] = accepted[:, -1:] * rates
        np.subtract(accepted[:, :-1], every, out=every)
        return every

    own = residuals(counts.by_bucket if of == "pairs" else counts.by_identity)
    if of == "all":
        variance = np.einsum("ik,ik->k", own, own)
        rest = residuals(counts.by_bucket)
        noise = np.einsum("ik,ik->k", rest, rest) * (_BUCKETS / (_BUCKETS - 1))
        own *= scale_of(variance, noise)
    own /= max(1, totals[-1])
    result = np.empty((len(weights) + 1, len(rates)))
    result[0] = rates
    result[1:] = weights @ own.astype(np.float32)
    result[1:] += rates
    np.maximum.accumulate(result, axis=1, out=result)
    np.clip(result, 0, 1, out=result)
    return result


def scale_of(variance: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by what to multiply deviations of variance V, where the pairs' own is P."""
    needed = np.maximum(variance - noise, noise)
    scale: NDArray[np.float64] = np.sqrt(
        np.minimum(needed / np.where(variance > 0, variance, 1), 1)
    )
    return scale
