"""The page of a report: one HTML file that needs no other."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from facenet_ext.common.files import without_nan
from facenet_ext.common.fonts import draw_png

_TEMPLATE = Path(__file__).with_name("report_page.html")
_SCRIPT = Path(__file__).with_name("report_page.js")
_DPI = 160


class Card(NamedTuple):
    """A figure to see at a glance.

    Attributes:
        name: of the figure.
        value: as it is shown.
        note: what it means.
    """

    name: str
    value: str
    note: str


class Cell(NamedTuple):
    """A field of a table.

    Attributes:
        value: as it is shown.
        note: below it, in small letters.
    """

    value: str
    note: str = ""


class Table(NamedTuple):
    """Rows of fields; on a phone each row is a card of its own.

    Attributes:
        columns: their names.
        rows: a field for each column.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


class Picture(NamedTuple):
    """A picture.

    Attributes:
        alt: words for who cannot see it.
        figure: the picture.
        photo: whether it shows photos; colours of charts change in the dark.
        marks: [T, 2], where in the plot each threshold lies, in its units; the one that a reader
            chooses is marked.
    """

    alt: str
    figure: Figure
    photo: bool = False
    marks: NDArray[np.float64] | None = None


class Choice(NamedTuple):
    """Thresholds that a reader chooses from, with a slider.

    Attributes:
        thresholds: [T] of the distance, ascending.
        fmr: [T] the false match rate of each.
        fnmr: [T] the false non-match rate.
        fmr_intervals: [T, 2]; NaN where there are none.
        fnmr_intervals: [T, 2].
        same: pairs of one identity.
        different: pairs of two.
        start: which threshold is chosen first.
    """

    thresholds: NDArray[np.float64]
    fmr: NDArray[np.float64]
    fnmr: NDArray[np.float64]
    fmr_intervals: NDArray[np.float64]
    fnmr_intervals: NDArray[np.float64]
    same: int
    different: int
    start: int

    def as_dict(self) -> dict[str, Any]:
        """Return what the script of the page reads."""
        fields = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in self._asdict().items()
        }
        return dict(without_nan(fields))


@dataclass
class Section:
    """A heading, and what is below it.

    Attributes:
        title: the heading.
        note: a sentence or two.
        cards: figures.
        facts: names with what they are.
        command: a command line.
        choice: what :class:`Choice` holds; one section of a page at most has it.
        table: rows of figures.
        pictures: the last of all.
    """

    title: str
    note: str = ""
    cards: Sequence[Card] = ()
    facts: Sequence[tuple[str, str]] = ()
    command: str = ""
    choice: dict[str, Any] | None = None
    table: Table | None = None
    pictures: Sequence[Picture] = ()


def render(
    title: str,
    date: str,
    verdict: Sequence[str],
    warnings: Sequence[str],
    sections: Sequence[Section],
) -> str:
    """Return the page as HTML.

    Args:
        title: its heading.
        date: below that.
        verdict: the paragraphs for somebody who reads no more than these.
        warnings: below them.
        sections: the rest.
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"png": _encode, "places": _places}
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    chosen = any(section.choice is not None for section in sections)
    return template.render(
        title=title,
        date=date,
        verdict=verdict,
        warnings=warnings,
        sections=sections,
        script=_SCRIPT.read_text(encoding="utf-8") if chosen else "",
    )


def _encode(figure: Figure) -> str:
    return base64.b64encode(draw_png(figure, dpi=_DPI)).decode("ascii")


def _places(picture: Picture) -> str:
    """Return where the marks lie in a picture that was drawn, as shares of its width and height."""
    assert picture.marks is not None
    (axes,) = picture.figure.axes
    limits = np.sort([axes.get_xlim(), axes.get_ylim()], axis=1)  # beyond them a rate may be inf
    pixels = axes.transData.transform(np.clip(picture.marks, *limits.T))
    shares = pixels / (picture.figure.bbox.width, picture.figure.bbox.height)
    return json.dumps([[round(x, 4), round(1 - y, 4)] for x, y in shares.tolist()], allow_nan=False)
