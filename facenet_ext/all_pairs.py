"""VAL and FAR over all pairs of a set, without a number kept per pair.

A set of N images has N (N - 1) / 2 pairs: ten billion of 141,000. They are counted by the bin of
their distance as the kernels make them, and a second count, of one bin alone, finds the exact pair
at which a false accept rate is reached. Two sets are compared the same way: of the pairs with one
row in each, as FaceNet does with its 100,000 x 100,000.

Source: Schroff, Kalenichenko, Philbin, *FaceNet: A Unified Embedding for Face Recognition and
Clustering*, CVPR 2015, sections 4 and 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from facenet_ext import _validation as check
from facenet_ext import ops
from facenet_ext.metrics import OperatingPoint, Roc

__all__ = [
    "DistanceHistogram",
    "SplitVal",
    "distance_histogram",
    "val_far_all_pairs",
    "val_far_over_splits",
]

Progress = Callable[[int, int], None]
"""Called with the pairs that are done and all there are."""

_BITS = 9
"""Of the first count: 130,560 bins of a float32, a fifth of a percent wide at most."""

_MOST_BINS = 2**22
_BLOCK = 16_384
"""Rows that meet each other in one call: a quarter of a second on two cores, between which there is
progress and Ctrl-C."""


class DistanceHistogram(NamedTuple):
    """Pairs by distance, those of one label and those of two.

    Attributes:
        edges: ``[B + 1]`` float64, ascending. Bin k has distances from ``edges[k]`` to below
            ``edges[k + 1]``.
        same: ``[B + 2]`` int64, pairs of one label: below all bins, in each, and beyond them, where
            infinite and NaN distances are too.
        different: ``[B + 2]`` int64, the same of pairs of two labels.
    """

    edges: Tensor
    same: Tensor
    different: Tensor

    def roc(self) -> Roc:
        """Return VAL and FAR at every edge: of accepting what lies below it."""
        same, different = self.same.cumsum(0), self.different.cumsum(0)
        return Roc(
            self.edges.clone(),
            val=same[:-1].double() / same[-1],
            far=different[:-1].double() / different[-1],
        )


class SplitVal(NamedTuple):
    """VAL at a wanted FAR over several splits.

    Attributes:
        mean: of VAL.
        standard_error: the standard deviation over splits divided by sqrt(splits).
        points: of each split.
    """

    mean: float
    standard_error: float
    points: tuple[OperatingPoint, ...]


def distance_histogram(
    embeddings: Tensor,
    labels: Tensor,
    *,
    low: float = 0.0,
    high: float = math.inf,
    bits: int = _BITS,
    distance: str = "sqeuclidean",
    ref_emb: Tensor | None = None,
    ref_labels: Tensor | None = None,
) -> DistanceHistogram:
    r"""Count the pairs of rows by their distance.

    Edges are floating-point numbers of ``bits`` binary digits behind the leading one, so that bins
    are narrow where distances are small: from :math:`2^e` to :math:`2^{e+1}` there are
    :math:`2^\text{bits}` of one width.

    Args:
        embeddings: ``[M, D]``
        labels: ``[M]`` integers.
        low: the first edge, a distance; rounded down to one of ``bits`` digits.
        high: the last edge; rounded up.
        bits: digits of an edge: 0 to 23, of float64 embeddings to 52. With all of them each number
            has a bin of its own.
        distance: ``"sqeuclidean"``, ``"euclidean"`` or ``"cosine"``.
        ref_emb: ``[N, D]``: count the pairs of a row here with a row there. Without, each pair of
            rows of ``embeddings`` counts once.
        ref_labels: ``[N]``

    Returns:
        A :class:`DistanceHistogram` on the device of the embeddings, ``edges`` on the CPU.

    Raises:
        ValueError: as :func:`facenet_ext.select_triplets`; or the range is empty, or has more than
            4 million bins.
        TypeError: as there.

    Example:
        >>> embeddings = torch.tensor([[0.0], [0.5], [2.0]])
        >>> labels = torch.tensor([0, 0, 1])
        >>> found = distance_histogram(embeddings, labels, low=0.25, high=8, bits=0)
        >>> found.edges.tolist()
        [0.25, 0.5, 1.0, 2.0, 4.0, 8.0]
        >>> found.same.tolist(), found.different.tolist()
        ([0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 0])

    Source: FaceNet, section 4.
    """
    batch = check.Batch(embeddings, labels, ref_emb, ref_labels, None, None)
    check.check_choice("distance", distance, check.DISTANCES)
    format = _Format.of(batch.emb.dtype)
    if isinstance(bits, bool) or not isinstance(bits, int) or not 0 <= bits <= format.mantissa:
        raise ValueError(f"bits: expected 0 to {format.mantissa}, got {bits!r}")
    if not 0 <= low < high:
        raise ValueError(f"low and high: expected 0 <= low < high, got {low!r} and {high!r}")
    shift = format.mantissa - bits
    first = format.bits_of(low) >> shift
    bins = -(-format.bits_of(high) >> shift) - first
    if bins > _MOST_BINS:
        raise ValueError(
            f"bits: expected at most {_MOST_BINS} bins, got {bins}; "
            "ask for fewer bits, or for less between low and high"
        )
    cut = _Cut(first << shift, shift, max(bins, 1))
    check.check_values("embeddings", embeddings)
    counts = ops.distance_histogram(*batch.tensors()[:4], distance, *cut)
    edges = format.values_of(cut.low + (torch.arange(cut.bins + 1, device="cpu") << shift))
    return DistanceHistogram(edges, counts[0], counts[1])


def val_far_all_pairs(
    embeddings: Tensor,
    labels: Tensor,
    far: Sequence[float] = (1e-3,),
    *,
    distance: str = "sqeuclidean",
    ref_emb: Tensor | None = None,
    ref_labels: Tensor | None = None,
    progress: Progress | None = None,
) -> tuple[OperatingPoint, ...]:
    r"""Find VAL at each wanted FAR over all pairs.

    The threshold is :math:`\max \{ t : \mathrm{FAR}(t) \le \mathrm{far} \}` over the distances
    that occur, exact to the last bit: what :func:`facenet_ext.metrics.val_far` finds among pairs
    that are listed. One pass over all pairs finds the bins in which the thresholds are, and one
    more for each of these the threshold.

    Args:
        embeddings: ``[M, D]``, on any device; a memory-mapped file's too.
        labels: ``[M]`` integers.
        far: wanted false accept rates, each in (0, 1].
        distance: ``"sqeuclidean"``, ``"euclidean"`` or ``"cosine"``.
        ref_emb: ``[N, D]``: the pairs of a row here with a row there. Without, each pair of rows
            of ``embeddings`` once.
        ref_labels: ``[N]``
        progress: called with the pairs done and all there are, several times a second.

    Returns:
        An :class:`facenet_ext.metrics.OperatingPoint` for each rate.

    Raises:
        ValueError: as :func:`distance_histogram`; or a rate is outside (0, 1], one of the two kinds
            of pair is missing, or a distance is not finite.
        TypeError: as :func:`distance_histogram`.

    Example:
        >>> embeddings = torch.tensor([[0.0], [0.1], [1.0], [1.5]])
        >>> point, = val_far_all_pairs(embeddings, torch.tensor([0, 0, 1, 1]), far=[0.5])
        >>> point.val, point.far, round(point.threshold, 4)
        (1.0, 0.5, 1.0)

    Source: FaceNet, section 4, equations 5 and 6, and section 5.
    """
    for rate in far:
        if not 0 < rate <= 1:
            raise ValueError(f"far must be in (0, 1], got {rate}")
    batch = check.Batch(embeddings, labels, ref_emb, ref_labels, None, None)
    check.check_choice("distance", distance, check.DISTANCES)
    check.check_values("embeddings", embeddings)
    return _Search(batch, distance, progress).points(far)


def val_far_over_splits(
    embeddings: Tensor,
    labels: Tensor,
    far: float = 1e-3,
    *,
    splits: int = 5,
    seed: int = 0,
    distance: str = "sqeuclidean",
    progress: Progress | None = None,
) -> SplitVal:
    """Find VAL at a wanted FAR in each of several splits, over all pairs of each.

    The identities are dealt out at random: no one is in two splits.

    Args:
        embeddings: ``[N, D]``
        labels: ``[N]`` integers.
        far: the wanted false accept rate, in (0, 1].
        splits: how many, 2 or more.
        seed: of the dealing.
        distance: ``"sqeuclidean"``, ``"euclidean"`` or ``"cosine"``.
        progress: called with the pairs done and all of the split there are.

    Returns:
        A :class:`SplitVal`.

    Raises:
        ValueError: as :func:`val_far_all_pairs`, or there are fewer identities than splits, or
            fewer than two splits.
        TypeError: as :func:`val_far_all_pairs`.

    Example:
        >>> labels = torch.arange(20).repeat(2)
        >>> found = val_far_over_splits(labels.float().unsqueeze(1), labels, far=0.01, splits=2)
        >>> found.mean, found.standard_error
        (1.0, 0.0)

    Source: FaceNet, section 5: five splits, mean and standard error.
    """
    check.check_embeddings("embeddings", embeddings)
    labels = check.check_integers("labels", labels, "embeddings", embeddings)
    identities, of = torch.unique(labels, return_inverse=True)
    if not 2 <= splits <= len(identities):
        raise ValueError(f"splits: expected 2 to {len(identities)} (identities), got {splits}")
    generator = torch.Generator("cpu").manual_seed(seed)
    split_of = torch.randperm(len(identities), generator=generator, device="cpu")[of.cpu()] % splits
    points: list[OperatingPoint] = []
    for split in range(splits):
        rows = (split_of == split).nonzero().flatten().to(embeddings.device)
        points += val_far_all_pairs(
            embeddings[rows], labels[rows], [far], distance=distance, progress=progress
        )
    values = torch.tensor([point.val for point in points], dtype=torch.float64, device="cpu")
    standard_error = values.std(unbiased=True).item() / math.sqrt(splits)
    return SplitVal(values.mean().item(), standard_error, tuple(points))


class _Format(NamedTuple):
    """How a floating-point type's bits are read as whole numbers, which ascend with its values."""

    value: torch.dtype
    integer: torch.dtype
    mantissa: int

    @classmethod
    def of(cls, embeddings: torch.dtype) -> _Format:
        if embeddings == torch.float64:
            return cls(torch.float64, torch.int64, 52)
        return cls(torch.float32, torch.int32, 23)

    def bits_of(self, value: float) -> int:
        return int(torch.tensor(value, dtype=self.value, device="cpu").view(self.integer))

    def values_of(self, bits: Tensor) -> Tensor:
        return bits.to(self.integer).view(self.value).double()


