"""Many numbers in ascending order, in half of their memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHUNK", "SortedFloats", "ascending"]

CHUNK = 2**16

_FEW = 2**20
"""Fewer numbers are an array: the table of buckets would be a large part of what it saves."""

_BUCKETS = 2**16


@dataclasses.dataclass(frozen=True)
class SortedFloats:
    """Ascending numbers in float32, of which each takes two bytes.

    A number is a key of 32 bits in the order of the numbers. All numbers of a bucket have the same
    upper half of it, so each has only its lower half. It is searched and indexed as an array.

    Attributes:
        starts: ``[65537]`` int64, where each bucket begins.
        low: ``[N]`` uint16, the lower halves, ascending in each bucket.
    """

    starts: NDArray[np.int64]
    low: NDArray[np.uint16]
    dtype = np.dtype(np.float32)

    @classmethod
    def of(cls, chunks: Callable[[], Iterator[NDArray[Any]]]) -> SortedFloats:
        """Sort numbers that come in chunks, each time in the same ones.

        Args:
            chunks: yields arrays of float32 without NaN, of 65,536 numbers or so.
        """
        sizes = np.zeros(_BUCKETS, np.int64)
        for chunk in chunks():
            sizes += np.bincount(_keys(chunk) >> 16, minlength=_BUCKETS)
        starts = np.append(0, sizes.cumsum())
        low = np.empty(starts[-1], np.uint16)
        free = starts[:-1].copy()
        for chunk in chunks():
            keys = _keys(chunk)
            keys.sort()
            high = keys >> 16
            added = np.bincount(high, minlength=_BUCKETS)
            low[(free - added.cumsum() + added)[high] + np.arange(len(keys))] = keys & 0xFFFF
            free += added
        for bucket in np.flatnonzero(sizes > 1):
            low[starts[bucket] : starts[bucket + 1]].sort()
        return cls(starts, low)

    def __len__(self) -> int:
        return len(self.low)

    def __getitem__(self, places: Any) -> Any:
        if isinstance(places, slice):
            places = np.arange(*places.indices(len(self)))
        low = self.low[places]
        places = np.where(np.asarray(places) < 0, places + len(self), places)
        high = self.starts.searchsorted(places, "right") - 1
        return _numbers(high.astype(np.uint32) << np.uint32(16) | low)

    def searchsorted(self, values: Any, side: Literal["left", "right"] = "left") -> Any:
        """Return where values would be inserted, as :func:`numpy.searchsorted` does."""
        keys = _keys(np.atleast_1d(values))
        high, low = keys >> 16, (keys & 0xFFFF).astype(np.uint16)
        places = self.starts[high]
        order = high.argsort(kind="stable")
        buckets, begins = np.unique(high[order], return_index=True)
        for bucket, some in zip(buckets, np.split(order, begins[1:]), strict=True):
            inside = self.low[self.starts[bucket] : self.starts[bucket + 1]]
            places[some] += inside.searchsorted(low[some], side)
        return places.reshape(np.shape(values))[()]


def ascending(
    chunks: Callable[[], Iterator[NDArray[Any]]], count: int, dtype: Any
) -> NDArray[Any] | SortedFloats:
    """Return numbers in ascending order.

    Args:
        chunks: yields arrays of them, each time the same ones; no NaN.
        count: of the numbers.
        dtype: float32 or float64.
    """
    if dtype == np.float32 and count >= _FEW:
        return SortedFloats.of(chunks)
    numbers = np.empty(count, dtype)
    begin = 0
    for chunk in chunks():
        numbers[begin : begin + len(chunk)] = chunk
        begin += len(chunk)
    numbers.sort()
    return numbers


def _keys(values: NDArray[Any]) -> NDArray[np.uint32]:
    """Return a key for each number: larger for larger ones, and one for both zeros."""
    bits = (np.asarray(values, np.float32) + np.float32(0)).view(np.uint32)
    keys: NDArray[np.uint32] = bits ^ np.where(bits >> 31, 0xFFFFFFFF, 0x80000000).astype(np.uint32)
    return keys


def _numbers(keys: Any) -> Any:
    bits = keys ^ np.where(keys >> 31, 0x80000000, 0xFFFFFFFF).astype(np.uint32)
    return bits.view(np.float32)
