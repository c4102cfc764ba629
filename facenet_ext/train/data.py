"""Training batches, and the examples and pairs to verify, as a Lightning data module."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from rich.console import Console
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from facenet_ext.common.errors import InputError
from facenet_ext.common.text import printable
from facenet_ext.data import sources
from facenet_ext.data.examples import Examples
from facenet_ext.data.features import read_features
from facenet_ext.data.images import decode
from facenet_ext.data.listing import passed_over_in
from facenet_ext.data.pairs import Pairs, all_pairs, read_pairs
from facenet_ext.data.sources import ImageFile
from facenet_ext.embedding.options import BatchOptions, DataOptions, is_features
from facenet_ext.evaluation import held_out
from facenet_ext.samplers import MPerClassSampler, derive_seed

__all__ = ["Batches", "MinedTriplets", "TrainVal", "load"]

_TRAIN_DIGITS = 6
_EVALUATION_BATCH = 256


@dataclasses.dataclass(frozen=True)
class TrainVal:
    """What a run learns from and what it is judged on: no identity is in both.

    Attributes:
        train: what to learn from.
        val: what to verify.
        pairs: pairs of positions in ``val``.
        files: the image files of ``train``, if it is of files.
        held_out: the names of the identities in ``val``.
    """

    train: Examples
    val: Examples
    pairs: Pairs
    files: Sequence[Path] = ()
    held_out: tuple[str, ...] = ()


def load(options: DataOptions, console: Console, names: Collection[str] | None = None) -> TrainVal:
    """Load the data that the options name.

    Args:
        options: of the data.
        console: where progress is shown.
        names: the identities to verify on, where a run has chosen them before.

    Raises:
        InputError: the data cannot be used, for any of the reasons of :mod:`.sources`,
            :mod:`.images`, :mod:`.features` and :mod:`.pairs`.
    """
    if is_features(options.data):
        return _load_features(options, names)
    if options.data != "digits":
        return _load_faces(options, console, names)
    return _load_digits(options)


class MinedTriplets:
    """Triplets found by offline mining, some of which join each batch.

    Their examples are rows of the batch like the others: whatever selects triplets in the batch
    finds these among them, and every other pair that they make.

    Args:
        triplets: [T, 3] rows: anchor, positive, negative.
        count: how many join a batch.
        seed: chooses which; with the batch's position, so that a run can continue.
    """

    def __init__(self, triplets: Tensor, count: int, seed: int) -> None:
        self.triplets = triplets
        self.count = count
        self.seed = seed

    def draw(self, position: int) -> list[int]:
        """Return the rows of the triplets that join the batch at a position."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, 2, position))
        chosen = torch.randperm(len(self.triplets), generator=generator)[: self.count]
        return list(self.triplets[chosen].flatten().tolist())


