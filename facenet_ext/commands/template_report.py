"""What the evaluation of a protocol of templates says: a table, JSON, and an HTML report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.table import Table

from facenet_ext.commands.evaluation_facts import Facts
from facenet_ext.commands.recognition_pictures import draw_identification
from facenet_ext.commands.report_page import Card, Section, render
from facenet_ext.common.figures import SAME_COLOUR, new_figure
from facenet_ext.common.files import without_nan
from facenet_ext.common.text import counted
from facenet_ext.evaluation.trial_scores import Found
from facenet_ext.evaluation.trial_summary import TrialSummary
from facenet_ext.evaluation.trials import Search, Trials
from facenet_ext.metrics import OperatingPoint
from facenet_ext.recognition import ModelName, OpenSetPoint, cumulative_matches, open_set_rates

_RANKS = (1, 5, 10, 50)
_FALSE_ALARMS = (0.1, 0.01)

Result = TrialSummary | list[Found]


def as_dict(result: Result) -> dict[str, Any]:
    """Return the figures as JSON has them: None where there is no number."""
    if isinstance(result, TrialSummary):
        return result.as_dict()
    galleries = [
        {
            "gallery": found.gallery,
            "subjects": found.subjects,
            "known_probes": int(found.mated.sum()),
            "unknown_probes": int((~found.mated).sum()),
            "cmc": _cmc(found),
            "open_set": [
                {"wanted_false_alarms": rate, "reachable": reachable} | point._asdict()
                for rate, reachable, point in _at_rates(found)
            ],
        }
        for found in result
    ]
    return dict(without_nan({"galleries": galleries}))


def make_table(result: Result) -> Table:
    """Return the figures as a table for the terminal."""
    table = Table("figure", "value", "", title=_title(result))
    if isinstance(result, TrialSummary):
        for card in _cards(result):
            table.add_row(*card)
    else:
        for found in result:
            for card in _gallery_cards(found):
                note = f"{found.gallery}: {card.note}" if card.note else found.gallery
                table.add_row(card.name, card.value, note)
    return table


def make_report(
    model: ModelName,
    facts: Facts,
    protocol: Trials | Search,
    result: Result,
    warnings: Sequence[str],
) -> str:
    """Return the report, a page of HTML.

    Args:
        model: what was evaluated.
        facts: what the evaluation was of.
        protocol: on what.
        result: what came of it.
        warnings: to show before all else.
    """
    rows = [
        ("Run", facts.run),
        ("Model", str(model)),
        ("Trained", facts.trained),
        ("Data", facts.data),
        ("Embedded", f"{facts.images:,} images or utterances of {facts.identities:,} people"),
        ("Templates", f"{len(protocol.templates.ids):,}, by {protocol.name}"),
    ]
    measured = Section("What was measured", facts=rows, command=facts.command)
    if isinstance(result, TrialSummary):
        cards = _cards(result)
        told = ", ".join(f"{card.name} {card.value}" for card in cards if card.value != "-")
        curve = Section("Curve", pictures=[("ROC curve", _roc(result))])
        sections = [Section("Figures", cards=cards), measured, curve]
    else:
        found = {one.gallery: _gallery_cards(one) for one in result}
        firsts = [(name, cards[0]) for name, cards in found.items() if cards]
        told = ", ".join(f"{card.name} {card.value} in {name}" for name, card in firsts)
        searches = [
            Section(
                f"Search in {one.gallery}",
                cards=found[one.gallery],
                pictures=[("shares of probes that are found", _curves(one))],
            )
            for one in result
        ]
        sections = [*searches, measured]
    title = f"{Path(facts.run).name} on {protocol.name}"
    return render(title, facts.date, f"{_title(result)}: {told}.", warnings, sections)


def _title(result: Result) -> str:
    if isinstance(result, TrialSummary):
        return f"{result.same:,} trials of one identity, {result.different:,} of two"
    return f"{counted(len(result[0].truth), 'probe')}, each searched in every gallery"


def _cards(result: TrialSummary) -> list[Card]:
    return [
        *map(_point, result.val_far),
        Card("EER", f"{result.eer.rate:.2%}", "where FAR = 1 - VAL"),
        Card("AUC", f"{result.auc:.4f}", "area under the ROC curve"),
    ]


def _point(point: OperatingPoint) -> Card:
    name = f"VAL at FAR {point.wanted_far:g}"
    if not point.reachable:
        return Card(name, "-", "not reachable with this many trials")
    return Card(name, f"{point.val:.2%}", f"squared distance {point.threshold:.3f}")


def _gallery_cards(found: Found) -> list[Card]:
    """Return what a search found; nothing where the gallery has nobody of the probes."""
    if not found.mated.any():
        return []
    cmc = _cmc(found)
    cards = [
        Card(f"rank {rank}", f"{cmc[rank - 1]:.2%}", "") for rank in _RANKS if rank <= len(cmc)
    ]
    for rate, reachable, point in _at_rates(found):
        name = f"rank 1 at FPIR {rate:g}"
        if reachable:
            note = f"squared distance {point.threshold:.3f}"
            cards.append(Card(name, f"{point.identified:.2%}", note))
        else:
            cards.append(Card(name, "-", "not reachable with this many probes"))
    return cards


def _cmc(found: Found) -> list[float]:
    """Return the share found by each rank that the gallery has."""
    matches = cumulative_matches(found.candidates, torch.from_numpy(found.truth))
    return [float(share) for share in matches[: found.subjects]]


def _open_set(found: Found) -> list[OpenSetPoint]:
    thresholds = torch.unique(found.candidates.distances[:, 0])
    return open_set_rates(found.candidates, torch.from_numpy(found.truth), thresholds)


def _at_rates(found: Found) -> list[tuple[float, bool, OpenSetPoint]]:
    """Return what is identified at each rate of false alarms.

    Returns:
        Each rate, whether there are enough probes to measure it, and the point with the largest
        threshold that has no more false alarms.
    """
    chosen, unknown = [], int((~found.mated).sum())
    curve = _open_set(found)
    for rate in _FALSE_ALARMS:
        within = [point for point in curve if point.false_alarms <= rate]
        chosen += [(rate, rate * unknown * (1 + 1e-12) >= 1, point) for point in within[-1:]]
    return chosen


def _roc(result: TrialSummary) -> Figure:
    figure, axes = new_figure(6.0, 4.5)
    smallest = 1 / result.different
    far = np.maximum(result.curve["far"], smallest / 2)
    axes.semilogx(far, result.curve["val"], color=SAME_COLOUR, drawstyle="steps-post")
    axes.set(
        xlim=(smallest, 1),
        ylim=(0, 1.02),
        xlabel=f"FAR: share of {result.different:,} trials of two identities accepted",
        ylabel=f"VAL: share of {result.same:,} trials of one accepted",
        title=f"ROC, AUC {result.auc:.4f}, EER {result.eer.rate:.1%}",
    )
    return figure


def _curves(found: Found) -> Figure:
    known, unknown = int(found.mated.sum()), int((~found.mated).sum())
    return draw_identification(_cmc(found), _open_set(found), known, unknown)
