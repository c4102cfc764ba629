"""Claims about ``facenet align``, about ``--align``, and about a model that knows its cut."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_runs import Command, assert_told
from PIL import Image
from small_runs import TINY, write_faces

import facenet_ext.train.run
from facenet_ext import cli
from facenet_ext.embedding.loading import checkpoint_path, load_embedder
from facenet_ext.faces import FaceCut, align_photos, load_detector, read_faces
from facenet_ext.recognition import list_tree, read_embeddings

ROOT = Path(__file__).resolve().parents[2]
LFW96 = ROOT.parent / "shared" / "data" / "lfw96.tar.gz"
STUB = ("--detector", "detectors:one")
CUT = FaceCut(size=48, detector="detectors:one")


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, the faces in them, the same as plain squares, and a run on the faces."""
    root = tmp_path_factory.mktemp("aligned")
    people = {f"Person_{i:02d}": 4 for i in range(10)}
    write_faces(root / "photos", people, size=100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facenet_ext.train.run, "draw_all", lambda *_: [])
        for output, *options in (("faces", "--size", "48"), ("squares", "--margin", "0.1")):
            given = [*STUB, *options, "--output", str(root / output)]
            assert cli.main(["align", str(root / "photos"), *given]) == 0
        options = ["--held-out", "0.4", "--image-size", "48", "--output", str(root / "run")]
        assert cli.main(["train", *TINY, "--data", str(root / "faces"), *options]) == 0
    Image.new("L", (100, 100)).save(root / "photos" / "Person_00" / "black.png")
    return root


def about_photos(figures: dict[str, Any]) -> list[str]:
    """The warnings that are about how faces are cut."""
    return [text for text in figures["warnings"] if "facenet align" in text]


def cut_of(run: Path) -> FaceCut | None:
    return load_embedder(checkpoint_path(str(run))).provenance.cut


def test_it_tells_what_it_did(command: Command, tmp_path: Path) -> None:
    write_faces(tmp_path / "photos", {"Ann": 3, "Bob": 2}, size=100)
    Image.new("L", (100, 100)).save(tmp_path / "photos" / "Ann" / "black.png")
    (tmp_path / "photos" / "Bob" / "a.jpg").write_text("gibberish")
    (tmp_path / "photos" / "Bob" / "clip.mp4").write_text("")
    status, out, err = command("align", "photos", *STUB)
    assert (status, err) == (0, "passed over in photos: 1 .mp4\n")
    assert "5 faces of 7 photos in faces, cut by five points to 112 x 112 pixels, " in out
    assert "no face in 1 photo, 1 photo cannot be read: faces/left_out.csv" in out
    page = Path("faces/report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    for told in ("5 faces of 7 photos", "A sample", "The least sure", "no face in 1 photo"):
        assert told in page
    status, out, _ = command("align", "photos", *STUB, "--json")  # again: all of it is there
    figures = json.loads(out)
    assert status == 0
    assert figures == {
        "output": "faces",
        "photos": 7,
        "faces": 5,
        "faceless": 1,
        "unreadable": 1,
        "cut": "by five points to 112 x 112 pixels",
        "photos_per_second": None,
    }


def test_the_status_is_1_where_there_is_no_face(command: Command, tmp_path: Path) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "black.png")
    status, out, _ = command("align", "black.png", *STUB)
    assert status == 1
    assert "0 faces of 1 photo" in out
    assert list(read_faces(Path("faces"))) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "nowhere: no such folder or image"),
        ([""], "expected a folder or a photo"),
        (["{photos}", "--output", ""], "--output: expected a folder"),
        (["{photos}", "--size", "3"], "--size: expected 8 to 4096 pixels, got 3"),
        (["{photos}", "--margin", "11"], "--margin: expected a share from 0 to 10, got 11"),
        (["{photos}", "--detector", "haar"], "--detector haar: expected mtcnn or module:function"),
        (["{photos}", "--detector", "detectors:broken"], "RuntimeError: out of order"),
        (["{photos}", "--output", "{photos}"], "no images found in it"),
        (
            ["{photos}", "--output", "{photos}/Person_01"],
            "--output {photos}/Person_01: holds other",
        ),
        (["{photos}", "--faces", "smallest"], "--faces smallest: expected one of largest"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], told: str, command: Command, place: Path
) -> None:
    photos = str(place / "photos")
    filled = [argument.format(photos=photos) for argument in arguments]
    filled += [] if "--detector" in filled else STUB
    assert_told(command("align", *filled), told.format(photos=photos))


