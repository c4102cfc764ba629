"""Claims about warnings: told of what a model cannot judge, and of nothing that it can."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_runs import Command
from PIL import Image
from rich.console import Console
from small_runs import TINY, write_faces

import facenet_ext.train.run
from facenet_ext.cli.train import main
from facenet_ext.common.errors import in_flags
from facenet_ext.data.image_list import ImageList
from facenet_ext.embedding.loading import load_embedder
from facenet_ext.embedding.operating_points import OperatingPoints
from facenet_ext.embedding.options import DataOptions
from facenet_ext.embedding.provenance import ImageKind, Look, Training, look_at, spread_out
from facenet_ext.embedding.suitability import (
    warn_of_images,
    warn_of_threshold,
    warn_of_training,
)
from facenet_ext.train.data import load

KIND = ("unlike", "outside the range", "barely trained")


@pytest.fixture(autouse=True)
def _no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawing, which takes longer than everything else."""
    monkeypatch.setattr("facenet_ext.commands.evaluate.make_report", lambda *_: "")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole photos in colour: of two people, three each."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for name in ("A", "B"):
        (root / name).mkdir()
        for number in range(3):
            pixels = random.integers(0, 256, (7, 5, 3)).astype(np.uint8)
            photo = Image.fromarray(pixels).resize((500, 700), Image.Resampling.BICUBIC)
            photo.save(root / name / f"{number}.jpg")
    return root


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on scikit-learn's digits, run/, and some that it was verified on, as files, files/."""
    root = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facenet_ext.train.run, "draw_all", lambda *_: [])
        assert main([*TINY, "--max-steps", "8", "--output", str(root / "run")]) == 0
    val = load(DataOptions(), Console(quiet=True)).val
    for row in spread_out(len(val), 60):
        image, label = val[row]
        (root / "files" / f"digit_{label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(root / "files" / f"digit_{label}" / f"{row}.png")
    return root


def commands(data: Path, run: Path) -> list[list[object]]:
    """Return a command line of each command that judges, on a folder of people."""
    one, other = [path for path in sorted(data.glob("*/*")) if path.is_file()][:2]
    return [
        ["verify", one, other, "--checkpoint", run],
        ["identify", data, data, "--checkpoint", run],
        ["cluster", data, "--checkpoint", run, "--output", "clusters", "--sheets", 0],
        ["embed", data, "--checkpoint", run, "--output", "embeddings"],
        ["evaluate", "--data", data, "--checkpoint", run, "--output", "report", "--quality", 0],
    ]


def warned(command: Command, *arguments: object) -> list[str]:
    """Return the warnings of a command, which are the same in words and as JSON."""
    status, out, err = command(*arguments, "--json")
    assert status in (0, 1), err
    texts: list[str] = json.loads(out)["warnings"]
    told = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert told == [f"warning: {text}" for text in texts], "each is told once, in one line"
    return texts


def of_kind(texts: list[str]) -> list[str]:
    return [text for text in texts if any(words in text for words in KIND)]


def test_the_trainings_own_images_are_judged_without_a_word(
    command: Command, world: Path, digits: Path
) -> None:
    for data, run in ((world / "faces", world / "old"), (digits / "files", digits / "run")):
        for arguments in commands(data, run):
            assert of_kind(warned(command, *arguments)) == [], arguments
        shutil.rmtree("embeddings")


def test_every_command_warns_of_whole_photos(command: Command, world: Path, photos: Path) -> None:
    for arguments in commands(photos, world / "old"):
        if arguments[0] == "evaluate":  # wants ten pairs of each kind
            shutil.copytree(photos, "more")
            for number in range(3):
                shutil.copytree(photos / "A", f"more/C{number}")
            arguments[2] = Path("more")
        texts = of_kind(warned(command, *arguments))
        assert "500 x 700 pixels, in colour" in texts[0], arguments
        assert "trained on (20 x 20 pixels, grey)" in texts[0]
        assert "cut faces out" in texts[0]


def test_a_model_of_digits_says_that_it_knows_no_faces(
    command: Command, digits: Path, tmp_path: Path
) -> None:
    faces = write_faces(tmp_path / "faces", {"A": 3, "B": 3, "C": 3, "D": 3}, size=96)
    for arguments in commands(faces, digits / "run"):
        texts = of_kind(warned(command, *arguments))
        assert "96 x 96 pixels, grey" in texts[0], arguments
        assert "knows handwritten digits and no faces" in texts[0]


def test_images_of_the_right_size_that_the_network_has_not_learned(
    command: Command, digits: Path, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "noise").mkdir()
    for number in range(12):
        pixels = random.integers(0, 256, (8, 8)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "noise" / f"{number}.png")
    run = ("--checkpoint", digits / "run", "--output", "embeddings")
    (text,) = of_kind(warned(command, "embed", tmp_path / "noise", *run))
    assert "of 12 images looked at" in text
    assert "outside the range of what the network has learned" in text


def listed(*paths: Path) -> ImageList:
    root = Path(paths[0].anchor)
    return ImageList(root, [str(path.relative_to(root)) for path in paths], [""] * len(paths))


def test_one_odd_image_among_many_is_no_reason(digits: Path, photos: Path) -> None:
    embedder = load_embedder(digits / "run" / "checkpoints" / "best.ckpt")
    paths = sorted((digits / "files").glob("*/*"))
    assert warn_of_images(embedder, listed(*paths[:20], photos / "A" / "0.jpg")) == []
    assert len(warn_of_images(embedder, listed(photos / "A" / "0.jpg"))) == 2
    assert warn_of_images(embedder, listed(photos / "no.jpg")) == []


@pytest.mark.parametrize(
    ("look", "fits"),
    [
        (Look(96, 96, False), True),
        (Look(160, 160, False), True),
        (Look(48, 50, False), True),
        (Look(200, 200, False), False),
        (Look(40, 40, False), False),
        (Look(96, 130, False), False),
        (Look(96, 96, True), False),
    ],
)
def test_an_image_fits_by_its_size_its_shape_and_its_colour(look: Look, fits: bool) -> None:
    assert ImageKind.of([Look(96, 96, False)] * 9).fits(look) == fits


def test_training_on_images_of_many_kinds_warns_of_few() -> None:
    kind = ImageKind.of([Look(100, 200, True), Look(300, 200, False)] * 5)
    assert str(kind) == "100 to 300 x 200 pixels"
    assert kind.fits(Look(150, 150, True))
    assert kind.fits(Look(150, 250, False))


def test_a_look_is_at_the_picture_as_a_viewer_shows_it(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a right angle
    Image.new("RGB", (40, 20), (90, 90, 90)).save(tmp_path / "turned.jpg", exif=exif)
    assert look_at((tmp_path / "turned.jpg").read_bytes()) == Look(20, 40, False)
    Image.new("RGB", (40, 20), (90, 40, 90)).save(tmp_path / "colour.png")
    assert look_at((tmp_path / "colour.png").read_bytes()) == Look(40, 20, True)
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert look_at((tmp_path / "broken.png").read_bytes()) is None


def test_a_loose_threshold_and_a_guessing_model() -> None:
    points = OperatingPoints(1.0, [0.5, 1.0, 2.0], [0.2, 0.6, 1.0], [0.05, 0.06, 1.0], Path(), 0.6)
    assert warn_of_threshold(points, 0.5) == []
    (loose,) = warn_of_threshold(points, 1.0)
    assert "took 6.0% of pairs of two people" in loose
    assert "--far 0.05 is stricter" in in_flags(loose)
    (guessing,) = warn_of_threshold(points._replace(accuracy=0.599), 0.5)
    assert "hardly better than guessing: at evaluation 59.9%" in guessing
    assert warn_of_threshold(points._replace(accuracy=None), 0.5) == []


def test_a_run_that_was_stopped_early_is_barely_trained(
    command: Command, world: Path, tmp_path: Path
) -> None:
    run = changed(world / "old", tmp_path / "run", lambda kept: kept["training"].update(planned=9))
    embedder = load_embedder(run / "checkpoints" / "best.ckpt")
    steps = embedder.provenance.steps
    (text,) = of_kind(warned(command, *commands(world / "faces", run)[0]))
    assert text == f"the model is barely trained: it made {steps} of 9 planned steps"
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(metrics | {"steps": 5}))
    assert of_kind(warned(command, *commands(world / "faces", run)[0])) == [], "its run went on"
    assert warn_of_training(Training("faces", steps=5, planned=10)) == []
    assert warn_of_training(Training("faces")) == []


def changed(run: Path, copy: Path, change: Any) -> Path:
    """Return a copy of a run whose checkpoint tells something else."""
    shutil.copytree(run, copy)
    path = copy / "checkpoints" / "best.ckpt"
    state = torch.load(path, weights_only=True)
    change(state["facenet_ext"])
    torch.save(state, path)
    return copy


def test_older_checkpoints_tell_what_they_can(
    world: Path, digits: Path, photos: Path, tmp_path: Path
) -> None:
    odd = listed(photos / "A" / "0.jpg")
    for run, count in ((world / "old", 0), (digits / "run", 1)):
        old = changed(run, tmp_path / run.parent.name, lambda kept: kept.pop("training"))
        embedder = load_embedder(old / "checkpoints" / "best.ckpt")
        assert len(warn_of_images(embedder, odd)) == count
    newer = changed(world / "old", tmp_path / "newer", lambda kept: kept["training"].update(x=1))
    assert warn_of_images(load_embedder(newer / "checkpoints" / "best.ckpt"), odd) == []


def test_the_range_of_other_weights_is_none(world: Path, photos: Path, tmp_path: Path) -> None:
    run = changed(world / "old", tmp_path / "run", lambda kept: kept["training"].update(measured=1))
    found = load_embedder(run / "checkpoints" / "best.ckpt").provenance
    assert found.features is None
    assert found.kind is not None
    assert found.images is not None
    assert found.images > found.identities == 10
