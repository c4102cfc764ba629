"""What ``facenet mine`` says of probable mistakes: a CSV, and a contact sheet to look through."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure, SubFigure

from facenet_ext.common import files
from facenet_ext.common.figures import caption
from facenet_ext.common.text import counted
from facenet_ext.data.examples import Examples
from facenet_ext.mining import Suspect

_COLUMNS = (
    *("kind", "score", "row", "name"),
    *("same_row", "same_name", "same_distance"),
    *("other_row", "other_name", "other_distance"),
)
_ACROSS = 4
_MOST = 32

Duplicate = tuple[int, int, float]


def write_csv(
    path: Path,
    mislabelled: Sequence[Suspect],
    duplicates: Sequence[Duplicate],
    names: Sequence[str],
) -> None:
    """Write a line for each suspicious row: the most suspicious first, then the duplicates."""
    rows: list[tuple[object, ...]] = [_COLUMNS]
    for s in mislabelled:
        same = _described(s.positive, s.d_positive, names)
        other = _described(s.other, s.d_other, names)
        rows.append(("mislabelled", f"{s.score:.4f}", s.row, names[s.row], *same, *other))
    for row, other_row, distance in duplicates:
        described = (other_row, names[other_row], f"{distance:.6f}")
        rows.append(("duplicate", "", row, names[row], "", "", "", *described))
    files.write_csv(path, rows)


def _described(row: int, distance: float, names: Sequence[str]) -> tuple[object, ...]:
    return (row, names[row], f"{distance:.6f}") if row >= 0 else ("", "", "")


def draw_contact_sheet(
    mislabelled: Sequence[Suspect], duplicates: Sequence[Duplicate], examples: Examples
) -> Figure:
    """Draw suspicious images, each beside the closest of its own name and of another.

    Args:
        mislabelled: the most suspicious first.
        duplicates: pairs of rows at distance 0 under two names.
        examples: the images.
    """
    mislabelled, duplicates = mislabelled[:_MOST], duplicates[:_MOST]
    strips: list[tuple[str, list[tuple[int, str]]]] = [
        (
            f"{s.score:.0%} of others are closer",
            [
                (s.row, "suspicious"),
                (s.positive, f"own, d={s.d_positive:.2f}"),
                (s.other, f"other, d={s.d_other:.2f}"),
            ],
        )
        for s in mislabelled
    ] + [("one image, two names?", [(a, ""), (b, "")]) for a, b, _ in duplicates]
    rows = max(1, -(-len(strips) // _ACROSS))
    figure = Figure(figsize=(4.6 * _ACROSS, 2.3 * rows + 0.5), layout="constrained")
    figure.suptitle(
        f"most suspicious: {counted(len(mislabelled), 'image')}, "
        f"{counted(len(duplicates), 'pair')} under two names"
        if strips
        else "nothing suspicious"
    )
    panels: list[SubFigure] = list(figure.subfigures(rows, _ACROSS, squeeze=False).flat)
    for panel, (title, images) in zip(panels, strips, strict=False):
        panel.suptitle(title, fontsize="small")
        for axes, (row, told) in zip(panel.subplots(1, 3), images, strict=False):
            if row < 0:  # no neighbour: every distance overflows
                continue
            picture = examples.values[row].permute(1, 2, 0).squeeze(2).numpy()
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
            axes.set_title(told, fontsize="x-small")
            axes.set_xlabel(caption(examples.names[row], 24), fontsize="xx-small")
        for axes in panel.axes:
            axes.set(xticks=[], yticks=[])
            axes.set_frame_on(False)
    return figure
