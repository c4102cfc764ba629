"""Training batches, and the images and pairs to verify, as a Lightning data module."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from rich.console import Console
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from facenet_ext.samplers import MPerClassSampler
from facenet_ext.train import sources
from facenet_ext.train.errors import InputError
from facenet_ext.train.images import decode
from facenet_ext.train.options import BatchOptions, DataOptions
from facenet_ext.train.pairs import Pairs, all_pairs, read_pairs
from facenet_ext.train.sources import ImageFile

__all__ = ["Batches", "Images", "TrainVal", "load"]

_TRAIN_DIGITS = 6
_EVALUATION_BATCH = 256


class Images(Dataset[tuple[Tensor, Tensor]]):
    """Decoded images with their labels, cut into batches by position.

    Args:
        pixels: [N, C, H, W] uint8.
        labels: [N] int64.
        names: what to call each image in a picture; by default its label.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, names: list[str] | None = None) -> None:
        self.pixels = pixels
        self.labels = labels
        self.names = names if names is not None else [str(label) for label in labels.tolist()]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pixels[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Return the images [B, C, H, W] and labels [B] of a whole batch at once."""
        rows = torch.tensor(indices)
        return self.pixels[rows], self.labels[rows]

    def __repr__(self) -> str:
        identities = len(set(self.labels.tolist()))
        return f"{len(self)} images of {identities} identities"


@dataclasses.dataclass(frozen=True)
class TrainVal:
    """What a run learns from and what it is judged on: no identity is in both.

    Attributes:
        train: the images to learn from.
        val: the images to verify.
        pairs: pairs of positions in ``val``.
    """

    train: Images
    val: Images
    pairs: Pairs


def load(options: DataOptions, console: Console) -> TrainVal:
    """Load the data that the options name.

    Raises:
        InputError: the data cannot be used, for any of the reasons of :mod:`.sources`,
            :mod:`.images` and :mod:`.pairs`.
    """
    if options.data != "digits":
        return _load_faces(options, console)
    for name in ("val", "pairs"):
        if getattr(options, name) is not None:
            raise InputError(f"--{name}: the digits have their own split; leave it out")
    return _load_digits(options)


class Batches(LightningDataModule):
    """Feed the training batches from the current step on, and the images to verify.

    All steps of a run are one Lightning epoch, so that a run can stop and continue at any step.

    Attributes:
        steps: the number of training steps of the whole run.

    Args:
        data: what :func:`load` returned.
        options: the batch's shape.
        seed: chooses the batches.
        epochs: how often to go over the images, unless ``steps`` is given.
        steps: number of batches.

    Raises:
        InputError: the data has too few identities for such a batch.
    """

    def __init__(
        self, data: TrainVal, options: BatchOptions, *, seed: int, epochs: int, steps: int | None
    ) -> None:
        super().__init__()
        self.data = data
        counts = Counter(data.train.labels.tolist())
        available = sum(count >= options.min_images for count in counts.values())
        others = len(counts) - available
        if available < options.identities:
            raise InputError(
                f"--identities {options.identities}: only {available} of the {len(counts)} "
                f"identities to train on have {options.min_images} images or more; "
                "lower --identities or --min-images"
            )
        if others < options.negatives:
            raise InputError(
                f"--negatives {options.negatives}: only {others} of the {len(counts)} identities "
                f"to train on have fewer than {options.min_images} images; lower --negatives"
            )
        self.sampler = MPerClassSampler(
            data.train.labels,
            m=options.images_per_identity,
            classes=options.identities,
            negatives=options.negatives,
            negative_copies=options.negative_copies,
            min_images=options.min_images,
            size_cap=options.size_cap,
            seed=seed,
        )
        self.steps = steps or self.sampler.batches * epochs

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Return the batches from the trainer's step on; cutting them needs no workers."""
        done = self.trainer.global_step if self.trainer is not None else 0
        batches = _Rest(self.sampler, done, self.steps)
        return DataLoader(self.data.train, batch_sampler=batches, collate_fn=_as_is)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Return the images to verify, in order."""
        return DataLoader(self.data.val, batch_size=_EVALUATION_BATCH, collate_fn=_as_is)


class _Rest(Sampler[list[int]]):
    """The batches from one step on; its length is that of the whole run, as Lightning counts."""

    def __init__(self, sampler: MPerClassSampler, start: int, steps: int) -> None:
        self.sampler, self.start, self.steps = sampler, start, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        return map(self.sampler.batch, range(self.start, self.steps))


def _as_is(batch: Any) -> Any:
    """Stand in for collation: :class:`Images` returns whole batches."""
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
        Images(torch.cat(views), torch.cat(view_labels)),
        Images(pixels[val], labels[val]),
        all_pairs(labels[val]),
    )


def _load_faces(options: DataOptions, console: Console) -> TrainVal:
    """Return the images of a folder: its own split, or one by identity."""
    source = sources.find(options.data)
    pairs_path = Path(options.pairs) if options.pairs else source.pairs
    file = read_pairs(pairs_path) if pairs_path else None
    train_files = sources.list_images(source.train)
    val_root = Path(options.val) if options.val else source.val
    if val_root is not None:
        val_files = sources.list_images(val_root)
    else:
        held_out = (
            {name for name, _ in file.images}
            if file is not None
            else _held_out({image.identity for image in train_files}, options.held_out)
        )
        val_files = [image for image in train_files if image.identity in held_out]
        train_files = [image for image in train_files if image.identity not in held_out]
    if len({image.identity for image in train_files}) < 2:
        raise InputError(
            f"--data {options.data}: fewer than two identities are left to train on; give more, "
            "or a smaller --held-out, or a pairs file that names fewer"
        )
    if file is not None and pairs_path is not None:  # decode what the pairs name and no more
        val_files = file.locate(val_files, pairs_path)
    files = train_files + val_files
    paths = [image.path for image in files]
    pixels, kept = decode(paths, options.image_size, options.channels, options.memory, console)
    train_count = sum(position < len(train_files) for position in kept)
    kept_files = [files[position] for position in kept]
    train = _images(pixels[:train_count], kept_files[:train_count])
    val = _images(pixels[train_count:], kept_files[train_count:])
    if file is None or pairs_path is None:
        return TrainVal(train, val, all_pairs(val.labels))
    pairs = file.pairs.among([position - len(train_files) for position in kept[train_count:]])
    left_out = len(file.pairs.same) - len(pairs.same)
    if left_out:
        console.print(f"skipped {left_out} pairs of images that cannot be read", soft_wrap=True)
    return TrainVal(train, val, pairs)


def _images(pixels: Tensor, files: list[ImageFile]) -> Images:
    """Label decoded images by the order of their identities' names."""
    numbers = {name: i for i, name in enumerate(sorted({file.identity for file in files}))}
    labels = torch.tensor([numbers[file.identity] for file in files])
    return Images(pixels, labels, [file.path.stem for file in files])


def _held_out(identities: set[str], share: float) -> set[str]:
    """Choose a share of the identities to verify on, the same ones whatever the run's seed."""
    names = sorted(identities)
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(0)).tolist()
    return {names[i] for i in order[: max(2, round(share * len(names)))]}
