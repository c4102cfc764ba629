"""Claims about ``facenet evaluate``: its figures, its protocols, its report, what it refuses."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from command_runs import Command, assert_told
from rich.console import Console
from small_runs import write_faces, write_pairs

from facenet_ext.data.images import read_image
from facenet_ext.embedding.loading import checkpoint_path, load_embedder
from facenet_ext.evaluation.protocols import read_protocol
from facenet_ext.evaluation.verification import verify
from facenet_ext.metrics import val_far
from facenet_ext.train.data import load

LFW96 = Path(__file__).parents[3] / "shared" / "data" / "lfw96.tar.gz"


def evaluate(command: Command, world: Path, *more: object) -> Any:
    return command("evaluate", "--checkpoint", world / "old", "--output", "report", *more)


def figures_of(result: tuple[int, str, str]) -> Any:
    status, out, err = result
    assert status == 0
    assert all(line.startswith("warning: ") for line in err.splitlines()), err
    return json.loads(out)


@pytest.fixture
def lfw(tmp_path: Path) -> Path:
    """Ten people with four images each, and pairs over four of them."""
    root = write_faces(tmp_path / "lfw", {f"Person_{i:02d}": 4 for i in range(10)})
    write_pairs(root / "pairs.txt")
    return root


def test_pairs_are_verified_as_in_training(command: Command, world: Path, lfw: Path) -> None:
    figures = figures_of(evaluate(command, world, "--data", lfw, "--json", "--quality", 0))
    module = load_embedder(checkpoint_path(str(world / "old")))
    options = module.options.data.of(str(lfw))
    options = dataclasses.replace(options, pairs=str(lfw / "pairs.txt"))
    data = load(options, Console(quiet=True))
    with torch.no_grad():
        expected = verify(module(data.val.values), data.pairs)
    assert figures["accuracy"]["mean"] == expected.accuracy.mean
    assert figures["auc"] == pytest.approx(expected.auc)
    assert figures["threshold"] == pytest.approx(expected.threshold)
    assert figures["protocol"] == "pairs.txt"
    assert figures["checkpoint"]
    assert json.loads(Path("report/metrics.json").read_text()) == figures


@pytest.mark.ci
@pytest.mark.skipif(not LFW96.is_file(), reason=f"{LFW96.name} is not there")
def test_an_archive_of_real_faces(command: Command, world: Path) -> None:
    """JPEG files in colour, with the pairs file that lies beside them."""
    figures = figures_of(
        evaluate(command, world, "--data", LFW96, "--quality", 0, "--all-pairs", "--json")
    )
    assert (figures["protocol"], figures["images"]) == ("pairs.txt", 1432)
    assert figures["pairs"] == {"same": 540, "different": 540, "folds": 2}
    assert len(figures["accuracy"]["folds"]) == 2
    assert figures["all_pairs"]["pairs"] == 1432 * 1431 // 2
    points = {point["wanted_far"]: point for point in figures["all_pairs"]["points"]}
    assert points[1e-2]["val"] > points[1e-3]["val"] > 1e-3, "even a small network tells a little"


def test_all_pairs_by_default_and_the_place_of_the_report(
    command: Command, world: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(world / "old", run)
    status, out, _ = command("evaluate", "--checkpoint", run, "--data", world / "faces")
    assert status == 0
    assert "balanced accuracy" in out
    found = json.loads((run / "evaluation" / "metrics.json").read_text())
    assert found["protocol"] == "all pairs"
    assert found["items"] == 52
    image = world / "faces/Person_00/Person_00_0001.png"
    _, out, _ = command("verify", image, image, "--checkpoint", run, "--json")
    decided = json.loads(out)
    assert decided["threshold"] == found["threshold"]
    assert decided["evaluation"].endswith("evaluation/metrics.json")
    by_one = ("verify", image, image, "--checkpoint", run, "--views", "one", "--json")
    assert_told(command(*by_one), "measured a threshold; run 'facenet evaluate --views one' on it")
    (run / "checkpoints" / "best.ckpt").write_bytes(
        (world / "new" / "checkpoints" / "best.ckpt").read_bytes()
    )
    _, out, _ = command("verify", image, image, "--checkpoint", run, "--json")
    evaluation = json.loads(out)["evaluation"]
    assert evaluation.endswith("run/checkpoints/best.ckpt"), "that was of another checkpoint"


def test_val_over_all_pairs_is_that_of_listed_ones(command: Command, world: Path) -> None:
    options = ("--data", world / "faces", "--quality", 0, "--all-pairs", "--far", 0.05, "--json")
    figures = figures_of(evaluate(command, world, *options))
    protocol = read_protocol(str(world / "faces"))
    module = load_embedder(checkpoint_path(str(world / "old")))
    data = module.options.data
    images = [
        read_image(p, data.image_size, data.channels)
        for p in map(protocol.images.path, range(len(protocol.images)))
    ]
    with torch.no_grad():
        x = module(torch.stack(images))
    first, second = torch.triu_indices(len(x), len(x), 1)
    names = protocol.images.identities
    same = torch.tensor([names[i] == names[j] for i, j in zip(first, second, strict=True)])
    point = val_far((x[first] - x[second]).square().sum(1), same, 0.05)
    found = next(p for p in figures["all_pairs"]["points"] if p["wanted_far"] == 0.05)
    assert figures["all_pairs"]["pairs"] == 52 * 51 // 2
    assert found["val"] == pytest.approx(point.val, abs=0.02)
    assert found["threshold"] == pytest.approx(point.threshold, abs=1e-3)
    _, out, _ = evaluate(command, world, *options[:-1])
    assert "all 1,326 pairs of 52 images:" in out


def test_own_pairs(command: Command, world: Path, lfw: Path) -> None:
    rows = ["first,second,same"]
    for i in range(6):
        one = f"Person_{i:02d}/Person_{i:02d}_000"
        rows += [f"{one}{k}.png,{one}4.png,1" for k in (1, 2)]
        rows.append(f"{one}1.png,Person_09/Person_09_0001.png, 0")
    Path("pairs.csv").write_text("\n".join(rows) + "\n\n")
    options = ("--data", lfw, "--pairs", "pairs.csv", "--json", "--quality", 0)
    figures = figures_of(evaluate(command, world, *options))
    # Person_09 is in every pair of two people: no two folds of people have one each.
    assert figures["pairs"] == {"same": 12, "different": 6, "folds": 1}
    assert (figures["items"], figures["identities"]) == (6 * 3 + 1, 7)


def write_videos(root: Path) -> Path:
    """Three people with two videos each, their frames numbered as YouTube Faces does."""
    faces = write_faces(root / "faces", {f"P{i}": 8 for i in range(3)})
    videos = root / "videos"
    for i in range(3):
        for number in range(8):
            target = videos / f"P{i}" / str(number // 4) / f"{number // 4}.{number * 7}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(faces / f"P{i}" / f"P{i}_{number + 1:04d}.png", target)
    lines = ["split number, first name, second name, is same, is same"]
    for fold in (1, 2):
        for i in range(3):
            lines.append(f"{fold}, P{i}/0, P{i}/1, 1, 1")
            lines.append(f"{fold}, P{i}/{fold - 1}, P{(i + 1) % 3}/0, 0, 0")
    (root / "splits.txt").write_text("\n".join(lines) + "\n")
    return videos


def test_videos_are_at_the_mean_distance_of_their_frames(
    command: Command, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = write_videos(tmp_path)
    options = ("--data", videos, "--pairs", tmp_path / "splits.txt", "--json", "--quality", 0)
    figures = figures_of(evaluate(command, world, *options))
    assert (figures["items"], figures["images"]) == (6, 24)
    assert figures["pairs"] == {"same": 6, "different": 6, "folds": 2}
    protocol = read_protocol(str(videos), str(tmp_path / "splits.txt"))
    module = load_embedder(checkpoint_path(str(world / "old")))
    data = module.options.data
    images = [
        read_image(p, data.image_size, data.channels)
        for p in map(protocol.images.path, range(len(protocol.images)))
    ]
    with torch.no_grad():
        x = module(torch.stack(images)).double()
    pairs, items = protocol.pairs, protocol.items
    distances = torch.stack(
        [
            torch.cdist(x[items[a]], x[items[b]]).square().mean()
            for a, b in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
        ]
    )
    for wanted in (0.2, 0.5):
        point = val_far(distances, pairs.same, wanted)
        curve = figures["curve"]
        accepted = [
            t for t, f in zip(curve["thresholds"], curve["far"], strict=True) if f <= wanted
        ]
        assert accepted[-1] == pytest.approx(point.threshold, abs=1e-4)
    names = [Path(name).name for name in protocol.images.ids[:4]]
    assert names == ["0.0.png", "0.7.png", "0.14.png", "0.21.png"], "in the order of their numbers"
    monkeypatch.setattr("facenet_ext.data.pairs_file._FRAMES", 2)
    assert len(read_protocol(str(videos), str(tmp_path / "splits.txt")).images) == 12
    assert_told(evaluate(command, world, *options, "--all-pairs"), "--all-pairs: of images")


def test_a_video_without_its_first_frame_is_that_of_the_others(
    command: Command, world: Path, tmp_path: Path
) -> None:
    videos = write_videos(tmp_path)
    (videos / "P0" / "0" / "0.0.png").write_bytes(b"broken")
    options = ("--data", videos, "--pairs", tmp_path / "splits.txt", "--json", "--quality", 99)
    status, out, _ = evaluate(command, world, *options)
    assert status == 0
    assert json.loads(out)["pairs"] == {"same": 6, "different": 6, "folds": 2}


def test_lfw_lies_where_scikit_learn_puts_it(
    command: Command, world: Path, lfw: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "scikit" / "lfw_home"
    home.mkdir(parents=True)
    shutil.copytree(lfw, home / "lfw_funneled")
    shutil.move(home / "lfw_funneled" / "pairs.txt", home / "pairs.txt")
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(home.parent))
    figures = figures_of(evaluate(command, world, "--data", "lfw", "--json", "--quality", 0))
    assert figures["protocol"] == "LFW"
    assert figures["pairs"] == {"same": 4, "different": 4, "folds": 2}
    # Where it is not there, the downloader is asked, and what it says is told.
    shutil.rmtree(home)

    def refuse(**options: object) -> None:
        assert options["subset"] == "10_folds"
        raise OSError("no network here")

    monkeypatch.setattr("sklearn.datasets.fetch_lfw_pairs", refuse)
    assert_told(
        evaluate(command, world, "--data", "lfw"), "cannot be downloaded", "no network here"
    )


def test_pairs_of_unreadable_images_are_left_out(command: Command, world: Path, lfw: Path) -> None:
    (lfw / "Person_06" / "Person_06_0002.png").write_bytes(b"broken")
    status, out, err = evaluate(command, world, "--data", lfw, "--json", "--quality", 0)
    assert status == 0
    assert "left out 1 of" in err
    figures = json.loads(out)
    assert figures["pairs"]["same"] == 3


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--data", "nowhere"], "--data nowhere: no such folder or archive"),
        (["--data", "digits"], "--data digits: has no files of images"),
        (
            ["--data", "{lfw}", "--pairs", "nowhere.txt"],
            "nowhere.txt: the pairs file cannot be read",
        ),
        (["--data", "{lfw}", "--pairs", "bad.csv"], "bad.csv: line 1 must be 'first,second,same'"),
        (["--data", "{lfw}", "--pairs", "two.csv"], "two.csv: line 2: no image"),
        (["--data", "{lfw}", "--pairs", "three.csv"], "three.csv: line 2 must have 3 fields"),
        (["--data", "{lfw}", "--pairs", "empty.csv"], "empty.csv: has 0 pairs of same identities"),
        (["--data", "{lfw}", "--pairs", "one_fold.csv"], "one_fold.csv: all pairs are of one fold"),
        (["--data", "{lfw}", "--pairs", "splits.txt"], "splits.txt: line 2: no frames in"),
        (["--data", "{lfw}", "--pairs", "bad.txt"], "bad.txt: line 2 must be 'fold, video, video"),
        (["--data", "{flat}"], "whose is a.png?"),
        (["--data", "{lfw}", "--far", "2"], "--far 2: expected a rate in (0, 1]"),
        (["--data", "{lfw}", "--quality", "1"], "--quality 1: too few images for pairs"),
        (["--data", "{lfw}", "--output", "file/x"], "cannot be written to"),
        (["--checkpoint", "file"], "file"),
    ],
)
def test_what_it_cannot_do_is_one_line(
    arguments: list[str], told: str, command: Command, world: Path, lfw: Path
) -> None:
    Path("file").write_text("")
    flat = Path("flat")
    flat.mkdir()
    some = "Person_00/Person_00_000{}.png"
    shutil.copy(lfw / some.format(1), flat / "a.png")
    header = "first,second,same\n"
    Path("bad.csv").write_text("a,b\n")
    Path("two.csv").write_text(f"{header}x.png,y.png,1\n")
    Path("three.csv").write_text(f"{header}x.png,y.png\n")
    Path("empty.csv").write_text(header)
    rows = [
        f"{some.format(i)},{some.format(j)},{s},1"
        for i, j, s in ((1, 2, 1), (1, 3, 1), (2, 3, 0), (1, 4, 0))
    ]
    Path("one_fold.csv").write_text("first,second,same,fold\n" + "\n".join(rows) + "\n")
    Path("splits.txt").write_text("split, first, second, same\n1, A/0, B/0, 0\n")
    Path("bad.txt").write_text("split, first, second, same\nfirst, A/0, B/0, 0\n")
    filled = [a.format(lfw=lfw, flat=flat.resolve()) for a in arguments]
    if "--checkpoint" not in filled:
        filled += ["--checkpoint", str(world / "old")]
    if "--quality" not in filled:
        filled += ["--quality", "0"]
    if "--output" not in filled:
        filled += ["--output", "report"]
    assert_told(command("evaluate", *filled), told)
    assert not Path("report", "metrics.json").exists()


def test_a_checkpoint_outside_a_run_needs_an_output(
    command: Command, world: Path, lfw: Path
) -> None:
    shutil.copy(world / "old" / "checkpoints" / "last.ckpt", "alone.ckpt")
    result = command("evaluate", "--checkpoint", "alone.ckpt", "--data", lfw)
    assert_told(result, "--output: alone.ckpt is in no run's folder")
