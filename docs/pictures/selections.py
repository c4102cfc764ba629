"""What each rule selects for one anchor: negatives, positives, and kinds of triplets."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Annulus, Circle, Patch

from docs.pictures import style
from docs.pictures.scene import (
    ALL,
    CANDIDATES,
    MARGIN,
    MIDDLE,
    POSITIVES,
    counted,
    select,
    shares,
)
from docs.pictures.style import BAND, INK, MUTED, NEGATIVE, POSITIVE

DRAWS = 20_000
# Where the share of a negative is written, in points from it: clear of lines and circles.
SHARE_AT = {3: (13, -11), 4: (17, -4), 5: (0, -14), 6: (-13, 12), 7: (-18, -4), 8: (-18, 4)}
NONZERO_LOSS_CUTOFF = 1.4  # the default

NEGATIVE_RULES = {
    "semihard": "the closest beyond the positive",
    "hardest": "the closest of all",
    "random_semihard": "any between positive and margin",
    "random_violating": "any inside the margin",
    "distance_weighted": "any, the rarer its distance the likelier",
}
POSITIVE_RULES = {
    "all": "every positive is paired",
    "hardest": "the farthest positive",
    "easiest": "the closest positive",
}
KINDS = {
    "all": "every negative",
    "hard": "no farther than the positive",
    "semihard": "beyond it, inside the margin",
    "easy": "beyond the margin",
}

RADII = CANDIDATES.norm(dim=1).tolist()
PLACES = CANDIDATES[:, :2].tolist()


def draw_negatives() -> Figure:
    """The negatives of one positive under each rule, and where no semi-hard one is there."""
    figure, panels = style.grid(2, 3, 8.4)
    far = RADII[MIDDLE] + MARGIN
    drawn_from = {
        "random_semihard": Annulus((0, 0), far, MARGIN),
        "random_violating": Circle((0, 0), far),
        "distance_weighted": Circle((0, 0), NONZERO_LOSS_CUTOFF),
    }
    for axes, (rule, meaning) in zip(panels, NEGATIVE_RULES.items(), strict=False):
        style.caption(axes, f'negatives="{rule}"', meaning)
        _circles(axes, MIDDLE, margin=rule != "distance_weighted")
        _points(axes, paired=MIDDLE)
        if rule in drawn_from:
            _shade(axes, drawn_from[rule])
        for negative, share in shares(rule, DRAWS if rule in drawn_from else 1).items():
            _select(axes, negative, f"{rule}-{negative}")
            if rule in drawn_from:
                axes.annotate(
                    f"{share:.0%}", PLACES[negative], SHARE_AT[negative],
                    textcoords="offset points", ha="center", va="center", fontsize=9, zorder=6,
                )  # fmt: skip
    _draw_fallback(panels[-1])
    style.legend(figure, {**_entries(), "where it draws from": Patch(color=BAND)}, 4)
    return figure


def draw_positives() -> Figure:
    """The positives under each rule, each with its semi-hard negative."""
    figure, panels = style.grid(1, 3, 4.5)
    for axes, (rule, meaning) in zip(panels, POSITIVE_RULES.items(), strict=True):
        style.caption(axes, f'positives="{rule}"', meaning)
        _points(axes)
        for positive, negative in select(positives=rule):
            _circles(axes, positive, margin=False)
            _point(axes, positive, paired=True)
            _select(axes, negative, f"{rule}-{positive}-{negative}")
    entries = _entries()
    del entries["d(a, p) + margin"]
    style.legend(figure, entries, 3)
    return figure


def draw_kinds() -> Figure:
    """The triplets of each kind that one pair is in, and which of them the hinge pushes."""
    figure, panels = style.grid(2, 2, 8.3)
    near, far = RADII[MIDDLE], RADII[MIDDLE] + MARGIN
    regions = {
        "all": Circle((0, 0), 9),
        "hard": Circle((0, 0), near),
        "semihard": Annulus((0, 0), far, MARGIN),
        "easy": Annulus((0, 0), 9, 9 - far),
    }
    for axes, (kind, meaning) in zip(panels, KINDS.items(), strict=True):
        style.caption(axes, f'triplets="{kind}"', meaning)
        _shade(axes, regions[kind])
        _circles(axes, MIDDLE)
        _points(axes, paired=MIDDLE)
        pushed = counted(kind, smooth=False)
        for negative in counted(kind, smooth=True):
            _select(axes, negative, f"{kind}-{negative}", hollow=negative not in pushed)
    entries = _entries()
    del entries["selected negative"]
    entries["counted, pushed away"] = _sample("s", NEGATIVE, INK)
    entries["counted, its hinge is 0"] = _sample("s", "white", NEGATIVE)
    entries["of the kind"] = Patch(color=BAND)
    style.legend(figure, entries, 3)
    return figure


def _draw_fallback(axes: Axes) -> None:
    """A pair whose anchor has no negative beyond the positive."""
    style.caption(axes, 'fallback="farthest"', '"semihard", where no negative is beyond')
    near = [
        row
        for row in ALL
        if row == MIDDLE or (row >= len(POSITIVES) and RADII[row] < RADII[MIDDLE])
    ]
    _circles(axes, MIDDLE)
    _points(axes, near, paired=MIDDLE)
    for _, negative in select(near, fallback="farthest"):
        _select(axes, negative, f"farthest-{negative}")


def _circles(axes: Axes, positive: int, *, margin: bool = True) -> None:
    radius = RADII[positive]
    style.ring(axes, radius, edgecolor=POSITIVE)
    if margin:
        style.ring(axes, radius + MARGIN, edgecolor=MUTED, linestyle=(0, (4, 3)))


def _shade(axes: Axes, region: Patch) -> None:
    region.set(facecolor=BAND, edgecolor="none", zorder=0)
    axes.add_patch(region)


def _points(axes: Axes, rows: Sequence[int] = ALL, paired: int | None = None) -> None:
    """The anchor and the points, pale but for the positive that is paired."""
    axes.set(xlim=(-1.62, 2.02), ylim=(-1.55, 1.95))
    for row in rows:
        _point(axes, row, paired=row == paired)
    style.mark(axes, (0, 0), "*", INK, markersize=15, zorder=5)


def _point(axes: Axes, row: int, *, paired: bool = False) -> None:
    is_positive = row < len(POSITIVES)
    colour = POSITIVE if is_positive else NEGATIVE
    if paired:
        axes.plot([0, PLACES[row][0]], [0, PLACES[row][1]], color=POSITIVE, linewidth=2, zorder=2)
    style.mark(
        axes, PLACES[row], "o" if is_positive else "s", colour, alpha=1 if paired else 0.35,
        markeredgewidth=0,
    )  # fmt: skip


def _select(axes: Axes, row: int, name: str, *, hollow: bool = False) -> None:
    style.mark(
        axes,
        PLACES[row],
        "s",
        "white" if hollow else NEGATIVE,
        markeredgecolor=NEGATIVE if hollow else INK,
        markeredgewidth=1.8,
        markersize=9.5,
        gid=name,
    )
    if not hollow:
        axes.plot([0, PLACES[row][0]], [0, PLACES[row][1]], color=NEGATIVE, linewidth=1.2, zorder=2)


def _sample(marker: str, face: str, edge: str, **how: object) -> Line2D:
    return Line2D(
        [], [], marker=marker, color=face, markeredgecolor=edge, markeredgewidth=1.8,
        linestyle="none", **how,
    )  # fmt: skip


def _entries() -> dict[str, Line2D | Patch]:
    return {
        "anchor": Line2D([], [], marker="*", color=INK, markersize=15, linestyle="none"),
        "positive, paired": Line2D([], [], marker="o", color=POSITIVE, linewidth=2),
        "d(a, p)": Line2D([], [], color=POSITIVE, linewidth=1.2),
        "negative": Line2D(
            [], [], marker="s", color=NEGATIVE, alpha=0.35, markeredgewidth=0, linestyle="none"
        ),
        "selected negative": _sample("s", NEGATIVE, INK),
        "d(a, p) + margin": Line2D([], [], color=MUTED, linewidth=1.2, linestyle=(0, (4, 3))),
    }
