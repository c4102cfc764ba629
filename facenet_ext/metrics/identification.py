"""Error rates of searches in a gallery, as ISO/IEC 19795-1 and NIST's FRTE 1:N name them.

A *mated* search is of somebody who is enrolled, a *non-mated* one of somebody who is not. A search
returns a list of candidates, the nearest first. With a threshold T and a rank R,

    FPIR(T)    = non-mated searches with a candidate up to T / non-mated searches
    FNIR(T, R) = mated searches whose mate is not among the first R up to T / mated searches
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from facenet_ext.metrics._comparisons import Comparisons, check_share
from facenet_ext.metrics.thresholds import rates_at_fmr, remark_on

__all__ = [
    "SearchErrorRates",
    "fnir_at_fpir",
    "fnir_at_rank",
    "searches_as_comparisons",
]


@dataclasses.dataclass(frozen=True)
class SearchErrorRates:
    """What searches with a threshold and a rank get wrong.

    Attributes:
        rank: candidates that are looked at.
        threshold: candidates up to this distance are looked at; infinity in investigations.
        fpir: false positive identification rate; 1 in investigations, where each search returns
            candidates.
        fnir: false negative identification rate.
        false_positives: number of non-mated searches with a candidate.
        false_negatives: number of mated searches without their mate.
        wanted_fpir: the rate that the threshold was chosen for; None in investigations.
        reachable: whether these searches can measure the wanted rate; where it is False, the rates
            and the threshold are NaN.
    """

    rank: int
    threshold: float
    fpir: float
    fnir: float
    false_positives: int
    false_negatives: int
    wanted_fpir: float | None = None
    reachable: bool = True

    @property
    def remark(self) -> str:
        """What to know before these rates are used; see :attr:`.ErrorRates.remark`."""
        positives = 30 if self.wanted_fpir is None else self.false_positives
        remark = remark_on(positives, self.false_negatives, self.reachable)
        return remark.replace("non-matches", "negatives").replace("matches", "positives")


def fnir_at_fpir(
    distances: Tensor, hits: Tensor, mated: Tensor, fpir: float = 1e-2, rank: int = 1
) -> SearchErrorRates:
    """Find FNIR at a wanted FPIR: the share of mated searches that a strict threshold fails.

    The threshold is ``max { t : FPIR(t) <= fpir }`` over the distances that occur.

    Args:
        distances: [N, L] floating point, the candidates of each search, the nearest first, such as
            :func:`facenet_ext.recognition.identify` returns them; infinity where a list is shorter.
        hits: [N, L] bool, whether a candidate is the mate.
        mated: [N] bool, whether the search has a mate in the gallery.
        fpir: the wanted rate, in (0, 1].
        rank: candidates that are looked at, 1 to L.

    Returns:
        A :class:`SearchErrorRates`.

    Raises:
        TypeError: ``distances`` is not floating point, ``hits`` or ``mated`` is not bool.
        ValueError: shapes do not fit, a list is not in order, a non-mated search has a hit,
            ``rank`` or ``fpir`` is out of range, or there are only mated searches or none.

    Example:
        >>> distances = torch.tensor([[0.1, 0.5], [0.2, 0.3], [0.4, 0.6], [0.9, 1.0]])
        >>> hits = torch.tensor([[True, False], [False, True], [False, False], [False, False]])
        >>> mated = torch.tensor([True, True, False, False])
        >>> fnir_at_fpir(distances, hits, mated, fpir=0.5, rank=1).fnir
        0.5
        >>> fnir_at_fpir(distances, hits, mated, fpir=0.5, rank=2).fnir
        0.0

    Source: ISO/IEC 19795-1:2021, section 9; Grother et al., *Face Recognition Technology
    Evaluation (FRTE), part 2: identification*, NIST IR 8271, section 4.
    """
    check_share("fpir", fpir)
    pairs = Comparisons.of(searches_as_comparisons(distances, hits, mated, rank), mated)
    rates = rates_at_fmr(pairs, fpir)
    return SearchErrorRates(
        rank,
        rates.threshold,
        fpir=rates.fmr,
        fnir=rates.fnmr,
        false_positives=rates.false_matches,
        false_negatives=rates.false_non_matches,
        wanted_fpir=fpir,
        reachable=rates.reachable,
    )


def fnir_at_rank(hits: Tensor, mated: Tensor, rank: int = 50) -> SearchErrorRates:
    """Compute FNIR of an investigation: somebody looks at ``rank`` candidates.

    However far they are: there is no threshold.

    Args:
        hits: [N, L] bool, whether a candidate is the mate, the nearest candidate first.
        mated: [N] bool, whether the search has a mate in the gallery.
        rank: candidates that are looked at, 1 to L; NIST's reports have 1 and 50.

    Returns:
        A :class:`SearchErrorRates` with an infinite threshold.

    Raises:
        TypeError, ValueError: as :func:`fnir_at_fpir`; but there may be mated searches only.

    Example:
        >>> hits = torch.tensor([[True, False], [False, True], [False, False]])
        >>> fnir_at_rank(hits, torch.tensor([True, True, True]), rank=2).false_negatives
        1

    Source: NIST IR 8271, section 4: FNIR(N, R, 0), the investigational miss rate.
    """
    _check_lists(hits, mated, rank)
    total = int(mated.sum())
    if not total:
        raise ValueError("mated must have a search whose mate is in the gallery, got none")
    missed = total - int(hits[mated, :rank].any(1).sum())
    others = len(mated) - total
    return SearchErrorRates(rank, torch.inf, 1.0, missed / total, others, missed)


def searches_as_comparisons(
    distances: Tensor, hits: Tensor, mated: Tensor, rank: int = 1
) -> Tensor:
    """Return one distance for each search, so that FPIR and FNIR are FMR and FNMR of these.

    That of a mated search is its mate's, or infinity where the mate is not among the first
    candidates. That of a non-mated search is its nearest candidate's. With ``mated`` in place of
    ``same``, every figure of pairs is one of searches: its interval, and its curve.

    Args:
        distances: see :func:`fnir_at_fpir`.
        hits: see there.
        mated: see there.
        rank: see there.

    Returns:
        [N], of the type of ``distances``.

    Raises:
        TypeError, ValueError: as :func:`fnir_at_fpir`.

    Example:
        >>> distances = torch.tensor([[0.1, 0.5], [0.2, 0.3], [0.4, 0.6]])
        >>> hits = torch.tensor([[True, False], [False, True], [False, False]])
        >>> searches_as_comparisons(distances, hits, torch.tensor([True, True, False])).tolist()
        [0.10000000149011612, inf, 0.4000000059604645]

    Source: NIST IR 8271, section 4.
    """
    _check_lists(hits, mated, rank)
    if not distances.is_floating_point():
        raise TypeError(f"distances must be floating point, got {distances.dtype}")
    if distances.shape != hits.shape:
        raise ValueError(
            f"distances and hits must be of one shape, got {tuple(distances.shape)} and "
            f"{tuple(hits.shape)}"
        )
    if not (distances[:, :-1] <= distances[:, 1:]).all():  # NaN is not in order either
        raise ValueError("distances must have the nearest candidate of each search first")
    of_mate = distances[:, :rank].masked_fill(~hits[:, :rank], torch.inf).min(1).values
    return torch.where(mated, of_mate, distances[:, 0])


def _check_lists(hits: Tensor, mated: Tensor, rank: int) -> None:
    """Check what all functions of this file take."""
    for name, value in (("hits", hits), ("mated", mated)):
        if value.dtype != torch.bool:
            raise TypeError(f"{name} must be bool, got {value.dtype}")
    if hits.ndim != 2 or mated.shape != hits.shape[:1]:
        raise ValueError(
            "hits must be [searches, candidates] and mated [searches], "
            f"got shapes {tuple(hits.shape)} and {tuple(mated.shape)}"
        )
    if not 1 <= rank <= hits.shape[1]:
        raise ValueError(f"rank must be 1 to {hits.shape[1]}, the candidates, got {rank}")
    wrong = int((hits.any(1) & ~mated).sum())
    if wrong:
        raise ValueError(f"hits must be False for searches without a mate, got {wrong} with a hit")
