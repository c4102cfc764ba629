"""How the pictures look: one set of colours, marks and panels."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

# Okabe and Ito's palette: told apart by colour-blind readers too. Marks differ in shape as well.
INK, MUTED, FAINT = "#1f2328", "#57606a", "#d0d7de"
POSITIVE, NEGATIVE, THIRD = "#0072B2", "#D55E00", "#009E73"
BAND = "#fff1d6"

SETTINGS = {
    "font.size": 10,
    "text.color": INK,
    "figure.facecolor": "white",
    "legend.fontsize": 10,
    "lines.markersize": 8,
    "svg.fonttype": "path",
    "svg.hashsalt": "facenet_ext",  # the same names inside the file on every run
}


def grid(rows: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure as wide as a page, and its panels, of equal scales and without axes."""
    figure = Figure(figsize=(3.3 * columns, height), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.1, hspace=0.05)  # type: ignore[union-attr,call-arg]
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.set_aspect("equal")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color(FAINT)
    return figure, panels


def caption(axes: Axes, code: str, meaning: str) -> None:
    """The option as it is typed, and what it means."""
    axes.set_title(code, fontsize=10, fontfamily="DejaVu Sans Mono", fontweight="bold")
    axes.set_xlabel(meaning, color=MUTED)


def ring(axes: Axes, radius: float, **how: object) -> Circle:
    """A circle around the anchor."""
    circle = Circle((0, 0), radius, fill=False, **{"linewidth": 1.2, "zorder": 1, **how})  # type: ignore[arg-type]
    axes.add_patch(circle)
    return circle


def mark(axes: Axes, at: Sequence[float], marker: str, color: str, **how: object) -> Line2D:
    """One point."""
    (line,) = axes.plot(*at, marker, color=color, linestyle="none", **{"zorder": 4, **how})  # type: ignore[arg-type]
    return line


def legend(figure: Figure, entries: dict[str, Artist], columns: int) -> None:
    """What the marks mean, under all panels."""
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        handletextpad=0.5,
        columnspacing=1.6,
    )
