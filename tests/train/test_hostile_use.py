"""What people do to the commands that use a model: odd files, odd places, two commands at once."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_runs import Command, assert_told, keep_evaluation
from PIL import Image
from small_runs import write_faces

from facenet_ext.common import blocks
from facenet_ext.data.images import UnreadableImageError, read_image
from facenet_ext.embedding.loading import checkpoint_path, file_hash
from facenet_ext.embedding.operating_points import find_operating_points
from facenet_ext.recognition import read_embeddings

A = "faces/Person_00/Person_00_0001.png"
B = "faces/Person_01/Person_01_0001.png"


def damage(world: Path, change: Any) -> Path:
    """Copy a run with another checkpoint."""
    shutil.copytree(world / "old", "run", dirs_exist_ok=True)
    path = checkpoint_path("run")
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)
    return path


def test_a_run_is_evaluated_on_whom_it_was_not_trained_on(command: Command, world: Path) -> None:
    shutil.copytree(world / "old", "run")
    arguments = ("--checkpoint", "run", "--quality", 0, "--json")
    status, out, _ = command("evaluate", *arguments)
    assert status == 0
    found, ended = json.loads(out), json.loads(Path("run/metrics.json").read_text())
    assert found["pairs"] == ended["pairs"]
    _, out, _ = command("evaluate", "--data", world / "faces", *arguments)
    assert json.loads(out)["images"] > found["images"], "everyone, where that is asked for"


def test_pictures_of_16_bits_are_scaled_and_other_numbers_refused(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (20, 20), np.uint8)
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray(grey.astype(np.int32) * 257).save(tmp_path / "32.tif")
    Image.fromarray(grey.astype(np.int32) * 99_999).save(tmp_path / "more.tif")
    Image.fromarray(grey.astype(np.float32) / 255).save(tmp_path / "float.tif")
    expected = read_image(tmp_path / "8.png", 20, 3)
    assert torch.equal(read_image(tmp_path / "16.png", 20, 3), expected)
    assert torch.equal(read_image(tmp_path / "32.tif", 20, 3), expected)
    with pytest.raises(UnreadableImageError, match=r"more.tif: its pixels have more than 16 bits"):
        read_image(tmp_path / "more.tif", 20, 3)
    with pytest.raises(UnreadableImageError, match=r"float.tif: its pixels are floating-point"):
        read_image(tmp_path / "float.tif", 20, 3)


@pytest.mark.ci
def test_two_commands_do_not_embed_into_one_folder(command: Command, world: Path) -> None:
    arguments = ("embed", world / "faces", "--checkpoint", world / "old", "--output", "e")
    with blocks._alone(Path("e/.unfinished"), "embedding"):
        program = "import sys; from facenet_ext.cli import main; sys.exit(main(sys.argv[1:]))"
        found = subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert_told(
        (found.returncode, found.stdout, found.stderr), "e: another command is embedding into it"
    )
    assert command(*arguments)[0] == 0
    assert not list(Path("e").glob(".*"))


def test_images_of_one_name_are_not_taken_for_each_other(command: Command, world: Path) -> None:
    for name, source in (("a", A), ("b", B)):
        with Image.open(world / source) as image:
            Path(name).mkdir()
            image.save(f"{name}/p.bmp")
    shutil.copystat("a/p.bmp", "b/p.bmp")
    for name, source in (("a", A), ("b", B)):
        _, out, _ = command(
            *("identify", world / "faces", f"{name}/p.bmp", "--top", 1, "--json"),
            *("--checkpoint", world / "old", "--threshold", 4),
        )
        (probe,) = json.loads(out)["probes"]
        assert f"faces/{probe['same_image']}" == str(source)


def test_a_damaged_cache_is_made_again(command: Command, world: Path, tmp_path: Path) -> None:
    arguments = ("identify", world / "faces", world / A, "--checkpoint", world / "old")
    assert command(*arguments)[0] == 0
    for ids in (tmp_path / "cache").rglob("ids.txt"):
        ids.write_text("")
    assert command(*arguments)[0] == 0


def test_a_name_with_a_carriage_return_spoils_nothing(command: Command, world: Path) -> None:
    faces = write_faces(Path("odd"), {"Ann": 2})
    (faces / "Ann" / "Ann_0002.png").rename(faces / "Ann" / "A\rnn.png")
    assert command("embed", faces, "--checkpoint", world / "old", "--output", "e")[0] == 0
    assert read_embeddings(Path("e")).ids == ["Ann/Ann_0001.png"]
    assert "line break" in Path("e/unreadable.csv").read_text()


@pytest.mark.ci
def test_clusters_spare_what_is_not_theirs(command: Command, world: Path) -> None:
    shutil.copytree(world / "faces", "photos")
    mine = Path("photos/out/sheets/mine.png")
    mine.parent.mkdir(parents=True)
    shutil.copy(world / A, mine)
    arguments = ("cluster", "photos", "--checkpoint", world / "old", "--output", "photos/out")
    counts = []
    for _ in range(2):
        status, out, _ = command(*arguments, "--threshold", 2, "--json")
        assert status == 0
        counts.append(json.loads(out)["images"])
    assert counts == [52, 52], "its own sheets are no faces"
    assert mine.is_file()
    assert list(mine.parent.glob("cluster-*.png"))
    shutil.rmtree("photos/out")
    into_itself = ("cluster", "photos", "--checkpoint", world / "old", "--output", "photos")
    for _ in range(2):
        _, out, _ = command(*into_itself, "--threshold", 2, "--json")
        assert json.loads(out)["images"] == 52
    assert_told(command(*arguments, "--images", "nope"), "--images nope: no such folder")


def test_mining_spares_stored_embeddings(command: Command, world: Path) -> None:
    command("embed", world / "faces", "--checkpoint", world / "old", "--output", "e")
    result = command("mine", world / "old", "--output", "e")
    assert_told(result, "--output e: holds stored embeddings")
    np.save("e.npy", np.eye(4, dtype=np.float32))
    np.save("l.npy", np.arange(4))
    assert command("mine", "e.npy", "--labels", "l.npy", "--suspects", 0)[0] == 1, "no triplets"
    Path("mined/summary.json").unlink()
    parts = Path("mined/triplets.parquet.parts")
    Path("mined/triplets.parquet").unlink()
    parts.mkdir()
    for damaged in ("[]", "{"):
        (parts / "mining.json").write_text(damaged)
        assert_told(command("mine", "e.npy", "--labels", "l.npy"), "mining.json: damaged; remove")


def test_a_harmonised_model_looks_into_the_old_gallery(command: Command, world: Path) -> None:
    command("embed", world / "faces", "--checkpoint", world / "old", "--output", "gallery")
    old = file_hash(checkpoint_path(str(world / "old")))
    damage(world, lambda state: state["facenet_ext"].update(matches=old, another="file"))
    status, out, _ = command("identify", "gallery", world / A, "--checkpoint", "run", "--json")
    assert status == 0
    assert json.loads(out)["far_at_evaluation"] is not None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.update(state_dict=[]), "not a checkpoint that this version reads"),
        (lambda s: s.update(state_dict={"network.w": 3}), "not a checkpoint that this version"),
        (lambda s: s["facenet_ext"].update(shape=(-1, 16, 16)), "not a checkpoint"),
        (lambda s: s["facenet_ext"]["options"].update(members=0), "not a checkpoint"),
        (lambda s: s["facenet_ext"]["options"].update(embedding_dim=-1), "not a checkpoint"),
        (lambda s: [w.fill_(torch.nan) for w in s["state_dict"].values() if w.is_floating_point()],
         "embeds images as NaN or infinity"),
    ],
)  # fmt: skip
def test_a_crafted_checkpoint_is_one_line(
    change: Any, told: str, command: Command, world: Path
) -> None:
    damage(world, change)
    images = (world / A, world / B, "--checkpoint", "run", "--threshold", 1)
    assert_told(command("verify", *images), told)
    assert_told(command("embed", world / "faces", "--checkpoint", "run"), told)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[" * 200_000, "store.json: not that of embeddings"),
        ('"rows": 1e999', "not that of embeddings"),
        ('"rows": 0', "it has no rows"),
        ('"checkpoint": 5', "checkpoint: expected a text, got 5"),
        ('"views": "three"', "views: expected 'all' or 'one'"),
    ],
)
def test_a_hostile_store_is_one_line(
    content: str, told: str, command: Command, world: Path
) -> None:
    command("embed", world / "faces", "--checkpoint", world / "old", "--output", "e")
    text = Path("e/store.json").read_text()
    key = content.split(":")[0]
    lines = [line for line in text.splitlines() if key in line]
    for line in lines:
        text = text.replace(line, "  " + content + ("," if line.endswith(",") else ""))
    Path("e/store.json").write_text(text if lines else content)
    for arguments in (("identify", "e", "e"), ("cluster", "e"), ("mine", "e")):
        more = () if arguments[0] == "mine" else ("--threshold", 1)
        assert_told(command(*arguments, *more), told)


def test_a_damaged_evaluation_tells_no_threshold(command: Command, world: Path) -> None:
    shutil.copytree(world / "old", "run")
    path = Path("run/metrics.json")
    whole = json.loads(path.read_text())
    assert find_operating_points(checkpoint_path("run"))
    curve = whole["curve"]
    for damaged in (
        whole | {"threshold": float("nan")},
        whole | {"threshold": 10**400},
        whole | {"curve": curve | {"far": curve["far"][:-1]}},
        whole | {"curve": curve | {"far": [float("nan")] * len(curve["far"])}},
    ):
        path.write_text(json.dumps(damaged))
        keep_evaluation(checkpoint_path("run"), damaged)
        assert_told(command("verify", world / A, world / B, "--checkpoint", "run"), "no evaluation")
    path.write_text("[" * 100_000)
    assert_told(command("verify", world / A, world / B, "--checkpoint", "run"), "no evaluation")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--threshold", "inf"), "--threshold inf: expected a finite distance"),
        (("--far", 2), "--far 2: expected a rate in (0, 1]"),
    ],
)
def test_a_threshold_is_a_number(
    more: tuple[object, ...], told: str, command: Command, world: Path
) -> None:
    arguments = ("--checkpoint", world / "old", *more, "--json")
    faces = world / "faces"
    for given in (("verify", world / A, world / B), ("identify", faces, faces), ("cluster", faces)):
        assert_told(command(*given, *arguments), told)


def test_pairs_as_a_spreadsheet_writes_them(command: Command, world: Path) -> None:
    """A byte-order mark, quoted names with a comma, an ending in capitals; a field too long."""
    faces = Path("faces, two").resolve()
    shutil.copytree(world / "faces", faces / "a,b")
    rows = [["first", "second", "same", "fold"]]
    for fold in (1, 2):
        for i in (1, 2):
            one = f"a,b/Person_0{fold}/Person_0{fold}_000{i}.png"
            different = f"a,b/Person_0{fold + 2}/Person_0{fold + 2}_0001.png"
            for other, same in ((f"a,b/Person_0{fold}/Person_0{fold}_0003.png", 1), (different, 0)):
                rows.append([one, other, str(same), str(fold)])
    with Path("pairs.CSV").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows(rows)
    arguments = ("evaluate", "--data", faces, "--checkpoint", world / "old", "--output", "report")
    status, out, _ = command(*arguments, "--pairs", "pairs.CSV", "--quality", 0, "--json")
    assert status == 0
    assert json.loads(out)["pairs"] == {"same": 4, "different": 4, "folds": 2}
    for name, told in (("x" * 200_000, "not a .csv file of pairs"), ("x" * 5000, "no image")):
        Path("long.csv").write_text(f"first,second,same\n{name}.png,b.png,1\n")
        assert_told(command(*arguments, "--pairs", "long.csv"), told)


def test_an_empty_name_is_no_folder(command: Command, world: Path) -> None:
    for given in (("embed", ""), ("cluster", ""), ("identify", "", "")):
        assert_told(command(*given, "--checkpoint", world / "old"), "got an empty name")


def test_bench_of_few_dimensions_and_too_many_threads(command: Command) -> None:
    few = ("--rows", 60, "--batch", 50, "--repeats", 1)
    assert command("bench", *few, "--dim", 3)[0] == 0
    assert_told(command("bench", *few, "--threads", 100_000), "--threads 100000: expected at most")


@pytest.mark.parametrize(
    ("at", "command_line"),
    [
        ("recognition.embedding.read_row", "embed {faces} --checkpoint {run}"),
        ("commands.cluster.decode_row", "cluster {faces} --checkpoint {run} --threshold 1"),
        ("commands.evaluate.make_report", "evaluate --checkpoint {run} --quality 0 --output out"),
        ("train.data.load", "mine {run}"),
        ("embedding.loading.torch.load", "verify a.png b.png --checkpoint {run}"),
    ],
)
def test_what_cannot_be_read_is_told_so(
    at: str, command_line: str, command: Command, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error", "disk")

    for name in ("a.png", "b.png"):
        shutil.copy(world / A, name)
    monkeypatch.setattr(f"facenet_ext.{at}", unreadable)
    words = command_line.format(faces=world / "faces/Person_00", run=world / "old").split()
    result = command(*words)
    assert_told(result, "Input/output error")
    assert "cannot be written" not in result[2]
    assert "damaged" not in result[2]
