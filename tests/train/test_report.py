"""Claims about the report of an evaluation: what it says, what it shows, and that it is whole."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from command_runs import Command
from small_runs import write_faces, write_pairs
from torch import Tensor

from facenet_ext.data.examples import Examples
from facenet_ext.data.pairs import Pairs
from facenet_ext.evaluation.pictures import draw_all, draw_mistakes
from facenet_ext.evaluation.verification import Verification, verify


class Page(HTMLParser):
    """What a report has: headings, facts, pictures; and what it would fetch."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.words: dict[str, list[str]] = {"dt": [], "dd": []}
        self.pictures: list[str] = []
        self.fetched: list[str] = []
        self.tags: Counter[str] = Counter()
        self._inside = ""
        self.text = path.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.tags[tag] += 1
        for name, value in attrs:
            if name in ("src", "href") and value is not None and not value.startswith("#"):
                (
                    self.pictures if value.startswith("data:image/png;base64,") else self.fetched
                ).append(value)

    def handle_data(self, data: str) -> None:
        if self._inside == "h2" and data.strip():
            self.headings.append(data.strip())
        if self._inside in self.words and data.strip():
            self.words[self._inside].append(data.strip())

    @property
    def facts(self) -> dict[str, str]:
        return dict(zip(*self.words.values(), strict=True))


