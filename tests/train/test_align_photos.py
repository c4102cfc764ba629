"""Folders of photos become folders of faces: names, tables, choices, and after a kill."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import detectors
import numpy as np
import pytest
from PIL import Image

from facenet_ext import InputError
from facenet_ext.common import blocks
from facenet_ext.faces import FaceChoice, FaceCut, align_photos, photos, read_faces
from facenet_ext.recognition import list_tree


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty photos of four people, one of them black, and a file that is no photo."""
    root = tmp_path / "photos"
    for number in range(20):
        draw = np.random.default_rng(number)
        person = root / f"person_{number % 4}"
        person.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(1, 255, (120, 300, 3)).astype(np.uint8) * (number != 7)
        ending = ("jpg", "png", "jpeg", "bmp")[number % 4]
        Image.fromarray(pixels).save(person / f"{number:02d}.{ending}")
    (root / "person_0" / "broken.jpg").write_bytes(b"\xff\xd8\xff gibberish")
    return root


def files_of(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def left_out(root: Path) -> dict[str, str]:
    with (root / "left_out.csv").open(newline="") as file:
        return {row["photo"]: row["reason"] for row in csv.DictReader(file)}


def test_each_face_has_the_path_of_its_photo(folder: Path, tmp_path: Path) -> None:
    faces = tmp_path / "faces"
    aligned = align_photos(list_tree(folder), faces, detectors.one, FaceCut(size=64))
    assert aligned == (faces, 21, 19, 1, 1)
    assert left_out(faces).keys() == {"person_0/broken.jpg", "person_3/07.bmp"}
    assert left_out(faces)["person_3/07.bmp"] == "no face found"
    assert left_out(faces)["person_0/broken.jpg"].startswith("cannot be read: ")
    rows = list(read_faces(faces))
    photo_of = {row.image: row.photo for row in rows}
    assert photo_of["person_0/00.jpg"] == "person_0/00.jpg"
    assert photo_of["person_3/03.bmp.jpg"] == "person_3/03.bmp"
    assert list_tree(faces).ids == sorted(photo_of)  # they, and nothing else, are images
    assert {*files_of(faces)} == {*photo_of, "align.json", "faces.csv", "left_out.csv"}
    for row in rows:
        face = Image.open(faces / row.image)
        assert face.size == (64, 64)
        assert face.format == ("PNG" if row.image.endswith(".png") else "JPEG")
        assert FaceCut.of_file(face) == FaceCut(size=64)
        assert row.face.box == (120, 30, 180, 90)
        assert row.found == 1
        assert row.face.score == 0.95
        assert row.face.points is not None
        ((expected,),) = [detectors.one(np.ones((120, 300, 3), np.uint8))[1]]
        assert np.allclose(row.face.points, expected, atol=0.01)
        times = [
            (root / name).stat().st_mtime_ns
            for root, name in ((faces, row.image), (folder, row.photo))
        ]
        assert times[0] == times[1]


def test_photos_without_a_face_are_cut_as_the_others(tmp_path: Path) -> None:
    root, faces = tmp_path / "photos", tmp_path / "faces"
    root.mkdir()
    for number, size in enumerate([(300, 120), (120, 180), (100, 100)]):
        Image.new("RGB", size, (99, 99, 99)).save(root / f"{number}.png")
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None], (200, 400))
    Image.fromarray(ramp).save(root / "ramp.png")

    def find(photo: Any) -> Any:
        """Find a face half a side below the middle, but none in the ramp."""
        if photo.shape[:2] == (200, 400):
            return [], [], []
        height, width, _ = photo.shape
        side = min(height, width) / 2
        left, top = (width - side) / 2, height / 2
        return [[left, top, left + side, top + side]], None, [0.95]

    cut = FaceCut(margin=0.0, size=50, detector="find")
    choice = FaceChoice(without_face="median")
    aligned = align_photos(list_tree(root), faces, find, cut, choice)
    assert (aligned.faces, aligned.faceless) == (3, 1)
    assert left_out(faces) == {
        "ramp.png": "no face found; cut where the faces of the other photos lie"
    }
    assert len(list(read_faces(faces))) == 3
    with Image.open(faces / "ramp.png") as file:
        assert FaceCut.of_file(file) == cut
        pixels = np.asarray(file)
    assert pixels.shape == (50, 50)
    # Rows 100 to 200 of the ramp, two for each pixel.
    np.testing.assert_allclose(pixels[5:45, 25], 101.5 + 2 * np.arange(5, 45) - 1, atol=1.5)

    again = align_photos(list_tree(root), faces, find, cut, choice)  # it is finished already
    assert again == aligned
    with pytest.raises(InputError, match="other options"):
        align_photos(list_tree(root), faces, find, cut)


