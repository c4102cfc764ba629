"""Draws names in any script with the installed fonts; escapes what none of them has."""

from __future__ import annotations

import functools
import io
import warnings

from matplotlib import font_manager, rcParams
from matplotlib.figure import Figure
from matplotlib.text import Text

# Fonts that systems come with for Chinese, Japanese and Korean, which Matplotlib's own lacks.
_FALLBACKS = (
    *(f"Noto Sans CJK {region}" for region in ("SC", "TC", "JP", "KR")),
    *("Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Source Han Sans"),
    *("WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback", "Unifont"),
    *("Microsoft YaHei", "SimHei", "Yu Gothic", "MS Gothic", "Malgun Gothic"),
    *("PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS"),
)


def drawable(text: str) -> str:
    r"""Return a text with Python's escapes in place of characters that cannot be drawn.

    Example:
        >>> drawable("Zoë"), drawable("\U000f0000.png")
        ('Zoë', '\\U000f0000.png')
    """
    if text.isascii() and text.isprintable():
        return text
    known = _characters()
    return "".join(
        char if ord(char) in known else char.encode("unicode_escape").decode() for char in text
    )


def draw_png(figure: Figure, dpi: float) -> bytes:
    """Return a figure as a PNG file.

    Args:
        figure: its texts get a font for each script, where one is installed.
        dpi: pixels per inch.
    """
    families = _families()
    if len(families) > 1:
        for text in figure.findobj(Text):
            text.set_fontfamily(families)
    png = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # such as: no room for all labels
        figure.savefig(png, format="png", dpi=dpi)
    return png.getvalue()


@functools.cache
def _families() -> list[str]:
    """Return Matplotlib's own font families, then those of _FALLBACKS that are installed."""
    installed = set(font_manager.get_font_names())
    return [*rcParams["font.family"], *(name for name in _FALLBACKS if name in installed)]


@functools.cache
def _characters() -> frozenset[int]:
    """Return the characters that at least one of the fonts has."""
    paths = (
        font_manager.findfont(font_manager.FontProperties(family=[name])) for name in _families()
    )
    return frozenset(char for path in paths for char in font_manager.get_font(path).get_charmap())
