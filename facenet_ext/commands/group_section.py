"""What a report says of groups: a table and pictures of the rates of each and of each pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from facenet_ext.commands.evaluation_options import EvaluateOptions
from facenet_ext.commands.report_page import Cell, Picture, Section, Table
from facenet_ext.commands.warnings import Warnings
from facenet_ext.common.figures import (
    ACCENT_COLOUR,
    DIFFERENT_COLOUR,
    SAME_COLOUR,
    new_figure,
    shorten,
)
from facenet_ext.common.text import counted
from facenet_ext.data.groups_file import read_groups
from facenet_ext.data.image_list import ImageList
from facenet_ext.evaluation.compared import Compared, percent
from facenet_ext.evaluation.groups import GroupedRates, Grouping, divide
from facenet_ext.metrics import Interval

_COLUMNS = ("group", "pairs of one", "FNMR", "pairs of two", "FMR")


def read_groupings(
    options: EvaluateOptions,
    items: Sequence[Sequence[int]],
    images: ImageList,
    warnings: Warnings,
) -> list[Grouping]:
    """Read the groups that ``--groups`` names; none where it is not given.

    Args:
        options: of the command.
        items: the images of each item, as positions in ``images``.
        images: all of them.
        warnings: columns that cannot be used are added to.
    """
    if options.groups is None:
        return []
    file = read_groups(Path(options.groups).expanduser())
    columns = [name.strip() for name in (options.group_by or "").split(",") if name.strip()]
    groupings, passed_over = divide(file, columns, items, images.ids, images.people)
    warnings.add(*passed_over)
    return groupings


def group_section(grouped: GroupedRates, compared: Compared) -> Section:
    """Return the rates of each group and of each pair of groups, at the threshold of all."""
    sizes = ", ".join(
        f"{name}: {count:,}" for name, count in zip(grouped.names, grouped.items, strict=True)
    )
    lost = f" {counted(grouped.unknown, 'item')} in no group." if grouped.unknown else ""
    rows = [
        (
            Cell(grouped.name_of(one)),
            Cell(f"{one.same:,}"),
            _cell(one.fnmr, one.fnmr_interval, one.fnmr_remark),
            Cell(f"{one.different:,}"),
            _cell(one.fmr, one.fmr_interval, one.fmr_remark),
        )
        for one in grouped.rates
    ]
    figures = compared.summary.figures
    pictures = [
        Picture(f"{name} by {grouped.column}", _draw(grouped, key, figures[key].value))
        for key, name in (("fnmr", "FNMR"), ("fmr", "FMR"))
        if key in figures
    ]
    return Section(
        f"Groups: {grouped.column}",
        f"All at the threshold {grouped.threshold:.3f}. Of a pair of groups one image is in the "
        f"first and one in the second. Images, videos or templates: {sizes}.{lost} A difference "
        "counts where intervals lie apart.",
        table=Table(_COLUMNS, rows),
        pictures=pictures,
    )


def _cell(rate: float, interval: Interval, remark: str) -> Cell:
    if not math.isfinite(rate):
        return Cell("-", remark)
    low, high = interval
    sure = f"{percent(low)} to {percent(high)}" if math.isfinite(low) else ""
    return Cell(percent(rate), "; ".join(note for note in (sure, remark) if note))


def _draw(grouped: GroupedRates, key: str, overall: float) -> Figure:
    """Draw a rate of each group that has one, with its interval, and that of all as a line."""
    colour = DIFFERENT_COLOUR if key == "fmr" else SAME_COLOUR
    shown = [one for one in grouped.rates if math.isfinite(getattr(one, key))]
    figure, axes = new_figure(4.7, 1.3 + 0.32 * max(2, len(shown)))
    for place, one in enumerate(shown):
        rate, (low, high) = getattr(one, key), getattr(one, f"{key}_interval")
        if math.isfinite(low):
            axes.plot([100 * low, 100 * high], [place] * 2, color=colour, alpha=0.5, linewidth=4)
        axes.plot(100 * rate, place, "o", color=colour)
    axes.axvline(100 * overall, color=ACCENT_COLOUR, linestyle=":", label="all pairs")
    axes.set_yticks(range(len(shown)), [shorten(grouped.name_of(one), 28) for one in shown])
    axes.set(xlabel=f"{key.upper()} in %", ylim=(len(shown) - 0.5, -0.5))
    axes.set_xlim(left=0)
    figure.legend(loc="outside lower right", frameon=False, fontsize="small")
    return figure
