"""What to verify: images, or videos of them, and pairs: LFW, YouTube Faces, and one's own."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facenet_ext.common.errors import InputError
from facenet_ext.common.text import comparable, read_lines, read_text
from facenet_ext.data.image_list import ImageList, list_tree
from facenet_ext.data.listing import is_folder, is_image
from facenet_ext.data.pairs import Pairs, all_pairs, identity_folds, read_pairs
from facenet_ext.data.sources import find, list_images
from facenet_ext.recognition.store import number

__all__ = ["Protocol", "read_protocol"]

_FRAMES = 100
"""Of a video, as the paper takes them."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Items to embed and pairs of them to verify.

    Attributes:
        name: what this is, for a report.
        images: all there are to embed.
        items: the rows of ``images`` of each item: one, or a video's frames.
        pairs: of items.
    """

    name: str
    images: ImageList
    items: list[list[int]]
    pairs: Pairs

    def among(self, kept: Sequence[int]) -> Protocol:
        """Return what is left where only some items are."""
        items = [self.items[item] for item in kept]
        return dataclasses.replace(self, items=items, pairs=self.pairs.among(kept))

    def names(self) -> list[str]:
        """Return a name for each item: its image's, or its video's."""
        return [
            self.images.ids[item[0]]
            if len(item) == 1
            else str(Path(self.images.ids[item[0]]).parent)
            for item in self.items
        ]


def read_protocol(
    data: str, pairs: str | None = None, identities: set[str] | None = None
) -> Protocol:
    """Read what is to verify.

    Args:
        data: ``"lfw"``: Labeled Faces in the Wild as scikit-learn downloads it; or a folder, or an
            archive of one, of images in a folder for each identity, or such a folder beside others
            as :func:`facenet_ext.data.sources.find` takes them; or of videos,
            ``<identity>/<video>/<frame>``.
        pairs: a file in LFW's format (``pairs.txt``), or of YouTube Faces (``splits.txt``), or a
            ``.csv`` with the columns first, second (paths under ``data``), same (0 or 1), and
            perhaps fold. By default the ``pairs.txt`` in ``data``; without one all pairs of images.
        identities: whose images all pairs are of; by default everyone's.

    Raises:
        InputError: something is missing or in no such format; the message tells the file and line.
    """
    if data == "lfw":
        root, default = _downloaded_lfw()
        return _lfw("LFW", root, Path(pairs) if pairs else default)
    source = find(data)
    root = source.val or source.train
    path = Path(pairs) if pairs is not None else source.pairs
    if path is None and pairs is None and (root / "pairs.txt").is_file():
        path = root / "pairs.txt"
    if path is None:
        return _all_pairs(root, identities)
    if path.suffix.lower() == ".csv":
        return _own_pairs(root, path)
    first = read_text(path, f"{path}: the pairs file").lstrip().split("\n", 1)[0]
    return _videos(root, path) if "," in first else _lfw(path.name, root, path)


def _downloaded_lfw() -> tuple[Path, Path]:
    """Return the folder and the pairs that scikit-learn downloads, now or before."""
    from sklearn.datasets import fetch_lfw_pairs, get_data_home  # type: ignore[import-untyped]

    home = Path(get_data_home()) / "lfw_home"
    root, pairs = home / "lfw_funneled", home / "pairs.txt"
    if not (root.is_dir() and pairs.is_file()):
        try:
            fetch_lfw_pairs(subset="10_folds", resize=0.1)
        except Exception as error:  # of many kinds: no network, a damaged archive
            raise InputError(
                f"`data` lfw: cannot be downloaded to {home} ({error}); or put lfw_funneled/ and "
                "pairs.txt there"
            ) from None
    return root, pairs


def _lfw(name: str, root: Path, path: Path) -> Protocol:
    file = read_pairs(path)
    passed_over: Counter[str] = Counter()
    found = file.locate(list_images(root, passed_over), path)
    images = ImageList(
        root,
        [f"{image.path.parent.name}/{image.path.name}" for image in found],
        [image.path.parent.name for image in found],
        passed_over,
    )
    return Protocol(name, images, [[row] for row in range(len(found))], file.pairs)


def _all_pairs(root: Path, identities: set[str] | None) -> Protocol:
    images = list_tree(root)
    if identities is not None:
        wanted = set(map(comparable, identities))
        kept = [row for row, name in enumerate(images.identities) if comparable(name) in wanted]
        ids, whose = ([names[row] for row in kept] for names in (images.ids, images.identities))
        images = ImageList(root, ids, whose, images.passed_over)
    if not all(images.identities):
        nameless = images.ids[images.identities.index("")]
        raise InputError(
            f"{root}: whose is {nameless}? Put every image into a folder with the name of its "
            "identity, or give `pairs`"
        )
    labels = torch.from_numpy(number(images.identities)[1])
    items = [[row] for row in range(len(labels))]
    return Protocol("all pairs", images, items, all_pairs(labels))


def _own_pairs(root: Path, path: Path) -> Protocol:
    """Read first,second,same[,fold] with paths of images."""
    try:
        text = read_text(path, f"{path}: the pairs file")
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise InputError(f"{path}: not a .csv file of pairs ({error})") from None
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if header[:3] != ["first", "second", "same"] or header[3:] not in ([], ["fold"]):
        raise InputError(
            f"{path}: line 1 must be 'first,second,same' or 'first,second,same,fold', it is "
            f"{','.join(header)!r}"
        )
    spelt = _Spelling(root)
    positions: dict[str, int] = {}
    pairs: list[tuple[int, int, bool, str]] = []
    for line, row in enumerate(rows[1:], start=2):
        if not any(field.strip() for field in row):
            continue
        fields = [field.strip() for field in row]
        if len(fields) != len(header) or fields[2] not in ("0", "1"):
            raise InputError(
                f"{path}: line {line} must have {len(header)} fields, the third 0 or 1, it is "
                f"{','.join(row)!r}"
            )
        names = [spelt(name) for name in fields[:2]]
        for name in names:
            if name not in positions and not _is_image(root / name):
                raise InputError(f"{path}: line {line}: no image {root / name}")
        first, second = (positions.setdefault(name, len(positions)) for name in names)
        pairs.append((first, second, fields[2] == "1", fields[3] if len(fields) > 3 else ""))
    names = list(positions)
    images = ImageList(root, names, [Path(name).parent.name for name in names])
    items = [[row] for row in range(len(names))]
    return Protocol(path.name, images, items, _make_pairs(pairs, images.identities, path))


def _videos(root: Path, path: Path) -> Protocol:
    """Read YouTube Faces' splits: fold, first video, second video, same, after a line of names."""
    frames: dict[str, list[Path]] = {}
    spelt = _Spelling(root)
    positions: dict[str, int] = {}
    pairs: list[tuple[int, int, bool, str]] = []
    passed_over: Counter[str] = Counter()
    for line, text in enumerate(read_lines(path, f"{path}: the pairs file")[1:], start=2):
        fields = [field.strip() for field in text.split(",")]
        if not any(fields):
            continue
        if len(fields) < 4 or not fields[0].isdigit() or fields[3] not in ("0", "1"):
            raise InputError(
                f"{path}: line {line} must be 'fold, video, video, 0 or 1', it is {text!r}"
            )
        names = [spelt(name) for name in fields[1:3]]
        for name in names:
            if name not in frames:
                frames[name] = _frames(root / name, passed_over)
            if not frames[name]:
                raise InputError(f"{path}: line {line}: no frames in {root / name}")
        first, second = (positions.setdefault(name, len(positions)) for name in names)
        pairs.append((first, second, fields[3] == "1", fields[0]))
    images = ImageList(root, [], [], passed_over)
    items = []
    for name in positions:
        items.append(list(range(len(images), len(images) + len(frames[name]))))
        for frame in frames[name]:
            images.ids.append(f"{name}/{frame.name}")
            images.identities.append(name.split("/")[0])
    whose = [name.split("/")[0] for name in positions]
    return Protocol(path.name, images, items, _make_pairs(pairs, whose, path))


