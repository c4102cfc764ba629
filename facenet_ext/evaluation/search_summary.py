"""The figures of searches in a gallery: CMC, FNIR at FPIR, and FNIR of investigations."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import torch
from torch import Tensor

from facenet_ext.common.files import without_nan
from facenet_ext.evaluation.trial_scores import Found
from facenet_ext.metrics import (
    Figure,
    Interval,
    fnir_at_fpir,
    fnir_at_rank,
    searches_as_comparisons,
    summarize,
)
from facenet_ext.recognition import OpenSetPoint, cumulative_matches, open_set_rates

__all__ = ["SearchSummary", "summarize_search"]

_RANKS = (1, 5, 10, 50)
_FALSE_ALARMS = (0.1, 0.01)


class SearchSummary(NamedTuple):
    """What a search in one gallery is worth.

    Attributes:
        gallery: its name.
        subjects: how many it has.
        known: probes whose subject it has.
        unknown: the other probes.
        cmc: the share of known probes found by each rank that the gallery has.
        open_set: rates of an open set, at each threshold.
        figures: FNIR with intervals: at each FPIR, and of investigations.
    """

    gallery: str
    subjects: int
    known: int
    unknown: int
    cmc: list[float]
    open_set: list[OpenSetPoint]
    figures: dict[str, Figure]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON has them: None where there is no number."""
        found = {
            "gallery": self.gallery,
            "subjects": self.subjects,
            "known_probes": self.known,
            "unknown_probes": self.unknown,
            "cmc": self.cmc,
            "open_set": [
                {
                    "wanted_false_alarms": rate,
                    "reachable": rate * self.unknown * (1 + 1e-12) >= 1,
                    **point._asdict(),
                }
                for rate in _FALSE_ALARMS
                for point in [p for p in self.open_set if p.false_alarms <= rate][-1:]
            ],
            "figures": {
                key: dataclasses.asdict(figure) | {"interval": list(figure.interval)}
                for key, figure in self.figures.items()
            },
        }
        return dict(without_nan(found))


def summarize_search(found: Found, whose: Tensor) -> SearchSummary:
    """Measure a search in one gallery.

    Args:
        found: what it found.
        whose: [P] int64, a number for the subject of each probe, whom intervals draw anew.

    Returns:
        The :class:`SearchSummary`; without figures where the gallery has nobody of the probes.

    Source: see :mod:`facenet_ext.metrics.identification`.
    """
    truth, mated = torch.from_numpy(found.truth), torch.from_numpy(found.mated)
    cmc = cumulative_matches(found.candidates, truth)[: found.subjects]
    thresholds = torch.unique(found.candidates.distances[:, 0])
    return SearchSummary(
        found.gallery,
        found.subjects,
        int(mated.sum()),
        int((~mated).sum()),
        [float(share) for share in cmc],
        open_set_rates(found.candidates, truth, thresholds),
        _figures(found, mated, whose) if mated.any() else {},
    )


def _figures(found: Found, mated: Tensor, whose: Tensor) -> dict[str, Figure]:
    distances, hits = found.candidates.distances, torch.from_numpy(found.hits)
    both = bool((~mated).any())
    drawn = both and len(torch.unique(whose)) > 1
    figures = {}
    ranks = [rank for rank in _RANKS if rank <= min(found.subjects, hits.shape[1])]
    for rank in ranks:
        rates = fnir_at_rank(hits, mated, rank)
        interval = _NO_INTERVAL
        if drawn:  # however far a mate is, unless it is not among the candidates
            farthest = torch.finfo(distances.dtype).max
            searches = searches_as_comparisons(distances, hits, mated, rank)
            summary = summarize(searches, mated, whose, threshold=farthest)
            interval = summary.figures["fnmr"].interval
        name = f"FNIR, rank {rank}, however far"
        figures[f"fnir_at_rank_{rank}"] = Figure(name, rates.fnir, interval, rates.remark)
    if not both:
        return figures
    searches = searches_as_comparisons(distances, hits, mated)
    summary = summarize(searches, mated, whose if drawn else None, fmr=_FALSE_ALARMS)
    for rate in _FALSE_ALARMS:
        rates = fnir_at_fpir(distances, hits, mated, rate)
        figures[f"fnir_at_fpir_{rate:g}"] = Figure(
            f"FNIR at FPIR {rate:g}, rank 1",
            rates.fnir,
            summary.figures[f"fnmr_at_fmr_{rate:g}"].interval,
            rates.remark,
            rates.threshold,
            rates.fpir,
        )
    return figures


_NO_INTERVAL = Interval(float("nan"), float("nan"))
