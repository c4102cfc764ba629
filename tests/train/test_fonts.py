"""Claims about names in pictures: of any script, drawn or readable without a font for it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from facenet_ext.commands.recognition_pictures import draw_sheet
from facenet_ext.common import fonts
from facenet_ext.common.figures import new_figure, shorten

# Matplotlib brings one font with characters that its usual one has not.
RARE, RARE_FONT = "\ue101", "STIXNonUnicode"


@pytest.fixture(autouse=True)
def _other_fonts() -> Iterator[None]:
    def forget() -> None:
        fonts._families.cache_clear()
        fonts._characters.cache_clear()

    forget()
    yield
    forget()


def drawn(text: str) -> Image.Image:
    figure, axes = new_figure(2.0, 1.0)
    axes.set_xlabel(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return Image.open(io.BytesIO(fonts.draw_png(figure, dpi=50)))


def test_what_no_font_has_is_written_in_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_FALLBACKS", ())
    assert fonts.drawable("Zoë Müller_0001") == "Zoë Müller_0001"
    assert fonts.drawable("张伟_1\udce9\r") == "\\u5f20\\u4f1f_1\\udce9\\r"
    drawn("张伟")  # even where a name comes as it is


def test_a_font_that_has_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_FALLBACKS", ("No Such Font", RARE_FONT))
    assert fonts.drawable(f"a{RARE}") == f"a{RARE}"
    found = drawn(f"a{RARE}")
    monkeypatch.setattr(fonts, "_FALLBACKS", ())
    fonts._families.cache_clear()
    assert found.tobytes() != drawn(f"a{RARE}").tobytes()


def test_names_are_no_formulas() -> None:
    assert shorten("$\\frac$") == "\\$\\frac\\$"
    sheet = draw_sheet([np.zeros((4, 4), np.uint8)] * 2, ["$\\frac$", "张伟"], "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fonts.draw_png(sheet, dpi=50)


def test_long_names_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_FALLBACKS", ())
    assert shorten("a" * 40, 30) == "a" * 15 + "…" + "a" * 14
    assert len(shorten("张" * 40, 30)) == 30
