"""The report of two evaluations compared: one HTML file that needs no other."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from facenet_ext.commands.report_page import Card, Picture, Section, render
from facenet_ext.common.figures import DIFFERENT_COLOUR, SAME_COLOUR, new_figure
from facenet_ext.evaluation.comparison import ComparedFigure, Comparison
from facenet_ext.metrics import Replicates

_POINTS = 200


def make_report(
    a: Mapping[str, Any], b: Mapping[str, Any], comparison: Comparison, warnings: Sequence[str]
) -> str:
    """Return the report, a page of HTML.

    Args:
        a: what one evaluation was of: see :data:`facenet_ext.evaluation.scored_pairs.ABOUT`.
        b: what the other was of.
        comparison: of both.
        warnings: to show before all else.
    """
    people = "" if comparison.identities is None else f" of {comparison.identities:,} people"
    pairs = f"{comparison.same:,} of one person, {comparison.different:,} of two{people}"
    facts = [("A", _told(a)), ("B", _told(b)), ("Pairs", f"{a['protocol']}: {pairs}")]
    sections = [
        Section(
            "Differences",
            "B minus A, with an interval of 95 %: people are drawn anew, the same for both. The "
            f"verdict is by {comparison.decisive.name}, whatever the other figures say.",
            cards=[_card(figure) for figure in comparison.figures],
        ),
        Section("What was compared", facts=facts, command=f"{a['command']}\n{b['command']}"),
    ]
    if comparison.replicates is not None:
        sections.append(
            Section(
                "Error rates",
                "FNMR is the share of pairs of one person that are rejected, FMR that of two that "
                "are accepted. Bands are intervals of 95 % of each by itself; the difference is "
                "surer than they are apart, as both were measured on the same people.",
                pictures=[Picture("FNMR over FMR of A and B", _draw(comparison.replicates))],
            )
        )
    date = f"{datetime.datetime.now().astimezone():%Y-%m-%d %H:%M %z}"
    title = f"{Path(a['folder']).name} and {Path(b['folder']).name} on {a['protocol']}"
    return render(title, date, [comparison.verdict], warnings, sections)


def _told(about: Mapping[str, Any]) -> str:
    views = "all views" if about["views"] == "all" else "one view"
    return (
        f"{about['run']}: {about['network']}, {views}, {about['trained']}; evaluated on "
        f"{about['data']}, {about['date']}"
    )


def _card(figure: ComparedFigure) -> Card:
    value, _, interval = figure.shown_difference.partition(" (")
    notes = [interval.rstrip(")")] if interval else []
    notes.append(f"A {figure.shown(figure.a)}, B {figure.shown(figure.b)}")
    if math.isfinite(figure.b_better):
        notes.append(f"B is better in {figure.b_better:.1%}")
    notes += [figure.remark] if figure.remark else []
    return Card(figure.name, value + (" points" if figure.is_share else ""), "; ".join(notes))


def _draw(replicates: tuple[Replicates, Replicates]) -> Figure:
    """Draw FNMR over FMR of both, each with its band."""
    figure, axes = new_figure(7.0, 4.6)
    least = min(float(of.fmr[0][of.fmr[0] > 0].min()) for of in replicates)
    rates = np.geomspace(least, 1, _POINTS)
    for name, of, colour in zip("AB", replicates, (SAME_COLOUR, DIFFERENT_COLOUR), strict=True):
        fnmr = [of.fnmr_at_fmr(rate)[0] for rate in rates]
        axes.plot(rates, fnmr, color=colour, label=name)
        axes.fill_between(rates, *of.band(rates), color=colour, alpha=0.15, linewidth=0)
    axes.set(xscale="log", xlabel="FMR", ylabel="FNMR", ylim=(0, None))
    axes.legend(frameon=False)
    return figure