def test_a_model_remembers_how_its_faces_were_cut(place: Path, world: Path) -> None:
    assert cut_of(place / "run") == CUT
    assert cut_of(world / "old") is None
    path = checkpoint_path(str(place / "run"))
    kept = torch.load(path, weights_only=True)["facenet_ext"]["training"]["cut"]
    assert kept == {"margin": None, "size": 48, "detector": "detectors:one"}


def test_faces_that_were_cut_in_two_ways_are_none(
    command: Command, place: Path, tmp_path: Path
) -> None:
    shutil.copytree(place / "faces", tmp_path / "mixed")
    for person in ("Person_02", "Person_03"):
        shutil.copytree(place / "squares" / person, tmp_path / "mixed" / person, dirs_exist_ok=True)
    options = ("--data", "mixed", "--held-out", 0.4, "--max-steps", 2, "--output", "run")
    assert command("train", *TINY, *options)[0] == 0
    assert cut_of(Path("run")) is None


def test_a_photo_is_judged_as_the_face_cut_out_of_it(command: Command, place: Path) -> None:
    names = ("Person_06/Person_06_0001.png", "Person_07/Person_07_0002.png")
    model = ("--checkpoint", place / "run", "--json", "--threshold", 1)
    of_faces = command("verify", *(place / "faces" / name for name in names), *model)
    photos = [place / "photos" / name for name in names]
    of_photos = command("verify", *photos, *model, "--align", *STUB)
    assert of_photos[:2] == of_faces[:2]
    assert about_photos(json.loads(of_faces[1])) == []
    whole = json.loads(command("verify", *photos, *model)[1])
    assert whole["distance"] != json.loads(of_faces[1])["distance"]
    (warning,) = about_photos(whole)
    assert warning == (
        f"2 of 2 images looked at, such as {photos[0]}, are not cut out by 'facenet align', as the "
        "faces are that the model was trained on (by five points to 48 x 48 pixels); if these are "
        "photos, give --align"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", *["{squares}/Person_00/Person_00_0001.png"] * 2),
        ("identify", "{squares}", "{squares}"),
        ("identify", "{faces}", "{squares}"),
        ("identify", "{faces}", "{squares}", "--align", *STUB),
        ("cluster", "{squares}"),
        ("embed", "{squares}"),
        ("evaluate", "--data", "{squares}"),
    ],
)  # fmt: skip
def test_faces_that_were_cut_otherwise_are_refused(
    arguments: tuple[str, ...], command: Command, place: Path
) -> None:
    squares = place / "squares"
    given = [text.format(squares=squares, faces=place / "faces") for text in arguments]
    assert_told(
        command(*given, "--checkpoint", place / "run"),
        f"{squares}/Person_00/Person_00_0001.png: was cut as squares with a margin of 0.1 around "
        "the boxes of detectors:one, to 112 x 112 pixels, and the faces that the model was trained "
        "on by five points to 48 x 48 pixels; give the photos themselves with --align",
    )


def test_photos_are_embedded_as_their_faces(command: Command, place: Path) -> None:
    model = ("--checkpoint", place / "run", "--json")
    assert command("embed", place / "faces", *model, "--output", "faces")[0] == 0
    given = (*model, "--align", *STUB, "--output", "photos")
    status, out, err = command("embed", place / "photos", *given)
    assert (status, json.loads(out)["warnings"]) == (0, [])
    (told,) = err.splitlines()
    assert told.startswith("no face in 1 of 41 photos, 0 cannot be read: see ")
    with open(told.partition(": see ")[2], newline="") as file:
        assert list(csv.reader(file))[1:] == [["Person_00/black.png", "no face found"]]
    faces, photos = (read_embeddings(Path(name)) for name in ("faces", "photos"))
    assert photos.ids == faces.ids
    assert photos.identities == faces.identities
    assert np.array_equal(photos.embeddings, faces.embeddings)
    shutil.rmtree("cache")  # made again, they are the same files
    status, out, _ = command("embed", place / "photos", *given)
    assert (status, json.loads(out)["images_per_second"]) == (0, None)  # so nothing is embedded


