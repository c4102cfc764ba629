"""Pictures of a verification and of a training, as PNG files."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray
from torch import Tensor

from facenet_ext.common.figures import (
    ACCENT_COLOUR,
    DIFFERENT_COLOUR,
    SAME_COLOUR,
    caption,
    new_figure,
    save_picture,
    tidy,
)
from facenet_ext.evaluation.verification import Verification
from facenet_ext.metrics import det_curve, roc

if TYPE_CHECKING:
    from facenet_ext.data.examples import Examples
    from facenet_ext.data.pairs import Pairs

__all__ = [
    "draw_all",
    "draw_det",
    "draw_distances",
    "draw_mistakes",
    "draw_roc",
    "draw_training",
]

_RATES = (1e-6, 1e-5, 1e-4, 1e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
"""The ticks of a DET plot."""


def draw_all(
    folder: Path, verification: Verification, history: dict[str, list[float]], examples: Examples
) -> list[Path]:
    """Draw every picture of a run into its folder and return their paths."""
    figures = {
        "roc.png": draw_roc(verification),
        "distances.png": draw_distances(verification),
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


def draw_roc(verification: Verification) -> Figure:
    """Draw VAL over FAR, on a log axis from the smallest FAR the pairs can measure."""
    pairs = verification.pairs
    curve = roc(verification.distances, pairs.same)
    smallest = 1 / int((~pairs.same).sum())
    figure, axes = new_figure(6.0, 4.5)
    axes.semilogx(
        curve.far.clamp(min=smallest / 2).numpy(),
        curve.val.numpy(),
        color=SAME_COLOUR,
        drawstyle="steps-post",
    )
    for point in verification.val_far:
        if point.reachable:
            far = max(point.far, smallest)
            axes.plot(far, point.val, "o", color=DIFFERENT_COLOUR)
            # The curve rises to the right, so there is room above and left of it; at the left edge
            # of the picture there is none.
            at_edge = far < 5 * smallest
            below = at_edge and point.val > 0.2
            axes.annotate(
                f"VAL {point.val:.1%}\nat FAR {point.wanted_far:g}",
                (far, point.val),
                xytext=(8, -6 if below else 4) if at_edge else (-8, 4),
                textcoords="offset points",
                ha="left" if at_edge else "right",
                va="top" if below else "bottom",
            )
    chance = torch.logspace(math.log10(smallest), 0, 100).tolist()
    axes.plot(chance, chance, ":", color=ACCENT_COLOUR, label="chance")
    axes.set(
        xlim=(smallest, 1),
        ylim=(0, 1.02),
        xlabel=f"FAR: share of {int((~pairs.same).sum()):,} different pairs accepted",
        ylabel=f"VAL: share of {int(pairs.same.sum()):,} same pairs accepted",
        title=f"ROC, AUC {verification.auc:.4f}, EER {verification.eer:.1%}",
    )
    axes.legend(loc="lower right", frameon=False)
    return figure


def draw_det(verification: Verification) -> Figure:
    """Draw FNMR over FMR on normal-deviate axes, from the smallest rates the pairs can measure.

    Normal distances make a straight line. The band has FNMR at each FMR in 95 of 100 drawings of
    as many people.
    """
    same = verification.pairs.same
    curve = det_curve(verification.distances, same, points=2000)
    least = [1 / int((~same).sum()), 1 / int(same.sum())]
    figure, axes = new_figure(5.4, 5.2)
    drawn = verification.summary.replicates
    if drawn is not None:
        rates = torch.logspace(math.log10(least[0]), math.log10(0.5), 60, dtype=torch.float64)
        ends = torch.from_numpy(drawn.band(rates.tolist())).clamp(min=least[1] / 2)
        lower, upper = map(_deviates, ends)
        axes.fill_between(_deviates(rates), lower, upper, color=SAME_COLOUR, alpha=0.2, linewidth=0)
    shown = (curve.fmr.clamp(min=least[0] / 2), curve.fnmr.clamp(min=least[1] / 2))
    axes.plot(*map(_deviates, shown), color=SAME_COLOUR, drawstyle="steps-post")
    for figures, marker in (("eer", "o"), ("min_dcf", "s")):
        found = verification.summary.figures[figures]
        if math.isfinite(found.threshold):
            accepted = verification.distances <= found.threshold
            point = accepted[~same].double().mean(), (~accepted[same]).double().mean()
            x, y = (rate.clamp(min=low / 2) for rate, low in zip(point, least, strict=True))
            label = f"{found.name}: {found.value:.3f}"
            axes.plot(_deviates(x), _deviates(y), marker, color=DIFFERENT_COLOUR, label=label)
    axes.axline((0, 0), slope=1, linestyle=":", color=ACCENT_COLOUR)  # equal rates
    for axis, low in zip((axes.xaxis, axes.yaxis), least, strict=True):
        ticks = [rate for rate in _RATES if rate >= low]
        axis.set_ticks(_deviates(torch.tensor(ticks)), [f"{100 * rate:g}" for rate in ticks])
    most = _deviates(torch.tensor(0.6))
    axes.set(
        xlim=(_deviates(torch.tensor(least[0])), most),
        ylim=(_deviates(torch.tensor(least[1])), most),
        xlabel=f"FMR in %, of {int((~same).sum()):,} different pairs",
        ylabel=f"FNMR in %, of {int(same.sum()):,} same pairs",
        title="Detection error trade-off",
    )
    axes.legend(loc="upper right", frameon=False)
    return figure


def _deviates(rates: Tensor) -> NDArray[np.float64]:
    """Return where rates lie on normal-deviate axes."""
    deviates: NDArray[np.float64] = torch.special.ndtri(rates.double()).numpy()
    return deviates


def draw_distances(verification: Verification) -> Figure:
    """Draw how the distances of same and of different pairs are spread, with the threshold."""
    same = verification.pairs.same
    distances = verification.distances
    bins = torch.linspace(0, float(distances.max()) * 1.02, 61).tolist()
    figure, axes = new_figure(6.0, 4.2)
    for kind, colour, name in ((same, SAME_COLOUR, "same"), (~same, DIFFERENT_COLOUR, "different")):
        label = f"{int(kind.sum()):,} {name} pairs"
        axes.hist(
            distances[kind].numpy(), bins, density=True, color=colour, alpha=0.55, label=label
        )
    threshold = verification.threshold
    if math.isfinite(threshold):  # -inf accepts nothing: no threshold tells the two kinds apart
        axes.axvline(
            threshold, color=ACCENT_COLOUR, linestyle="--", label=f"threshold {threshold:.3f}"
        )
    axes.set(
        xlim=(0, bins[-1]),
        xlabel="squared Euclidean distance",
        ylabel="density",
        title=f"Distances, accuracy {verification.accuracy.mean:.1%}",
    )
    figure.legend(loc="outside lower center", ncol=3, frameon=False)
    return figure


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
    upper.set(ylabel="triplet loss", title="Training (thick: running mean)")
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
