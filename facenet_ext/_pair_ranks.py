"""Finds pairs by their rank among all pairs, exactly, by counting them.

The module reads a distance as a whole number, the bits of its type, which ascends with it. It puts
a narrow window of columns around each number that it seeks. A pass over all pairs counts the pairs
in each column, and the pairs between the windows. The counts say which column holds the number of
some rank. If the column has a single number, this is the number.

A sample of the rows says where to put the windows. With it float32 needs one pass or two. A window
that misses its number costs another pass, and nothing else.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from facenet_ext import _validation as check
from facenet_ext import ops

__all__ = ["Format", "PairCounts", "Threshold"]

Progress = Callable[[int, int], None]

_BLOCK = 16_384
"""Rows that meet each other in one call: a fraction of a second on two cores, between which there
is progress and Ctrl-C."""

_SAMPLE = 16_384
"""Rows that tell where to look, at most; their pairs are a few percent of those of 100,000."""

_FEW = 4096
"""Rows of which no sample is taken."""

_SAMPLE_BITS = 9
"""Digits of the sample's bins: a fifth of a percent wide at most."""

_MOST_WINDOWS = 16
_MOST_BINS = 2**21
"""Of all windows: counters that a call clears and adds up in a few percent of its time."""

_DIFFERENT = 1


class Format(NamedTuple):
    """How a floating-point type's bits are read as whole numbers, which ascend with its values."""

    value: torch.dtype
    integer: torch.dtype
    mantissa: int

    @classmethod
    def of(cls, embeddings: torch.dtype) -> Format:
        """Return that of the distances of embeddings."""
        if embeddings == torch.float64:
            return cls(torch.float64, torch.int64, 52)
        return cls(torch.float32, torch.int32, 23)

    def bits_of(self, value: float, up: bool = False) -> int:
        """Return a number's bits; of one between two of the type those of the lower, or upper."""
        rounded = torch.tensor(value, dtype=self.value, device="cpu")
        bits = int(rounded.view(self.integer))
        return bits + (rounded.item() < value) if up else bits - (rounded.item() > value)

    def values_of(self, bits: Tensor) -> Tensor:
        """Return the numbers of bits, as float64."""
        return bits.to(self.integer).view(self.value).double()


class Threshold(NamedTuple):
    """The largest distance there is up to which few enough pairs of two labels lie.

    Attributes:
        value: the distance.
        same: pairs of one label up to it.
        different: pairs of two labels up to it.
    """

    value: float
    same: int
    different: int


@dataclasses.dataclass
class _Sought:
    """The first pair that is too much, and then the last one before it.

    Attributes:
        rank: of the pair, from 1, among those of two labels or, with ``of_all``, among all.
        intervals: of bits, each with its end: one of them has the pair, or is guessed to.
    """

    rank: int
    of_all: bool
    intervals: list[tuple[int, int]]

    def narrow(self, counted: _Counted, format: Format) -> tuple[bool, Threshold | None]:
        """Take in what a pass has counted, and return whether the search is over with it."""
        column = counted.column_of(self.rank, self.of_all)
        if not self.of_all:
            before = int(counted.upto[:, column - 1].sum()) if column else 0
            last = [counted.column_of(before, of_all=True)] if before else []
            if not counted.is_number(column):  # it has the last one before, or is the next to it
                self.intervals = [counted.interval(place) for place in (column, *last)]
                return False, None
            if not last:
                return True, None
            self.rank, self.of_all, column = before, True, last[0]
        if not counted.is_number(column):
            self.intervals = [counted.interval(column)]
            return False, None
        value = format.values_of(counted.edges[column, None]).item()
        return True, Threshold(value, *counted.upto[:, column].tolist())


