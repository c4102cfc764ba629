"""The report of an evaluation, whatever was compared: one HTML file that needs no other."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table as TerminalTable

from facenet_ext.commands.evaluation_facts import Facts
from facenet_ext.commands.group_section import group_section
from facenet_ext.commands.report_page import Card, Choice, Picture, Section, render
from facenet_ext.data.image_list import ImageList
from facenet_ext.evaluation.compared import RATES, Compared, percent
from facenet_ext.evaluation.curves import (
    det_points,
    draw_cmc,
    draw_det,
    draw_distances,
    draw_fnir,
    draw_roc,
    roc_points,
)
from facenet_ext.evaluation.groups import GroupedRates
from facenet_ext.evaluation.scored_pairs import ScoredPairs
from facenet_ext.evaluation.search_summary import SearchSummary
from facenet_ext.metrics import Figure
from facenet_ext.recognition import ModelName

_STRICT = 1e-3
"""FNMR is told at this FMR and at larger ones, and at smaller ones that can be measured."""


_SURE = "95\u00a0%"  # in one line


class Evaluated(NamedTuple):
    """What came of an evaluation, for those who read it and for programs.

    Attributes:
        protocol: what was compared, in a word.
        images: that were embedded, or utterances.
        embedded: how many could be.
        identities: how many they are of; None if not known.
        facts: what was compared, in rows of a name and of what it is.
        verdict: paragraphs for somebody who reads no more than these.
        first: sections before what was measured.
        then: sections after it.
        figures: as JSON has them.
        tables: the figures for the terminal.
        lines: what else is printed.
        pairs: that were compared, to write beside the figures; None for searches.
    """

    protocol: str
    images: ImageList
    embedded: int
    identities: int | None
    facts: Sequence[tuple[str, str]]
    verdict: Sequence[str]
    first: Sequence[Section]
    then: Sequence[Section]
    figures: dict[str, Any]
    tables: Sequence[TerminalTable]
    lines: Sequence[str] = ()
    pairs: ScoredPairs | None = None


def make_report(
    model: ModelName, facts: Facts, evaluated: Evaluated, warnings: Sequence[str]
) -> str:
    """Return the report, a page of HTML.

    Args:
        model: what was evaluated.
        facts: what the evaluation was of.
        evaluated: what came of it.
        warnings: to show before all else.
    """
    rows = [
        ("Run", facts.run),
        ("Model", str(model)),
        ("Trained", facts.trained),
        ("Data", facts.data),
        *evaluated.facts,
    ]
    measured = Section("What was measured", facts=rows, command=facts.command)
    title = f"{Path(facts.run).name} on {evaluated.protocol}"
    sections = [*evaluated.first, measured, *evaluated.then]
    return render(title, facts.date, evaluated.verdict, warnings, sections)


def in_short(compared: Compared, groups: Sequence[GroupedRates]) -> str:
    """Return what the figures say of pairs and of groups, in sentences for everybody."""
    return " ".join(part for part in (compared.in_short, *(one.in_short for one in groups)) if part)


def pair_cards(compared: Compared) -> list[Card]:
    """Return the figures of pairs, each with its interval and what to know of it."""
    figures = compared.summary.figures
    at_rates = [(rate, figures[f"fnmr_at_fmr_{rate:g}"]) for rate in RATES]
    cards = [
        _rate_card(figure, f"VAL {1 - figure.value:.1%} at FAR {rate:g}")
        for rate, figure in at_rates
        if rate >= _STRICT or math.isfinite(figure.value)
    ]
    for key, name in (("fmr", "FMR at the threshold"), ("fnmr", "FNMR at the threshold")):
        if key in figures:
            cards.append(_rate_card(dataclasses.replace(figures[key], name=name), ""))
    cards.append(_rate_card(dataclasses.replace(figures["eer"], name="EER"), "where FMR = FNMR"))
    for key, name, note in (
        ("auc", "AUC", "area under the ROC"),
        ("min_dcf", "minDCF", "least cost where 1 % of pairs are of one person"),
    ):
        figure = figures[key]
        cards.append(Card(name, f"{figure.value:.4g}", _notes(_range(figure), note, figure.remark)))
    return cards


def _rate_card(figure: Figure, note: str) -> Card:
    if not math.isfinite(figure.value):
        return Card(figure.name, "-", figure.remark)
    low, high = figure.interval
    sure = f"{_SURE}: {percent(low)} to {percent(high)}" if math.isfinite(low) else ""
    threshold = f"threshold {figure.threshold:.3f}" if math.isfinite(figure.threshold) else ""
    return Card(figure.name, percent(figure.value), _notes(sure, note, threshold, figure.remark))


def _range(figure: Figure) -> str:
    low, high = figure.interval
    return f"{_SURE}: {low:.4g} to {high:.4g}" if math.isfinite(low) else ""


def _notes(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def pair_sections(compared: Compared, groups: Sequence[GroupedRates]) -> list[Section]:
    """Return the threshold to choose, the curves, and the rates of groups."""
    found, summary = compared.thresholds, compared.summary
    own = compared.threshold if math.isfinite(compared.threshold) else found.values[0]
    start = int(np.abs(found.values - own).argmin())
    choice = Choice(*found, summary.same, summary.different, start)
    band = (
        " The bands have the curve in 95 of 100 drawings of as many people."
        if summary.replicates is not None
        else " It is not known whose the images are, so there are no intervals."
    )
    curves = Section(
        "Curves",
        "FMR, the false match rate, is the share of pairs of two people that are taken for one; "
        "FNMR, the false non-match rate, is the share of pairs of one person that are taken for "
        f"two. Move the slider to see what another threshold does.{band}",
        choice=choice.as_dict(),
        pictures=[
            Picture(
                "DET curve", draw_det(compared), marks=det_points(compared, found.fmr, found.fnmr)
            ),
            Picture(
                "ROC curve", draw_roc(compared), marks=roc_points(compared, found.fmr, found.fnmr)
            ),
            Picture("histogram of distances", draw_distances(compared)),
        ],
    )
    return [curves, *(group_section(one, compared) for one in groups)]


def search_section(found: SearchSummary) -> Section:
    """Return what a search in one gallery found."""
    cards = [_rate_card(figure, "") for figure in found.figures.values()]
    pictures = []
    if found.known:
        pictures.append(Picture("share of probes found by each rank", draw_cmc(found)))
    if found.known and found.unknown:
        pictures.append(Picture("FNIR over FPIR", draw_fnir(found)))
    return Section(
        f"Search in {found.gallery}",
        f"{found.known:,} probes of its {found.subjects:,} subjects, {found.unknown:,} of others. "
        "FNIR, the false negative identification rate, is the share of the first that are not "
        "found; FPIR, the false positive identification rate, that of the others that are taken "
        "for somebody.",
        cards=cards,
        pictures=pictures,
    )
