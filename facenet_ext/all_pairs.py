"""VAL and FAR over all pairs of a set, without keeping a number for each pair.

A set of N images has N (N - 1) / 2 pairs: 141,000 images have ten billion. The kernels compute the
distances, and count each by its bin. A sample says roughly where a false accept rate is reached.
The bins there hold a single number, so the same pass finds the exact pair at which it is reached.
Two sets are compared in the same way: each pair then has one row of either set, as in FaceNet's
100,000 x 100,000 pairs.

Source: Schroff, Kalenichenko, Philbin, *FaceNet: A Unified Embedding for Face Recognition and
Clustering*, CVPR 2015, sections 4 and 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from facenet_ext import _validation as check
from facenet_ext._agreement import check_same
from facenet_ext._pair_ranks import Format, PairCounts, count_pairs
from facenet_ext._ranks import Ranks
from facenet_ext.metrics import OperatingPoint, Roc

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = [
    "DistanceHistogram",
    "SplitVal",
    "distance_histogram",
    "val_far_all_pairs",
    "val_far_over_splits",
]

Progress = Callable[[int, int], None]
"""Called with how many pairs are done, and how many there are."""

_BITS = 9
"""Binary digits of the bins' edges, which are a fifth of a percent apart at most."""

_MOST_BINS = 2**22


class DistanceHistogram(NamedTuple):
    """The number of pairs by distance, of those with one label and of those with two.

    Attributes:
        edges: ``[B + 1]`` float64, ascending. Bin k has distances from ``edges[k]`` to below
            ``edges[k + 1]``.
        same: ``[B + 2]`` int64, pairs of one label: below all bins, in each bin, and beyond all
            bins. Infinite and NaN distances count as beyond.
        different: ``[B + 2]`` int64, the same for pairs of two labels.
    """

    edges: Tensor
    same: Tensor
    different: Tensor

    def roc(self) -> Roc:
        """Return VAL and FAR at every edge, where distances below it are accepted."""
        same, different = self.same.cumsum(0), self.different.cumsum(0)
        return Roc(
            self.edges.clone(),
            val=same[:-1].double() / same[-1],
            far=different[:-1].double() / different[-1],
        )


class SplitVal(NamedTuple):
    """VAL at a wanted FAR over several splits.

    Attributes:
        mean: the mean of VAL.
        standard_error: the standard deviation over splits divided by sqrt(splits).
        points: the operating point of each split.
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
    group: ProcessGroup | None = None,
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
        bits: binary digits of an edge: 0 to 23, or to 52 for float64 embeddings. With all of them
            each floating-point number has a bin of its own.
        distance: ``"sqeuclidean"``, ``"euclidean"`` or ``"cosine"``.
        ref_emb: ``[N, D]``: count the pairs of a row of ``embeddings`` with one of these. If None,
            each pair of rows of ``embeddings`` counts once.
        ref_labels: ``[N]``
        group: the processes that divide the pairs; all of them call it, with the same rows.
            None: this process alone.

    Returns:
        A :class:`DistanceHistogram` on the device of the embeddings, ``edges`` on the CPU.

    Raises:
        ValueError: as :func:`facenet_ext.select_triplets`; or the range is empty, or has more than
            4 million bins.
        TypeError: as there.

    Example:
        >>> embeddings = torch.tensor([[0.0], [0.5], [2.0]])
        >>> labels = torch.tensor([0, 0, 1])
        >>> histogram = distance_histogram(embeddings, labels, low=0.25, high=8, bits=0)
        >>> histogram.edges.tolist()
        [0.25, 0.5, 1.0, 2.0, 4.0, 8.0]
        >>> histogram.same.tolist(), histogram.different.tolist()
        ([0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 0])

    Source: FaceNet, section 4.
    """
    ranks = Ranks.among(group)
    with ranks.together():
        batch = check.Batch(embeddings, labels, ref_emb, ref_labels, None, None)
        check.check_choice("distance", distance, check.DISTANCES)
        format = Format.of(batch.emb.dtype)
        if isinstance(bits, bool) or not isinstance(bits, int) or not 0 <= bits <= format.mantissa:
            raise ValueError(f"bits: expected 0 to {format.mantissa}, got {bits!r}")
        if not 0 <= low < high:
            raise ValueError(f"low and high: expected 0 <= low < high, got {low!r} and {high!r}")
        shift = format.mantissa - bits
        first = format.bits_of(low) >> shift
        bins = -(-format.bits_of(high, up=True) >> shift) - first
        if bins > _MOST_BINS:
            raise ValueError(
                f"bits: expected at most {_MOST_BINS} bins, got {bins}; "
                "ask for fewer bits, or for less between low and high"
            )
        bins = max(bins, 1)
        check.check_values("embeddings", embeddings)
    tensors = batch.tensors()[:4]
    _check_same(ranks, tensors, distance=distance, low=low, high=high, bits=bits)
    counts = count_pairs(tensors, distance, [first << shift], shift, bins, ranks)
    edges = format.values_of((first + torch.arange(bins + 1, device="cpu")) << shift)
    counts[:, -2] += counts[:, -1]  # NaN counts as beyond all bins
    return DistanceHistogram(edges, *counts[:, :-1])


def _check_same(ranks: Ranks, tensors: Sequence[Tensor | None], **options: object) -> None:
    names = ("embeddings", "labels", "ref_emb", "ref_labels")
    check_same(ranks, **dict(zip(names, tensors, strict=True)), **options)


