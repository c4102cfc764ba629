"""What a run learns from, and which identities it holds out to verify on."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from facenet_ext.common.errors import InputError
from facenet_ext.common.files import write_bytes
from facenet_ext.common.text import comparable, counted
from facenet_ext.data.image_list import ImageList, told
from facenet_ext.data.image_set import ImageSet, Subset
from facenet_ext.data.listed import ListedImages
from facenet_ext.data.listing import list_set
from facenet_ext.data.pairs_file import PairsFile, read_pairs
from facenet_ext.data.sets import open_set
from facenet_ext.data.sources import find
from facenet_ext.embedding.folders import HELD_OUT
from facenet_ext.embedding.options import DataOptions

__all__ = [
    "Split",
    "choose",
    "enough_pairs",
    "held_out_count",
    "in_order",
    "kept_by",
    "list_val",
    "read_names",
    "split",
    "split_labels",
    "write_names",
]

_Name = TypeVar("_Name", str, int)
_FOLDS = 10


def in_order(identities: Collection[_Name]) -> list[_Name]:
    """Return the identities in the order in which they are held out, the same for every run.

    The order is that of ``torch.randperm`` with seed 0. It is computed without torch, which takes
    seconds to import: errors about the split come before that.

    Example:
        >>> in_order({"Ann", "Bob", "Cy"})
        ['Cy', 'Ann', 'Bob']
    """
    names = sorted(identities)
    draws = np.frombuffer(np.random.RandomState(0).bytes(4 * len(names)), "<u4")
    for place, draw in enumerate(draws[:-1].tolist()):
        other = place + draw % (len(names) - place)
        names[place], names[other] = names[other], names[place]
    return names


def held_out_count(identities: int, share: float) -> int:
    """Return how many identities a share of them is, at least two."""
    return max(2, round(share * identities))


def choose(identities: Collection[_Name], share: float) -> set[_Name]:
    """Choose a share of the identities to verify on.

    Args:
        identities: all of them.
        share: in (0, 1).

    Example:
        >>> sorted(choose({"Ann", "Bob", "Cy", "Di"}, 0.1))
        ['Ann', 'Bob']
    """
    return set(in_order(identities)[: held_out_count(len(identities), share)])


@dataclasses.dataclass(frozen=True)
class Split:
    """What a run learns from and what it verifies.

    Attributes:
        train: the images to learn from.
        val: the images to verify on; :class:`.ListedImages` where ``pairs`` names files of them.
        pairs: names the pairs to verify; None for all pairs.
        opened: the sets that these are parts of.
        by_share: whether ``val`` has a share of the identities, as ``--held-out`` says.
    """

    train: ImageSet
    val: ImageSet
    pairs: PairsFile | None
    opened: tuple[Any, ...]
    by_share: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The identities in ``val``, as :func:`facenet_ext.common.text.comparable` returns them."""
        used = np.unique(self.val.labels).tolist()
        return tuple(sorted(comparable(self.val.identities[place]) for place in used))


def split(options: DataOptions, run: Path | None = None) -> Split:
    """Find the image sets that a run learns from, and that it verifies on.

    Identities are held out by their place in the set, so that a folder and the same images in
    another format are split alike.

    Args:
        options: of the data.
        run: the folder of the run, which names the identities that it verifies on, unless an older
            version made it; None for a new run.

    Raises:
        InputError: the sets or the pairs file cannot be read.
    """
    source = find(options.data)
    train, other, named = source.train, source.val, source.pairs
    if options.val is not None:
        other, named = Path(options.val), None
    pairs = _read(options.pairs or named)
    if other is not None:
        verified, learned = _open(other), _open(train)
        opened = (learned,) if other == train else (learned, verified)
        if pairs is not None:
            verified = ListedImages(list_set(other))
        return Split(learned, verified, pairs, opened)
    images = _open(train)
    compared = [comparable(name) for name in images.identities]
    names = read_names(run) if pairs is None else pairs.people
    if names is None:
        held = choose(range(len(compared)), options.held_out)
    else:
        held = {place for place, name in enumerate(compared) if name in names}
    chosen = np.isin(images.labels, list(held))
    rest, own = (Subset(images, np.flatnonzero(some)) for some in (~chosen, chosen))
    if pairs is None:
        return Split(rest, own, None, (images,), by_share=names is None)
    listed, _ = list_set(train).divide(pairs.people)
    return Split(rest, ListedImages(listed), pairs, (images,))


