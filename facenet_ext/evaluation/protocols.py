"""What to verify: images or videos, and pairs of them, of LFW, YouTube Faces or a user's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from facenet_ext.common.errors import InputError
from facenet_ext.common.text import counted, number_names
from facenet_ext.data.image_list import ImageList, list_identities, list_tree
from facenet_ext.data.insightface_bin import BinImages, read_bin
from facenet_ext.data.pairs import Pairs, all_pairs, connected, identity_folds
from facenet_ext.data.pairs_file import PairsFile, read_pairs
from facenet_ext.data.sets import open_set
from facenet_ext.data.sets.opening import set_files
from facenet_ext.data.sources import find

__all__ = ["Protocol", "make_protocol", "read_protocol"]


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
        """Return the protocol with only some of its items, and with the pairs of these."""
        if len(kept) == len(self.items):
            return self
        items = [self.items[item] for item in kept]
        return dataclasses.replace(self, items=items, pairs=self.pairs.among(kept))

    @property
    def people(self) -> set[str]:
        """The items' identities, as :func:`facenet_ext.common.text.comparable` returns names."""
        return {self.images.people[row] for item in self.items for row in item}

    def names(self) -> list[str]:
        """Return a name for each item: its image's, or its video's."""
        return [
            self.images.ids[item[0]]
            if len(item) == 1
            else str(Path(self.images.ids[item[0]]).parent)
            for item in self.items
        ]


def make_protocol(images: ImageList, file: PairsFile | None, name: str = "") -> Protocol:
    """Return the protocol of a file of pairs, or of all pairs of some images.

    Args:
        images: the images that there are.
        file: names pairs; None for all pairs of the images.
        name: of the protocol, by default the file's.

    Raises:
        InputError: images are missing, the identity of one is not known, or there are too few
            pairs.
    """
    if file is None:
        if "" in images.identities:
            nameless = images.ids[images.identities.index("")]
            raise InputError(
                f"{images.root}: whose is {nameless}? Put every image into a folder with the name "
                "of its identity, or give `pairs`"
            )
        labels = torch.from_numpy(number_names(images.identities)[1])
        return Protocol(
            "all pairs", images, [[row] for row in range(len(labels))], all_pairs(labels)
        )
    images, items, ends = file.locate(images)
    whose = [images.identities[item[0]] for item in items]
    return Protocol(name or file.path.name, images, items, _make_pairs(file, ends, whose))


def read_protocol(data: str, pairs: str | None = None) -> Protocol:
    """Read what is to verify.

    Args:
        data: ``"lfw"``: Labeled Faces in the Wild as scikit-learn downloads it; or a folder, or an
            archive of one, of images in a folder for each identity, or such a folder beside others
            as :func:`facenet_ext.data.sources.find` takes them, or a set in another format; or of
            videos, ``<identity>/<video>/<frame>``; or InsightFace's ``.bin``, which has its pairs.
        pairs: a file that :func:`facenet_ext.data.pairs_file.read_pairs` reads. By default the
            ``pairs.txt`` in ``data``; without one all pairs of images.

    Raises:
        InputError: something is missing or in no such format; the message tells the file and line.
    """
    if data.endswith(".bin"):
        if pairs is not None:
            raise InputError(f"`pairs` {pairs}: {data} has its own pairs; leave it out")
        return _protocol_of_bin(Path(data).expanduser())
    if data == "lfw":
        root, path = _downloaded_lfw()
    else:
        source = find(data)
        root = source.val or source.train
        path = source.pairs or root / "pairs.txt"
    if set_files(str(root))[0] != "folder":
        listed = ImageList.of_set(open_set(str(root)))
        return make_protocol(listed, None if pairs is None else read_pairs(Path(pairs)))
    if pairs is None and not path.is_file():
        return make_protocol(list_tree(root), None)
    file = read_pairs(path if pairs is None else Path(pairs))
    numbered = file.of == "numbered images"
    images = list_identities(root) if numbered else ImageList(root, [], [])
    return make_protocol(images, file, "LFW" if data == "lfw" else "")


def _protocol_of_bin(path: Path) -> Protocol:
    """Return the pairs of InsightFace's ``.bin``; who is on an image, it does not tell."""
    pairs = read_bin(path)
    images = ImageList.of_set(BinImages(path, pairs))
    images = dataclasses.replace(images, identities=[""] * len(images))
    same = torch.tensor(pairs.same)
    _check_kinds(path, same)
    ends = torch.arange(2 * len(same)).reshape(-1, 2)
    # Ten parts, in order, as InsightFace's own evaluation divides them; each has both kinds.
    count = min(10, int(same.sum()), int((~same).sum()))
    folds = torch.empty(len(same), dtype=torch.int64)
    for kind in (same, ~same):
        folds[kind] = torch.arange(int(kind.sum())) * count // int(kind.sum())
    balanced = int(same.sum()) * 2 != len(same)
    items = [[row] for row in range(len(images))]
    return Protocol(path.name, images, items, Pairs(ends[:, 0], ends[:, 1], same, folds, balanced))


def _downloaded_lfw() -> tuple[Path, Path]:
    """Return LFW's folder and pairs; scikit-learn downloads them unless it did so before."""
    from sklearn.datasets import fetch_lfw_pairs, get_data_home  # type: ignore[import-untyped]

    home = Path(get_data_home()) / "lfw_home"
    root, pairs = home / "lfw_funneled", home / "pairs.txt"
    if not (root.is_dir() and pairs.is_file()):
        try:
            fetch_lfw_pairs(subset="10_folds", resize=0.1)
        except Exception as error:  # errors of many kinds: no network, a damaged archive
            raise InputError(
                f"`data` lfw: cannot be downloaded to {home} ({error}); or put lfw_funneled/ and "
                "pairs.txt there"
            ) from None
    return root, pairs


def _check_kinds(path: Path, same: Tensor) -> None:
    """Raise unless a file has two pairs of one identity, and two of two."""
    for kind, name in ((same, "same"), (~same, "different")):
        if int(kind.sum()) < 2:
            raise InputError(
                f"{path}: has {counted(int(kind.sum()), 'pair')} of {name} identities; give two or "
                "more"
            )


def _make_pairs(file: PairsFile, ends: Sequence[tuple[int, int]], whose: Sequence[str]) -> Pairs:
    """Return pairs with the folds they name, or with folds of identities."""
    same = torch.tensor([pair.same for pair in file.pairs], dtype=torch.bool)
    _check_kinds(file.path, same)
    first, second = torch.tensor(ends).unbind(1)
    labels = _identities(first, second, same, whose)
    named = [pair.fold for pair in file.pairs]
    if any(named):
        folds = torch.from_numpy(number_names(named)[1])
        if len(set(folds.tolist())) < 2:
            raise InputError(f"{file.path}: all pairs are of one fold; name two or more, or none")
    else:
        folds = identity_folds(labels, first, second)
    balanced = not any(named) or int(same.sum()) * 2 != len(same)
    return Pairs(first, second, same, folds, balanced, labels)


def _identities(first: Tensor, second: Tensor, same: Tensor, whose: Sequence[str]) -> Tensor:
    """Return the identity of each item: its folder, unless the pairs say otherwise.

    Where folders are no identities, two items are of one identity if same pairs connect them.
    """
    labels = torch.from_numpy(number_names(whose)[1])
    if torch.equal(labels[first] == labels[second], same):
        return labels
    return torch.from_numpy(connected(first[same].numpy(), second[same].numpy(), len(whose)))
