"""Training batches, and the examples and pairs to verify, as a Lightning data module."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from rich.console import Console
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from facenet_ext._ranks import Ranks
from facenet_ext.common.errors import InputError
from facenet_ext.common.text import counted, number_names, printable
from facenet_ext.data.examples import Examples
from facenet_ext.data.features import read_features
from facenet_ext.data.image_list import ImageList, tell_passed_over
from facenet_ext.data.images import decode
from facenet_ext.data.pairs import Pairs, all_pairs
from facenet_ext.embedding.options import BatchOptions, DataOptions, is_features
from facenet_ext.evaluation import held_out
from facenet_ext.evaluation.protocols import make_protocol
from facenet_ext.samplers import MPerClassSampler, cut, derive_seed
from facenet_ext.train.draws import Rows

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

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor, Rows]]:
        """Return the batches from the trainer's step on; cutting them needs no workers."""
        done = self.trainer.global_step if self.trainer is not None else 0
        batches = _Rest(self._part, done, self.steps)
        return DataLoader(_Parts(self.data.train), batch_sampler=batches, collate_fn=_as_is)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Return the images to verify, in order; the processes divide each batch."""
        size = _EVALUATION_BATCH * self.sampler.world_size
        return DataLoader(self.data.val, batch_size=size, collate_fn=_as_is)


class _Rest(Sampler[Any]):
    """The batches from one step on; its length is that of the whole run, as Lightning counts."""

    def __init__(self, batch: Callable[[int], Any], start: int, steps: int) -> None:
        self.batch, self.start, self.steps = batch, start, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        return map(self.batch, range(self.start, self.steps))


class _Parts(Dataset[Any]):
    """Examples of a process's part of a batch, with the part's place in it."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __getitems__(self, part: tuple[list[int], Rows]) -> tuple[Tensor, Tensor, Rows]:
        rows, place = part
        return *self.examples.__getitems__(rows), place


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
    if len(set(train.labels.tolist())) < 2:
        raise InputError(
            f"`data` {options.data}: fewer than two identities are left to train on; give more, or "
            "a smaller `held_out`, or `val`"
        )
    verified = tuple(sorted(set(val.names)))
    return TrainVal(train, val, all_pairs(val.labels), held_out=verified)


def _load_faces(options: DataOptions, console: Console, run: Path | None) -> TrainVal:
    """Return the images of a folder: its own split, or one by identity."""
    split = held_out.split(options, run)
    train, protocol = split.train, make_protocol(split.val, split.pairs)
    val = protocol.images  # what the pairs name and no more
    for images in (train,) if val.root == train.root else (train, val):
        tell_passed_over(images, console)
    if len(set(train.people)) < 2:
        raise InputError(
            f"`data` {options.data}: fewer than two identities are left to train on; give more, "
            "or a smaller `held_out`, or a pairs file that names fewer"
        )
    paths = train.paths + val.paths
    pixels, kept = decode(paths, options.image_size, options.channels, options.memory, console)
    count = sum(position < len(train) for position in kept)
    learned, verified = kept[:count], [position - len(train) for position in kept[count:]]
    pairs = protocol.among(verified).pairs
    left_out = len(protocol.pairs.same) - len(pairs.same)
    if left_out and split.pairs is not None:
        skipped = counted(left_out, "pair of images")
        console.print(f"skipped {skipped} that cannot be read", soft_wrap=True)
    return TrainVal(
        _examples(pixels[:count], train.among(learned)),
        _examples(pixels[count:], val.among(verified)),
        pairs,
        train.among(learned).paths,
        tuple(sorted(set(split.val.people))),
    )


def _examples(pixels: Tensor, images: ImageList) -> Examples:
    """Label decoded images by the order of their identities' names."""
    labels = torch.from_numpy(number_names(images.identities)[1])
    called = zip(images.people, images.paths, strict=True)
    return Examples(pixels, labels, [printable(f"{who}/{path.name}") for who, path in called])
