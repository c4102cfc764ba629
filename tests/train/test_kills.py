"""A few kills of each command that can go on; ``kills.py`` does 50."""

from __future__ import annotations

from pathlib import Path

import kills
import pytest

pytestmark = pytest.mark.ci  # a dozen processes, each of which loads torch


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path, Path]:
    return kills.prepare(tmp_path_factory.mktemp("kills"))


@pytest.mark.parametrize("name", ["train", "align", "embed", "mine"])
def test_what_was_killed_goes_on_to_the_same_result(
    name: str, prepared: tuple[Path, Path, Path, Path], tmp_path: Path
) -> None:
    faces, run, rows, labels = prepared
    command, result = {
        "train": (kills.train_command(faces), kills.trained),
        "align": (kills.align_command(faces), kills.aligned),
        "embed": (kills.embed_command(faces, run), kills.embedded),
        "mine": (kills.mine_command(rows, labels), kills.mined),
    }[name]
    assert kills.survive(command, result, tmp_path, kills=1 if name == "align" else 2, seed=1)
