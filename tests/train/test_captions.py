"""Claims about what stands below an image in a picture: whose it is and which file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console

from facenet_ext.commands.image_sections import _draw_map
from facenet_ext.commands.recognition_pictures import draw_sheet
from facenet_ext.commands.suspects_report import draw_contact_sheet
from facenet_ext.data.examples import Examples
from facenet_ext.data.pairs import Pairs, all_pairs
from facenet_ext.embedding.options import DataOptions
from facenet_ext.evaluation.pictures import draw_mistakes
from facenet_ext.evaluation.protocols import Protocol
from facenet_ext.evaluation.verification import verify
from facenet_ext.mining import Suspect
from facenet_ext.recognition import ImageList
from facenet_ext.train.data import load

IMAGES = torch.zeros(6, 1, 8, 8, dtype=torch.uint8)
NAMES = ["Ann/1.png", "Ann/2.png", "Bob/1.png", "Bob/2.png", "x$y$^$/1.png", "x$y$^$/2.png"]


def captions(figure: Figure) -> list[str]:
    figure.savefig(io.BytesIO(), format="svg")  # a name that were read as a formula would raise
    return [axes.get_xlabel().replace(r"\$", "$") for axes in figure.axes if axes.images]


def test_a_sheet_of_a_cluster() -> None:
    long = "Ann/of_a_name_that_is_too_long_to_be_shown_0001.png"
    sheet = draw_sheet([np.zeros((8, 8), np.uint8)] * 4, [NAMES[0], "2.png", long, NAMES[5]], "")
    found = captions(sheet)
    assert found[:2] == ["Ann\n1.png", "2.png"]
    assert found[2].startswith("Ann\nof_a")
    assert found[2].endswith("0001.png"), "the end tells it from others"
    assert found[3] == "x$y$^$\n2.png"


def test_the_worst_mistakes() -> None:
    labels = torch.arange(48) // 4
    names = [f"$Person_{row // 4}/{row}.png" for row in range(48)]
    guessed = verify(torch.rand(48, 2, generator=torch.manual_seed(0)), all_pairs(labels))
    mistakes = draw_mistakes(guessed, lambda _: IMAGES[0], names)
    shown = [caption.split("\n") for caption in captions(mistakes)]
    assert len(shown) > 6
    assert all(len(pair) == 2 and set(pair) <= set(names) for pair in shown)
    people = [{name.split("/")[0] for name in pair} for pair in shown]
    assert {len(both) for both in people} == {1, 2}, "of one person, and of two"


def test_suspects() -> None:
    examples = Examples(IMAGES, torch.arange(6) // 2, NAMES)
    suspect = Suspect(0, 0.5, positive=1, d_positive=1.0, other=4, d_other=0.5)
    sheet = draw_contact_sheet([suspect], [(0, 2, 0.0)], examples)
    expected = ["Ann\n1.png", "Ann\n2.png", "x$y$^$\n1.png", "Ann\n1.png", "Bob\n1.png"]
    assert captions(sheet) == expected


def test_the_legend_of_a_map() -> None:
    images = ImageList(Path(), NAMES, ["_Ann", "_Ann", "$Bob$", "$Bob$", "Cem", "Dan"])
    pairs = Pairs(*(torch.zeros(1, dtype=torch.int64),) * 4)
    protocol = Protocol("", images, [[row] for row in range(6)], pairs)
    (axes,) = _draw_map(torch.rand(6, 4), protocol).axes
    legend = axes.get_legend()
    assert legend is not None
    shown = [text.get_text().replace(r"\$", "$") for text in legend.get_texts()]
    assert shown == ["others", "_Ann", "$Bob$"]


def test_what_a_run_draws_is_called_so(world: Path) -> None:
    examples = load(DataOptions(str(world / "faces"), image_size=8), Console(quiet=True)).val
    assert all(name.split("/")[0] in name.split("/")[1] for name in examples.names)
    assert examples.names[0].endswith("_0001.png")
