"""Pictures of identification and of clusters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from facenet_ext.common.figures import DIFFERENT_COLOUR, SAME_COLOUR, caption, tidy
from facenet_ext.common.text import counted
from facenet_ext.recognition import OpenSetPoint


def draw_identification(
    cmc: Sequence[float], curve: Sequence[OpenSetPoint], known: int, unknown: int
) -> Figure:
    """Draw the share of probes found by each rank, and open-set rates where there are unknown."""
    panels = 2 if known and unknown else 1
    figure = Figure(figsize=(1.0 + 5.0 * panels, 4.2), layout="constrained")
    all_axes = list(figure.subplots(1, panels, squeeze=False).flat)
    for axes in all_axes:
        tidy(axes)
    ranks = range(1, len(cmc) + 1)
    if known:
        all_axes[0].plot(ranks, cmc, "o-", color=SAME_COLOUR)
        all_axes[0].set(
            xticks=[*ranks][:: max(1, len(cmc) // 10)],
            ylim=(0, 1.02),
            xlabel="rank",
            ylabel="share of probes found by this rank",
            title=f"{counted(known, 'probe')} in the gallery: rank 1 {cmc[0]:.1%}",
        )
    if unknown:
        axes = all_axes[-1]
        alarms = [point.false_alarms for point in curve]
        identified = [point.identified for point in curve]
        title = f"{counted(unknown, 'probe')} not in it: identification over false alarms"
        if not known:
            alarms, identified = [point.threshold for point in curve], alarms
            title = (
                f"{counted(unknown, 'probe')}, none in the gallery: false alarms over the threshold"
            )
        axes.plot(alarms, identified, color=DIFFERENT_COLOUR, drawstyle="steps-post")
        axes.set(ylim=(0, 1.02), title=title)
        axes.set(
            xlabel="share of unknown probes taken for someone" if known else "threshold",
            ylabel="share found at rank 1" if known else "taken for someone",
        )
    return figure


def draw_sheet(
    images: Sequence[NDArray[np.uint8]],
    names: Sequence[str],
    title: str,
    columns: int = 8,
    notes: Sequence[str] = (),
) -> Figure:
    """Draw images in rows, each with its identity and file below it.

    Args:
        images: [H, W] grey or [H, W, 3].
        names: of each, ``Ann/0001.png``.
        title: above all.
        columns: images in a row.
        notes: what else stands below each.
    """
    columns = max(1, min(columns, len(images)))
    rows = math.ceil(len(images) / columns)
    figure = Figure(figsize=(1.4 * columns, 1.85 * rows + 0.5), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.set_frame_on(False)
    told = [caption(name) for name in names]
    told = [f"{name}\n{note}" for name, note in zip(told, notes, strict=True)] if notes else told
    for axes, image, text in zip(grid.flat, images, told, strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        axes.set_xlabel(text, fontsize="x-small")
    return figure
