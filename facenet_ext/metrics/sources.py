"""Where pairs come from: tensors, or whatever yields them block by block.

Figures of any source need one sort of its distances, and intervals one more pass over its blocks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facenet_ext.metrics._comparisons import Comparisons, check_pairs
from facenet_ext.metrics._sorted import CHUNK

__all__ = ["PairBlock", "PairSource", "TensorPairs"]


class PairBlock(NamedTuple):
    """Some pairs, in their order.

    Attributes:
        distances: [B] float32 or float64; no NaN.
        same: [B] bool, whether a pair is of one identity.
        first: [B] integers, one item of each pair.
        second: [B] integers, the other item; None where each comparison is of one identity.
    """

    distances: NDArray[Any]
    same: NDArray[np.bool_]
    first: NDArray[Any]
    second: NDArray[Any] | None


class PairSource(Protocol):
    """Pairs that can be gone through more than once."""

    @property
    def used(self) -> NDArray[np.bool_]:
        """[items] bool, whether an item is in a pair."""

    def sorted(self) -> Comparisons:
        """Return the distances of either kind, sorted."""

    def blocks(self) -> Iterator[PairBlock]:
        """Yield the pairs, some tens of thousands at once."""


@dataclasses.dataclass(frozen=True)
class TensorPairs:
    """Pairs in tensors; see :class:`PairBlock` for what these have.

    Attributes:
        distances: [N], on the CPU.
        same: [N], on the CPU.
        first: [N]; None where nobody knows.
        second: [N].
    """

    distances: Tensor
    same: Tensor
    first: Tensor | None = None
    second: Tensor | None = None

    @classmethod
    def of(
        cls,
        distances: Tensor,
        same: Tensor,
        first: Tensor | None = None,
        second: Tensor | None = None,
        *,
        items: int | None = None,
    ) -> TensorPairs:
        """Check pairs.

        Args:
            distances: [N] floating point.
            same: [N] bool.
            first: [N] integers from 0, an item or an identity; None where nobody knows.
            second: [N] integers.
            items: how many there are; None for any number.

        Raises:
            TypeError: a tensor is of another type.
            ValueError: shapes do not fit, a distance is NaN, one of the two kinds of pair is
                missing, or an item is out of range.
        """
        distances, same = check_pairs(distances, same, finite=False)
        ends = [end for end in (first, second) if end is not None]
        for name, end in (("first", first), ("second", second)):
            if end is None:
                continue
            if end.is_floating_point() or end.dtype == torch.bool:
                raise TypeError(f"{name} must be integers, got {end.dtype}")
            if end.shape != distances.shape:
                raise ValueError(
                    f"{name} must have one entry per pair, got shape {tuple(end.shape)} for "
                    f"{len(distances)} pairs"
                )
        if ends:
            low, high = min(int(end.min()) for end in ends), max(int(end.max()) for end in ends)
            if low < 0 or (items is not None and high >= items):
                limit = "" if items is None else f" to {items - 1}, the rows of labels"
                raise ValueError(f"first and second must be from 0{limit}, got {low} to {high}")
        first, second = (None if end is None else end.detach().cpu() for end in (first, second))
        return cls(distances, same, first, second)

    def __getitem__(self, chosen: Tensor) -> TensorPairs:
        """Return the pairs that a mask chooses, [N] bool."""
        ends = (None if end is None else end[chosen] for end in (self.first, self.second))
        return TensorPairs(self.distances[chosen], self.same[chosen], *ends)

    @property
    def used(self) -> NDArray[np.bool_]:
        """[items] bool, whether an item is in a pair; there are none behind the last of these."""
        ends = [end for end in (self.first, self.second) if end is not None]
        used = np.zeros(max(int(end.max()) for end in ends) + 1, bool)
        for end in ends:
            for some in torch.split(end, CHUNK):
                used[some.numpy()] = True
        return used

    def sorted(self) -> Comparisons:
        """Return the distances of either kind, sorted."""
        return Comparisons.of_checked(self.distances, self.same)

    def blocks(self) -> Iterator[PairBlock]:
        """Yield the pairs."""
        assert self.first is not None
        for begin in range(0, len(self.same), CHUNK):
            some = slice(begin, begin + CHUNK)
            yield PairBlock(
                self.distances[some].numpy(),
                self.same[some].numpy(),
                self.first[some].numpy(),
                None if self.second is None else self.second[some].numpy(),
            )
