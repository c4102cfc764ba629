"""Claims about ``facenet identify`` and ``facenet cluster``."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_runs import Command, assert_told
from PIL import Image

from facenet_ext.commands.identification_report import _thresholds
from facenet_ext.embedding.loading import checkpoint_path
from facenet_ext.embedding.operating_points import find_operating_points
from facenet_ext.recognition import ModelName, StoredEmbeddings, write_embeddings

MODEL = ModelName("small", "0" * 64)


def store(name: str, rows: list[list[float]], identities: list[str], model: Any = MODEL) -> Path:
    ids = [f"{who or 'x'}/{number}.png" for number, who in enumerate(identities)]
    stored = StoredEmbeddings(np.array(rows, np.float32), ids, identities, model)
    write_embeddings(Path(name), stored)
    return Path(name)


@pytest.fixture
def gallery(command: Command) -> Path:
    rows = [[1.0, 0], [0.9, 0.1], [0, 1.0], [-1.0, 0]]
    return store("gallery", rows, ["Ann", "Ann", "Bob", "Cem"])


def test_the_closest_identity_within_the_threshold(command: Command, gallery: Path) -> None:
    store("probe", [[0.9, 0.2], [0, 0.9], [0.1, -2]], ["Ann", "Bob", "Dan"])
    arguments = ("identify", gallery, "probe", "--threshold", 0.5)
    status, out, err = command(*arguments, "--json", "--top", 2)
    assert (status, err) == (0, "")
    figures = json.loads(out)
    assert [probe["identity"] for probe in figures["probes"]] == ["Ann", "Bob", None]
    assert [closest["identity"] for closest in figures["probes"][1]["closest"]] == ["Bob", "Ann"]
    assert figures["probes"][0]["closest"][0]["distance"] == pytest.approx(0.01, abs=1e-5)
    assert figures["rates"] == {
        "known_probes": 2,
        "unknown_probes": 1,
        "rank_1": 1.0,
        "cmc": [1.0, 1.0],
        "open_set": {"threshold": 0.5, "identified": 1.0, "false_alarms": 0.0},
    }
    _, out, _ = command(*arguments)
    assert "unknown" in out
    assert "0 (0.0%) get none, 2 (100.0%) are recognised\n" in out
    assert "rank 1: 100.0%" in out
    assert "whose identity is not in the gallery, 0 (0.0%) are taken for someone\n" in out


MIXED = (  # one of each outcome, the worst first
    [[-0.9, 0], [0.1, 1.1], [5, 5], [0.9, 0.2], [0.1, -2]],
    ["Eve", "Ann", "Bob", "Ann", "Dan"],
    ["stranger named", "wrong name", "not recognised", "recognised", "rightly unknown"],
)


def test_recognised_is_who_is_known_to_be_right(command: Command, gallery: Path) -> None:
    rows, identities, outcomes = MIXED
    store("probe", rows, identities)
    arguments = ("identify", gallery, "probe", "--threshold", 0.5, "--output", "found")
    status, out, _ = command(*arguments)
    assert status == 0
    lines = out.splitlines()
    for name, outcome in zip(identities, outcomes, strict=True):
        assert any(f" {name}/" in line and f" {outcome} " in line for line in lines)
    strangers, known = (at for at, line in enumerate(lines) if line.startswith("of "))
    assert strangers < known, "the worst is told first"
    assert lines[strangers] == (
        "of 2 probes whose identity is not in the gallery, 1 (50.0%) are taken for someone"
    )
    assert lines[known] == (
        "of 3 probes whose identity is in the gallery, 1 (33.3%) get a wrong name, 1 (33.3%) get "
        "none, 1 (33.3%) are recognised"
    )
    assert lines[-1] == "identified.csv and identification.png are in found"
    figures = json.loads(command(*arguments, "--json")[1])
    assert [probe["outcome"] for probe in figures["probes"]] == outcomes
    assert figures["outcomes"] == dict.fromkeys(outcomes, 1)
    assert [probe["identity"] for probe in figures["probes"]] == ["Cem", "Bob", None, "Ann", None]
    written = csv.DictReader(Path("found/identified.csv").read_text().splitlines())
    assert [row["outcome"] for row in written if row["rank"] == "1"] == outcomes


def test_without_the_truth_nobody_is_recognised(command: Command, gallery: Path) -> None:
    store("probe", [[0.9, 0.2], [0, 0.9], [9, 9]], ["", "", ""])
    arguments = ("identify", gallery, "probe", "--threshold", 0.5, "--output", "found")
    _, out, _ = command(*arguments)
    assert "recognised" not in out
    assert "2 of 3 probes get a name (threshold 0.500); whether it is the right one is not" in out
    assert out.endswith("identified.csv is in found\n")
    figures = json.loads(command(*arguments, "--json")[1])
    assert figures["outcomes"] is None
    assert {probe["outcome"] for probe in figures["probes"]} == {None}
    assert ",1,,Ann/1.png" in Path("found/identified.csv").read_text()


def test_an_image_of_the_gallery_does_not_find_itself(command: Command, gallery: Path) -> None:
    arguments = ("identify", gallery, gallery, "--threshold", 0.5)
    _, out, _ = command(*arguments)
    assert out.count("4 of 4 probes are in the gallery themselves") == 1
    figures = json.loads(command(*arguments, "--json")[1])
    assert figures["probes_in_gallery"] == 4
    assert [probe["same_image"] for probe in figures["probes"]] == [
        "Ann/0.png", "Ann/1.png", "Bob/2.png", "Cem/3.png",
    ]  # fmt: skip
    assert [probe["closest"][0]["distance"] for probe in figures["probes"]] == pytest.approx(
        [0.02, 0.02, 1.62, 2.0], abs=1e-5
    )
    assert figures["rates"]["known_probes"] == 2, "of Bob and of Cem there is no other image"
    assert figures["outcomes"]["rightly unknown"] == 2


def test_some_probes_that_are_in_the_gallery(command: Command, gallery: Path) -> None:
    rows = [[1, 0], [0.9, 0.2], [1 - 1e-5, 1e-5]]  # the last as rounding may have it
    store("probe", rows, ["Ann", "Ann", "Bob"])
    arguments = ("identify", gallery, "probe", "--threshold", 0.5, "--output", "found")
    assert "2 of 3 probes are in the gallery themselves" in command(*arguments)[1]
    figures = json.loads(command(*arguments, "--json")[1])
    same = [probe["same_image"] for probe in figures["probes"]]
    assert same == ["Ann/0.png", None, "Ann/0.png"]
    assert figures["rates"]["known_probes"] == 3, "Bob's only image is another one"
    written = csv.DictReader(Path("found/identified.csv").read_text().splitlines())
    assert next(written)["same_image"] == "Ann/0.png"


def test_a_gallery_of_one_image_leaves_nobody(command: Command) -> None:
    store("one", [[1.0, 0]], ["Ann"])
    arguments = ("identify", "one", "one", "--threshold", 0.5, "--output", "found")
    status, out, _ = command(*arguments)
    assert status == 1
    assert "rightly unknown" in out
    assert json.loads(command(*arguments, "--json")[1])["probes"][0]["closest"] == []
    last = Path("found/identified.csv").read_text().splitlines()[-1]
    assert last == "Ann/0.png,,,,0,rightly unknown,,Ann/0.png"


def test_long_names_keep_to_one_line(
    command: Command, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "Maria_del_Carmen_Rodriguez_y_Hernandez_de_la_Vega"
    store("probe", [[0.9, 0.2]] * 25, [name] * 25)
    arguments = ("identify", gallery, "probe", "--threshold", 0.5)
    out = command(*arguments)[1]
    assert sum(f" {name}/{row}.png " in out for row in range(25)) == 20, "a file has room"
    assert "and 5 more; --output writes all of them\n" in out
    monkeypatch.setenv("COLUMNS", "80")
    out = command(*arguments, "--output", "found")[1]
    assert "and 5 more; all of them are in found\n" in out
    table = [line for line in out.splitlines() if line.startswith("│")]
    assert len(table) == 20
    assert all(len(line) <= 80 and f"/{row}.png" in line for row, line in enumerate(table))


def test_thresholds_of_more_probes_than_a_quantile_takes() -> None:
    distances = torch.arange(2**24 + 1, dtype=torch.float32)
    distances[-1] = torch.inf  # of a probe that nobody is left for
    with pytest.raises(RuntimeError, match="too large"):
        torch.quantile(distances, 0.5)
    found = _thresholds(distances)
    assert len(found) == 200
    assert (found[0], found[-1]) == (0, 2**24 - 1)
    assert _thresholds(torch.tensor([torch.inf])).tolist() == []
    assert _thresholds(torch.tensor([3.0, 1.0, 3.0])).tolist() == [1.0, 3.0]


def test_nobody_recognised_is_status_1(command: Command, gallery: Path) -> None:
    store("probe", [[9.0, 9.0]], [""])
    status, out, _ = command("identify", gallery, "probe", "--threshold", 0.5, "--json")
    assert status == 1
    figures = json.loads(out)
    assert "rates" not in figures
    assert figures["probes"][0]["identity"] is None


def test_answers_and_curves_are_written(command: Command, gallery: Path) -> None:
    store("probe", [[0.9, 0.2], [0, 0.9], [0.1, -2]], ["Ann", "Bob", "Dan"])
    command("identify", gallery, "probe", "--threshold", 0.5, "--output", "found")
    rows = list(csv.DictReader(Path("found/identified.csv").read_text().splitlines()))
    assert len(rows) == 9  # three identities each
    assert rows[0] == {
        "probe": "Ann/0.png", "rank": "1", "identity": "Ann", "distance": "0.010000",
        "named": "1", "outcome": "recognised", "image": "Ann/1.png", "same_image": "",
    }  # fmt: skip
    assert [row["named"] for row in rows] == ["1", "0", "0", "1", "0", "0", "0", "0", "0"]
    with Image.open("found/identification.png") as picture:
        assert picture.size[0] > 1000


@pytest.mark.parametrize(("name", "width"), [("Ann", 700), ("Dan", 700)])
def test_one_kind_of_probes_alone_is_drawn(
    name: str, width: int, command: Command, gallery: Path
) -> None:
    store("probe", [[0.9, 0.2], [0, 0.9]], [name, name])
    command("identify", gallery, "probe", "--threshold", 0.5, "--output", "found")
    with Image.open("found/identification.png") as picture:
        assert width < picture.size[0] < 1000


def test_folders_are_embedded_once(command: Command, world: Path, tmp_path: Path) -> None:
    probes = tmp_path / "probes"
    for person in ("Person_00", "Person_05"):
        shutil.copytree(world / "faces" / person, probes / person)
    arguments = ("identify", world / "faces", probes, "--checkpoint", world / "old", "--json")
    status, out, _ = command(*arguments)
    assert status == 0
    figures = json.loads(out)
    assert figures["probes_in_gallery"] == 8, "copies of its images"
    assert all(probe["same_image"] == probe["id"] for probe in figures["probes"])
    assert all(probe["closest"][0]["distance"] > 1e-6 for probe in figures["probes"])
    points = find_operating_points(checkpoint_path(str(world / "old")))
    assert figures["threshold"] == points.threshold
    stores = list((tmp_path / "cache").rglob("store.json"))
    assert len(stores) == 2
    times = [path.stat().st_mtime_ns for path in stores]
    command(*arguments)
    assert [path.stat().st_mtime_ns for path in stores] == times


def test_two_models_are_not_mixed(command: Command, world: Path, gallery: Path) -> None:
    store("probe", [[1.0, 0]], ["Ann"], ModelName("nn4", "1" * 64))
    told = (
        "GALLERY was embedded with small (000000000000, all views), PROBE with nn4 (111111111111",
        "facenet harmonize",
    )
    assert_told(command("identify", gallery, "probe", "--threshold", 1), *told)
    result = command("identify", gallery, world / "faces", "--checkpoint", world / "old")
    assert_told(result, "GALLERY was embedded with", "facenet harmonize")


def test_two_kinds_of_views_are_not_mixed(command: Command, gallery: Path) -> None:
    store("probe", [[1.0, 0]], ["Ann"], ModelName("small", "0" * 64, "one"))
    result = command("identify", gallery, "probe", "--threshold", 1)
    assert_told(result, "all views), PROBE with small (000000000000, one view)")


def test_the_threshold_must_be_of_the_same_model(
    command: Command, world: Path, gallery: Path
) -> None:
    result = command("identify", gallery, gallery, "--checkpoint", world / "old")
    assert_told(result, "is not what embedded these, small (000000000000, all views)")
    assert_told(command("identify", gallery, gallery), "--checkpoint: no run in runs/")


def test_stored_rows_that_are_no_numbers_are_one_line(command: Command, gallery: Path) -> None:
    store("broken", [[float("nan"), 0.0]] * 4, ["Ann", "Ann", "Bob", "Cem"])
    store("wide", [[1.0, 0.0, 0.0]], ["Ann"])
    assert_told(command("identify", "broken", gallery, "--threshold", 1), "broken", "NaN")
    assert_told(command("identify", gallery, "wide", "--threshold", 1), "expected 2 columns")
    assert_told(command("cluster", "broken", "--threshold", 1), "broken: ", "NaN")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["gallery", "nowhere", "--threshold", "1"], "nowhere: no such folder or image"),
        (
            ["gallery", "gallery", "--threshold", "1", "--top", "101"],
            "--top 101: expected 1 to 100",
        ),
        (["nameless", "gallery", "--threshold", "1"], "nameless: whose is x/0.png?"),
        (["gallery", "gallery", "--threshold", "1", "--output", "file/x"], "cannot be written to"),
        (["gallery"], "probe"),
    ],
)
def test_what_identify_cannot_do_is_one_line(
    arguments: list[str], told: str, command: Command, gallery: Path
) -> None:
    store("nameless", [[1.0, 0]], [""])
    Path("file").write_text("")
    assert_told(command("identify", *arguments), told)


def test_clusters_of_stored_embeddings(command: Command, gallery: Path) -> None:
    status, out, err = command("cluster", gallery, "--threshold", 0.5, "--json")
    assert (status, err) == (0, "")
    figures = json.loads(out)
    assert (figures["images"], figures["clusters"], figures["of_two_or_more"]) == (4, 3, 1)
    assert figures["scores"]["pair_f"] == figures["scores"]["bcubed_f"] == 1.0
    rows = list(csv.DictReader(Path("clusters/clusters.csv").read_text().splitlines()))
    assert [(row["cluster"], row["identity"]) for row in rows] == [
        ("0", "Ann"), ("0", "Ann"), ("1", "Bob"), ("2", "Cem"),
    ]  # fmt: skip
    assert json.loads(Path("clusters/summary.json").read_text())["clusters"] == 3
    assert not Path("clusters/sheets").exists(), "there are no images to show"
    assert command("cluster", gallery, "--threshold", 1e-6)[0] == 1, "no two belong together"


def test_clusters_of_images_are_shown(command: Command, world: Path) -> None:
    arguments = ("cluster", world / "faces", "--checkpoint", world / "old", "--output", "people")
    status, out, _ = command(*arguments, "--threshold", 0.3)
    assert status == 0
    assert "52 images in" in out
    assert "BCubed" in out
    sheets = sorted(Path("people/sheets").iterdir())
    summary = json.loads(Path("people/summary.json").read_text())
    assert len(sheets) == summary["of_two_or_more"]
    with Image.open(sheets[0]) as sheet:
        assert min(sheet.size) > 100
    command(*arguments, "--threshold", 0.3, "--sheets", 1, "--linkage", "single")
    assert len(list(Path("people/sheets").iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere", "--threshold", "1"], "nowhere: no such folder or image"),
        (["gallery", "--threshold", "1", "--output", "file/x"], "cannot be written to"),
        (["gallery", "--linkage", "ward"], "linkage"),
        (["gallery", "--sheets", "-1"], "sheets"),
        (["gallery"], "--checkpoint: no run in runs/"),
    ],
)
def test_what_cluster_cannot_do_is_one_line(
    arguments: list[str], told: str, command: Command, gallery: Path
) -> None:
    Path("file").write_text("")
    assert_told(command("cluster", *arguments), told)