class _Counted(NamedTuple):
    """What a pass has counted: columns in ascending order.

    Attributes:
        edges: [C + 1] int64, the bits at which columns begin, and at which the last ends.
        upto: [2, C] int64, pairs of one label and of two in a column and in those before.
    """

    edges: Tensor
    upto: Tensor

    def column_of(self, rank: int, of_all: bool) -> int:
        """Return the column that has the pair of a rank."""
        ranks = self.upto.sum(0) if of_all else self.upto[_DIFFERENT]
        return int(torch.searchsorted(ranks, rank))

    def interval(self, column: int) -> tuple[int, int]:
        """Return a column's edges."""
        return int(self.edges[column]), int(self.edges[column + 1])

    def is_number(self, column: int) -> bool:
        """Whether a column is of a single number."""
        low, high = self.interval(column)
        return high - low == 1


def _guess(sought: _Sought, total: int, sample: _Counted, error: float) -> tuple[int, int]:
    """Return where a sample of the rows has the pairs of about that rank.

    Args:
        sought: the pair.
        total: pairs of its kind there are.
        sample: what the sample has counted.
        error: of a count in it, as a share: pairs that share rows are not independent.
    """
    upto = sample.upto.sum(0) if sought.of_all else sample.upto[_DIFFERENT]
    most = int(upto[-1])
    expected = sought.rank / total * most
    fewer = min(expected, most - expected)
    slack = error * fewer + 6 * math.sqrt(fewer) + 2
    first, last = int(expected - slack), int(expected + slack)
    low, high = 0, int(sample.edges[-1])  # where the sample has no such pairs
    if first >= 1:
        low = int(sample.edges[torch.searchsorted(upto, first)])
    if last <= most:
        high = int(sample.edges[torch.searchsorted(upto, last) + 1])
    return low, high


