"""Pairs to verify, as tensors: all pairs of images, and folds of the people in them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facenet_ext.common.errors import InputError
from facenet_ext.common.text import counted

__all__ = ["Pairs", "all_pairs", "connected", "identity_folds"]

_MOST_PAIRS = 4_000_000
"""Most pairs of each kind; if there are more, a sample says the same."""

_FEWEST_PAIRS = 10
_MOST_FOLDS = 10
_FOLD_PAIRS = 10
"""Fewest pairs of each kind in a fold, where there are more than two folds."""


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Pairs of images by position.

    Attributes:
        first: [N] int64, position of one image.
        second: [N] int64, position of the other.
        same: [N] bool, whether they are of one identity.
        folds: [N] int64, the fold of each pair; or [N, 2], those of its two identities, as
            :func:`identity_folds` deals them out: a pair of two folds is judged in neither.
        balanced: weigh the two kinds of pair equally in accuracy, where one is far more frequent.
        labels: [images] int64, the identity of each image, where that is known.
    """

    first: Tensor
    second: Tensor
    same: Tensor
    folds: Tensor
    balanced: bool = False
    labels: Tensor | None = None

    @functools.cached_property
    def identities(self) -> int | None:
        """How many identities the pairs are of, where that is known."""
        if self.labels is None:
            return None
        used = torch.zeros(len(self.labels), dtype=torch.bool)
        used[self.first] = used[self.second] = True
        return len(torch.unique(self.labels[used]))

    def between(self, chosen: Tensor) -> Pairs:
        """Return the pairs whose images are both chosen, by their positions as before.

        Args:
            chosen: [images] bool.
        """
        if bool(chosen.all()):
            return self
        whole = chosen[self.first] & chosen[self.second]
        first, second, folds = self.first[whole], self.second[whole], self.folds[whole]
        if self.labels is not None and folds.ndim == 2:
            folds = identity_folds(self.labels, first, second)
        return dataclasses.replace(
            self, first=first, second=second, same=self.same[whole], folds=folds
        )

    def among(self, kept: Sequence[int]) -> Pairs:
        """Return the pairs whose images are both kept, by their positions among the kept ones.

        Folds of identities are dealt out anew: one may have lost all its pairs of a kind.
        """
        images = torch.tensor(kept, dtype=torch.int64)
        place = torch.full((int(max(self.first.max(), self.second.max(), images.max())) + 1,), -1)
        place[images] = torch.arange(len(images))
        first, second = place[self.first], place[self.second]
        whole = (first >= 0) & (second >= 0)
        labels = None if self.labels is None else self.labels[images]
        first, second, folds = first[whole], second[whole], self.folds[whole]
        if labels is not None and folds.ndim == 2:
            folds = identity_folds(labels, first, second)
        return Pairs(first, second, self.same[whole], folds, self.balanced, labels)


def all_pairs(labels: Tensor) -> Pairs:
    """Return all pairs of images, or a sample of each kind where they are millions.

    Args:
        labels: [N] int64, the identity of each image.

    Returns:
        :class:`Pairs`, balanced, with folds of identities, always the same for the same labels.

    Raises:
        InputError: there are too few pairs of one kind to measure anything.

    Example:
        >>> pairs = all_pairs(torch.arange(40) // 4)
        >>> len(pairs.same), int(pairs.same.sum()), pairs.identities
        (780, 60, 10)
    """
    n = len(labels)
    if n * (n - 1) // 2 <= _MOST_PAIRS:
        first, second = torch.triu_indices(n, n, offset=1)
    else:
        first, second = _sample(labels, torch.Generator().manual_seed(0))
    same = labels[first] == labels[second]
    for kind, name in ((same, "same"), (~same, "different")):
        if int(kind.sum()) < _FEWEST_PAIRS:
            raise InputError(
                f"the {counted(n, 'image')} to verify on make only "
                f"{counted(int(kind.sum()), 'pair')} of {name} identities; give at least "
                f"{_FEWEST_PAIRS}, by more images or a larger `held_out`"
            )
    folds = identity_folds(labels, first, second)
    return Pairs(first, second, same, folds, balanced=True, labels=labels)