class _Spelling:
    """Finds the name that a file or folder has on disk, where a text spells it another way."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[Path, dict[str, list[str]]] = {}

    def __call__(self, name: str) -> str:
        if name.isascii() or os.path.exists(self.root / name):
            return name
        found = self._find(self.root, Path(name).parts)
        return name if found is None else found.relative_to(self.root).as_posix()

    def _find(self, folder: Path, parts: Sequence[str]) -> Path | None:
        if not parts:
            return folder
        for name in self._names_in(folder).get(comparable(parts[0]), []):
            if (found := self._find(folder / name, parts[1:])) is not None:
                return found
        return None

    def _names_in(self, folder: Path) -> dict[str, list[str]]:
        """Return the names in a folder by what they are compared by."""
        if folder not in self._names:
            names: dict[str, list[str]] = {}
            for name in os.listdir(folder) if folder.is_dir() else []:
                names.setdefault(comparable(name), []).append(name)
            self._names[folder] = names
        return self._names[folder]


def _is_image(path: Path) -> bool:
    return not is_folder(path) and is_image(path, Counter())


def _frames(folder: Path, passed_over: Counter[str]) -> list[Path]:
    """The first frames of a video, in the order of their numbers."""
    if not folder.is_dir():
        return []
    found = [
        frame for frame in folder.iterdir() if not frame.is_dir() and is_image(frame, passed_over)
    ]

    def numbers(frame: Path) -> list[int]:
        return [int(digits) for digits in re.findall(r"\d+", frame.name)]

    return sorted(found, key=lambda frame: (numbers(frame), frame.name))[:_FRAMES]


def _make_pairs(
    pairs: Sequence[tuple[int, int, bool, str]], whose: Sequence[str], path: Path
) -> Pairs:
    """Return pairs with the folds they name, or with folds of identities."""
    same = torch.tensor([is_same for _, _, is_same, _ in pairs], dtype=torch.bool)
    for kind, name in ((same, "same"), (~same, "different")):
        if int(kind.sum()) < 2:
            raise InputError(
                f"{path}: has {int(kind.sum())} pairs of {name} identities; give two or more"
            )
    first, second = (torch.tensor([pair[side] for pair in pairs]) for side in (0, 1))
    labels = _identities(first, second, same, whose)
    named = [fold for *_, fold in pairs]
    if any(named):
        folds = torch.from_numpy(number(named)[1])
        if len(set(folds.tolist())) < 2:
            raise InputError(f"{path}: all pairs are of one fold; name two or more, or none")
    else:
        folds = identity_folds(labels, first, second)
    balanced = not any(named) or int(same.sum()) * 2 != len(pairs)
    return Pairs(first, second, same, folds, balanced, labels)


def _identities(first: Tensor, second: Tensor, same: Tensor, whose: Sequence[str]) -> Tensor:
    """Return the identity of each item: its folder, unless the pairs say otherwise.

    Where folders are no identities, items that pairs of one identity join are of one.
    """
    labels = torch.from_numpy(number(whose)[1])
    if torch.equal(labels[first] == labels[second], same):
        return labels
    from scipy.sparse import coo_array  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    ends = (first[same].numpy(), second[same].numpy())
    joined = coo_array((np.ones(len(ends[0])), ends), shape=(len(whose), len(whose)))
    return torch.from_numpy(connected_components(joined, directed=False)[1]).long()
