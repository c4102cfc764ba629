"""What all pictures share: colours, axes, captions, and how they are written."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from facenet_ext.common.console import cut
from facenet_ext.common.files import write_bytes
from facenet_ext.common.fonts import draw_png, drawable

# Okabe and Ito's palette: told apart by colour-blind readers too.
SAME_COLOUR, DIFFERENT_COLOUR, ACCENT_COLOUR = "#0072B2", "#D55E00", "#444444"


def save_picture(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    write_bytes(path, draw_png(figure, dpi=130))


def caption(name: str, length: int = 22, between: str = "\n") -> str:
    """Return the identity and the file of an image, to stand below it.

    Args:
        name: the image's, ``Ann/0001.png``.
        length: where each of the two is cut.
        between: what stands between them.

    Example:
        >>> caption("faces/Ann/0001.png", between=": ")
        'Ann: 0001.png'
    """
    path = Path(name)
    return between.join(shorten(part, length) for part in (path.parent.name, path.name) if part)


def shorten(name: str, length: int = 30) -> str:
    """Return a name as a picture shows it: cut if it is long, and with any $ escaped."""
    return cut(drawable(name), length).replace("$", r"\$")


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of this size in inches, and its one plot."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    tidy(axes)
    return figure, axes


def tidy(axes: Axes) -> None:
    """Draw a faint grid and no box."""
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