def val_far_all_pairs(
    embeddings: Tensor,
    labels: Tensor,
    far: Sequence[float] = (1e-3,),
    *,
    distance: str = "sqeuclidean",
    ref_emb: Tensor | None = None,
    ref_labels: Tensor | None = None,
    progress: Progress | None = None,
    group: ProcessGroup | None = None,
) -> tuple[OperatingPoint, ...]:
    r"""Find VAL at each wanted FAR over all pairs.

    The threshold is :math:`\max \{ t : \mathrm{FAR}(t) \le \mathrm{far} \}` over the distances
    that occur, exact to the last bit. :func:`facenet_ext.metrics.val_far` finds the same in a list
    of the pairs. A sample of the rows says roughly where the thresholds are. For float32 one pass
    over all pairs then finds all of them, or two where the sample leaves too much open. For float64
    it takes three.

    Args:
        embeddings: ``[M, D]``, on any device or mapped to a file.
        labels: ``[M]`` integers.
        far: wanted false accept rates, each in (0, 1].
        distance: ``"sqeuclidean"``, ``"euclidean"`` or ``"cosine"``.
        ref_emb: ``[N, D]``: the pairs of a row of ``embeddings`` with one of these. If None, each
            pair of rows of ``embeddings`` once.
        ref_labels: ``[N]``
        progress: called with how many pairs are done and how many there are, several times a
            second.
        group: the processes that divide the pairs; all of them call it, with the same rows.
            None: this process alone.

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
    ranks = Ranks.among(group)
    with ranks.together():
        for rate in far:
            if not 0 < rate <= 1:
                raise ValueError(f"far must be in (0, 1], got {rate}")
        batch = check.Batch(embeddings, labels, ref_emb, ref_labels, None, None)
        check.check_choice("distance", distance, check.DISTANCES)
        check.check_values("embeddings", embeddings)
    _check_same(ranks, batch.tensors()[:4], distance=distance, far=list(far))
    pairs = PairCounts(batch, distance, progress, ranks)
    same, different = pairs.same, pairs.different
    if not (same and different):
        raise ValueError(
            "there must be pairs of the same and of different identities, "
            f"got {same} same and {different} different"
        )
    # Counts are compared, with room for rounding: in floating point 0.29 * 100 is less than 29.
    allowed = [math.floor(rate * different * (1 + 1e-12)) for rate in far]
    points = []
    for rate, most, threshold in zip(far, allowed, pairs.thresholds(allowed), strict=True):
        if threshold is None:
            points.append(OperatingPoint(rate, False, math.nan, math.nan, math.nan))
            continue
        val, reached_far = threshold.same / same, threshold.different / different
        points.append(OperatingPoint(rate, most >= 1, val, reached_far, threshold.value))
    return tuple(points)


def val_far_over_splits(
    embeddings: Tensor,
    labels: Tensor,
    far: float = 1e-3,
    *,
    splits: int = 5,
    seed: int = 0,
    distance: str = "sqeuclidean",
    progress: Progress | None = None,
    group: ProcessGroup | None = None,
) -> SplitVal:
    """Find VAL at a wanted FAR in each of several splits, over all pairs of each.

    The identities are dealt out at random: none is in two splits.

    Args:
        embeddings: ``[N, D]``
        labels: ``[N]`` integers.
        far: the wanted false accept rate, in (0, 1].
        splits: number of splits, 2 or more.
        seed: of the random split.
        distance: ``"sqeuclidean"``, ``"euclidean"`` or ``"cosine"``.
        progress: called with how many pairs of a split are done, and how many there are.
        group: the processes that divide the pairs; all of them call it, with the same rows.
            None: this process alone.

    Returns:
        A :class:`SplitVal`.

    Raises:
        ValueError: as :func:`val_far_all_pairs`, or there are fewer identities than splits, or
            fewer than two splits.
        TypeError: as :func:`val_far_all_pairs`.

    Example:
        >>> labels = torch.arange(20).repeat(2)
        >>> val = val_far_over_splits(labels.float().unsqueeze(1), labels, far=0.01, splits=2)
        >>> val.mean, val.standard_error
        (1.0, 0.0)

    Source: FaceNet, section 5: five splits, mean and standard error.
    """
    check.check_embeddings("embeddings", embeddings)
    labels = check.check_integers("labels", labels, "embeddings", embeddings)
    identities, identity = torch.unique(labels, return_inverse=True)
    if not 2 <= splits <= len(identities):
        raise ValueError(f"splits: expected 2 to {len(identities)} (identities), got {splits}")
    generator = torch.Generator("cpu").manual_seed(seed)
    order = torch.randperm(len(identities), generator=generator, device="cpu")
    split_of = order[identity.cpu()] % splits
    points: list[OperatingPoint] = []
    for split in range(splits):
        rows = (split_of == split).nonzero().flatten().to(embeddings.device)
        points += val_far_all_pairs(
            embeddings[rows],
            labels[rows],
            [far],
            distance=distance,
            progress=progress,
            group=group,
        )
    values = torch.tensor([point.val for point in points], dtype=torch.float64, device="cpu")
    standard_error = values.std(unbiased=True).item() / math.sqrt(splits)
    return SplitVal(values.mean().item(), standard_error, tuple(points))