def test_probes_are_photos_and_the_gallery_has_faces(command: Command, place: Path) -> None:
    model = ("--checkpoint", place / "run", "--json", "--threshold", 0.5)
    status, out, _ = command("identify", place / "faces", place / "faces", *model)
    whole = command("identify", place / "faces", place / "photos", *model, "--align", *STUB)
    assert whole[0] == status
    ours, theirs = json.loads(whole[1]), json.loads(out)
    assert about_photos(ours) == []
    assert ours["probes"] == theirs["probes"]
    mixed = command("identify", place / "photos", place / "faces", *model, "--align", *STUB)
    assert json.loads(mixed[1])["probes"] == theirs["probes"]


def test_photos_are_clustered_by_their_faces(command: Command, place: Path) -> None:
    model = ("--checkpoint", place / "run", "--threshold", 0.3, "--json", "--sheets", 1)
    command("cluster", place / "faces", *model, "--output", "a")
    status, out, _ = command("cluster", place / "photos", *model, "--align", *STUB, "--output", "b")
    figures = json.loads(out)
    assert (status, figures["images"], figures["sheets"]) == (0, 40, 1)
    assert about_photos(figures) == []
    assert Path("a/clusters.csv").read_text() == Path("b/clusters.csv").read_text()
    sheets = [Path(name, "sheets/cluster-0000.png").read_bytes() for name in ("a", "b")]
    assert sheets[0] == sheets[1]  # of faces, not of photos


def test_a_model_that_knows_no_cut_gets_that_of_data_sets(
    command: Command, place: Path, world: Path
) -> None:
    given = ("--checkpoint", world / "old", "--align", *STUB, "--json")
    status, out, _ = command("embed", place / "photos", *given)
    assert status == 0
    told = [text for text in json.loads(out)["warnings"] if "does not say" in text]
    assert told == [
        "the model does not say how the faces that it was trained on were cut: those of the photos "
        "are cut by five points to 112 x 112 pixels, as data sets for face recognition are"
    ]


def test_squares_need_the_detector_of_the_training(command: Command, place: Path) -> None:
    options = ("--data", place / "squares", "--held-out", 0.4, "--max-steps", 2, "--output", "run")
    assert command("train", *TINY, *options)[0] == 0
    photo = place / "photos" / "Person_00" / "Person_00_0001.png"
    given = ("verify", photo, photo, "--checkpoint", "run", "--threshold", 1, "--align")
    assert_told(command(*given), "--detector mtcnn: the faces that the model was trained on were",
                "; give --detector detectors:one")  # fmt: skip
    assert command(*given, *STUB)[0] == 0


def test_a_detector_without_align_is_refused(command: Command, place: Path) -> None:
    model = ("--checkpoint", place / "run", *STUB)
    photo = place / "photos" / "Person_00" / "Person_00_0001.png"
    for given in (("verify", photo, photo), ("embed", photo), ("identify", photo, photo)):
        assert_told(
            command(*given, *model), "--detector detectors:one: give --align with it, or leave it"
        )


def test_the_report_says_how_the_faces_of_the_training_were_cut(
    command: Command, place: Path
) -> None:
    given = ("--checkpoint", place / "run", "--quality", 0, "--output", "report")
    status, _, err = command("evaluate", *given)
    assert status == 0
    assert "facenet align" not in err
    assert "cut by five points to 48 x 48 pixels" in Path("report/report.html").read_text()


def test_photos_without_any_face_are_refused(command: Command, place: Path) -> None:
    black = place / "photos" / "Person_00" / "black.png"
    model = ("--checkpoint", place / "run", "--align", *STUB)
    for given in (("verify", black, black), ("embed", black), ("cluster", black)):
        assert_told(command(*given, *model), f"{black.parent}: no face in 1 of 1 photo")


