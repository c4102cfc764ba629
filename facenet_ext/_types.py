"""The types that several modules share."""

from typing import NamedTuple

import torch
from torch import Tensor

from facenet_ext._across import Across


class Triplets(NamedTuple):
    """Selected triplets, in lexicographic order of (anchor, positive).

    Unpacks into a (anchor, positive, negative) index tuple by its first three fields.

    Attributes:
        anchor: ``[T]`` int64, rows of the embeddings.
        positive: ``[T]`` int64, rows of the candidates (the embeddings, or ``ref_emb``).
        negative: ``[T]`` int64, rows of the candidates.
        d_ap: ``[T]`` distance of anchor and positive. Carries no gradient.
        d_an: ``[T]`` distance of anchor and negative. Carries no gradient.
    """

    anchor: Tensor
    positive: Tensor
    negative: Tensor
    d_ap: Tensor
    d_an: Tensor


class TripletCounts:
    """How many triplets a loss had, as ``TripletLoss.counting`` counts them.

    Attributes:
        selected: the number of triplets that the rule selected.
        active: the number of those with a hinge above 0: their negative is closer than their
            positive plus the margin.
    """

    def __init__(self) -> None:
        self.selected = self.active = 0

    def add(self, active: Tensor, across: Across | None = None) -> None:
        """Counts the triplets of a call.

        Args:
            active: ``[T]``, whether each triplet is active.
            across: the ranks whose triplets are counted too.
        """
        counts = torch.stack([active.new_tensor(active.numel(), dtype=torch.int64), active.sum()])
        selected, of_them = (counts if across is None else across.total(counts)).tolist()
        self.selected += selected
        self.active += of_them

    @property
    def share(self) -> float:
        """The share of the triplets that are active; 0 without triplets."""
        return self.active / max(self.selected, 1)
