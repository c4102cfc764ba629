"""Training batches, and the examples and pairs to verify, as a Lightning data module."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from rich.console import Console
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from torch import Tensor

from facenet_ext._ranks import Ranks
from facenet_ext.common.errors import InputError
from facenet_ext.common.text import counted
from facenet_ext.data.decoding import Geometry
from facenet_ext.data.examples import Examples, ImageNames
from facenet_ext.data.features import read_features
from facenet_ext.data.image_list import tell_passed_over
from facenet_ext.data.image_set import ImageSet, Subset
from facenet_ext.data.listed import ListedImages
from facenet_ext.data.pairs import Pairs, all_pairs
from facenet_ext.data.placement import Placed, Room, place
from facenet_ext.embedding.options import BatchOptions, DataOptions, is_features
from facenet_ext.embedding.speed import change_speed
from facenet_ext.evaluation import held_out
from facenet_ext.evaluation.protocols import make_protocol
from facenet_ext.samplers import MPerClassSampler, cut, derive_seed
from facenet_ext.train.draws import Rows

_TRAIN_DIGITS = 6
_EVALUATION_BATCH = 256

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class TrainVal:
    """What a run learns from and what it is judged on: no identity is in both.

    Attributes:
        train: what to learn from.
        val: what to verify.
        pairs: pairs of positions in ``val``.
        images: the encoded images of ``train``, if it is of images.
        held_out: the names of the identities in ``val``.
    """

    train: Examples
    val: Examples
    pairs: Pairs
    images: ImageSet | None = None
    held_out: tuple[str, ...] = ()


def load(options: DataOptions, console: Console, run: Path | None = None) -> TrainVal:
    """Load the data that the options name.

    Args:
        options: of the data.
        console: where progress is shown.
        run: the folder of a run that has chosen before whom it verifies on.

    Raises:
        InputError: the data cannot be read, or there is too little of it.
    """
    if is_features(options.data):
        return _load_features(options, run)
    if options.data != "digits":
        return _load_faces(options, console, run)
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
    Each process gets its part of every batch: see :class:`.MPerClassSampler`.

    Attributes:
        steps: the number of training steps of the whole run.
        mined: triplets whose examples join the batches, or None.
        next_search: returns the next step behind one at which ``mined`` changes; None without one.

    Args:
        data: what :func:`load` returned.
        options: the batch's shape.
        seed: chooses the batches.
        epochs: how often to go over the images, unless ``steps`` is given.
        steps: number of batches.

    Raises:
        ValueError: the data has too few identities for such a batch.
        InputError: there are more processes than the batch has identities and single images.
    """

    def __init__(
        self, data: TrainVal, options: BatchOptions, *, seed: int, epochs: int, steps: int | None
    ) -> None:
        super().__init__()
        ranks = Ranks.of()
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
            rank=ranks.rank,
            world_size=ranks.size,
        )
        groups = len(self.sampler.groups(0))
        if groups < ranks.size:
            raise InputError(
                f"`identities` {options.identities}: {ranks.size} processes need at least as many "
                f"identities and negatives in a batch, which has {groups}; use fewer processes"
            )
        self.steps = steps or self.sampler.batches * epochs
        self.mined: MinedTriplets | None = None
        self.next_search: Callable[[int], int | None] = lambda step: None

    def batch(self, position: int) -> list[int]:
        """Return this process's rows of the batch at a position of the run."""
        return self._part(position)[0]

    def _part(self, position: int) -> tuple[list[int], Rows]:
        """Return this process's rows, and where they are in the whole batch."""
        mined = [] if self.mined is None else self.mined.draw(position)
        groups = [*self.sampler.groups(position), *([row] for row in mined)]
        parts = cut(groups, self.sampler.world_size)
        mine = parts[self.sampler.rank]
        begin = sum(map(len, parts[: self.sampler.rank]))
        return mine, Rows(begin, begin + len(mine), sum(map(len, parts)))

    def train_dataloader(self) -> Iterable[tuple[Tensor, Tensor, Rows]]:
        """Return the batches from the trainer's step on; the length is that of the whole run."""
        done = self.trainer.global_step if self.trainer is not None else 0
        return _Sized(self.steps, lambda: self._from(done))

    def _from(self, step: int) -> Iterator[tuple[Tensor, Tensor, Rows]]:
        """Yield the batches from a step on.

        Batches are drawn ahead of their step, but none before a search whose triplets join it.
        """
        while step < self.steps:
            end = min(self.steps, self.next_search(step) or self.steps)
            places: deque[Rows] = deque()

            def rows(begin: int, end: int, places: deque[Rows] = places) -> Iterator[list[int]]:
                for position in range(begin, end):
                    part, place = self._part(position)
                    places.append(place)
                    yield part

            loaded = self.data.train.batches(rows(step, end), self._pins, copy=False)
            for batch in loaded:
                yield batch.values, batch.labels, places.popleft()
            step = end

    def val_dataloader(self) -> Iterable[tuple[Tensor, Tensor]]:
        """Return this process's parts of the images to verify, in order, and which are readable."""
        ranks, count = self.sampler.world_size, len(self.data.val)
        size = _EVALUATION_BATCH * ranks
        parts = [
            np.array_split(np.arange(begin, min(begin + size, count)), ranks)[self.sampler.rank]
            for begin in range(0, count, size)
        ]

        def make() -> Iterator[tuple[Tensor, Tensor]]:
            rows = (part.tolist() for part in parts)
            for batch in self.data.val.batches(rows, self._pins, copy=False):
                yield batch.values, batch.readable

        return _Sized(len(parts), make)

    @property
    def _pins(self) -> bool:
        """Whether batches go to a GPU."""
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"