class Batches(LightningDataModule):
    """Feed the training batches from the current step on, and the images to verify.

    All steps of a run are one Lightning epoch, so that a run can stop and continue at any step.

    Attributes:
        steps: the number of training steps of the whole run.
        mined: triplets whose examples join the batches, or None.

    Args:
        data: what :func:`load` returned.
        options: the batch's shape.
        seed: chooses the batches.
        epochs: how often to go over the images, unless ``steps`` is given.
        steps: number of batches.

    Raises:
        ValueError: the data has too few identities for such a batch.
    """

    def __init__(
        self, data: TrainVal, options: BatchOptions, *, seed: int, epochs: int, steps: int | None
    ) -> None:
        super().__init__()
        self.data = data
        self.sampler = MPerClassSampler(
            data.train.labels,
            m=options.images_per_identity,
            classes=options.identities,
            negatives=options.negatives,
            negative_copies=options.negative_copies,
            min_images=options.min_images,
            size_cap=options.size_cap,
            repeat=options.repeat,
            batch_size=options.batch_size,
            seed=seed,
        )
        self.steps = steps or self.sampler.batches * epochs
        self.mined: MinedTriplets | None = None

    def batch(self, position: int) -> list[int]:
        """Return the rows of the batch at a position of the run."""
        rows = self.sampler.batch(position)
        return rows if self.mined is None else rows + self.mined.draw(position)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Return the batches from the trainer's step on; cutting them needs no workers."""
        done = self.trainer.global_step if self.trainer is not None else 0
        batches = _Rest(self.batch, done, self.steps)
        return DataLoader(self.data.train, batch_sampler=batches, collate_fn=_as_is)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Return the images to verify, in order."""
        return DataLoader(self.data.val, batch_size=_EVALUATION_BATCH, collate_fn=_as_is)


class _Rest(Sampler[list[int]]):
    """The batches from one step on; its length is that of the whole run, as Lightning counts."""

    def __init__(self, batch: Callable[[int], list[int]], start: int, steps: int) -> None:
        self.batch, self.start, self.steps = batch, start, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        return map(self.batch, range(self.start, self.steps))


def _as_is(batch: Any) -> Any:
    """Stand in for collation: Examples return whole batches."""
    return batch


def _load_digits(options: DataOptions) -> TrainVal:
    """Return scikit-learn's digits: six to train on, the other four to verify.

    Six classes are few to learn from what makes things differ. As is usual with Omniglot's
    characters, each digit turned by a right angle, and mirrored, counts as another class: 48.
    """
    digits = load_digits()
    pixels = torch.from_numpy(digits.images * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
    pixels = pixels.expand(-1, options.channels, -1, -1).contiguous()
    labels = torch.from_numpy(digits.target).long()
    train, val = labels < _TRAIN_DIGITS, labels >= _TRAIN_DIGITS
    views = [
        view.rot90(turns, (2, 3))
        for view in (pixels[train], pixels[train].flip(3))
        for turns in range(4)
    ]
    view_labels = [labels[train] + 10 * number for number in range(len(views))]
    return TrainVal(
        Examples(torch.cat(views), torch.cat(view_labels)),
        Examples(pixels[val], labels[val]),
        all_pairs(labels[val]),
        held_out=tuple(str(digit) for digit in range(_TRAIN_DIGITS, 10)),
    )


def _load_features(options: DataOptions, names: Collection[str] | None) -> TrainVal:
    """Return precomputed features: those of two files, or of one split by identity."""
    values, labels = read_features("data", options.data)
    if options.val is not None:
        val_values, val_labels = read_features("val", options.val, values.shape[1:])
    else:
        people = set(labels.tolist())
        if names is None:
            people = held_out.choose(people, options.held_out)
        else:
            people = {name for name in people if str(name) in names}
        chosen = np.isin(labels, list(people))
        val_values, val_labels = values[chosen], labels[chosen]
        values, labels = values[~chosen], labels[~chosen]
    train, val = (
        Examples(torch.from_numpy(v), torch.from_numpy(numbers), [str(name) for name in names])
        for v, names in ((values, labels), (val_values, val_labels))
        for numbers in (np.unique(names, return_inverse=True)[1].astype(np.int64),)
    )
    if len(set(train.labels.tolist())) < 2:
        raise InputError(
            f"`data` {options.data}: fewer than two identities are left to train on; give more, or "
            "a smaller `held_out`, or `val`"
        )
    verified = tuple(sorted(set(val.names)))
    return TrainVal(train, val, all_pairs(val.labels), held_out=verified)


def _load_faces(options: DataOptions, console: Console, names: Collection[str] | None) -> TrainVal:
    """Return the images of a folder: its own split, or one by identity."""
    train_files, val_files, pairs_path, _ = held_out.split(
        options, names, functools.partial(_list, console=console)
    )
    if len({image.identity for image in train_files}) < 2:
        raise InputError(
            f"`data` {options.data}: fewer than two identities are left to train on; give more, "
            "or a smaller `held_out`, or a pairs file that names fewer"
        )
    people = tuple(sorted({image.identity for image in val_files}))
    file = read_pairs(pairs_path) if pairs_path is not None else None
    if file is not None and pairs_path is not None:  # decode what the pairs name and no more
        val_files = file.locate(val_files, pairs_path)
    files = train_files + val_files
    paths = [image.path for image in files]
    pixels, kept = decode(paths, options.image_size, options.channels, options.memory, console)
    train_count = sum(position < len(train_files) for position in kept)
    kept_files = [files[position] for position in kept]
    train = _images(pixels[:train_count], kept_files[:train_count])
    val = _images(pixels[train_count:], kept_files[train_count:])
    learned = [file.path for file in kept_files[:train_count]]
    if file is None or pairs_path is None:
        return TrainVal(train, val, all_pairs(val.labels), learned, people)
    pairs = file.pairs.among([position - len(train_files) for position in kept[train_count:]])
    left_out = len(file.pairs.same) - len(pairs.same)
    if left_out:
        console.print(f"skipped {left_out} pairs of images that cannot be read", soft_wrap=True)
    return TrainVal(train, val, pairs, learned, people)


def _list(root: Path, console: Console) -> list[ImageFile]:
    """List the images of a folder, and say what else lies there."""
    passed_over: Counter[str] = Counter()
    images = sources.list_images(root, passed_over)
    if passed_over:
        told = passed_over_in(root, passed_over)
        console.print(told, soft_wrap=True, markup=False, highlight=False)
    return images


def _images(pixels: Tensor, files: list[ImageFile]) -> Examples:
    """Label decoded images by the order of their identities' names."""
    numbers = {name: i for i, name in enumerate(sorted({file.identity for file in files}))}
    labels = torch.tensor([numbers[file.identity] for file in files])
    names = [printable(f"{file.identity}/{file.path.name}") for file in files]
    return Examples(pixels, labels, names)