def connected(first: NDArray[Any], second: NDArray[Any], items: int) -> NDArray[np.int64]:
    """Number items so that those have one number which pairs connect, directly or by others.

    Args:
        first: [N] integers, one item of each pair.
        second: [N] integers, the other.
        items: how many there are.

    Returns:
        [items] int64, from 0.

    Example:
        >>> connected(np.array([0, 3]), np.array([2, 2]), 4).tolist()
        [0, 1, 0, 0]
    """
    from scipy.sparse import coo_array  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    joined = coo_array((np.ones(len(first), bool), (first, second)), shape=(items, items))
    numbers: NDArray[Any] = connected_components(joined, directed=False)[1]
    return numbers.astype(np.int64)


def identity_folds(labels: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Deal identities out to folds, and return the folds of the two identities of each pair.

    Pairs that share an identity are not independent: two images of one person are hard or easy for
    the same reason. With folds of pairs, a threshold would be chosen on the people that it is
    judged on, and the spread over folds would be too small. So a fold is judged on the pairs within
    it, with the threshold that is best on the pairs that have nobody of it. There are up to ten
    folds: as many as get ten pairs of each kind, or else two, if each gets a pair of each kind.

    Args:
        labels: [images] int64, the identity of each image.
        first: [N] int64, position of one image of each pair.
        second: [N] int64, position of the other.

    Returns:
        [N, 2] int64, always the same for the same pairs; all 0 where there are too few identities
        for two folds.

    Example:
        >>> labels = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
        >>> pairs = all_pairs(labels.repeat_interleave(3))
        >>> sorted(set(map(tuple, pairs.folds.tolist())))
        [(0, 0), (0, 1), (1, 0), (1, 1)]
    """
    names, numbers = torch.unique(labels, return_inverse=True)
    one, other = numbers[first], numbers[second]
    same = one == other
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(names), generator=generator)
    # Identities with same pairs come first, so that every fold gets equally many of them.
    has_same = torch.zeros(len(names), dtype=torch.bool).index_fill(0, one[same], True)
    order = torch.cat([order[has_same[order]], order[~has_same[order]]])
    place = torch.empty_like(order).index_copy(0, order, torch.arange(len(order)))
    for count in range(_MOST_FOLDS, 1, -1):
        folds = torch.stack([place[one] % count, place[other] % count], dim=1)
        within = folds[:, 0] == folds[:, 1]
        least = min(
            int(folds[within & kind, 0].bincount(minlength=count).min()) for kind in (same, ~same)
        )
        if least >= (_FOLD_PAIRS if count > 2 else 1):
            return folds
    return torch.zeros(len(first), 2, dtype=torch.int64)


def _sample(labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return same pairs, up to _MOST_PAIRS of them, and random different pairs."""
    order = labels.argsort(stable=True)
    sizes = torch.unique(labels, return_counts=True)[1]
    if int((sizes * (sizes - 1) // 2).sum()) > 2 * _MOST_PAIRS:  # too many to list
        pairs = order[_some_same(sizes, generator)]
    else:
        listed = [
            rows[torch.triu_indices(len(rows), len(rows), offset=1)]
            for rows in torch.split(order, sizes.tolist())
        ]
        pairs = torch.cat(listed, dim=1)
        pairs = pairs[:, torch.randperm(pairs.shape[1], generator=generator)[:_MOST_PAIRS]]
    # Drawn with repeats: there are many more possible pairs, so few are drawn twice.
    drawn = torch.randint(len(labels), (2, _MOST_PAIRS), generator=generator)
    different = drawn[:, labels[drawn[0]] != labels[drawn[1]]]
    first, second = torch.cat([pairs, different], dim=1)
    return first, second


def _some_same(sizes: Tensor, generator: torch.Generator) -> Tensor:
    """Return [2, N] places of same pairs among rows that are sorted by class, each pair once.

    Args:
        sizes: [classes] int64, the number of rows of each.
        generator: draws the pairs.
    """
    counts = sizes * (sizes - 1) // 2
    ends = counts.cumsum(0)
    drawn = torch.randint(int(ends[-1]), (_MOST_PAIRS,), generator=generator)
    drawn = torch.unique(drawn)
    of = torch.searchsorted(ends, drawn, right=True)
    # Of a class, pair number k of rows i < j is k = j (j - 1) / 2 + i.
    k = drawn - (ends - counts)[of]
    j = ((1 + (8.0 * k + 1).sqrt()) / 2).long()
    j -= (j * (j - 1) // 2 > k).long()  # where the root was rounded up
    j += (j * (j + 1) // 2 <= k).long()
    return torch.stack([k - j * (j - 1) // 2, j]) + (sizes.cumsum(0) - sizes)[of]
