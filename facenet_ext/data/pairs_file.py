"""Files that name pairs to verify: LFW's, YouTube Faces', and a user's own as ``.csv``."""

from __future__ import annotations

import functools
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from facenet_ext.common.errors import InputError
from facenet_ext.common.text import comparable, counted, csv_rows, read_text
from facenet_ext.data.image_list import ImageList, entries_of, is_folder, is_image

__all__ = ["NamedPair", "PairsFile", "read_pairs"]

_FRAMES = 100
"""Most frames of a video, as in the paper."""


class NamedPair(NamedTuple):
    """A pair as a file names it.

    ``first`` and ``second`` are paths under the folder of the images: of images, which LFW's files
    name without their endings, or of videos, which are folders. ``fold`` is "" where none is named.
    """

    line: int
    first: str
    second: str
    same: bool
    fold: str


class PairsFile(NamedTuple):
    """The content of a pairs file; ``of`` says what it names."""

    path: Path
    of: Literal["numbered images", "images", "videos"]
    pairs: list[NamedPair]

    @property
    def people(self) -> set[str]:
        """The pairs' identities, as :func:`facenet_ext.common.text.comparable` returns names."""
        names = {name for pair in self.pairs for name in (pair.first, pair.second)}
        return {comparable(self._identity(name)) for name in names}

    def _identity(self, name: str) -> str:
        return name.split("/")[0] if self.of == "videos" else Path(name).parent.name

    def locate(self, images: ImageList) -> tuple[ImageList, list[list[int]], list[tuple[int, int]]]:
        """Find the files of the images or videos that the pairs name.

        Args:
            images: as :func:`~.image_list.list_identities` lists them, or of a set. Of files only
                LFW's need the list: for others it may be empty.

        Returns:
            The images named, each once; the rows of each item, which is an image or the frames of
            a video; and the two items of each pair.

        Raises:
            InputError: images are missing; the message names the first.
        """
        lines: dict[str, int] = {}
        for pair in self.pairs:
            lines.setdefault(pair.first, pair.line)
            lines.setdefault(pair.second, pair.line)
        find = self._finder(images)
        files_of = {name: tuple(find(name)) for name in lines}
        if missing := [name for name, files in files_of.items() if not files]:
            if self.of == "numbered images":
                raise InputError(
                    f"{self.path}: {len(missing):,} of the {counted(len(lines), 'image')} it names "
                    f"are missing or cannot be read, first {missing[0]}; give the pairs file that "
                    "belongs to these images"
                )
            kind = "frames in" if self.of == "videos" else "image"
            where = f"{self.path}: line {lines[missing[0]]}"
            raise InputError(f"{where}: no {kind} {images.root / missing[0]}")
        # Items are told apart by their files: a name may be spelt in two ways.
        items = {files: at for at, files in enumerate(dict.fromkeys(files_of.values()))}
        rows: dict[str, int] = {}
        places = [[rows.setdefault(file, len(rows)) for file in files] for files in items]
        ends = [(items[files_of[pair.first]], items[files_of[pair.second]]) for pair in self.pairs]
        if images.images is not None:
            place = {name: row for row, name in enumerate(images.ids)}
            return images.among(place[file] for file in rows), places, ends
        whose = [self._identity(file) for file in rows]
        return ImageList(images.root, list(rows), whose, images.passed_over), places, ends

    def _finder(self, images: ImageList) -> Callable[[str], list[str]]:
        """Return a function from an item's name to its files; there are none if it is missing."""
        if self.of == "numbered images":
            by_stem = {comparable(os.path.splitext(file)[0]): [file] for file in images.ids}
            return lambda name: by_stem.get(name, [])
        if images.images is not None:
            if self.of == "videos":
                raise InputError(f"{self.path}: names videos, and {images.root} is no folder")
            by_name = {comparable(name): [name] for name in images.ids}
            return lambda name: by_name.get(comparable(name), [])
        spelt = _spelling(images.root)
        if self.of == "videos":
            return lambda name: _frames(spelt(name), images)
        return lambda name: [n for n in [spelt(name)] if is_image(images.root / n, Counter())]