class PairCounts:
    """All pairs of a batch, to be counted.

    Args:
        batch: whose pairs; of a set with itself each pair once.
        distance: ``"sqeuclidean"``, ``"euclidean"`` or ``"cosine"``.
        progress: called with the pairs that are done and all there are, in each pass.

    Attributes:
        same: pairs of one label.
        different: pairs of two labels.
        total: of both.
    """

    def __init__(self, batch: check.Batch, distance: str, progress: Progress | None) -> None:
        self.tensors = batch.tensors()[:4]
        self.distance = distance
        self.progress = progress
        self.format = Format.of(batch.emb.dtype)
        self.infinity = self.format.bits_of(math.inf)
        self.same, self.total = self._by_labels()
        self.different = self.total - self.same

    def thresholds(self, allowed: Sequence[int]) -> list[Threshold | None]:
        """Find each threshold up to which at most so many pairs of two labels lie.

        Args:
            allowed: how many, for each threshold.

        Returns:
            The thresholds; None where even the closest pair is one too many.

        Raises:
            ValueError: a distance is not finite.
        """
        found: list[Threshold | None] = [None] * len(allowed)
        sought = {
            position: _Sought(count + 1, False, [(0, self.infinity)])
            if count < self.different
            else _Sought(self.total, True, [(0, self.infinity)])  # all are allowed: the last of all
            for position, count in enumerate(allowed)
        }
        if max(self.shape) > _FEW:
            sample, error = self.sample()
            for one in sought.values():
                kind = self.total if one.of_all else self.different
                one.intervals = [_guess(one, kind, sample, error)]
        while sought:
            now = list(sought.items())[: _MOST_WINDOWS // 2]  # of two intervals each
            counted = self.count([interval for _, one in now for interval in one.intervals])
            for position, one in now:
                finished, found[position] = one.narrow(counted, self.format)
                if finished:
                    del sought[position]
        return found

    @property
    def shape(self) -> tuple[int, int]:
        """Rows on either side."""
        emb, _, ref_emb, _ = self.tensors
        return len(emb), len(emb if ref_emb is None else ref_emb)

    def _by_labels(self) -> tuple[int, int]:
        """Count the pairs of one label and all pairs."""
        _, labels, ref_emb, ref_labels = self.tensors
        rows, columns = self.shape
        if ref_emb is None or ref_labels is None:
            n = torch.unique(labels, return_counts=True)[1]
            return int((n * (n - 1) // 2).sum()), rows * (rows - 1) // 2
        both, place = torch.unique(torch.cat([labels, ref_labels]), return_inverse=True)
        here, there = (side.bincount(minlength=len(both)) for side in place.split([rows, columns]))
        return int((here * there).sum()), rows * columns

    def sample(self) -> tuple[_Counted, float]:
        """Count the pairs of some rows, in all bins, and return how wrong that may be.

        Each row is in some share of all close pairs. This share varies from row to row by about its
        own size. A count over m rows of a side then varies by 1 / sqrt(m) of itself. Four times as
        much is returned.
        """
        generator = torch.Generator("cpu").manual_seed(0)
        emb, labels, ref_emb, ref_labels = self.tensors

        def some(rows: int) -> Tensor:
            count = min(max(rows // 4, 1), _SAMPLE)
            return torch.randperm(rows, generator=generator, device="cpu")[:count].to(emb.device)

        rows = columns = some(len(emb))
        others: tuple[Tensor | None, Tensor | None] = (None, None)
        if ref_emb is not None and ref_labels is not None:
            columns = some(len(ref_emb))
            others = (ref_emb[columns], ref_labels[columns])
        shift = self.format.mantissa - _SAMPLE_BITS
        bins = self.infinity >> shift
        counts = ops.distance_histogram(
            emb[rows], labels[rows], *others, self.distance, [0], shift, bins
        )
        error = 4 / math.sqrt(len(rows)) + 4 / math.sqrt(len(columns))
        return self._counted(counts, [0], shift, bins), error

    def count(self, intervals: Sequence[tuple[int, int]]) -> _Counted:
        """Count all pairs, with bins in the intervals as narrow as there is room for."""
        shift = 0
        while (bins := max(_bins(one, shift) for one in intervals)) * len(intervals) > _MOST_BINS:
            shift += 1
        windows: list[int] = []
        for low, high in sorted(set(intervals)):
            begin = low >> shift << shift
            if windows:
                begin = max(begin, windows[-1] + (bins << shift))
            if begin < high:
                windows.append(begin)
        device = self.tensors[0].device
        columns = len(windows) * (bins + 1) + 2
        counts = torch.zeros(2, columns, dtype=torch.int64, device=device)
        done = 0
        for block, pairs in self.blocks():
            counts += ops.distance_histogram(*block, self.distance, windows, shift, bins)
            done += pairs
            if self.progress is not None:
                self.progress(done, self.total)
        if unusable := int(counts[:, -1].sum()):
            raise ValueError(f"distances must be finite, got {unusable} NaN or infinite")
        return self._counted(counts, windows, shift, bins)

    def _counted(self, counts: Tensor, windows: list[int], shift: int, bins: int) -> _Counted:
        steps = torch.arange(bins + 1, device="cpu") << shift
        edges = torch.cat([low + steps for low in windows])
        ends = [torch.tensor([bits], device="cpu") for bits in (0, self.infinity)]
        upto = counts[:, :-1].cpu().cumsum(1)
        return _Counted(torch.cat([ends[0], edges, ends[1]]), upto)

    def blocks(self) -> Iterator[tuple[tuple[Tensor, Tensor, Tensor | None, Tensor | None], int]]:
        """All blocks of pairs, and how many each has; of a set with itself each pair once."""
        emb, labels, ref_emb, ref_labels = self.tensors
        rows, columns = self.shape
        for i in range(0, rows, _BLOCK):
            for j in range(0 if ref_emb is not None else i, columns, _BLOCK):
                a, b = slice(i, i + _BLOCK), slice(j, j + _BLOCK)
                if ref_emb is None and i == j:
                    count = len(emb[a])
                    yield (emb[a], labels[a], None, None), count * (count - 1) // 2
                elif ref_emb is None or ref_labels is None:
                    yield (emb[a], labels[a], emb[b], labels[b]), len(emb[a]) * len(emb[b])
                else:
                    block = (emb[a], labels[a], ref_emb[b], ref_labels[b])
                    yield block, len(emb[a]) * len(ref_emb[b])


def _bins(interval: tuple[int, int], shift: int) -> int:
    low, high = interval
    return -(-high >> shift) - (low >> shift)