def test_without_any_face_nothing_is_cut(tmp_path: Path) -> None:
    root, faces = tmp_path / "photos", tmp_path / "faces"
    root.mkdir()
    Image.new("RGB", (80, 80)).save(root / "black.png")
    choice = FaceChoice(without_face="median")
    aligned = align_photos(list_tree(root), faces, detectors.one, choice=choice)
    assert (aligned.faces, aligned.faceless) == (0, 1)
    assert left_out(faces) == {"black.png": "no face found"}
    assert not (faces / "black.png").exists()


@pytest.mark.parametrize(
    ("faces", "expected"),
    [
        ("largest", [("a.png", (10, 10, 90, 90))]),
        ("center", [("a.png", (125, 75, 175, 125))]),
        ("all", [("a_1.png", (10, 10, 90, 90)), ("a_2.png", (125, 75, 175, 125))]),
    ],
)
def test_which_faces_are_taken(faces: Any, expected: list[Any], tmp_path: Path) -> None:
    Image.new("L", (300, 200), 99).save(tmp_path / "a.png")
    images = list_tree(tmp_path / "a.png")
    align_photos(images, tmp_path / "faces", detectors.Three(), choice=FaceChoice(faces))
    rows = list(read_faces(tmp_path / "faces"))
    assert [(row.image, row.face.box) for row in rows] == expected
    assert {row.found for row in rows} == {2}
    surer = FaceChoice(faces, min_score=0.4)
    align_photos(images, tmp_path / "more", detectors.Three(), choice=surer)
    assert {row.found for row in read_faces(tmp_path / "more")} == {3}


def test_boxes_alone_do_for_plain_squares(folder: Path, tmp_path: Path) -> None:
    images = list_tree(folder / "person_1")
    align_photos(images, tmp_path / "faces", detectors.boxes, FaceCut(margin=0.2))
    assert all(row.face.points is None for row in read_faces(tmp_path / "faces"))
    with pytest.raises(InputError, match=r"`detector` mtcnn: .*the detector gives no points; cut"):
        align_photos(images, tmp_path / "other", detectors.boxes)


class Kill(BaseException):
    """What no handler catches, as a killed process runs none."""


