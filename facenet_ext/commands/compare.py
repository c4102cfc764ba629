"""``facenet compare``: which of two evaluations is better, and how sure that is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rich.table import Table

from facenet_ext.commands.evaluation_options import CompareOptions
from facenet_ext.commands.results import tell_results, write_results
from facenet_ext.commands.warnings import Warnings
from facenet_ext.common.console import make_console
from facenet_ext.common.errors import InputError
from facenet_ext.evaluation.comparison import Comparison, compare
from facenet_ext.evaluation.scored_pairs import read_scored

_COMPARISON = "comparison.json"


def execute(options: CompareOptions) -> None:
    """Do what the command line says."""
    if options.fmr is not None and not options.fmr <= 1:
        raise InputError(f"--fmr {options.fmr:g}: expected a rate in (0, 1]")
    warnings = Warnings(make_console(stderr=True))
    a, b = (read_scored(Path(folder)) for folder in (options.run_a, options.run_b))
    comparison = compare(a, b, options.fmr)
    for letter, one in (("A", a), ("B", b)):
        warnings.add(*(f"{letter}: {text}" for text in one.about["warnings"]))
    figures: dict[str, Any] = {
        "a": a.about,
        "b": b.about,
        **comparison.as_dict(),
        "warnings": warnings.texts,
    }
    if options.output is not None:
        from facenet_ext.commands.comparison_report import make_report  # here: it loads matplotlib

        report = make_report(a.about, b.about, comparison, warnings.texts)
        write_results(Path(options.output), report, _COMPARISON, figures)
    told = [_run(letter, one.about) for letter, one in (("A", a), ("B", b))]
    tell_results(
        figures,
        [*told, _table(comparison), comparison.verdict],
        warnings,
        as_json=options.json,
        written=None if options.output is None else (Path(options.output), _COMPARISON),
    )


def _run(letter: str, about: dict[str, Any]) -> str:
    views = "" if about["views"] == "all" else ", one view"
    return f"{letter}: {about['folder']}, {about['network']}{views}, evaluated {about['date']}"


def _table(comparison: Comparison) -> Table:
    people = "" if comparison.identities is None else f" of {comparison.identities:,} identities"
    table = Table(
        title=f"the same {comparison.same:,} same and {comparison.different:,} different pairs"
        + people
    )
    for column in ("figure", "A", "B", "B - A (95 %)", "B better in", "better", ""):
        table.add_column(column)
    for figure in comparison.figures:
        sure = "" if math.isnan(figure.b_better) else f"{figure.b_better:.1%}"
        table.add_row(
            figure.name,
            figure.shown(figure.a),
            figure.shown(figure.b),
            figure.shown_difference,
            sure,
            figure.better or "cannot tell",
            figure.remark,
        )
    return table
