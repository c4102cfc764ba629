"""Pictures of a verification and of a training, as PNG files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from facenet_ext.common.figures import (
    DIFFERENT_COLOUR,
    SAME_COLOUR,
    caption,
    save_picture,
    tidy,
)
from facenet_ext.evaluation.curves import draw_det, draw_distances, draw_roc
from facenet_ext.evaluation.verification import Verification

if TYPE_CHECKING:
    from facenet_ext.data.examples import Examples
    from facenet_ext.data.pairs import Pairs

__all__ = [
    "draw_all",
    "draw_mistakes",
    "draw_training",
]


def draw_all(
    folder: Path, verification: Verification, history: dict[str, list[float]], examples: Examples
) -> list[Path]:
    """Draw every picture of a run into its folder and return their paths."""
    figures = {
        "roc.png": draw_roc(verification.compared),
        "det.png": draw_det(verification.compared),
        "distances.png": draw_distances(
            verification.compared, f"Distances, accuracy {verification.accuracy.mean:.1%}"
        ),
        "training.png": draw_training(history),
    }
    mistakes = None
    if examples.are_images:
        mistakes = draw_mistakes(verification, lambda item: examples.values[item], examples.names)
    if mistakes is not None:
        figures["mistakes.png"] = mistakes
    else:
        (folder / "mistakes.png").unlink(missing_ok=True)  # of an earlier evaluation
    for name, figure in figures.items():
        save_picture(figure, folder / name)
    return [folder / name for name in figures]


def draw_training(history: dict[str, list[float]]) -> Figure:
    """Draw the loss and the share of active triplets over the steps."""
    figure = Figure(figsize=(6.0, 5.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes, name, colour in ((upper, "loss", SAME_COLOUR), (lower, "active", DIFFERENT_COLOUR)):
        values = torch.tensor(history[name])
        axes.plot(history["step"], values.numpy(), color=colour, alpha=0.35, linewidth=1)
        axes.plot(history["step"], _smoothed(values).numpy(), color=colour, linewidth=1.8)
        axes.set_ylim(bottom=0)
        tidy(axes)
    upper.set(ylabel="loss", title="Training (thick: running mean)")
    lower.set(ylabel="active triplets (share)", xlabel="step")
    return figure


def draw_mistakes(
    verification: Verification,
    image_of: Callable[[int], Tensor],
    names: Sequence[str],
    count: int = 6,
) -> Figure | None:
    """Draw the farthest of the rejected same pairs, and the nearest of the accepted different ones.

    Args:
        verification: of pairs of items.
        image_of: gives an item's image, [C, H, W] uint8.
        names: of the items: an image's identity and file, ``Ann/0001.png``.
        count: pairs of each kind, at most.

    Returns:
        The figure, with each image in one pair at most; None where there are no mistakes.
    """
    pairs, distances = verification.pairs, verification.distances
    accepted = distances <= verification.threshold
    seen: set[int] = set()
    rows = []
    for title, mistakes, farthest in (
        ("same, but far apart", pairs.same & ~accepted, True),
        ("different, but near", ~pairs.same & accepted, False),
    ):
        wrong = torch.nonzero(mistakes).flatten()
        worst = wrong[distances[wrong].argsort(descending=farthest)]
        chosen = _varied(worst, pairs, count, seen)
        if chosen:
            rows.append((f"{title}: {len(wrong):,} pairs", chosen))
    if not rows:
        return None
    columns = max(3, *(len(chosen) for _, chosen in rows))
    figure = Figure(figsize=(2.1 * columns, 0.4 + 2.9 * len(rows)), layout="constrained")
    figure.suptitle(f"The worst mistakes at threshold {verification.threshold:.3f}")
    halves: list[SubFigure] = list(figure.subfigures(len(rows), 1, squeeze=False)[:, 0])
    for half, (title, chosen) in zip(halves, rows, strict=True):
        half.suptitle(title, fontsize="medium")
        grid = half.subplots(1, columns, squeeze=False)[0]
        for axes, pair in zip(grid, chosen, strict=False):
            first, second = int(pairs.first[pair]), int(pairs.second[pair])
            upper, lower = image_of(first), image_of(second)
            gap = upper.new_full(
                (upper.shape[0], max(1, upper.shape[1] // 16), upper.shape[2]), 255
            )
            strip = torch.cat([upper, gap, lower], dim=1)
            axes.imshow(strip.permute(1, 2, 0).squeeze(2).numpy(), cmap="gray", vmin=0, vmax=255)
            axes.set_title(f"d = {float(distances[pair]):.3f}", fontsize="small")
            shown = (caption(names[item], 19, between="/") for item in (first, second))
            axes.set_xlabel("\n".join(shown), fontsize="xx-small")
        for axes in grid:
            axes.set(xticks=[], yticks=[])
            axes.set_frame_on(False)
    return figure


def _varied(worst: Tensor, pairs: Pairs, count: int, shown: set[int]) -> list[int]:
    """Return the worst pairs of images that were not shown before, and count these as shown."""
    chosen: list[int] = []
    for pair in worst.tolist():
        images = {int(pairs.first[pair]), int(pairs.second[pair])}
        if not images & shown:
            shown |= images
            chosen.append(pair)
        if len(chosen) == count:
            break
    return chosen


def _smoothed(values: Tensor) -> Tensor:
    """Return the running mean over a tenth of the values, shorter at the ends."""
    reach = max(1, len(values) // 20)
    return torch.stack(
        [values[max(0, i - reach) : i + reach + 1].mean() for i in range(len(values))]
    )