class _Sized(Generic[_T]):
    """Batches of a known number, made anew by each pass."""

    def __init__(self, count: int, make: Callable[[], Iterator[_T]]) -> None:
        self.count, self.make = count, make

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[_T]:
        return self.make()


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


def _load_features(options: DataOptions, run: Path | None) -> TrainVal:
    """Return precomputed features: those of two files, or of one split by identity."""
    values, labels = read_features("data", options.data)
    if options.val is not None:
        val_values, val_labels = read_features("val", options.val, values.shape[1:])
    else:
        chosen, _ = held_out.split_labels(labels, options.held_out, run)
        val_values, val_labels = values[chosen], labels[chosen]
        values, labels = values[~chosen], labels[~chosen]
    train, val = (
        Examples(torch.from_numpy(v), torch.from_numpy(numbers), [str(name) for name in names])
        for v, names in ((values, labels), (val_values, val_labels))
        for numbers in (np.unique(names, return_inverse=True)[1].astype(np.int64),)
    )
    if options.speeds != (1.0,):
        train = _at_speeds(torch.from_numpy(values), train.labels, options.speeds)
    if len(set(train.labels.tolist())) < 2:
        raise InputError(
            f"`data` {options.data}: fewer than two identities are left to train on; give more, or "
            "a smaller `held_out`, or `val`"
        )
    verified = tuple(sorted(set(val.names)))
    return TrainVal(train, val, all_pairs(val.labels), held_out=verified)


def _at_speeds(spectrograms: Tensor, labels: Tensor, speeds: Sequence[float]) -> Examples:
    """Return spectrograms at several speeds; an identity at another speed is another identity."""
    number = int(labels.max()) + 1
    return Examples(
        torch.cat([change_speed(spectrograms, speed) for speed in speeds]),
        torch.cat([labels + number * place for place in range(len(speeds))]),
    )


def _load_faces(options: DataOptions, console: Console, run: Path | None) -> TrainVal:
    """Return the images of a set: its own split, or one by identity."""
    split = held_out.split(options, run)
    val, pairs = split.val, None
    if split.pairs is not None:
        assert isinstance(val, ListedImages)
        protocol = make_protocol(val.images, split.pairs)
        # The protocol has no images but those that the pairs name.
        val, pairs = ListedImages(protocol.images), protocol.pairs
    for images in split.opened:
        tell_passed_over(images, console)
    if len(np.unique(split.train.labels)) < 2:
        raise InputError(
            f"`data` {options.data}: fewer than two identities are left to train on; give more, "
            "or a smaller `held_out`, or a pairs file that names fewer"
        )
    pairs = pairs or all_pairs(_numbered(val.labels))
    room = Room(
        options.memory,
        None if options.cache is None else Path(options.cache).expanduser(),
        options.cache_size,
        options.workers,
    )
    geometry = Geometry(options.image_size, options.channels)
    learned, verified = place((split.train, val), geometry, room, console)
    kept = pairs if len(verified.rows) == len(val) else pairs.among(verified.rows.tolist())
    if len(kept.same) < len(pairs.same) and split.pairs is not None:
        skipped = counted(len(pairs.same) - len(kept.same), "pair of images")
        console.print(f"skipped {skipped} that cannot be read", soft_wrap=True)
    return TrainVal(
        _examples(learned, split.train),
        _examples(verified, val),
        kept,
        split.train,
        split.names,
    )


def _examples(placed: Placed, images: ImageSet) -> Examples:
    """Label decoded images by the order of their identities' names."""
    whole = len(placed.rows) == len(images)
    shown = images if whole else Subset(images, placed.rows)
    return Examples(placed.values, _numbered(shown.labels), ImageNames(shown))


def _numbered(labels: NDArray[np.int64]) -> Tensor:
    """Return labels from 0 on, without gaps."""
    return torch.from_numpy(np.unique(labels, return_inverse=True)[1])
