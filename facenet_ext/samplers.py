"""Batches of P identities with K images each, the shape that mining inside a batch needs."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, pairwise
from types import FrameType
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, Sampler

__all__ = ["MPerClassSampler", "derive_seed"]


class MPerClassSampler(Sampler[list[int]]):
    r"""Draw batches of ``classes`` classes with ``m`` images each, and single images as negatives.

    .. math:: B_s = \bigcup_{c \in C_s} I_c \cup N_s, \quad |C_s| = P,\ |I_c| = m

    The classes of a batch differ; a class of n images is drawn in proportion to
    ``min(n, size_cap)``. The images of a class differ too, unless it has fewer than ``m``. Then its
    images repeat, each about equally often, and augmentation makes the copies differ. With
    ``repeat=False`` the class has fewer images in the batch instead. Classes with fewer than
    ``min_images`` images can only be negatives. ``negatives`` of them join each batch with one
    image each, or as many as fill the batch up to ``batch_size``.

    A batch is a pure function of ``seed`` and its position in the run. Each pass continues where
    the one before it ended, so no two have the same batches. Training that stopped after ``s``
    batches continues with ``start=s``.

    A ``DataLoader`` takes it in two ways:

        DataLoader(dataset, batch_sampler=sampler)
        DataLoader(dataset, sampler=sampler, batch_size=batch_size)

    Its items are batches, each a list of row numbers, and its length is their number. Passed as
    ``sampler``, it gives the rows of the same batches one by one, and its length is the number of
    rows: the ``BatchSampler`` of the DataLoader then puts the batches together again. For this the
    two must have the same ``batch_size``.

    Many processes share a batch: each of ``world_size`` gets a part of it, of about as many rows,
    and what they get, one behind the other in rank order, is the batch of one process. The single
    images stand evenly between the classes of a batch. So a part holds whole classes, and its share
    of the single images, whatever the number of parts. Numbers of rows differ between ranks by less
    than a class each side, and a rank gets none where a batch has fewer classes and single images
    than there are ranks. As the batch does not depend on ``world_size``, a run may go on with
    another.

    Args:
        labels: [N] integers, the class of each image.
        m: images per class in a batch (K).
        classes: classes per batch (P); by default ``batch_size / m``.
        batches: batches in one pass; by default as many as draw each image of the classes once, on
            average.
        negatives: images per batch of classes that have fewer than ``min_images`` images.
        negative_copies: how often each of these is repeated. With 2 or more a network that sees
            each copy under another augmentation also learns from them as positives.
        min_images: how many images a class must have to be drawn as one of the P.
        repeat: show images of a class with fewer than ``m`` more than once.
        batch_size: rows of a batch, in place of ``negatives``: after the images of ``classes``
            come as many negatives as fit, or none if these images alone are more.
        size_cap: 1 draws every class equally often; the larger it is, the more often classes with
            many images are drawn.
        seed: chooses the batches; not negative.
        start: how many batches of the run are done; the first pass has the rest of the pass that
            they end in.
        rank: which part of each batch to give, from 0.
        world_size: the number of parts.

    Raises:
        TypeError: the labels are not integers.
        ValueError: fewer than ``classes`` classes have ``min_images`` images, there are fewer than
            ``negatives`` others, the labels are not 1-D, a number is out of range, both
            ``negatives`` and ``batch_size`` are given, or neither ``classes`` nor ``batch_size``;
            a DataLoader's ``batch_size`` is not the sampler's.

    Example:
        >>> sampler = MPerClassSampler([0, 0, 1, 1, 1, 2, 2, 3], m=2, classes=2, negatives=1)
        >>> batch = next(iter(sampler))
        >>> len(batch), batch[-1]
        (5, 7)
        >>> sampler = MPerClassSampler(torch.arange(40) // 4, m=4, batch_size=8)
        >>> from torch.utils.data import DataLoader
        >>> dataset = torch.arange(40)
        >>> [len(batch) for batch in DataLoader(dataset, sampler=sampler, batch_size=8)]
        [8, 8, 8, 8, 8]
        >>> [MPerClassSampler([0, 0, 1, 1, 2], 2, 2, negatives=1, rank=r, world_size=2).batch(7)
        ...  for r in range(2)]
        [[1, 0], [2, 3, 4]]

    Source: FaceNet, section 3.2; Hermans, Beyer, Leibe, *In Defense of the Triplet Loss for Person
    Re-Identification*, 2017, section 2 (batches of P times K).
    """

    def __init__(
        self,
        labels: Tensor | Sequence[int],
        m: int,
        classes: int | None = None,
        *,
        batches: int | None = None,
        negatives: int = 0,
        negative_copies: int = 1,
        min_images: int = 2,
        size_cap: int = 1,
        repeat: bool = True,
        batch_size: int | None = None,
        seed: int = 0,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if classes is None and batch_size is None:
            raise ValueError(
                "classes or batch_size: expected one of them, got neither; batch_size is the "
                "DataLoader's, where this is its sampler"
            )
        for name, value, least in (
            ("m", m, 1),
            ("classes", 1 if classes is None else classes, 1),
            ("batches", 1 if batches is None else batches, 1),
            ("negatives", negatives, 0),
            ("negative_copies", negative_copies, 1),
            ("min_images", min_images, 1),
            ("size_cap", size_cap, 1),
            ("batch_size", 1 if batch_size is None else batch_size, 1),
            ("seed", seed, 0),
            ("start", start, 0),
            ("rank", rank, 0),
            ("world_size", world_size, 1),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if rank >= world_size:
            raise ValueError(f"rank must be below world_size={world_size}, got {rank}")
        if negatives and batch_size is not None:
            raise ValueError(
                f"negatives={negatives} and batch_size={batch_size}: give one of them, as "
                "batch_size says how many negatives there are"
            )
        asked = f"classes={classes}"
        if classes is None:
            classes, rest = divmod(batch_size or 0, m)
            asked = f"classes=batch_size/m={classes}"
            if rest or not classes:
                raise ValueError(
                    f"batch_size={batch_size}: expected a multiple of m={m}, or give classes too"
                )
        members = _members(torch.as_tensor(labels))
        self._classes = [rows for rows in members if len(rows) >= min_images]
        self._others = [rows for rows in members if len(rows) < min_images]
        if len(self._classes) < classes:
            raise ValueError(
                f"{asked} needs that many classes with {min_images} images or more, "
                f"there are {len(self._classes)}"
            )
        if len(self._others) < negatives:
            raise ValueError(
                f"negatives={negatives} needs that many classes with fewer than {min_images} "
                f"images, there are {len(self._others)}"
            )
        sizes = torch.tensor([len(rows) for rows in self._classes], dtype=torch.float64)
        self._weights = sizes.clamp(max=size_cap)
        # Average number of images of a class in a batch that draws classes by these weights.
        shown = m if repeat else (self._weights * sizes.clamp(max=m)).sum() / self._weights.sum()
        room = negatives
        if batch_size is not None:
            room = max(0, batch_size - m * classes) // negative_copies
        single = min(room, len(self._others))
        # Rows of each batch of this rank; None where batches differ in size.
        groups = _spread([[0] * m] * classes, [[0] * negative_copies] * single)
        self._rows = len(cut(groups, world_size)[rank]) if repeat else None
        self.m = m
        self.classes = classes
        self.negatives = negatives
        self.negative_copies = negative_copies
        self.repeat = repeat
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.rank = rank
        self.world_size = world_size
        self.batches = batches or max(1, round(sizes.sum().item() / (float(shown) * classes)))

    def __len__(self) -> int:
        """Return the number of batches of a whole pass; the first pass may have fewer."""
        joins = self._joins_rows(sys._getframe(1))
        return self.batches * cast(int, self._rows) if joins else self.batches

    def __iter__(self) -> Iterator[list[int]]:
        """Return the batches of the next pass, each a list of row numbers."""
        batches = self._next_pass()
        if self._joins_rows(sys._getframe(1)):
            return cast(Iterator[list[int]], chain.from_iterable(batches))
        return batches

    def _joins_rows(self, frame: FrameType | None) -> bool:
        """Return whether the caller is a BatchSampler, which builds batches from single rows.

        A DataLoader does not say whether it uses this as its sampler or its batch_sampler, so the
        calling frames are searched. A BatchSampler may call from its own iterator, one frame
        deeper.
        """
        for _ in range(2):
            reader = frame.f_locals.get("self") if frame else None
            if isinstance(reader, BatchSampler) and getattr(reader, "sampler", None) is self:
                self._check_batch_size(reader.batch_size)
                return True
            frame = frame.f_back if frame else None
        return False

    def _check_batch_size(self, batch_size: int) -> None:
        """Raise where a BatchSampler would cut the rows into other batches."""
        if batch_size == self._rows:
            return
        other = "DataLoader(dataset, batch_sampler=sampler)"
        if self._rows is None:
            raise ValueError(
                f"sampler: with repeat=False its batches differ in size; write {other}"
            )
        raise ValueError(
            f"batch_size={batch_size}: expected {self._rows}, the rows of a batch of this sampler; "
            f"write DataLoader(dataset, sampler=sampler, batch_size={self._rows}) or {other}"
        )

    def _next_pass(self) -> Iterator[list[int]]:
        first = self.start
        self.start = (first // self.batches + 1) * self.batches
        for position in range(first, self.start):
            yield self.batch(position)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(m={self.m}, classes={self.classes} of {len(self._classes)}, "
            f"batches={self.batches}, negatives={self.negatives} of {len(self._others)}, "
            f"negative_copies={self.negative_copies}, repeat={self.repeat}, "
            f"batch_size={self.batch_size}, seed={self.seed}, start={self.start}, "
            f"rank={self.rank}, world_size={self.world_size})"
        )

    def batch(self, position: int) -> list[int]:
        """Return the rank's rows of the batch at a position."""
        return cut(self.groups(position), self.world_size)[self.rank]

    def groups(self, position: int) -> list[list[int]]:
        """Return the rows of each class and of each negative, of all ranks at a position."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, position))
        groups = []
        for index in _draw(self._weights, self.classes, generator):
            members = self._classes[index]
            m = self.m if self.repeat else min(self.m, len(members))
            groups.append(_choose(members, m, generator))
        room = self.negatives
        if self.batch_size is not None:
            room = max(0, self.batch_size - sum(map(len, groups))) // self.negative_copies
        others = _permutation(len(self._others), generator)[:room]
        return _spread(
            groups,
            [_choose(self._others[at], 1, generator) * self.negative_copies for at in others],
        )


def _spread(classes: list[list[int]], singles: list[list[int]]) -> list[list[int]]:
    """Put single images behind each class, as many behind one as behind another."""
    ends = [at * len(singles) // len(classes) for at in range(len(classes) + 1)]
    return [
        group
        for of_class, (begin, end) in zip(classes, pairwise(ends), strict=True)
        for group in (of_class, *singles[begin:end])
    ]


def cut(groups: Sequence[Sequence[int]], parts: int) -> list[list[int]]:
    """Cut a batch into parts of about as many rows, between groups.

    Each cut is at the border closest to where equal parts would end; no part is empty unless there
    are fewer groups than parts.

    Args:
        groups: the rows of each group, which stay together.
        parts: how many.

    Returns:
        The rows of each part; one behind the other they are the batch.

    Example:
        >>> cut([[0, 1, 2], [3, 4, 5], [6], [7]], 2)
        [[0, 1, 2], [3, 4, 5, 6, 7]]
    """
    borders = [0, *accumulate(map(len, groups))]
    cuts = [0]
    for part in range(1, parts):
        goal = part * borders[-1] / parts
        behind = bisect_left(borders, goal)
        closest = min(behind - 1, behind, key=lambda border: abs(borders[border] - goal))
        most = len(groups) - (parts - part)  # leaves a group to each part that follows
        cuts.append(max(cuts[-1], min(max(closest, cuts[-1] + 1), most)))
    cuts.append(len(groups))
    return [list(chain.from_iterable(groups[begin:end])) for begin, end in pairwise(cuts)]


def _draw(weights: Tensor, count: int, generator: torch.Generator) -> list[int]:
    """Draw distinct rows in proportion to weights. torch.multinomial takes at most 2**24 of them.

    Source: Efraimidis, Spirakis, *Weighted random sampling with a reservoir*, 2006.
    """
    waiting = torch.empty_like(weights).exponential_(generator=generator)
    return list((weights / waiting).topk(count).indices.tolist())


def _members(labels: Tensor) -> list[list[int]]:
    """Return the rows of each class, in increasing order of the label."""
    if labels.ndim != 1:
        raise ValueError(f"labels must be 1-D, got shape {tuple(labels.shape)}")
    if labels.is_floating_point() and labels.numel():
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    members: dict[int, list[int]] = {}
    for row, label in enumerate(labels.tolist()):
        members.setdefault(label, []).append(row)
    return [members[label] for label in sorted(members)]


def _choose(rows: list[int], m: int, generator: torch.Generator) -> list[int]:
    """Return m of the rows in random order; a row repeats only after all have been taken."""
    chosen: list[int] = []
    while len(chosen) < m:
        chosen += [rows[i] for i in _permutation(len(rows), generator)[: m - len(chosen)]]
    return chosen


def _permutation(n: int, generator: torch.Generator) -> list[int]:
    return list(torch.randperm(n, generator=generator).tolist())


def derive_seed(*numbers: int) -> int:
    """Return a seed that depends on all the numbers, unlike their sum.

    Args:
        numbers: non-negative integers, such as the run's seed and a step.

    Returns:
        A 64-bit seed, the same on every machine.

    Example:
        >>> derive_seed(0, 1) != derive_seed(1, 0)
        True
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
