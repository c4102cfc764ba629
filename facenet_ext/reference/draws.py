"""What random rules draw: a word of 32 bits, hashed from the seed, anchor, positive and negative.

Of the negatives that qualify for an anchor and its positive, the one with the smallest word is
selected. So each is equally likely, and the result depends on the seed and the row numbers alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_WORD = 2**32 - 1


def draws(seed: int, anchor: int, positive: int, candidates: int) -> Tensor:
    """The words of all candidates for one anchor and positive, [N] int64 in [0, 2**32)."""
    begin = _mix64(_mix64(seed % 2**64) + anchor)
    of_positive = _mix32(torch.tensor([(begin >> 32) + positive]))
    of_candidates = _mix32((begin & _WORD) + torch.arange(candidates))
    return _scramble(of_positive ^ of_candidates)


def _mix64(x: int) -> int:
    """One step of SplitMix64 (Steele, Lea, Flood 2014)."""
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


def _scramble(x: Tensor) -> Tensor:
    """Permutes the words: two multiplications modulo 2**32 around a shift."""
    x = x * 0x7FEB352D & _WORD
    x = x ^ x >> 15
    return x * 0x846CA68B & _WORD


def _mix32(x: Tensor) -> Tensor:
    """A hash that maps different 32-bit words to different ones."""
    x = x & _WORD
    x = _scramble(x ^ x >> 16)
    return x ^ x >> 16


class RandomOptions(NamedTuple):
    """The options of random rules."""

    margin: float
    distance: str
    dim: int
    cutoff: float
    nonzero_loss_cutoff: float


def _random_semihard(d: Tensor, d_ap: float, words: Tensor, options: RandomOptions) -> Tensor:
    return torch.where((d > d_ap) & (d < d_ap + options.margin), words.double(), torch.inf)


def _random_violating(d: Tensor, d_ap: float, words: Tensor, options: RandomOptions) -> Tensor:
    return torch.where(d < d_ap + options.margin, words.double(), torch.inf)


def _distance_weighted(d: Tensor, d_ap: float, words: Tensor, options: RandomOptions) -> Tensor:
    """An exponential race: E / w with E = -log(1 - u) is smallest in proportion to w.

    In logarithms. ``u`` is the draw, in (0, 1); log w = -log q(d) by the paper's first equation of
    section 4.
    """
    if math.isnan(d_ap):
        return torch.full_like(d, torch.inf)
    euclidean = {"sqeuclidean": d.sqrt(), "euclidean": d, "cosine": (2 * d).sqrt()}[
        options.distance
    ]
    clamped = euclidean.clamp(min=options.cutoff)
    log_q = (options.dim - 2) * clamped.log() + (options.dim - 3) / 2 * (1 - clamped**2 / 4).log()
    log_e = torch.log(-torch.log1p(-(words.double() + 0.5) / 2**32))
    return torch.where(euclidean < options.nonzero_loss_cutoff, log_e + log_q, torch.inf)


# The priority of each candidate, [N]: the smallest is selected, infinity does not qualify.
RANDOM_RULES: dict[str, Callable[[Tensor, float, Tensor, RandomOptions], Tensor]] = {
    "random_semihard": _random_semihard,
    "random_violating": _random_violating,
    "distance_weighted": _distance_weighted,
}