def _open(data: Path) -> ImageSet:
    images: Any = open_set(str(data))
    if len(images.identities) < 2:
        more = f" ({told(images.passed_over)})" if images.passed_over else ""
        raise InputError(
            f"{images.root}: all {counted(len(images), 'image')} are of one identity "
            f"({comparable(images.identities[0])}); telling identities apart needs at least two "
            f"folders of images{more}"
        )
    return images  # type: ignore[no-any-return]


def list_val(options: DataOptions, run: Path | None = None) -> tuple[ImageList, PairsFile | None]:
    """List the images that a run verifies on, and read the file that names their pairs, if any.

    Args:
        options: see :func:`split`.
        run: see there.
    """
    parts = split(options, run)
    val = parts.val
    if isinstance(val, ListedImages):
        return val.images, parts.pairs
    images = ImageList.of_set(val)
    if val.kind == "folder":  # they are files
        images = dataclasses.replace(images, images=None, rows=[])
    return images, parts.pairs


def split_labels(
    labels: NDArray[Any], share: float, run: Path | None = None
) -> tuple[NDArray[np.bool_], bool]:
    """Return which rows of features a run verifies on, and whether they are chosen by a share.

    Args:
        labels: one for each row.
        share: of the labels, for a run that names none.
        run: see :func:`split`.
    """
    people, names = set(labels.tolist()), read_names(run)
    held = choose(people, share) if names is None else {p for p in people if str(p) in names}
    return np.isin(labels, list(held)), names is None


def kept_by(checkpoint: Path | None, given: Collection[str]) -> Path | None:
    """Return the folder of the run whose split is used again; None where a new split is made.

    Args:
        checkpoint: of the run, or None.
        given: the options that the user gave. ``held_out`` among them asks for a new split.
    """
    return None if checkpoint is None or "held_out" in given else checkpoint.parent.parent


def _read(pairs: str | Path | None) -> PairsFile | None:
    file = None if pairs is None else read_pairs(Path(pairs))
    if file is not None and file.of == "videos":
        raise InputError(
            f"`pairs` {pairs}: names videos; a run verifies images, so give pairs of images"
        )
    return file


def enough_pairs(sizes: Sequence[int]) -> NDArray[np.bool_]:
    """Return whether identities that are held out make enough pairs to verify.

    Args:
        sizes: the number of images of each identity.

    Returns:
        ``[len(sizes) + 1]``, bool: entry k says whether the first k identities make enough pairs.

    Example:
        >>> enough_pairs([3, 3, 4, 4]).tolist()
        [False, False, False, True, True]
    """
    of_each = np.array([0, *sizes], np.int64)
    images = of_each.cumsum()
    same = (of_each * (of_each - 1) // 2).cumsum()
    different = images * (images - 1) // 2 - same
    enough: NDArray[np.bool_] = (same >= _FOLDS) & (different >= _FOLDS)
    return enough


def write_names(run: Path, identities: Iterable[str]) -> None:
    r"""Write the identities that a run verifies on into its folder, one a line.

    A backslash in a name is written ``\\``, the end of a line ``\n``.

    Args:
        run: the folder.
        identities: their names.
    """
    names = (name.replace("\\", r"\\").replace("\n", r"\n") for name in sorted(identities))
    text = "".join(f"{name}\n" for name in names)
    write_bytes(run / HELD_OUT, text.encode("utf-8", "surrogateescape"))  # a name's own bytes


def read_names(run: Path | None) -> set[str] | None:
    """Return the identities that a run verifies on; None where no folder names them.

    Their names are as :func:`facenet_ext.common.text.comparable` returns them.
    """
    if run is None:
        return None
    try:
        text = (run / HELD_OUT).read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    names = text.split("\n")[:-1]
    plain = (re.sub(r"\\(.)", lambda escape: escape[1].replace("n", "\n"), name) for name in names)
    return {comparable(name) for name in plain}
