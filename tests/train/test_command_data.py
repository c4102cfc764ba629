"""Claims about `facenet data`, and about commands that are given image sets in other formats."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command_runs import Command, assert_told
from image_files import write_parquet
from small_runs import Facenet, write_faces

from facenet_ext.data.sets import open_set
from facenet_ext.data.sets.writing import write_set
from facenet_ext.recognition import read_embeddings


@pytest.fixture
def sets(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The faces of the world in each format."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    images = open_set(str(world / "faces"))
    made = {"folder": world / "faces"}
    for form in ("shards", "rec", "parquet"):
        made[form] = tmp_path / form
        write_set(images, made[form], form, part=20)  # type: ignore[arg-type]
    for kind, ending in (("zip", "zip"), ("gztar", "tar.gz")):
        name = shutil.make_archive(str(tmp_path / "faces"), kind, world / "faces")
        made[ending] = Path(name)
    return made


def test_it_describes_a_set(command: Command, world: Path) -> None:
    shutil.copytree(world / "faces", "faces")
    Path("faces/Person_00/Person_00_0001.png").write_bytes(b"no image")
    Path("faces/Person_00/film.mpg").write_bytes(b"no image")
    status, out, err = command("data", "faces")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "faces: folder"
    for told in (
        "  52 images of 16 identities, ",
        "  images of an identity: 1 to 4, median 4, mean 3.2",
        "    1: 4 identities",
        "    2 to 4: 12 identities",
        "  passed over: 1 .mpg",
        "  1 of 52 images tried cannot be read",
        "faces/Person_00/Person_00_0001.png: ",
    ):
        assert told in out
    status, out, _ = command("data", "faces", "--json", "--check", "all")
    (figures,) = json.loads(out)["sets"]
    assert figures["kind"] == "folder"
    assert figures["images_per_identity"]["identities_with"]["2 to 4"] == 12
    assert list(figures["unreadable"]) == ["Person_00/Person_00_0001.png"]
    assert figures["passed_over"] == {".mpg": 1}
    assert figures["bytes"] == sum(path.stat().st_size for path in Path("faces").rglob("*.png"))
    status, out, _ = command("data", "faces", "--json", "--check", "none")
    assert json.loads(out)["sets"][0]["unreadable"] == {}


def test_it_converts_train_and_val(command: Command, world: Path) -> None:
    for name, people in (("train", {"Ann": 2, "Bob": 3}), ("val", {"Cy": 2, "Di": 1})):
        write_faces(Path("faces") / name, people)
    shutil.make_archive("faces", "gztar", ".", "faces")
    status, out, _ = command("data", "faces.tar.gz", "--to", "made", "--format", "rec")
    assert (status, out.splitlines()[-1]) == (0, "written as rec to made")
    for name, images in (("train", 5), ("val", 3)):
        assert len(open_set(f"made/{name}")) == images
    status, out, _ = command("data", "made", "--json")
    assert [one["images"] for one in json.loads(out)["sets"]] == [5, 3]


def test_it_describes_features(command: Command) -> None:
    np.savez("voices.npz", features=np.zeros((4, 3), np.float32), labels=np.array([5, 5, 5, 7]))
    status, out, _ = command("data", "voices.npz", "--json")
    (figures,) = json.loads(out)["sets"]
    assert (status, figures["kind"], figures["rows"], figures["shape"]) == (0, "features", 4, [3])
    assert command("data", "voices.npz")[1].startswith("voices.npz: features\n  4 rows of features")
    assert_told(command("data", "voices.npz", "--to", "x"), "holds features")


def test_what_is_no_set(command: Command, world: Path) -> None:
    assert_told(command("data", "nowhere"), "DATA nowhere: no such folder or archive")
    assert_told(command("data", "digits"), "DATA digits: are no files")
    Path("a.csv").write_text("")
    assert_told(command("data", "a.csv"), "a.csv: not a folder nor an archive", ".parquet")
    Path("full").mkdir()
    Path("full/file").write_text("")
    told = "--to full: holds other files"
    assert_told(command("data", world / "faces", "--to", "full"), told)


def test_a_run_ends_with_the_same_weights_from_any_format(
    facenet: Facenet, command: Command, sets: dict[str, Path]
) -> None:
    weights = {}
    for form, data in sets.items():
        status, _, err = facenet("--data", data, "--held-out", 0.4, "--output", f"runs/{form}")
        assert (status, err) == (0, ""), form
        state = torch.load(f"runs/{form}/checkpoints/last.ckpt", weights_only=True)
        weights[form] = state["state_dict"]
        assert Path(f"runs/{form}/held_out.txt").read_text().startswith("Person_")
    for form, state in weights.items():
        for name, expected in weights["folder"].items():
            assert torch.equal(state[name], expected), (form, name)
    for data in (sets["rec"], "shards/*.tar"):
        options = ("--data", data, "--checkpoint", f"runs/{sets['rec'].name}", "--quality", 0)
        _, _, err = command("evaluate", *options)
        assert ("the model was trained on 10 of these 16 people" in err) == (data == sets["rec"])


def test_embed_and_cluster_take_any_format(
    command: Command, sets: dict[str, Path], world: Path
) -> None:
    """The embeddings are those of the folder, and contact sheets show the images."""
    model = ("--checkpoint", world / "old")
    for form, data in sets.items():
        status, _, err = command("embed", data, *model, "--output", f"embedded/{form}")
        assert (status, err) == (0, ""), form
        stored = read_embeddings(Path(f"embedded/{form}"))
        expected = read_embeddings(Path("embedded/folder"))
        assert np.array_equal(stored.embeddings, expected.embeddings), form
        assert stored.identities == expected.identities
        options = ("--threshold", 0.5, "--output", "clusters", "--sheets", 1, "--sheet-images", 2)
        _, out, _ = command("cluster", data, *model, *options, "--json")
        assert json.loads(out)["sheets"] == 1, form
        with open("clusters/clusters.csv", newline="") as file:
            assert len([*csv.reader(file)]) == len(expected) + 1
    _, out, _ = command("cluster", "embedded/rec", "--images", sets["rec"], *model, *options)
    assert "and 1 contact sheet are in clusters" in out


def test_evaluate_and_identify_take_any_format(
    command: Command, sets: dict[str, Path], world: Path
) -> None:
    model = ("--checkpoint", world / "old")
    judged = []
    for form in ("folder", "rec"):
        options = ("--data", sets[form], "--quality", 20, "--output", "report")
        _, out, err = command("evaluate", *options, *model, "--json")
        assert out, err
        figures = json.loads(out)
        judged.append([figures[name] for name in ("accuracy", "auc", "eer", "images", "quality")])
        assert judged[-1] == judged[0], form
    _, out, _ = command("identify", sets["rec"], sets["folder"], *model, "--far", 0.5, "--json")
    found = json.loads(out)["probes"]
    assert len(found) == judged[0][3]
    assert all(probe["same_image"] for probe in found)


def test_an_image_of_a_set_that_cannot_be_read_is_listed(command: Command, world: Path) -> None:
    images = open_set(str(world / "faces"))
    contents = [images.read(row) for row in range(12)]
    contents[7] = b"no image"
    write_parquet(Path("faces.parquet"), contents, [row // 4 for row in range(12)])
    status, out, _ = command("embed", "faces.parquet", "--checkpoint", world / "old")
    assert (status, out.splitlines()[-1]) == (
        0,
        "1 image cannot be read: embeddings/unreadable.csv",
    )
    assert Path("embeddings/unreadable.csv").read_text().startswith("image,reason\nP01/0007.jpg,")


def test_pairs_of_a_set_are_named_by_its_names(command: Command, sets: dict[str, Path]) -> None:
    """In archives, by the paths that a folder of them would have."""
    rows = [("first", "second", "same")]
    for person in range(4):
        name, other = (f"Person_{at:02d}/Person_{at:02d}" for at in (person, person + 4))
        rows += [(f"{name}_0001.png", f"{name}_0002.png", "1")]
        rows += [(f"{name}_0003.png", f"{other}_0001.png", "0")]
    with open("pairs.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    model = ("--checkpoint", sets["folder"].parent / "old", "--quality", 0, "--json")
    results = []
    for form in ("folder", "zip"):
        options = ("--data", sets[form], "--pairs", "pairs.csv", "--output", form)
        status, out, _ = command("evaluate", *options, *model)
        assert status == 0
        results.append(json.loads(out)["auc"])
    assert results[0] == results[1]
    options = ("--data", sets["rec"], "--pairs", "pairs.csv", "--output", "x")
    assert_told(command("evaluate", *options, *model), "pairs.csv: line 2: no image", "train.rec")


def test_a_bin_has_its_pairs(command: Command, world: Path) -> None:
    images = open_set(str(world / "faces"))
    pairs, same = [], []
    for person in range(0, 44, 4):
        pairs += [images.read(person), images.read(person + 1)]
        pairs += [images.read(person + 2), images.read(person + 4)]
        same += [True, False]
    Path("faces.bin").write_bytes(pickle.dumps((pairs, same), 2))
    model = ("--checkpoint", world / "old", "--output", "report")
    status, out, err = command("evaluate", "--data", "faces.bin", *model, "--json")
    assert status == 0, err
    figures = json.loads(out)
    assert (figures["protocol"], figures["items"], figures["images"]) == ("faces.bin", 44, 44)
    assert figures["pairs"] == {"same": 11, "different": 11, "folds": 10}
    assert Path("report/report.html").is_file()
    told = "--pairs x.csv: faces.bin has its own pairs"
    assert_told(command("evaluate", "--data", "faces.bin", "--pairs", "x.csv", *model), told)
