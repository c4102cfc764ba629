"""Pairs of two kinds, counted by their distance."""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facenet_ext.metrics._sorted import CHUNK, SortedFloats, ascending

__all__ = ["Comparisons", "allowed", "check_both_kinds", "check_pairs", "check_share"]


@dataclasses.dataclass(frozen=True)
class Comparisons:
    """The distances of the pairs of either kind, each sorted.

    Two sorted arrays count what any threshold accepts, exactly, by binary search. Millions of
    distances take half of their own memory, where sorting pairs with their kind takes three times
    that.

    Attributes:
        same: ``[S]`` ascending, distances of the pairs of one identity.
        different: ``[D]`` ascending, those of two identities.
    """

    same: NDArray[Any] | SortedFloats
    different: NDArray[Any] | SortedFloats

    @classmethod
    def of(
        cls,
        distances: Tensor,
        same: Tensor,
        *,
        finite: bool = False,
        name: str = "distances",
    ) -> Comparisons:
        """Check a set of pairs, and sort it.

        Args:
            distances: [N] floating point.
            same: [N] bool.
            finite: whether an infinite distance is an error too, not only NaN.
            name: of the distances in errors.
        """
        distances, same = check_pairs(distances, same, finite=finite, name=name)
        return cls.of_checked(distances, same)

    @classmethod
    def of_checked(cls, distances: Tensor, same: Tensor) -> Comparisons:
        """Sort a set of pairs."""

        def blocks() -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
            for some in zip(torch.split(distances, CHUNK), torch.split(same, CHUNK), strict=True):
                yield some[0].numpy(), some[1].numpy()

        of_same = int(same.count_nonzero())
        return cls.of_blocks(blocks, (of_same, len(same) - of_same), distances.numpy().dtype)

    @classmethod
    def of_blocks(
        cls,
        blocks: Callable[[], Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]],
        counts: tuple[int, int],
        dtype: Any,
    ) -> Comparisons:
        """Sort pairs that come in blocks.

        Args:
            blocks: yields distances, no NaN, and whether each pair is of one identity.
            counts: of same and of different pairs.
            dtype: of the distances, float32 or float64.
        """
        parts = (
            ascending(lambda of=of: (some[kind == of] for some, kind in blocks()), count, dtype)  # type: ignore[misc]
            for of, count in zip((True, False), counts, strict=True)
        )
        return cls(*parts)

    def accepted(self, thresholds: Any) -> tuple[Any, Any]:
        """Count the same and the different pairs with a distance up to each threshold."""
        at = np.asarray(thresholds, self.same.dtype)
        # A float64 may lie between two distances in float32.
        rounded_up = at > np.asarray(thresholds, np.float64)
        at = np.where(rounded_up, np.nextafter(at, -np.inf, dtype=at.dtype), at)
        return self.same.searchsorted(at, "right"), self.different.searchsorted(at, "right")

    def before(self, threshold: float) -> float | None:
        """Return the largest distance that is smaller than a threshold; None where none is."""
        at = np.asarray(threshold, self.same.dtype)
        below = [
            part[place - 1]
            for part in (self.same, self.different)
            if (place := int(part.searchsorted(at, "left")))
        ]
        return float(max(below)) if below else None

    def strictest(self, false_matches: int) -> float | None:
        """Return the largest finite distance that accepts so many different pairs at most."""
        some = false_matches < len(self.different)
        return self.before(self.different[false_matches] if some else math.inf)

    def crossing(self) -> tuple[float, float]:
        """Return where false matches become as frequent as false non-matches, and the rate there.

        ``FMR - FNMR`` grows strictly along the distances. Where it passes zero among pairs at one
        distance, a share of these counts as accepted.
        """
        n_same, n_different = len(self.same), len(self.different)

        def balance(accepted: tuple[Any, Any]) -> int:  # whole numbers, so the crossing is exact
            return int(accepted[1]) * n_same + int(accepted[0]) * n_different - n_same * n_different

        candidates = []
        for part in (self.same, self.different):
            place = bisect.bisect_left(part, 0, key=lambda at: balance(self.accepted(at)))
            candidates += part[place : place + 1].tolist()
        threshold = min(candidates)
        at = np.asarray(threshold, self.same.dtype)
        here = self.accepted(at)
        before = self.same.searchsorted(at, "left"), self.different.searchsorted(at, "left")
        gap = balance(here) - balance(before)
        share = -balance(before) / gap
        rate = (int(before[1]) + share * int(here[1] - before[1])) / n_different
        return threshold, rate


def allowed(share: float, total: int) -> int:
    """Return the most of a number of pairs that are no larger a share of them than is wanted."""
    # Counts are compared, with room for rounding: in floating point 0.29 * 100 is less than 29.
    return math.floor(share * total * (1 + 1e-12))


def check_share(name: str, share: float) -> None:
    """Check a rate that is asked for."""
    if not 0 < share <= 1:
        raise ValueError(f"{name} must be in (0, 1], got {share}")


def check_pairs(
    distances: Tensor, same: Tensor, *, finite: bool = True, name: str = "distances"
) -> tuple[Tensor, Tensor]:
    """Check a set of pairs and return it on the CPU, the distances in float32 or float64."""
    if not distances.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {distances.dtype}")
    if same.dtype != torch.bool:
        raise TypeError(f"same must be bool, got {same.dtype}")
    if distances.ndim != 1 or distances.shape != same.shape:
        raise ValueError(
            f"{name} and same must be 1-D and of one length, "
            f"got shapes {tuple(distances.shape)} and {tuple(same.shape)}"
        )
    bad = 0
    for some in torch.split(distances.detach(), CHUNK):
        bad += int((~torch.isfinite(some) if finite else torch.isnan(some)).count_nonzero())
    if bad:
        what = "be finite, got {} NaN or infinite" if finite else "be no NaN, got {} of them"
        raise ValueError(f"{name} must {what.format(bad)}")
    same = same.detach().cpu()
    check_both_kinds(same, "same")
    distances = distances.detach().cpu()
    return (distances if distances.dtype == torch.float64 else distances.float()), same


def check_both_kinds(same: Tensor, where: str) -> None:
    """Check that there are pairs of either kind."""
    n_same = int(same.count_nonzero())  # a sum of bool takes eight times its memory
    n_different = same.numel() - n_same
    if n_same == 0 or n_different == 0:
        raise ValueError(
            "there must be pairs of the same and of different identities, "
            f"{where} has {n_same} same and {n_different} different"
        )
