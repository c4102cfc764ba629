"""Faces found in photos, and how they are cut out."""

from __future__ import annotations

import io
import json
import sys
import types
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from facenet_ext import InputError
from facenet_ext.data.image_list import list_tree
from facenet_ext.faces import TEMPLATE, Face, FaceCut, find_faces, load_detector
from facenet_ext.faces.photos import read_photo

ROOT = Path(__file__).resolve().parents[2]
LFW96 = ROOT.parent / "shared" / "data" / "lfw96.tar.gz"
BOX = (20.0, 30.0, 80.0, 110.0)


def similarity(points: NDArray[Any], ends: NDArray[Any]) -> NDArray[np.float64]:
    """Umeyama's transform, [2, 3], by a singular value decomposition."""
    p, q = points - points.mean(0), ends - ends.mean(0)
    u, s, vt = np.linalg.svd(q.T @ p)
    flip = np.diag([1.0, np.sign(np.linalg.det(u @ vt))])
    turn = u @ flip @ vt
    scale = (s * flip.diagonal()).sum() / (p**2).sum()
    return np.column_stack([scale * turn, ends.mean(0) - scale * turn @ points.mean(0)])


def moved(degrees: float, scale: float, shift: tuple[float, float]) -> NDArray[np.float64]:
    """The template's points in a photo."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = (TEMPLATE - 56) @ np.array([[cos, sin], [-sin, cos]])
    return np.asarray(turned * scale + shift)


@pytest.mark.parametrize("seed", range(5))
def test_the_transform_is_the_closest_similarity(seed: int) -> None:
    points = moved(40 * seed, 1.7, (300, 200)) + np.random.default_rng(seed).normal(0, 4, (5, 2))
    position = FaceCut().position(Face(BOX, points, 1.0))
    expected = similarity(points + 0.5, TEMPLATE + 0.5)
    both = np.vstack([expected, [0, 0, 1]]) @ np.vstack([position, [0, 0, 1]])
    assert np.allclose(both, np.eye(3), atol=1e-9)


@pytest.mark.parametrize(("degrees", "scale"), [(0, 1), (25, 0.7), (-70, 1.4), (160, 3.3)])
@pytest.mark.parametrize("size", [112, 160])
def test_the_points_land_on_the_template(degrees: float, scale: float, size: int) -> None:
    points = moved(degrees, scale, (320, 240))
    x, y = np.meshgrid(np.arange(640), np.arange(480))
    positions = np.stack([x, y], 2)[:, :, None] - points
    dots = np.exp(-(positions**2).sum(3) / (2 * (2 * scale) ** 2)).sum(2)
    photo = Image.fromarray((255 * dots.clip(0, 1)).astype(np.uint8))
    cut = np.asarray(FaceCut(size=size).cut(photo, Face(BOX, points, 1.0)), float)
    expected = (TEMPLATE + 0.5) * size / 112 - 0.5
    for at in expected:
        low = np.round(at).astype(int) - 6
        window = cut[low[1] : low[1] + 13, low[0] : low[0] + 13]
        across, down = window.sum(0), window.sum(1)
        centre = [(side * np.arange(13)).sum() / side.sum() for side in (across, down)] + low
        assert np.abs(centre - at).max() < 0.15


def test_it_is_what_opencv_cuts() -> None:
    cv2 = pytest.importorskip("cv2")
    draw = np.random.default_rng(0)
    photo = Image.fromarray(draw.integers(0, 255, (30, 40, 3)).astype(np.uint8))
    photo = photo.resize((640, 480), Image.Resampling.BICUBIC)
    points = moved(20, 1.0, (320, 240)) + draw.normal(0, 2, (5, 2))
    ours = np.asarray(FaceCut().cut(photo, Face(BOX, points, 1.0)), float)
    theirs = cv2.warpAffine(np.asarray(photo), similarity(points, TEMPLATE), (112, 112))
    assert np.abs(ours - theirs).max() <= 5
    assert np.abs(ours - theirs).mean() < 1


def test_a_large_face_is_not_aliased() -> None:
    checks = (np.indices((1200, 1200)).sum(0) % 2 * 255).astype(np.uint8)
    face = Face(BOX, moved(10, 7.3, (600, 600)), 1.0)
    cut = np.asarray(FaceCut().cut(Image.fromarray(checks), face), float)
    assert np.abs(cut - 127).max() < 4


def test_a_plain_square_has_a_margin_around_the_longer_side() -> None:
    photo = Image.new("L", (200, 200))
    photo.paste(255, (20, 30, 80, 110))  # the box
    cut = np.asarray(FaceCut(margin=0.25, size=120).cut(photo, Face(BOX, None, 1.0)))
    assert cut.shape == (120, 120)
    rows, columns = (np.flatnonzero(cut.max(axis) > 127) for axis in (1, 0))
    assert [rows[0], rows[-1]] == [20, 99]  # 80 of 120
    assert [columns[0], columns[-1]] == [30, 89]


def test_what_lies_outside_the_photo_is_black() -> None:
    photo = Image.new("RGB", (100, 100), "white")
    cut = np.asarray(FaceCut(margin=0, size=100).cut(photo, Face((-50, 0, 50, 100), None, 1.0)))
    assert (cut[:, :49] == 0).all()
    assert (cut[:, 51:] == 255).all()
    away = FaceCut(margin=0).cut(photo, Face((300, 300, 400, 400), None, 1.0))
    assert not np.asarray(away).any()


@pytest.mark.parametrize("points", [None, np.ones((5, 2))])
def test_points_are_needed(points: Any) -> None:
    with pytest.raises(ValueError, match="points"):
        FaceCut().position(Face(BOX, points, 1.0))


@pytest.mark.parametrize("ending", [".jpg", ".png"])
@pytest.mark.parametrize("cut", [FaceCut(), FaceCut(0.25, 160, "mine:Ünder")])
def test_a_file_says_how_it_was_cut(cut: FaceCut, ending: str) -> None:
    file = io.BytesIO(cut.encode(Image.new("RGB", (112, 112), "red"), ending))
    with Image.open(file) as image:
        assert image.format == {".jpg": "JPEG", ".png": "PNG"}[ending]
        assert FaceCut.of_file(image) == cut
        again = io.BytesIO()
        image.save(again, image.format)
    with Image.open(again) as other:
        assert FaceCut.of_file(other) in (cut, None)
    plain = io.BytesIO()
    Image.new("L", (8, 8)).save(plain, "PNG")
    with Image.open(plain) as image:
        assert FaceCut.of_file(image) is None


@pytest.mark.parametrize(
    "said",
    ["", "{", "[]", "3", "null", '{"margin": 1}', "[" * 100_000, "\udcff", '{"a": 1e999}']
    + [
        json.dumps({"margin": margin, "size": size, "detector": "mtcnn"})
        for margin, size in ((-1, 112), ("a", 112), ([], 112), (None, 1e9), (None, None), (0, "x"))
    ],
)
def test_a_hostile_mark_says_nothing(said: str) -> None:
    file = Image.new("L", (8, 8))
    for comment in ("facenet_ext face, cut " + said, said.encode("utf-8", "surrogateescape")):
        file.info["comment"] = comment
        assert FaceCut.of_file(file) is None


@pytest.mark.parametrize(("margin", "size"), [(-0.1, 112), (11, 112), (float("nan"), 112), (0, 7)])
def test_a_cut_that_makes_no_sense_is_refused(margin: float, size: int) -> None:
    with pytest.raises(ValueError, match=r"`(margin|size)`"):
        FaceCut(margin, size)


def test_grey_faces_stay_grey() -> None:
    for colour, mode in (("gray", "L"), ("red", "RGB")):
        file = io.BytesIO(FaceCut().encode(Image.new("RGB", (16, 16), colour), ".jpg"))
        with Image.open(file) as image:
            assert image.mode == mode


def test_faces_come_by_size_and_small_or_unsure_ones_not() -> None:
    photo = np.zeros((100, 100, 3), np.uint8)
    boxes = [[0, 0, 50, 50], [0, 0, 60, 60], [0, 0, 39, 90], [0, 0, 70, 70]]
    scores = [0.9, 0.95, 0.99, 0.89]
    faces = find_faces(lambda _: (boxes, None, scores), photo)
    assert [face.box[2] for face in faces] == [60, 50]
    assert find_faces(lambda _: ([], None, []), photo) == []
    assert find_faces(lambda _: ([], [], []), photo) == []


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (None, "expected boxes, points and scores, got None"),
        (([], []), "expected boxes, points and scores"),
        (([[1, 2, 3]], None, [1]), r"boxes \[N, 4\] and scores \[N\], got \[1, 3\] and \[1\]"),
        (([BOX], None, [1, 2]), r"got \[1, 4\] and \[2\]"),
        (([BOX], np.zeros((1, 10)), [1]), r"expected points \[1, 5, 2\] or None, got \[1, 10\]"),
        (([BOX], None, [float("nan")]), "expected finite numbers"),
        (([[0, 0, 1, np.inf]], None, [1]), "expected finite numbers"),
    ],
)
def test_a_detector_that_returns_something_else_is_told(found: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        find_faces(lambda _: found, np.zeros((10, 10, 3), np.uint8))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("haar", "`detector` haar: expected mtcnn or module:function"),
        (":find", "`detector` :find: expected module:function"),
        ("no_such_module:find", "no_such_module:find: there is no module no_such_module"),
        ("detectors:none", "detectors:none: detectors has no none"),
        ("detectors:number", "expected a function or a class, it is 3"),
        ("detectors:Path", "detectors has no Path"),
        ("io:TextIOWrapper", "io:TextIOWrapper: cannot be made .TypeError"),
    ],
)
def test_a_detector_that_cannot_be_loaded_is_one_line(name: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        load_detector(name)


def test_a_module_in_the_current_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "found_here.py").write_text("class Finder:\n    def __call__(self, photo): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "json.py").write_text("raise RuntimeError")
    monkeypatch.delitem(sys.modules, "json")
    assert callable(load_detector("found_here:Finder"))
    assert callable(load_detector("json:loads"))


def test_without_its_package_the_detector_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "mtcnnruntime", None)
    monkeypatch.setattr(metadata, "requires", lambda _: ["mtcnn-runtime; extra == 'align'"])
    monkeypatch.setattr("facenet_ext._extras._is_installed", lambda _: False)
    told = "`detector` mtcnn: needs mtcnnruntime, which is not installed: pip install mtcnn-runtime"
    with pytest.raises(InputError, match=told):
        load_detector()
    module = types.ModuleType("mtcnnruntime")  # where OpenCV cannot be loaded

    def fail(name: str) -> None:
        raise ImportError("libGL.so.1: cannot open shared object file")

    module.__getattr__ = fail  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "mtcnnruntime", module)
    with pytest.raises(InputError, match=r"libGL.*pip install opencv-python-headless"):
        load_detector()


def test_a_photo_is_read_whole_and_upright(tmp_path: Path) -> None:
    photo = Image.new("RGB", (300, 200), "red")
    photo.paste("blue", (0, 0, 20, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    photo.save(tmp_path / "a.png", exif=exif)
    read = read_photo(list_tree(tmp_path), 0)
    assert read.size == (200, 300)
    assert read.getpixel((199, 0)) == (0, 0, 255)


# The detector that comes along.


def test_a_photo_without_a_face_is_looked_at_with_a_wider_border(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sides = []

    class Mtcnn:
        def detect(self, photo: Any, min_face_size: int) -> Any:
            """Find the white pixels, where there are as many black ones on all sides."""
            sides.append(photo.shape[:2])
            left, right = np.flatnonzero(photo.any((0, 2)))[[0, -1]]
            top, bottom = np.flatnonzero(photo.any((1, 2)))[[0, -1]]
            if 2 * left < right - left:
                raise ValueError("need at least one array to concatenate")
            return np.array([[left, top, right, bottom, 0.9]]), np.zeros((1, 10))

    module = types.ModuleType("mtcnnruntime")
    module.MTCNN = Mtcnn  # type: ignore[attr-defined]
    module.detector = types.ModuleType("detector")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mtcnnruntime", module)
    (face,) = find_faces(load_detector(), np.full((64, 80, 3), 255, np.uint8))
    assert face.box == (0, 0, 79, 63)
    assert sides == [(80, 100), (128, 160)]


@pytest.fixture(scope="module")
def detector() -> Any:
    pytest.importorskip("mtcnnruntime", reason="the extra 'align' is not installed")
    return load_detector()


@pytest.fixture(scope="module")
def draw() -> Any:
    if not (ROOT / "examples").is_dir():
        pytest.skip("examples/ is not here: these are installed tests")
    sys.path.append(str(ROOT))
    from examples.drawn_photos import draw_photo

    return draw_photo


@pytest.mark.parametrize("people", [[1, 2, 3], [4], [5, 6]])
def test_mtcnn_finds_drawn_faces_and_their_points(
    people: list[int], detector: Any, draw: Any
) -> None:
    photo, points = draw(people, size=(320 * len(people), 320))
    faces = find_faces(detector, np.asarray(photo))
    assert len(faces) == len(people)
    for face, expected in zip(sorted(faces), points, strict=True):  # from the left
        eyes = np.linalg.norm(expected[1] - expected[0])
        assert face.points is not None
        assert np.linalg.norm(face.points - expected, axis=1).max() < 0.2 * eyes
        upright = similarity(face.points, TEMPLATE) @ np.column_stack([expected, np.ones(5)]).T
        assert np.abs(upright.T - TEMPLATE).max() < 12


def test_a_face_at_the_edge_keeps_its_points(detector: Any, draw: Any) -> None:
    """The package's own points of it are wrong by a third of the eyes' distance."""
    photo, points = draw([4], size=(320, 320))
    (left, top), (right, bottom) = points[0].min(0), points[0].max(0)
    box = tuple(map(round, (left - 15, top - 15, right + 15, bottom + 15)))
    tight = photo.crop(box).resize((300, 300), Image.Resampling.BICUBIC)
    expected = (points[0] - box[:2]) * [300 / (box[2] - box[0]), 300 / (box[3] - box[1])]
    (face,) = find_faces(detector, np.asarray(tight), min_score=0)
    eyes = np.linalg.norm(expected[1] - expected[0])
    assert face.points is not None
    assert np.linalg.norm(face.points - expected, axis=1).max() < 0.2 * eyes


@pytest.mark.parametrize("size", [(1, 1), (8, 300), (41, 41), (300, 200)])
@pytest.mark.parametrize("kind", ["black", "noise"])
def test_mtcnn_without_a_face_is_no_error(
    size: tuple[int, int], kind: str, detector: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = np.random.default_rng(0)
    high = 256 if kind == "noise" else 1
    photo = draw.integers(0, high, (size[1], size[0], 3)).astype(np.uint8)
    assert find_faces(detector, photo) == []
    assert capsys.readouterr().out == ""  # --json prints to it


def test_mtcnn_prints_nothing(detector: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from mtcnnruntime.detector import get_image_boxes

    outside = np.array([[-140.0, -140.0, -100.0, -100.0, 1.0]])
    get_image_boxes(outside, np.zeros((300, 300, 3), np.uint8))
    assert capsys.readouterr().out == ""
