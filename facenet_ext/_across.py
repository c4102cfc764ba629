"""Turns the losses of each rank's anchors into the loss of the whole batch, on every rank."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from facenet_ext._ranks import Ranks

__all__ = ["Across", "divisor"]

Totals = list[Tensor]


@dataclasses.dataclass(frozen=True)
class Across:
    """The ranks that share a batch, and how gradients are combined.

    Attributes:
        ranks: which of them this is.
        average: the gradients of ranks will be averaged, as DDP and FSDP do, and not added up.
    """

    ranks: Ranks
    average: bool

    @property
    def factor(self) -> int:
        """What a gradient is multiplied by, so that what the ranks combine is the batch's."""
        return self.ranks.size if self.average else 1

    def loss(
        self,
        compute: Callable[[Totals], Tensor],
        reduction: str,
        has_negatives: Tensor | None = None,
    ) -> Tensor:
        """The batch's loss, from one all-reduce of its sum and counts.

        Args:
            compute: returns this rank's reduced loss, and appends its totals: see ``csrc/ops.cpp``.
            reduction: of the loss.
            has_negatives: ``[]``, whether this rank has a negative pair. Without one on any rank
                the loss is 0. None: negatives do not matter to this loss.

        Returns:
            A scalar, the same on every rank.

        Raises:
            Exception: what ``compute`` raised on any rank, on every rank.
        """
        kept: Totals = []
        error = None
        try:
            local = compute(kept)
        except Exception as raised:
            error, local = raised, torch.zeros(())
        # Whether a rank failed travels along, and makes the loss NaN. Only a CPU's kernels raise
        # for what batches hold, and to read this of a GPU would synchronise.
        place = kept[0].device if kept else self.ranks.device
        own = kept[0] if kept else torch.full((3,), torch.nan, dtype=torch.float64, device=place)
        totals = torch.cat([own, own.new_tensor([error is not None])])
        if has_negatives is not None:
            totals = torch.cat([totals, has_negatives.to(totals).view(1)])
        self.ranks.all_reduce(totals)
        if totals.is_cpu and totals[3] > 0:
            self.ranks.raise_first(error)
        if error is not None:
            raise error
        result: Tensor = _BatchLoss.apply(  # type: ignore[no-untyped-call]
            local, own, totals, reduction, self.factor
        )
        return result

    def concatenated(self, compute: Callable[[], Tensor]) -> Tensor:
        """The losses of all ranks' triplets, in rank order.

        Args:
            compute: returns ``[T]`` losses of this rank's.

        Returns:
            ``[sum of T]``, the same on every rank.

        Raises:
            Exception: what ``compute`` raised on any rank, on every rank.
        """
        error, local = None, torch.zeros(0)
        try:
            local = compute()
        except Exception as raised:
            error = raised
        self.ranks.raise_anywhere(error)
        result: Tensor = _Concatenated.apply(local, self)  # type: ignore[no-untyped-call]
        return result

    def total(self, counts: Tensor) -> Tensor:
        """The sum over ranks."""
        return self.ranks.all_reduce(counts.clone())


def divisor(totals: Tensor, reduction: str) -> Tensor:
    """What a sum is divided by."""
    if reduction == "sum":
        return torch.ones_like(totals[0])
    return totals[1 if reduction == "mean" else 2].clamp(min=1)


class _BatchLoss(torch.autograd.Function):
    """Turns a rank's loss, S_r / Z_r, into the batch's loss, S / Z, by the totals of all ranks."""

    @staticmethod
    def forward(
        ctx: Any, local: Tensor, own: Tensor, totals: Tensor, reduction: str, factor: int
    ) -> Tensor:
        of_all = divisor(totals, reduction)
        # Empty, and so true, where the loss does not depend on negatives.
        counts = (totals[4:] > 0).all()
        ctx.factor = (divisor(own, reduction) / of_all * factor * counts).to(local.dtype)
        return (totals[0] / of_all * counts).to(local.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        return grads[0] * ctx.factor, None, None, None, None


class _Concatenated(torch.autograd.Function):
    """``[T]`` of each rank, in rank order."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, across: Across) -> Tensor:
        gathered = across.ranks.all_gather_rows(local)
        ctx.begin, ctx.count = sum(map(len, gathered[: across.ranks.rank])), len(local)
        ctx.factor = across.factor
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        return grads[0].narrow(0, ctx.begin, ctx.count) * ctx.factor, None
