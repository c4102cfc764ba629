"""Claims about ``facenet mine``: what it finds, what it leaves behind, and what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command_runs import Command, assert_told
from PIL import Image

import facenet_ext.commands.mine
from facenet_ext.commands.suspects_report import draw_contact_sheet
from facenet_ext.data.examples import Examples
from facenet_ext.mining import Suspect, read_triplets


def save(count: int = 200, classes: int = 25) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, count)
    centres = generator.standard_normal((classes, 16))
    embeddings = (centres[labels] + 0.3 * generator.standard_normal((count, 16))).astype(np.float32)
    embeddings[10] = embeddings[11]
    labels[10], labels[11] = 0, 1
    np.save("e.npy", embeddings)
    np.save("l.npy", labels)
    return embeddings, labels


PLACED = "images: 468 KiB decoded, in memory\n"


def test_a_run_is_embedded_searched_and_looked_through(command: Command, world: Path) -> None:
    status, out, err = command("mine", world / "old", "--output", "mined")
    assert (status, err) == (0, PLACED)
    assert "triplets of" in out
    labels = np.load("mined/labels.npy")
    names = Path("mined/names.txt").read_text().splitlines()
    found = read_triplets(Path("mined/triplets.parquet"))
    assert len(np.load("mined/embeddings.npy")) == len(labels) == len(names)
    assert (labels[found.anchor] == labels[found.positive]).all()
    assert (labels[found.anchor] != labels[found.negative]).all()
    assert (found.d_an > found.d_ap).all()
    with Image.open("mined/suspects.png") as image:
        assert min(image.size) > 200
    rows = list(csv.DictReader(Path("mined/suspects.csv").read_text().splitlines()))
    assert rows
    assert {row["name"] for row in rows} <= set(names)
    assert not Path("mined/triplets.parquet.parts").exists()


def test_a_sheet_shows_each_neighbour_in_its_place() -> None:
    """One that there is not leaves its place empty, and its caption out."""
    examples = Examples(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 0, 1]))
    suspect = Suspect(0, 0.5, positive=-1, d_positive=float("inf"), other=2, d_other=1.5)
    sheet = draw_contact_sheet([suspect], [(0, 2, 0.0)], examples)
    captions = [axes.get_title() for axes in sheet.axes if axes.images]
    assert captions == ["suspicious", "other, d=1.50", "", ""]


def test_other_images_than_the_runs(command: Command, world: Path) -> None:
    status, _, err = command("mine", world / "old", "--data", world / "faces", "--suspects", 0)
    assert (status, err) == (0, PLACED)
    assert not Path("mined/suspects.csv").exists()


def test_an_array_of_embeddings_as_json(command: Command) -> None:
    embeddings, _ = save()
    Path("names.txt").write_text("\n".join(f"image {row}" for row in range(len(embeddings))))
    status, out, err = command(
        *("mine", "e.npy", "--labels", "l.npy", "--names", "names.txt", "--json"),
        *("--positives", "all", "--negatives", "hardest", "--block", 30, "--chunk", 70),
    )
    assert (status, err) == (0, "")
    figures = json.loads(out)
    assert figures["rows"] == 200
    assert figures["triplets"] == len(read_triplets(Path(figures["file"])).anchor)
    assert figures["duplicates"] == 1
    rows = list(csv.DictReader(Path("mined/suspects.csv").read_text().splitlines()))
    (duplicate,) = [row for row in rows if row["kind"] == "duplicate"]
    assert (duplicate["name"], duplicate["other_name"]) == ("image 10", "image 11")


@pytest.mark.ci
def test_an_interrupted_search_goes_on(
    command: Command, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["mine", world / "old", "--block", 8, "--output", "mined"]
    original = facenet_ext.commands.mine.mine_to_parquet

    def interrupted(*given: object, progress: object, **options: object) -> int:
        def stop(done: int, total: int) -> None:
            if done > total // 2:
                raise KeyboardInterrupt

        return original(*given, progress=stop, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(facenet_ext.commands.mine, "mine_to_parquet", interrupted)
        status, _, err = command(*arguments)
    assert (status, err) == (130, f"{PLACED}facenet mine: stopped\n")
    embedded = Path("mined/embeddings.npy").stat().st_mtime_ns
    assert list(Path("mined/triplets.parquet.parts").glob("*.parquet"))
    assert command(*arguments)[0] == 0
    assert Path("mined/embeddings.npy").stat().st_mtime_ns == embedded  # not embedded again
    assert command("mine", world / "old", "--output", "straight")[0] == 0
    a, b = (read_triplets(Path(folder, "triplets.parquet")) for folder in ("mined", "straight"))
    assert sorted(zip(a.anchor.tolist(), a.negative.tolist(), strict=True)) == sorted(
        zip(b.anchor.tolist(), b.negative.tolist(), strict=True)
    )


def test_what_embed_wrote_is_searched_as_it_is(command: Command, world: Path) -> None:
    faces = world / "faces"
    assert command("embed", faces, "--checkpoint", world / "old", "--output", "stored")[0] == 0
    status, out, err = command("mine", "stored", "--suspects", 3, "--json")
    assert (status, err) == (0, "")
    ids = Path("stored/ids.txt").read_text().splitlines()
    assert json.loads(out)["rows"] == len(ids)
    found = read_triplets(Path("mined/triplets.parquet"))
    whose = np.array([name.split("/")[0] for name in ids])
    assert len(found.anchor)
    assert (whose[found.anchor] == whose[found.positive]).all()
    assert (whose[found.anchor] != whose[found.negative]).all()
    rows = list(csv.DictReader(Path("mined/suspects.csv").read_text().splitlines()))
    assert {row["name"] for row in rows} <= set(ids)
    other = ("--output", "other")
    assert_told(command("mine", "stored", "--data", faces, *other), "--data: belongs to a")
    assert_told(command("mine", "stored", "--labels", "l.npy", *other), "--labels: belongs to")
    one = faces / "Person_00"
    assert command("embed", one, "--checkpoint", world / "old", "--output", "nameless")[0] == 0
    assert_told(command("mine", "nameless", *other), "nameless: whose is Person_00_0001.png?")


def test_bad_input_is_told_in_a_line(command: Command, world: Path) -> None:
    save()
    assert_told(command("mine", "nowhere"), "nowhere: no such checkpoint")
    assert_told(command("mine", "e.npy"), "e.npy: needs --labels")
    assert_told(command("mine", "none.npy", "--labels", "l.npy"), "none.npy: not an .npy file")
    assert_told(command("mine", "l.npy", "--labels", "e.npy"), "labels: expected integers")
    assert_told(command("mine", "e.npy", "--labels", "l.npy", "--data", "x"), "--data: belongs to")
    assert_told(command("mine", world / "old", "--labels", "l.npy"), "--labels: belongs to an .npy")
    Path("names.txt").write_text("one\n")
    assert_told(
        command("mine", "e.npy", "--labels", "l.npy", "--names", "names.txt"), "a line per row, 200"
    )
    assert_told(command("mine", "e.npy", "--labels", "l.npy", "--device", "tpu"), "--device tpu")
    assert_told(command("mine", "e.npy", "--labels", "l.npy", "--negatives", "random"), "negatives")
    np.save("pickled.npy", np.array([{}]), allow_pickle=True)
    assert_told(command("mine", "pickled.npy", "--labels", "l.npy"), "pickled.npy: not an .npy")
    Path("bad.ckpt").write_bytes(b"garbage")
    assert_told(command("mine", "bad.ckpt"), "bad.ckpt: the checkpoint is damaged")
    Path("taken").write_text("")
    assert_told(
        command("mine", "e.npy", "--labels", "l.npy", "--output", "taken"), "--output taken"
    )
    np.savez("zip.npz", e=np.ones(3))
    Path("zip.npz").rename("zip.npy")
    assert_told(
        command("mine", "zip.npy", "--labels", "l.npy"), "zip.npy: not an .npy file of rows"
    )
    np.save("none.npy", np.array(3))
    assert_told(command("mine", "e.npy", "--labels", "none.npy"), "none.npy: not an .npy file of r")
    assert_told(command("mine", "e.npy", "--labels", "l.npy", "--device", "meta"), "--device meta")
    assert_told(command("mine", "e.npy", "--labels", "l.npy", "--margin", "inf"), "margin")
    assert command("mine", "e.npy", "--labels", "l.npy")[0] == 0
    assert_told(command("mine", "e.npy", "--labels", "l.npy"), "already holds the result")


def test_arrays_of_another_byte_order_are_read(command: Command) -> None:
    embeddings, labels = save()
    np.save("swapped.npy", embeddings.astype(">f4"))
    np.save("labels.npy", labels.astype(">i8"))
    assert command("mine", "e.npy", "--labels", "l.npy", "--output", "a")[0] == 0
    assert command("mine", "swapped.npy", "--labels", "labels.npy", "--output", "b")[0] == 0
    a, b = (read_triplets(Path(folder, "triplets.parquet")) for folder in ("a", "b"))
    assert a.negative.tolist() == b.negative.tolist()


def test_a_search_interrupted_while_it_looks_for_mistakes_goes_on(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    save()

    def interrupted(*_: object, **__: object) -> list[object]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(facenet_ext.commands.mine, "find_mislabelled", interrupted)
        assert command("mine", "e.npy", "--labels", "l.npy")[0] == 130
    mined = Path("mined/triplets.parquet").stat().st_mtime_ns
    assert command("mine", "e.npy", "--labels", "l.npy")[0] == 0
    assert Path("mined/triplets.parquet").stat().st_mtime_ns == mined  # not mined again
    assert Path("mined/suspects.csv").is_file()


def test_images_that_changed_are_embedded_again(command: Command, world: Path) -> None:
    faces = Path("faces")
    shutil.copytree(world / "faces", faces)
    arguments = ["mine", world / "old", "--data", faces, "--suspects", 0]
    assert command(*arguments)[0] == 0
    before = np.load("mined/embeddings.npy")
    Path("mined/summary.json").unlink()
    for path in faces.glob("*/*_0001.png"):
        with Image.open(path) as image:
            turned = image.transpose(Image.Transpose.ROTATE_90)
        turned.save(path)
    assert command(*arguments)[0] == 0
    after = np.load("mined/embeddings.npy")
    assert before.shape == after.shape
    assert not np.array_equal(before, after)


def test_a_plan_counts_the_work_and_searches_nothing(command: Command) -> None:
    save()
    given = "mine", "e.npy", "--labels", "l.npy", "--block", 64
    status, out, err = command(*given, "--plan", 8)
    assert (status, err) == (0, "")
    assert "on 8 processes" in out
    assert not Path("mined").exists()
    status, out, _ = command(*given, "--plan", 4, "--json")
    four = json.loads(out)
    with_positive = 200  # no label of the data is alone
    assert (four["rows"], four["pairs"]) == (200, with_positive * 200)
    assert four["operations"] == 2 * 16 * four["pairs"]
    assert four["bytes_read"] == four["blocks"] * 200 * 16 * 4
    expected = four["pairs"] / four["pairs_per_second"] / 4 / 3600
    assert four["hours"] == pytest.approx(expected)


def test_a_plan_needs_embeddings_and_processes(command: Command, world: Path) -> None:
    save()
    assert_told(
        command("mine", "e.npy", "--labels", "l.npy", "--plan", 0),
        "--plan 0: expected a whole number above 0",
    )
    assert_told(command("mine", world / "old", "--plan", 2), "--plan: expected embeddings")


def test_a_plan_of_nothing_is_refused(command: Command) -> None:
    save()
    np.save("l.npy", np.arange(200))
    told = command("mine", "e.npy", "--labels", "l.npy", "--plan", 2)
    assert_told(told, "labels: expected one that two rows have")