class _Cut(NamedTuple):
    """The bins of a count: the operator's last arguments."""

    low: int
    shift: int
    bins: int


class _Search:
    """Finds thresholds among all pairs by counting: first everywhere, then within single bins."""

    def __init__(self, batch: check.Batch, distance: str, progress: Progress | None) -> None:
        self.batch = batch
        self.distance = distance
        self.progress = progress
        self.format = _Format.of(batch.emb.dtype)
        self.counted: dict[_Cut, Tensor] = {}

    def points(self, far: Sequence[float]) -> tuple[OperatingPoint, ...]:
        shift = self.format.mantissa - _BITS
        everything = _Cut(0, shift, self.format.bits_of(math.inf) >> shift)
        counts = self.count(everything)
        same, different = counts.sum(1).tolist()
        if not (same and different):
            raise ValueError(
                "there must be pairs of the same and of different identities, "
                f"got {same} same and {different} different"
            )
        if unusable := int(counts[:, -1].sum()):
            raise ValueError(f"distances must be finite, got {unusable} NaN or infinite")
        return tuple(self.point(rate, everything, same, different) for rate in far)

    def point(self, rate: float, everything: _Cut, same: int, different: int) -> OperatingPoint:
        # Compared as counts, and with a hair's breadth: 0.07 * 100 is a little more than 7.
        allowed = math.floor(rate * different * (1 + 1e-12))
        found = self.last_within(everything, allowed)
        if found is None:
            return OperatingPoint(rate, False, math.nan, math.nan, math.nan)
        threshold, (accepted_same, accepted_different) = found
        return OperatingPoint(
            rate, allowed >= 1, accepted_same / same, accepted_different / different, threshold
        )

    def last_within(self, cut: _Cut, allowed: int) -> tuple[float, list[int]] | None:
        """The largest distance there is in a cut up to which few enough others are accepted.

        Returns:
            The distance, and how many pairs of each kind are accepted; None where even the smallest
            of the cut accepts too many.
        """
        counts = self.count(cut)
        accepted = counts.cumsum(1)[:, :-1]  # at the upper end of the column
        within = int((accepted[1] <= allowed).sum())  # columns, the one below the bins included
        if within == 0:
            return None
        if cut.shift and within < cut.bins + 1:
            # The first bin that is too much as a whole may begin with some that are not.
            found = self.last_within(self.inside(cut, within - 1), allowed)
            if found is not None:
                return found
        occupied = counts[:, 1:within].sum(0).nonzero()
        if not len(occupied):
            return None
        last = int(occupied[-1])
        if cut.shift:
            return self.last_within(self.inside(cut, last), allowed)
        threshold = self.format.values_of(torch.tensor([cut.low + last], device="cpu")).item()
        return threshold, accepted[:, last + 1].tolist()

    def inside(self, cut: _Cut, bin: int) -> _Cut:
        """The bins of a bin: single numbers, where these are not too many."""
        shift = max(0, cut.shift - 17)
        return _Cut(cut.low + (bin << cut.shift), shift, 1 << (cut.shift - shift))

    def count(self, cut: _Cut) -> Tensor:
        """Count all pairs, block by block."""
        if cut not in self.counted:
            counts = torch.zeros(2, cut.bins + 2, dtype=torch.int64, device="cpu")
            emb, labels, ref_emb, ref_labels = self.batch.tensors()[:4]
            for rows, columns in self.blocks():
                others: tuple[Tensor | None, Tensor | None] = (None, None)
                if ref_emb is not None and ref_labels is not None:
                    others = (ref_emb[columns], ref_labels[columns])
                elif rows != columns:
                    others = (emb[columns], labels[columns])
                counts += ops.distance_histogram(
                    emb[rows], labels[rows], *others, self.distance, *cut
                ).cpu()
                if self.progress is not None:
                    self.progress(int(counts.sum()), self.pairs())
            self.counted[cut] = counts
        return self.counted[cut]

    def blocks(self) -> list[tuple[slice, slice]]:
        """All blocks of pairs, and of a set with itself those on and above the diagonal."""
        rows = self.batch.emb.shape[0]
        ref = self.batch.ref_emb
        columns = rows if ref is None else ref.shape[0]
        starts = [
            (i, j)
            for i in range(0, rows, _BLOCK)
            for j in range(0 if ref is not None else i, columns, _BLOCK)
        ]
        return [(slice(i, i + _BLOCK), slice(j, j + _BLOCK)) for i, j in starts]

    def pairs(self) -> int:
        rows, ref = self.batch.emb.shape[0], self.batch.ref_emb
        return rows * (rows - 1) // 2 if ref is None else rows * ref.shape[0]
