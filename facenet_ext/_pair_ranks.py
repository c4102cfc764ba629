"""Finds pairs by their rank among all pairs, exactly, by counting them.

The module reads a distance as a whole number, the bits of its type, which ascends with it. It puts
a narrow window of columns around each number that it seeks. A pass over all pairs counts the pairs
in each column, and the pairs between the windows. The counts say which column holds the number of
some rank. A column that holds a single number gives this number.

A sample of the rows says where to put the windows. With it float32 needs one pass or two. A window
that misses its number costs one more pass.
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
from facenet_ext._claims import claiming, rows_of_block
from facenet_ext._ranks import Ranks

__all__ = ["Format", "PairCounts", "Threshold", "count_pairs"]

Progress = Callable[[int, int], None]
_Tensors = tuple[Tensor, Tensor, Tensor | None, Tensor | None]

_BLOCK = 16_384
"""Rows on each side in one call of the operator. A call takes a fraction of a second on two cores;
progress is reported, and Ctrl-C is served, between calls."""

_SAMPLE = 16_384
"""Most rows of a sample: their pairs are a few percent of those of 100,000 rows."""

_FEW = 4096
"""Up to this many rows no sample is taken."""

_SAMPLE_BITS = 9
"""Binary digits of the sample's bins, which are a fifth of a percent wide at most."""

_MOST_WINDOWS = 16
_MOST_BINS = 2**21
"""Most bins of all windows: a call clears and adds up these counters in a few percent of its
time."""

_DIFFERENT = 1


class Format(NamedTuple):
    """How to read a floating-point type's bits as whole numbers that ascend with its values."""

    value: torch.dtype
    integer: torch.dtype
    mantissa: int

    @classmethod
    def of(cls, embeddings: torch.dtype) -> Format:
        """Return the format of distances between embeddings of this type."""
        if embeddings == torch.float64:
            return cls(torch.float64, torch.int64, 52)
        return cls(torch.float32, torch.int32, 23)

    def bits_of(self, value: float, up: bool = False) -> int:
        """Return a number's bits, rounded to the type: down, or up if ``up``."""
        rounded = torch.tensor(value, dtype=self.value, device="cpu")
        bits = int(rounded.view(self.integer))
        return bits + (rounded.item() < value) if up else bits - (rounded.item() > value)

    def values_of(self, bits: Tensor) -> Tensor:
        """Return the numbers of bits, as float64."""
        return bits.to(self.integer).view(self.value).double()


class Threshold(NamedTuple):
    """The largest observed distance up to which no more pairs of two labels lie than allowed.

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
    """The search for a threshold: for the first pair too many, and then for the pair before it.

    Attributes:
        rank: of the pair, from 1, among pairs of two labels or, with ``of_all``, among all pairs.
        intervals: of bits, [low, high). The pair is in one of them, or is guessed to be.
    """

    rank: int
    of_all: bool
    intervals: list[tuple[int, int]]

    def narrow(self, counted: _Counted, format: Format) -> tuple[bool, Threshold | None]:
        """Narrow the search by what a pass counted; return whether it is over, and the result."""
        column = counted.column_of(self.rank, self.of_all)
        if not self.of_all:
            before = int(counted.upto[:, column - 1].sum()) if column else 0
            last = [counted.column_of(before, of_all=True)] if before else []
            if not counted.is_number(column):  # it, or `last`, has the pair before too
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
    """What a pass has counted, in columns in ascending order.

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
        """Whether a column holds a single number."""
        low, high = self.interval(column)
        return high - low == 1


def _guess(sought: _Sought, total: int, sample: _Counted, error: float) -> tuple[int, int]:
    """Return the interval in which a pair should be, from the counts of a sample of the rows.

    Args:
        sought: the pair.
        total: how many pairs of its kind there are.
        sample: the sample's counts.
        error: the relative error of these. It is large, as pairs that share rows are not
            independent.
    """
    upto = sample.upto.sum(0) if sought.of_all else sample.upto[_DIFFERENT]
    most = int(upto[-1])
    expected = sought.rank / total * most
    fewer = min(expected, most - expected)
    slack = error * fewer + 6 * math.sqrt(fewer) + 2
    first, last = int(expected - slack), int(expected + slack)
    low, high = 0, int(sample.edges[-1])  # stay so where the sample has too few pairs
    if first >= 1:
        low = int(sample.edges[torch.searchsorted(upto, first)])
    if last <= most:
        high = int(sample.edges[torch.searchsorted(upto, last) + 1])
    return low, high


