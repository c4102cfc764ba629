"""The figures of an evaluation as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table

from facenet_ext.common.text import counted
from facenet_ext.evaluation.compared import RATES, Compared
from facenet_ext.evaluation.groups import GroupedRates
from facenet_ext.evaluation.search_summary import SearchSummary
from facenet_ext.evaluation.verification import Verification
from facenet_ext.metrics import Figure, OperatingPoint

__all__ = ["groups_table", "pairs_table", "searches_table", "table", "with_error"]


def table(verification: Verification) -> Table:
    """Return the figures as a table for the terminal."""
    pairs = verification.pairs
    n_same, n_different = int(pairs.same.sum()), int((~pairs.same).sum())
    people = "" if pairs.identities is None else f" of {pairs.identities:,} identities"
    result = Table(
        title=f"verification of {n_same:,} same and {n_different:,} different pairs{people}",
        caption=verification.few or None,
    )
    result.add_column("figure")
    result.add_column("value (95 %)")
    result.add_column("")
    figures = verification.summary.figures
    for point in verification.val_far:
        fnmr = figures[f"fnmr_at_fmr_{point.wanted_far:g}"]
        result.add_row(f"VAL at FAR {point.wanted_far:g}", *_operating_point(point, fnmr))
    accuracy = verification.accuracy
    result.add_row(
        "balanced accuracy" if pairs.balanced else "accuracy",
        with_error(accuracy.mean, accuracy.standard_error),
        verification.measured,
    )
    result.add_row(
        "in bytes",
        f"{verification.quantized.mean:.2%}",
        "accuracy with one byte per dimension",
    )
    rows = (
        ("AUC", "auc", ".3f", "area under the ROC curve"),
        ("EER", "eer", ".1%", "where FAR = 1 - VAL"),
        ("minDCF", "min_dcf", ".2f", "least cost, 1 % of pairs same"),
    )
    for name, key, form, words in rows:
        figure = figures[key]
        value = f"{figure.value:{form}}{_interval(*figure.interval, form)}"
        result.add_row(name, value, _with_remark(words, figure))
    return result


def pairs_table(compared: Compared) -> Table:
    """Return the figures of pairs of any kind as a table for the terminal."""
    summary = compared.summary
    result = Table(
        "figure",
        "value (95 %)",
        "",
        title=f"{summary.same:,} trials of one identity, {summary.different:,} of two",
    )
    for rate in RATES:
        figure = summary.figures[f"fnmr_at_fmr_{rate:g}"]
        result.add_row(*_rate(figure, f"really {figure.fmr:.2e}, threshold {figure.threshold:.3f}"))
    eer = summary.figures["eer"]
    result.add_row(*_rate(eer, f"where FMR = FNMR, threshold {eer.threshold:.3f}", "EER"))
    for name, key, words in (
        ("AUC", "auc", "area under the ROC curve"),
        ("minDCF", "min_dcf", "least cost, 1 % of pairs same"),
    ):
        figure = summary.figures[key]
        value = f"{figure.value:.4f}{_interval(*figure.interval, '.4f')}"
        result.add_row(name, value, _with_remark(words, figure))
    return result


def searches_table(found: Sequence[SearchSummary]) -> Table:
    """Return the figures of searches as a table for the terminal."""
    probes = counted(found[0].known + found[0].unknown, "probe")
    title = f"{probes}, each searched in every gallery"
    result = Table("figure", "value (95 %)", "", title=title)
    for one in found:
        for figure in one.figures.values():
            at = f", threshold {figure.threshold:.3f}" if math.isfinite(figure.threshold) else ""
            result.add_row(*_rate(figure, f"{one.gallery}{at}"))
    return result


def groups_table(grouped: GroupedRates) -> Table:
    """Return the rates of groups and of pairs of groups as a table for the terminal."""
    result = Table(
        grouped.column,
        "FNMR (95 %)",
        "FMR (95 %)",
        "",
        title=f"groups by {grouped.column}, threshold {grouped.threshold:.3f}",
    )
    for one in grouped.rates:
        rates = ((one.fnmr, one.fnmr_interval), (one.fmr, one.fmr_interval))
        cells = [
            f"{rate:.2%}{_interval(*interval)}" if math.isfinite(rate) else ""
            for rate, interval in rates
        ]
        remarks = dict.fromkeys(
            remark.partition(":")[0] for remark in (one.fnmr_remark, one.fmr_remark) if remark
        )
        result.add_row(grouped.name_of(one), *cells, "; ".join(remarks))
    return result


def _rate(figure: Figure, words: str, name: str = "") -> tuple[str, str, str]:
    name = name or figure.name
    if not math.isfinite(figure.value):
        return name, "", figure.remark
    return name, f"{figure.value:.2%}{_interval(*figure.interval)}", _with_remark(words, figure)


def with_error(mean: float, standard_error: float) -> str:
    """Return a share in percent, with its standard error where there is one."""
    return f"{mean:.2%}" + (f" ± {standard_error:.2%}" if math.isfinite(standard_error) else "")


def _operating_point(point: OperatingPoint, fnmr: Figure) -> tuple[str, str]:
    if not point.reachable:
        return "", "not reachable with this many"
    low, high = fnmr.interval
    told = f"really {point.far:.2e}, threshold {point.threshold:.3f}"
    return f"{point.val:.2%}{_interval(1 - high, 1 - low)}", _with_remark(told, fnmr)


def _interval(low: float, high: float, form: str = ".1%") -> str:
    return f" ({low:{form}} to {high:{form}})" if math.isfinite(low) else ""


def _with_remark(words: str, figure: Figure) -> str:
    """Add in short what to know of a figure before it is used."""
    return f"{words}; {figure.remark.partition(':')[0]}" if figure.remark else words