def test_drawn_photos_become_faces_embeddings_and_clusters(command: Command, world: Path) -> None:
    """The whole way, with the detector that comes along."""
    pytest.importorskip("mtcnnruntime", reason="the extra 'align' is not installed")
    if not (ROOT / "examples").is_dir():
        pytest.skip("examples/ is not here: these are installed tests")
    sys.path.append(str(ROOT))
    from examples.drawn_photos import draw_photo

    people = [1, 2, 3]
    photo, points = draw_photo(people, size=(900, 300))
    photo.save("together.jpg", quality=92)
    draw_photo([]).photo.save("empty.jpg")
    assert command("align", "together.jpg", "--faces", "all", "--json")[0] == 0
    rows = sorted(read_faces(Path("faces")), key=lambda row: row.face.box)
    assert sorted(row.image for row in rows) == [f"together_{n}.jpg" for n in (1, 2, 3)]
    for row, expected in zip(rows, points, strict=True):
        assert row.face.points is not None
        eyes = np.linalg.norm(expected[1] - expected[0])
        assert np.linalg.norm(row.face.points - expected, axis=1).max() < 0.2 * eyes
    assert command("align", "empty.jpg", "--output", "none")[0] == 1

    for person in (1, 2):
        Path("photos", f"{person}").mkdir(parents=True)
        for number in range(3):
            draw_photo([person], number).photo.save(f"photos/{person}/{number}.png")
    model = ("--checkpoint", world / "old", "--align", "--json")
    status, out, _ = command("embed", "photos", *model)
    assert (status, json.loads(out)["rows"], json.loads(out)["identities"]) == (0, 6, 2)
    status, out, _ = command("cluster", "photos", *model, "--threshold", 4)
    figures = json.loads(out)
    assert (status, figures["images"], figures["clusters"], figures["sheets"]) == (0, 6, 1, 1)


@pytest.mark.skipif(not LFW96.is_file(), reason=f"{LFW96} is not here")
def test_faces_of_lfw_are_found_in_larger_pictures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Pasted at a random place, size and angle, they have the points that they have alone."""
    pytest.importorskip("mtcnnruntime", reason="the extra 'align' is not installed")
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    size = np.array([640, 480])
    maps = {}
    with tarfile.open(LFW96) as archive:
        members = [m for m in archive if m.name.startswith("lfw96/val/") and m.isfile()]
        for number, member in enumerate(members[::150]):
            crop = Image.open(archive.extractfile(member)).convert("RGB")  # type: ignore[arg-type]
            side, turn = int(draw.integers(120, 250)), float(draw.uniform(-10, 10))
            at = draw.integers(0, size - side)
            crop = crop.resize((side, side), Image.Resampling.BICUBIC)
            colours = draw.integers(60, 200, (4, 6, 3)).astype(np.uint8)
            photo = Image.fromarray(colours).resize((640, 480), Image.Resampling.BICUBIC)
            photo.paste(crop, (int(at[0]), int(at[1])))
            for folder, picture in (("crops", crop), ("photos", photo.rotate(turn))):
                Path(folder).mkdir(exist_ok=True)
                picture.save(Path(folder, f"{number:02d}.png"))
            cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
            maps[f"{number:02d}.png"] = (at, np.array([[cos, sin], [-sin, cos]]))
    detector = load_detector()
    points: dict[str, dict[str, Any]] = {}
    for folder in ("crops", "photos"):
        faces = Path(f"{folder}_faces")
        align_photos(list_tree(Path(folder)), faces, detector)
        points[folder] = {row.photo: row.face.points for row in read_faces(faces)}
    assert len(points["photos"]) >= 0.9 * len(maps)
    assert len(points["crops"]) >= 0.8 * len(maps)  # which are all face
    errors = []
    for name in points["photos"].keys() & points["crops"].keys():
        at, turned = maps[name]
        expected = (points["crops"][name] + at - size / 2) @ turned.T + size / 2
        eyes = np.linalg.norm(expected[1] - expected[0])
        errors.append(np.linalg.norm(points["photos"][name] - expected, axis=1).mean() / eyes)
    assert np.median(errors) < 0.08, errors
    assert max(errors) < 0.3, errors
