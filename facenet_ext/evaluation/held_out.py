"""What a run learns from, and which identities it holds out to verify on."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from facenet_ext.common.errors import InputError
from facenet_ext.common.files import write_bytes
from facenet_ext.common.text import comparable
from facenet_ext.data.image_list import ImageList, list_identities
from facenet_ext.data.pairs_file import PairsFile, read_pairs
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
        data: what ``--data`` says.
        val: the images to verify on.
        pairs: names the pairs to verify; None for all pairs.
        others: the images that ``val`` was split off from; None where ``val`` has its own folder.
        by_share: whether ``val`` has a share of the identities, as ``--held-out`` says.
    """

    data: str
    val: ImageList
    pairs: PairsFile | None
    others: ImageList | None = None
    by_share: bool = False

    @functools.cached_property
    def train(self) -> ImageList:
        """The images to learn from."""
        return list_identities(find(self.data).train) if self.others is None else self.others


def split(options: DataOptions, run: Path | None = None) -> Split:
    """Find the images that a run learns from, and those that it verifies on.

    Args:
        options: of the data.
        run: the folder of the run, which names the identities that it verifies on, unless an older
            version made it; None for a new run.

    Raises:
        InputError: the folders, the archive or the pairs file cannot be read.
    """
    if options.val is not None:
        return Split(options.data, list_identities(Path(options.val)), _read(options.pairs))
    source = find(options.data)
    pairs = _read(options.pairs or source.pairs)
    if source.val is not None:
        return Split(options.data, list_identities(source.val), pairs)
    images = list_identities(source.train)
    names = read_names(run) if pairs is None else pairs.people
    people = choose(set(images.people), options.held_out) if names is None else names
    val, others = images.divide(people)
    return Split(options.data, val, pairs, others, by_share=names is None)


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


def enough_pairs(sizes: Sequence[int]) -> bool:
    """Return whether the identities that are held out make enough pairs to verify.

    Args:
        sizes: the number of images of each.
    """
    images = sum(sizes)
    same = sum(size * (size - 1) // 2 for size in sizes)
    return same >= _FOLDS and images * (images - 1) // 2 - same >= _FOLDS


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