class PairCounts:
    """Counts the pairs of a batch: of a set with itself each pair once.

    Args:
        batch: the rows and labels.
        distance: ``"sqeuclidean"``, ``"euclidean"`` or ``"cosine"``.
        progress: called in each pass with how many pairs are done, and how many there are.
        ranks: the processes that divide each pass.

    Attributes:
        same: number of pairs of one label.
        different: number of pairs of two labels.
        total: number of all pairs.
    """

    def __init__(
        self, batch: check.Batch, distance: str, progress: Progress | None, ranks: Ranks
    ) -> None:
        self.ranks = ranks
        self.tensors = batch.tensors()[:4]
        self.distance = distance
        self.progress = progress
        self.format = Format.of(batch.emb.dtype)
        self.infinity = self.format.bits_of(math.inf)
        self.same, self.total = self._by_labels()
        self.different = self.total - self.same

    def thresholds(self, allowed: Sequence[int]) -> list[Threshold | None]:
        """Find thresholds: the largest distances with at most this many pairs of two labels.

        Args:
            allowed: the number of these pairs, for each threshold.

        Returns:
            The thresholds; None where even the closest pair is one too many.

        Raises:
            ValueError: a distance is not finite.
        """
        thresholds: list[Threshold | None] = [None] * len(allowed)
        sought = {
            position: _Sought(count + 1, False, [(0, self.infinity)])
            if count < self.different
            else _Sought(self.total, True, [(0, self.infinity)])  # all are allowed: the last pair
            for position, count in enumerate(allowed)
        }
        if max(self.shape) > _FEW:
            sample, error = self.sample()
            for search in sought.values():
                total = self.total if search.of_all else self.different
                search.intervals = [_guess(search, total, sample, error)]
        while sought:
            now = list(sought.items())[: _MOST_WINDOWS // 2]  # each has up to two intervals
            counted = self.count([interval for _, search in now for interval in search.intervals])
            for position, search in now:
                finished, thresholds[position] = search.narrow(counted, self.format)
                if finished:
                    del sought[position]
        return thresholds

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
        """Count the pairs of a sample of the rows in all bins; return the counts and their error.

        Each row is in some share of all close pairs. This share varies from row to row by about its
        own size. A count over m rows of a side then varies by 1 / sqrt(m) of itself. Four times as
        much is returned, as a relative error.
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
        """Count all pairs, with the narrowest bins in the intervals that _MOST_BINS allows."""
        shift = 0
        while (bins := max(_bins(i, shift) for i in intervals)) * len(intervals) > _MOST_BINS:
            shift += 1
        windows: list[int] = []
        for low, high in sorted(set(intervals)):
            begin = low >> shift << shift
            if windows:
                begin = max(begin, windows[-1] + (bins << shift))
            if begin < high:
                windows.append(begin)
        counts = count_pairs(
            self.tensors, self.distance, windows, shift, bins, self.ranks, self.progress
        )
        if unusable := int(counts[:, -1].sum()):
            raise ValueError(f"distances must be finite, got {unusable} NaN or infinite")
        return self._counted(counts, windows, shift, bins)

    def _counted(self, counts: Tensor, windows: list[int], shift: int, bins: int) -> _Counted:
        steps = torch.arange(bins + 1, device="cpu") << shift
        edges = torch.cat([low + steps for low in windows])
        ends = [torch.tensor([bits], device="cpu") for bits in (0, self.infinity)]
        upto = counts[:, :-1].cpu().cumsum(1)
        return _Counted(torch.cat([ends[0], edges, ends[1]]), upto)


def count_pairs(
    tensors: _Tensors,
    distance: str,
    windows: Sequence[int],
    shift: int,
    bins: int,
    ranks: Ranks,
    progress: Progress | None = None,
) -> Tensor:
    """Count all pairs by their bins, block by block: see ``ops.distance_histogram``.

    Several processes claim blocks, and add up what they counted by one all-reduce.
    """
    emb, labels, ref_emb, ref_labels = tensors
    rows, columns = len(emb), len(emb if ref_emb is None else ref_emb)
    total = rows * (rows - 1) // 2 if ref_emb is None else rows * columns
    size = rows_of_block(ranks, max(rows, columns), _BLOCK)
    counts = torch.zeros(
        2, len(windows) * (bins + 1) + 2, dtype=torch.int64, device=ranks.device or emb.device
    )
    with claiming(ranks) as claims:
        for _, (i, j) in claims.of(_corners(rows, columns, size, itself=ref_emb is None)):
            a, b = slice(i, i + size), slice(j, j + size)
            block: _Tensors
            if ref_emb is not None and ref_labels is not None:
                block = emb[a], labels[a], ref_emb[b], ref_labels[b]
            elif i == j:
                block = emb[a], labels[a], None, None
            else:
                block = emb[a], labels[a], emb[b], labels[b]
            one, names, other, other_names = block
            counts += ops.distance_histogram(
                one, names, other, other_names, distance, windows, shift, bins
            )
            done = claims.finish(
                len(one) * (len(one) - 1) // 2 if other is None else len(one) * len(other)
            )
            if progress is not None:
                progress(done, total)
    return ranks.all_reduce(counts).to(emb.device)


def _corners(rows: int, columns: int, size: int, *, itself: bool) -> Iterator[tuple[int, int]]:
    """The first row and column of each block; of a set with itself those from the diagonal on."""
    return ((i, j) for i in range(0, rows, size) for j in range(i if itself else 0, columns, size))


def _bins(interval: tuple[int, int], shift: int) -> int:
    low, high = interval
    return -(-high >> shift) - (low >> shift)