def read_pairs(path: Path) -> PairsFile:
    """Read a file of pairs.

    - LFW's begins with ``folds n``. Each fold has n lines ``name i j``, two images of one identity,
      then n lines ``name1 i name2 j``, of two. Fields are separated by tabs or, where names have no
      blanks, by blanks. The images are ``<name>/<name>_<number>``, four digits.
    - YouTube Faces' has a line of names, then lines ``fold, video, video, 0 or 1``. The videos are
      folders ``<identity>/<video>`` of frames.
    - A ``.csv`` has the columns first, second (paths of images), same (0 or 1), and perhaps fold.

    Raises:
        InputError: the file is missing or not in such a format; the message tells the line.
    """
    text = read_text(path, f"{path}: the pairs file")
    if path.suffix.lower() == ".csv":
        return PairsFile(path, "images", list(_rows(path, text, videos=False)))
    if "," in text.lstrip().split("\n", 1)[0]:
        return PairsFile(path, "videos", list(_rows(path, text, videos=True)))
    return PairsFile(path, "numbered images", list(_numbered(path, text)))


def _numbered(path: Path, text: str) -> Iterator[NamedPair]:
    """Read LFW's format."""
    rows = [
        (number, line.split("\t") if "\t" in line else line.split())
        for number, line in enumerate(comparable(text).split("\n"), start=1)
        if line.strip()
    ]
    try:
        folds, per_fold = (int(field) for field in rows[0][1])
    except (IndexError, ValueError):
        raise InputError(f"{path}: line 1 must be 'folds pairs-per-fold', as in '10 300'") from None
    if folds < 2 or per_fold < 1 or len(rows) - 1 != folds * 2 * per_fold:
        raise InputError(
            f"{path}: line 1 promises {folds} folds of {per_fold} same and {per_fold} different "
            f"pairs, there are {len(rows) - 1} pairs; it needs two folds or more, all complete"
        )
    for number, (line, row) in enumerate(rows[1:]):
        fold, place = divmod(number, 2 * per_fold)
        same = place < per_fold
        try:
            one, i, other, j = [*row[:2], row[0], *row[2:]] if same else row
            first, second = (f"{name}/{name}_{int(at):04d}" for name, at in ((one, i), (other, j)))
        except ValueError:
            form = "'name i j'" if same else "'name i name j'"
            raise InputError(
                f"{path}: pair {number + 1} must be {form}, it is {' '.join(row)!r}"
            ) from None
        yield NamedPair(line, first, second, same, f"{fold:09d}")


def _rows(path: Path, text: str, *, videos: bool) -> Iterator[NamedPair]:
    """Read YouTube Faces' format, or a user's own."""
    rows = [row for _, row in csv_rows(path, text, "pairs")]
    header = [name.strip().lower() for name in rows[0]] if rows else []
    form = f"have {len(header)} fields, the third 0 or 1"
    if videos:
        form = "be 'fold, video, video, 0 or 1'"
    elif header[:3] != ["first", "second", "same"] or header[3:] not in ([], ["fold"]):
        raise InputError(
            f"{path}: line 1 must be 'first,second,same' or 'first,second,same,fold', it is "
            f"{','.join(header)!r}"
        )
    for number, row in enumerate(rows[1:], start=2):
        fields = [field.strip() for field in row]
        if not any(fields):
            continue
        if videos:
            right = len(fields) >= 4 and fields[0].isdigit()
            fold, first, second, same = (fields + [""] * 3)[:4]
        else:
            right = len(fields) == len(header)
            first, second, same, fold = (fields + [""] * 3)[:4]
        if not right or same not in ("0", "1"):
            raise InputError(f"{path}: line {number} must {form}, it is {','.join(row)!r}")
        yield NamedPair(number, first, second, same == "1", fold)


def _spelling(root: Path) -> Callable[[str], str]:
    """Return a function from a path's name in a text to its name on disk, if spelt otherwise."""

    @functools.cache
    def names_in(folder: Path) -> dict[str, list[str]]:
        names = defaultdict(list)
        for name in os.listdir(folder) if folder.is_dir() else []:
            names[comparable(name)].append(name)
        return names

    def spelt(name: str) -> str:
        if name.isascii() or os.path.exists(root / name):
            return name
        paths = [root]
        for part in Path(name).parts:
            paths = [
                path / on_disk
                for path in paths
                for on_disk in names_in(path).get(comparable(part), [])
            ]
        return paths[0].relative_to(root).as_posix() if paths else name

    return spelt


def _frames(video: str, images: ImageList) -> list[str]:
    """Return the first frames of a video, in the order of their numbers."""
    entries = entries_of(images.root / video) if (images.root / video).is_dir() else []
    frames = [e.name for e in entries if not is_folder(e) and is_image(e, images.passed_over)]

    def order(frame: str) -> tuple[list[int], str]:
        return [int(digits) for digits in re.findall(r"\d+", frame)], frame

    return [f"{video}/{frame}" for frame in sorted(frames, key=order)[:_FRAMES]]
