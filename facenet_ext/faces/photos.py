"""Cuts the faces out of a folder of photos, in constant memory; a killed call can be continued.

The photos are divided into blocks, in their order. Several processes claim blocks, and the faces
are the same with any number of them.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from facenet_ext._agreement import check_same
from facenet_ext._claims import Claims, claiming
from facenet_ext._defaults import MIN_FACE_SIZE, MIN_SCORE
from facenet_ext._files import replacing
from facenet_ext._ranks import Ranks
from facenet_ext.common.blocks import UNFINISHED, Blocks, working_in_blocks
from facenet_ext.common.errors import InputError
from facenet_ext.common.files import read_json, write_json, writing
from facenet_ext.common.text import printable
from facenet_ext.data.image_list import ImageList
from facenet_ext.data.images import UnreadableImageError, read_row
from facenet_ext.faces.cut import FaceCut
from facenet_ext.faces.detection import Detector, Face, find_faces
from facenet_ext.faces.faceless import Place

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = [
    "FACES",
    "LEFT_OUT",
    "AlignedFace",
    "AlignedFaces",
    "FaceChoice",
    "align_photos",
    "read_faces",
]

FACES = "faces.csv"
LEFT_OUT = "left_out.csv"
_DONE = "align.json"
_FORMAT = "facenet_ext aligned faces, 1"
_BATCH = 8
_CUT_AS_OTHERS = "; cut where the faces of the other photos lie"


class AlignedFace(NamedTuple):
    """A face that was cut out: a row of ``faces.csv``.

    Attributes:
        image: the path of its file under the folder of the faces.
        photo: the path of the photo under its folder.
        found: how many faces there are in the photo.
        face: where it is in the photo.
    """

    image: str
    photo: str
    found: int
    face: Face


_POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
_COLUMNS = (
    *("image", "photo", "found", "left", "top", "right", "bottom", "score"),
    *(f"{point}_{axis}" for point in _POINTS for axis in ("x", "y")),
)


class AlignedFaces(NamedTuple):
    """What came of a folder of photos.

    Attributes:
        folder: of the faces.
        photos: how many there are.
        faces: that were cut out.
        faceless: photos without a face, also such as are cut where the others' faces lie.
        unreadable: photos that cannot be read.
    """

    folder: Path
    photos: int
    faces: int
    faceless: int
    unreadable: int


@dataclasses.dataclass(frozen=True)
class FaceChoice:
    """Which faces of a photo are taken.

    Attributes:
        faces: "largest", "center" (the one closest to the centre), or "all".
        min_face_size: the least height and width of a face's box, pixels.
        min_score: the least score of the detector.
        without_face: what is done with a photo in which no face is found: "leave" it out, or cut it
            at the "median" of where the faces of the other photos lie.
    """

    faces: Literal["largest", "center", "all"] = "largest"
    min_face_size: int = MIN_FACE_SIZE
    min_score: float = MIN_SCORE
    without_face: Literal["leave", "median"] = "leave"

    def take(self, faces: list[Face], photo: Image.Image) -> list[Face]:
        """Return those that are taken of the faces of a photo, the largest first."""
        if self.faces != "center":
            return faces if self.faces == "all" else faces[:1]
        width, height = photo.size

        def offset(face: Face) -> float:
            left, top, right, bottom = face.box
            return math.hypot(left + right - width, top + bottom - height)

        return sorted(faces, key=offset)[:1]


def align_photos(
    photos: ImageList,
    output: Path,
    detector: Detector,
    cut: FaceCut | None = None,
    choice: FaceChoice = FaceChoice(),
    *,
    progress: Callable[[int, int], None] | None = None,
    group: ProcessGroup | None = None,
) -> AlignedFaces:
    """Find the faces in photos, and write each into a file of its own.

    A face has the path of its photo; with ``faces="all"`` a number is added to its name, from the
    largest face on. Beside the faces are written ``faces.csv`` (see :class:`AlignedFace`) and
    ``left_out.csv``, photos without a face and such that cannot be read. After a kill the same
    call, in any number of processes, does no finished photo again.

    Args:
        photos: see :func:`facenet_ext.recognition.list_tree`.
        output: a folder, a new one or one that such a call began.
        detector: finds the faces: see :func:`load_detector`.
        cut: how they are cut out, by default by five points; its ``detector`` is the detector's
            name.
        choice: which are taken.
        progress: called with how many photos are done, and how many there are.
        group: the processes that divide the photos; all of them call it, with the same arguments,
            and reach ``output``. None: this process alone.

    Raises:
        InputError: the folder holds something else or cannot be written to, or the detector fails.
    """
    cut = cut or FaceCut()
    described = {
        "photos": len(photos),
        "listed": photos.fingerprint,
        "cut": dataclasses.asdict(cut),
        **dataclasses.asdict(choice),
    }
    ranks = Ranks.among(group)
    check_same(ranks, output=output, **described)
    ranks.first(lambda: _check(photos, output))
    with working_in_blocks(
        output,
        len(photos),
        _BATCH,
        described,
        ranks=ranks,
        is_finished=lambda: _finished(output, described),
        doing="cutting faces",
        others="other photos or other options",
    ) as blocks:
        if blocks is not None:
            work = _Work(photos, output, detector, cut, choice)
            before = ranks.number(blocks.done)
            with claiming(ranks) as claims:
                work.do(blocks, claims, before, progress)
            ranks.first(lambda: work.join(blocks, described))
    done = read_json(output / _DONE)
    return AlignedFaces(
        output, len(photos), *(int(done[name]) for name in ("faces_cut", "faceless", "unreadable"))
    )


def read_faces(folder: Path) -> Iterator[AlignedFace]:
    """Read the ``faces.csv`` of a folder that :func:`align_photos` wrote.

    Raises:
        InputError: the file is missing or another one.
    """
    path = folder / FACES
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            if tuple(next(rows, ())) != _COLUMNS:
                raise InputError(f"{path}: its columns are not those of 'facenet align'")
            for image, photo, found, *numbers in rows:
                left, top, right, bottom, score, *points = numbers
                where = np.array(points, float).reshape(5, 2) if points[0] else None
                box = (float(left), float(top), float(right), float(bottom))
                yield AlignedFace(image, photo, int(found), Face(box, where, float(score)))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None


def _check(photos: ImageList, output: Path) -> None:
    """Refuse a folder with other files, and photos whose faces would have one name."""
    with writing(output):
        held = {entry.name for entry in output.iterdir()} if output.is_dir() else set()
    if held and not held & {_DONE, UNFINISHED}:
        raise InputError(f"`output` {output}: holds other files; choose a new or an empty folder")
    names = set(photos.ids)
    for name in photos.ids:
        if (image := _file_name(name, None)) != name and image in names:
            raise InputError(
                f"{photos.root}: {printable(name)} and {printable(image)} would both become "
                f"{printable(image)}; rename one of them"
            )


def _finished(output: Path, described: dict[str, Any]) -> bool:
    done = read_json(output / _DONE)
    done = done and {"without_face": "leave"} | done  # older versions do not say it
    if done and any(done.get(name) != value for name, value in described.items()):
        raise InputError(
            f"{output}: holds faces of other photos, or faces that were cut with other options; "
            "choose another folder"
        )
    return bool(done)


class _Work(NamedTuple):
    """What is done with each photo."""

    photos: ImageList
    output: Path
    detector: Detector
    cut: FaceCut
    choice: FaceChoice
    alone: threading.Lock = threading.Lock()

    def do(
        self,
        blocks: Blocks,
        claims: Claims,
        before: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Cut the faces out of the photos of the blocks that this process claims."""
        count = len(self.photos)
        if progress is not None:
            progress(before, count)
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of torchrun, on this machine
        # One thread detects, while the others read photos and write faces.
        pool = ThreadPoolExecutor(1 + max(1, (os.cpu_count() or 1) // processes))
        todo = (piece for piece in claims.of(blocks.ranges) if not blocks.is_done(piece[0]))

        def start() -> tuple[int, range, Iterable[list[Any] | str]] | None:
            """Begin with the next block: while the last photos of this one are in work."""
            following = next(todo, None)
            return following and (*following, pool.map(self._align, following[1]))

        try:
            current = start()
            while current is not None:
                number, block, results = current
                current = start()
                facts = {"photos": dict(zip(block, results, strict=True))}
                with writing(self.output, ""):
                    blocks.finish(number, facts)
                done = before + claims.finish(len(block))
                if progress is not None:
                    progress(done, count)
        finally:
            pool.shutdown(cancel_futures=True)

    def _align(self, position: int) -> list[Any] | str:
        """Write the faces of a photo; return their rows, or why it cannot be read."""
        name = self.photos.ids[position]
        try:
            name.encode("utf-8")
            photo = read_photo(self.photos, position)
        except UnicodeEncodeError:
            return "its name is not UTF-8"
        except UnreadableImageError as error:
            return str(error).removeprefix(f"{self.photos.path(position)}: ")
        rows = []
        faces = self._find(photo, name)
        for number, face in enumerate(self.choice.take(faces, photo), 1):
            image = _file_name(name, number if self.choice.faces == "all" else None)
            try:
                cut = self.cut.cut(photo, face)
            except ValueError as error:
                raise InputError(f"`detector` {self.cut.detector}: {name}: {error}") from None
            self._write(cut, position, image)
            points = [""] * 10 if face.points is None else face.points.flatten().round(2).tolist()
            box = [round(value, 2) for value in face.box]
            numbers = [*box, round(face.score, 4), *points]
            rows.append([image, len(faces), *numbers, *Place.of(self.cut, face, photo.size)])
        return rows

    def _write(self, cut: Image.Image, position: int, image: str) -> None:
        # With the photo's time a face that is made again is the same file to whatever used it.
        archive = self.photos.path(position) if self.photos.images is None else self.photos.root
        taken = archive.stat().st_mtime_ns
        path = self.output / image
        with writing(path.parent, ""):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.cut.encode(cut, path.suffix))
            os.utime(path, ns=(taken, taken))

    def _find(self, photo: Image.Image, name: str) -> list[Face]:
        try:
            with self.alone:
                return find_faces(
                    self.detector,
                    np.asarray(photo),
                    min_face_size=self.choice.min_face_size,
                    min_score=self.choice.min_score,
                )
        except Exception as error:  # whatever the user's code raises
            raise InputError(
                f"`detector` {self.cut.detector}: fails on {printable(name)} "
                f"({type(error).__name__}: {error})"
            ) from error

    def join(self, blocks: Blocks, described: dict[str, Any]) -> None:
        """Make of the blocks the tables, cut what has no face, and say that all is done."""
        counts = collections.Counter(faces_cut=0, faceless=0, unreadable=0)
        place = None
        if self.choice.without_face == "median":
            place = Place.median(
                Place(*row[-3:])
                for _, result in self._results(blocks)
                for row in (result if isinstance(result, list) else ())
            )

        def faces() -> Iterator[tuple[object, ...]]:
            yield _COLUMNS
            for position, result in self._results(blocks):
                for image, *numbers in result if isinstance(result, list) else ():
                    counts["faces_cut"] += 1
                    yield image, self.photos.ids[position], *numbers[:-3]

        def left_out() -> Iterator[tuple[object, ...]]:
            yield "photo", "reason"
            for position, result in self._results(blocks):
                name = self.photos.ids[position]
                if isinstance(result, str):
                    counts["unreadable"] += 1
                    yield printable(name), "cannot be read: " + " ".join(result.split())
                elif not result:
                    counts["faceless"] += 1
                    if place is not None:
                        photo = read_photo(self.photos, position)
                        cut = self.cut.cut_at(photo, place.position(self.cut.size, photo.size))
                        self._write(cut, position, _file_name(name, None))
                    yield name, "no face found" + ("" if place is None else _CUT_AS_OTHERS)

        with writing(self.output, ""):
            for name, rows in ((FACES, faces()), (LEFT_OUT, left_out())):
                with (
                    replacing(self.output / name) as unfinished,
                    unfinished.open("w", encoding="utf-8", newline="") as file,
                ):
                    csv.writer(file, lineterminator="\n").writerows(rows)
            write_json(self.output / _DONE, {"format": _FORMAT} | described | counts)
        blocks.remove()

    def _results(self, blocks: Blocks) -> Iterator[tuple[int, list[Any] | str]]:
        for facts in blocks.facts():
            for position, result in facts["photos"].items():
                yield int(position), result


def read_photo(photos: ImageList, position: int) -> Image.Image:
    """Return a photo as a viewer shows it, in RGB.

    Raises:
        UnreadableImageError: it cannot be decoded.
    """
    whole: list[Image.Image] = []

    def keep(photo: Image.Image) -> Image.Image:
        whole.append(photo)
        return Image.new("RGB", (1, 1))  # what is scaled, and not used

    read_row(photos, position, 1, 3, keep)
    return whole[0]


def _file_name(photo: str, number: int | None) -> str:
    """Return the path of a face's file.

    Example:
        >>> _file_name("Ann/a.jpg", None), _file_name("Ann/a.PNG", 2), _file_name("b.heic", None)
        ('Ann/a.jpg', 'Ann/a_2.PNG', 'b.heic.jpg')
    """
    path = PurePosixPath(photo)
    ending = path.suffix if path.suffix.lower() in (".jpg", ".jpeg", ".png") else ""
    stem = path.name.removesuffix(ending) + ("" if number is None else f"_{number}")
    return str(path.with_name(stem + (ending or ".jpg")))