@pytest.mark.parametrize("moment", ["at a photo", "before a block is told", "at the end"])
def test_it_goes_on_after_a_kill(
    moment: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = list_tree(folder)
    align_photos(images, tmp_path / "whole", detectors.one)
    seen = 0

    def detector(photo: Any) -> Any:
        nonlocal seen
        seen += 1
        if moment == "at a photo" and seen == 10:
            raise Kill
        return detectors.one(photo)

    def kill(*_: Any) -> None:
        raise Kill

    real = blocks.Blocks.finish
    with monkeypatch.context() as patch:
        # By one thread, so that the tenth photo is in the second block.
        patch.setattr(photos, "ThreadPoolExecutor", lambda _: ThreadPoolExecutor(1))
        if moment == "at the end":
            patch.setattr(photos, "write_json", kill)
        elif moment == "before a block is told":
            patch.setattr(blocks.Blocks, "finish", lambda *a: kill() if a[1] == 1 else real(*a))
        with pytest.raises(Kill):
            align_photos(images, tmp_path / "killed", detector)
    finished = [*(tmp_path / "killed" / blocks.UNFINISHED).glob("[0-9]*")]
    assert len(finished) == (3 if moment == "at the end" else 1)
    with pytest.raises(InputError, match="was begun with other photos or other options; give"):
        align_photos(images, tmp_path / "killed", detector, FaceCut(size=64))
    seen, told = 100, []
    align_photos(images, tmp_path / "killed", detector, progress=lambda *a: told.append(a))
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
    assert told[0] == (21 if moment == "at the end" else 8, 21)
    assert seen - 100 == (0 if moment == "at the end" else 13)

    seen = 100
    assert align_photos(images, tmp_path / "killed", detector).faces == 19
    assert seen == 100  # all of it was there


def test_other_work_is_not_mixed_in(folder: Path, tmp_path: Path) -> None:
    images, faces = list_tree(folder), tmp_path / "faces"
    align_photos(images, faces, detectors.one)
    before = files_of(faces)
    for others in (
        {"cut": FaceCut(size=160)},
        {"choice": FaceChoice("all")},
        {"choice": FaceChoice(min_score=0.5)},
    ):
        with pytest.raises(InputError, match="cut with other options; choose another folder"):
            align_photos(images, faces, detectors.one, **others)  # type: ignore[arg-type]
    (folder / "person_0" / "00.jpg").unlink()
    with pytest.raises(InputError, match="holds faces of other photos"):
        align_photos(list_tree(folder), faces, detectors.one)
    photos_before = files_of(folder)
    for output in (folder, folder / "person_0"):
        with pytest.raises(InputError, match="holds other files; choose a new or an empty folder"):
            align_photos(list_tree(folder), output, detectors.one)
    assert files_of(folder) == photos_before
    assert files_of(faces) == before


def test_two_photos_do_not_become_one_face(folder: Path, tmp_path: Path) -> None:
    Image.new("L", (9, 9)).save(folder / "person_3" / "03.bmp.jpg")
    told = r"person_3/03.bmp and person_3/03.bmp.jpg would both become person_3/03.bmp.jpg"
    with pytest.raises(InputError, match=told):
        align_photos(list_tree(folder), tmp_path / "faces", detectors.one)
    assert not (tmp_path / "faces").exists()


@pytest.mark.parametrize(
    ("detector", "told"),
    [
        (detectors.broken, r"person_0/00.jpg \(RuntimeError: out of order\)"),
        (detectors.needs_more, r"person_0/00.jpg \(TypeError: .*'size'\)"),
        (lambda _: 3, r"person_0/00.jpg \(ValueError: expected boxes, points and scores, got 3\)"),
    ],
)
def test_a_detector_that_fails_ends_it_with_the_photo(
    detector: Any, told: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=f"`detector` mine:find: fails on {told}"):
        align_photos(list_tree(folder), tmp_path / "f", detector, FaceCut(detector="mine:find"))
    assert (
        align_photos(
            list_tree(folder), tmp_path / "f", detectors.one, FaceCut(detector="mine:find")
        ).faces
        == 19
    )


def test_names_are_kept_whatever_they_are(tmp_path: Path) -> None:
    names = ['Zoë, "Z"/a b.jpg', "line\nbreak/é.png", "x/a..jpg", "y/no_ending", "z/a.b.jpeg"]
    for name in names:
        (tmp_path / "photos" / name).parent.mkdir(parents=True)
        Image.new("L", (60, 60), 9).save(tmp_path / "photos" / name, "PNG")
    bad = (tmp_path / "photos" / "caf").with_name("caf\udce9.png")
    Image.new("L", (60, 60), 9).save(bad)
    choice = FaceChoice(min_face_size=10)
    images = list_tree(tmp_path / "photos")
    aligned = align_photos(images, tmp_path / "faces", detectors.one, choice=choice)
    assert (aligned.faces, aligned.unreadable) == (5, 1)
    rows = {row.photo: row.image for row in read_faces(tmp_path / "faces")}
    changed = {"y/no_ending": "y/no_ending.jpg"}
    assert rows == {name: changed.get(name, name) for name in names}
    assert all((tmp_path / "faces" / image).is_file() for image in rows.values())
    assert left_out(tmp_path / "faces") == {
        "caf\\udce9.png": "cannot be read: its name is not UTF-8"
    }


def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    for text, told in (
        ("a,b\n1,2\n", "its columns are not"),
        ("", "its columns"),
        (None, "cannot"),
    ):
        if text is not None:
            (tmp_path / "faces.csv").write_text(text)
        else:
            (tmp_path / "faces.csv").unlink()
        with pytest.raises(InputError, match=told):
            next(read_faces(tmp_path))
