"""Which identities a run verifies on: it does not learn from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from facenet_ext.common.text import comparable
from facenet_ext.data import sources
from facenet_ext.data.sources import ImageFile
from facenet_ext.embedding.folders import HELD_OUT
from facenet_ext.embedding.options import DataOptions

__all__ = [
    "Split",
    "choose",
    "enough_pairs",
    "in_order",
    "number",
    "of_run",
    "read_names",
    "split",
    "write_names",
]

_Name = TypeVar("_Name", str, int)
_FOLDS = 10


def in_order(identities: Collection[_Name]) -> list[_Name]:
    """Return the identities in the order in which they are held out, the same for every run.

    The order is that of ``torch.randperm`` with seed 0, computed without torch: what cannot be
    split is told before anything takes seconds to import.

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


def number(identities: int, share: float) -> int:
    """Return how many of so many identities are a share: two at least."""
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
    return set(in_order(identities)[: number(len(identities), share)])


class Split(NamedTuple):
    """The image files of a run.

    Attributes:
        train: to learn from.
        val: to verify on.
        pairs: the file of the pairs to verify, or None for all pairs.
        by_share: whether ``val`` are the share of the identities that ``--held-out`` says.
    """

    train: list[ImageFile]
    val: list[ImageFile]
    pairs: Path | None
    by_share: bool


def split(
    options: DataOptions,
    names: Collection[str] | None = None,
    list_images: Callable[[Path], list[ImageFile]] = sources.list_images,
) -> Split:
    """Find the image files that the options name, and split them by identity.

    Args:
        options: of the data.
        names: the identities to verify on, where a run has chosen them before.
        list_images: lists the images of a folder.

    Raises:
        InputError: the folders, the archive or the pairs file cannot be read.
    """
    source = sources.find(options.data)
    pairs = Path(options.pairs) if options.pairs else source.pairs
    images = list_images(source.train)
    root = Path(options.val) if options.val else source.val
    if root is not None:
        return Split(images, list_images(root), pairs, by_share=False)
    by_share = False
    if pairs is not None:
        from facenet_ext.data.pairs import read_pairs  # takes seconds to import

        names = {name for name, _ in read_pairs(pairs).images}
    elif names is None:
        by_share, names = True, choose({image.identity for image in images}, options.held_out)
    train = [image for image in images if image.identity not in names]
    val = [image for image in images if image.identity in names]
    return Split(train, val, pairs, by_share)


def of_run(run: Path, options: DataOptions) -> set[str]:
    """Return the identities that a run verifies on, of its folder of images.

    Args:
        run: its folder, which names them unless an older version made it.
        options: of its data.

    Raises:
        InputError: see :func:`split`.
    """
    names = read_names(run)
    return {image.identity for image in split(options).val} if names is None else names


def enough_pairs(sizes: Sequence[int]) -> bool:
    """Return whether identities with so many images each make enough pairs to verify.

    Args:
        sizes: images of each identity that is held out.
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
    unfinished = run / f".{HELD_OUT}"
    unfinished.write_bytes(text.encode("utf-8", "surrogateescape"))  # a name's own bytes
    unfinished.replace(run / HELD_OUT)


def read_names(run: Path) -> set[str] | None:
    """Return the identities that a run verifies on; None where its folder does not name them.

    Their names are as :func:`facenet_ext.common.text.comparable` returns them.
    """
    try:
        text = (run / HELD_OUT).read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    names = text.split("\n")[:-1]
    plain = (re.sub(r"\\(.)", lambda found: found[1].replace("n", "\n"), name) for name in names)
    return {comparable(name) for name in plain}