@pytest.fixture(scope="module")
def lfw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten people with four images each, and pairs over four of them."""
    root = tmp_path_factory.mktemp("lfw")
    write_faces(root, {f"Person_{i:02d}": 4 for i in range(10)})
    write_pairs(root / "pairs.txt")
    return root


def test_the_report_is_one_file_without_a_table_of_what_is_drawn(
    command: Command, world: Path
) -> None:
    options = ("--data", world / "faces", "--all-pairs", "--quality", 30)
    status, out, _ = command(
        "evaluate", "--checkpoint", world / "old", "--output", "report", *options
    )
    assert status == 0
    assert "report.html and metrics.json are in report" in out
    page = Page(Path("report/report.html"))
    assert page.headings == [
        "Figures", "What was measured", "Curves", "All pairs", "Image quality",
        "Hardest mistakes", "Map",
    ]  # fmt: skip
    assert len(page.pictures) == 7
    assert page.tags["table"] == 0
    assert page.fetched == []
    assert "http" not in re.sub(r"base64,[^\"]*", "", page.text)
    quality = json.loads(Path("report/metrics.json").read_text())["quality"]
    assert [one["kind"] for one in quality].count("JPEG quality") == 6
    assert all(0 <= one["auc"] <= 1 for one in quality)


def test_the_report_says_what_was_measured_and_how_to_repeat_it(
    command: Command, world: Path, lfw: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(lfw)
    options = ["--checkpoint", world / "old", "--output", tmp_path / "report"]
    options += ["--data", ".", "--pairs", "pairs.txt", "--quality", 0]
    status, out, err = command("evaluate", *options)
    assert status == 0
    path = tmp_path / "report" / "report.html"
    page = Page(path)
    figures = json.loads(path.with_name("metrics.json").read_text())
    assert page.facts["Run"] == figures["run"] == str(world / "old")
    assert page.facts["Data"] == figures["data"] == str(lfw)
    assert page.facts["Images"] == "8 of 4 people"
    assert (figures["images"], figures["identities"]) == (8, 4)
    assert page.facts["Pairs"] == "pairs.txt: 4 of one person, 4 of two"
    assert re.fullmatch(
        rf"\d( of 4 planned)? steps on \d+ images of 10 people from {world / 'faces'}",
        page.facts["Trained"],
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d [+-]\d{4}", figures["date"])
    assert f'<p class="date">{figures["date"]}</p>' in page.text
    assert "of pairs rightly" in figures["verdict"]
    assert "as far as 4 people tell" in figures["verdict"]
    for told in (out, page.text):
        assert figures["verdict"] in html.unescape(told)
    few = "only 4 identities are verified, so these figures mean little: give 20 or more"
    assert figures["warnings"] == [few]
    assert f"warning: {few}\n" == err
    assert few.split(",")[0] not in " ".join(out.split()), "once is enough"
    assert few in page.text
    # What it says repeats it, from any folder.
    repeats = html.unescape(re.findall(r"<pre>(.*?)</pre>", page.text, re.DOTALL)[0])
    assert repeats == figures["command"]
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(path.parent)
    name, *arguments = shlex.split(repeats)
    assert name == "facenet"
    assert command(*arguments)[0] == 0
    again = json.loads(path.with_name("metrics.json").read_text())
    assert again | {"date": ""} == figures | {"date": ""}


def verified(
    distances: list[float], same: list[bool], images: list[tuple[int, int]]
) -> Verification:
    """Return a verification of pairs of images, by their distances, at the threshold 1."""
    first, second = (torch.tensor([pair[side] for pair in images]) for side in (0, 1))
    pairs = Pairs(first, second, torch.tensor(same), torch.arange(len(same)) % 2)
    plain = verify(torch.eye(2)[torch.arange(2)], all_pairs_of_two())
    accuracy = plain.accuracy._replace(thresholds=torch.tensor([1.0, 1.0]))
    return Verification(pairs, torch.tensor(distances), plain.val_far, accuracy, 1.0, 0.0, accuracy)


def all_pairs_of_two() -> Pairs:
    ends = torch.tensor([0, 0, 0, 0]), torch.tensor([0, 1, 0, 1])
    return Pairs(*ends, torch.tensor([True, False] * 2), torch.tensor([0, 0, 1, 1]))


def test_a_face_is_shown_once_among_the_worst() -> None:
    """Image 0 is in every mistake of the first kind; whichever side of a pair it is on."""
    images = [(0, 1), (2, 0), (0, 3), (4, 5), (0, 6), (7, 4), (7, 8)]
    same = [True, True, True, True, False, False, False]
    distances = [1.9, 1.8, 1.7, 1.2, 0.1, 0.2, 0.3]
    seen: list[int] = []

    def image_of(item: int) -> Tensor:
        seen.append(item)
        return torch.zeros(1, 8, 8, dtype=torch.uint8)

    figure = draw_mistakes(verified(distances, same, images), image_of, [str(i) for i in range(9)])
    assert figure is not None
    assert seen == [0, 1, 4, 5, 7, 8], "the worst of each kind whose images are new"


def test_there_is_no_block_of_mistakes_where_there_are_none(
    tmp_path: Path, command: Command, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = verified([0.5, 1.5, 1.6], [True, False, False], [(0, 1), (0, 2), (1, 2)])
    assert draw_mistakes(right, lambda _: torch.zeros(1, 8, 8), ["a", "b", "c"]) is None
    one_kind = verified([1.2, 1.5], [True, False], [(0, 1), (0, 2)])
    figure = draw_mistakes(one_kind, lambda _: torch.zeros(1, 8, 8), ["a", "b", "c"])
    assert figure is not None
    assert len(figure.subfigs) == 1
    # Nor a picture of a run's earlier evaluation.
    (tmp_path / "mistakes.png").write_bytes(b"old")
    history = {"step": [1.0], "loss": [0.1], "active": [0.5]}
    examples = Examples(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.arange(3))
    assert "mistakes.png" not in {
        path.name for path in draw_all(tmp_path, right, history, examples)
    }
    assert not (tmp_path / "mistakes.png").exists()
    monkeypatch.setattr("facenet_ext.commands.image_sections.draw_mistakes", lambda *_: None)
    options = ("--data", world / "faces", "--quality", 0)
    assert command("evaluate", "--checkpoint", world / "old", "--output", "r", *options)[0] == 0
    page = Page(Path("r/report.html"))
    assert "None: every pair was judged rightly" in page.text
    assert len(page.pictures) == 4


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.5, "Hardly better than guessing"),
        (0.7, "Weak"),
        (0.9, "Fair"),
        (0.97, "Good"),
        (1.0, "Very"),
    ],
)
def test_the_verdict_grades_by_accuracy(share: float, words: str) -> None:
    count = 200
    same = torch.arange(2 * count) % 2 == 0
    wrong = torch.arange(2 * count) // 4 % 100 >= round(100 * share)
    distances = torch.where(same != wrong, 0.5, 1.5)
    ends = torch.arange(2 * count)
    pairs = Pairs(ends, ends, same, ends // 2 % 2)
    plain = verified([0.5, 1.5], [True, False], [(0, 1), (0, 2)])
    accuracy = plain.accuracy._replace(mean=share)
    found = Verification(pairs, distances, plain.val_far, accuracy, 0.5, 0.5, accuracy)
    assert found.verdict.startswith(words)
    assert f"judges {share:.1%} of pairs rightly" in found.verdict
    assert f"takes {1 - share:.1%} of pairs of two people for one person" in found.verdict
    assert f"and {1 - share:.1%} of pairs of one person for two." in found.verdict


def test_names_in_the_report_are_no_markup(command: Command, world: Path, lfw: Path) -> None:
    odd = Path("<b>odd & pairs<b>.txt")
    shutil.copy(lfw / "pairs.txt", odd)
    options = ("--data", lfw, "--pairs", odd.resolve(), "--quality", 0, "--output", "report")
    assert command("evaluate", "--checkpoint", world / "old", *options)[0] == 0
    page = Page(Path("report/report.html"))
    assert "&lt;b&gt;odd &amp; pairs" in page.text
    assert page.tags["b"] == 0
