"""Losses over the batch of many processes, under ``torch.distributed``.

W processes give what one process gives with the whole batch: the concatenation of their rows in
rank order. Rows of other ranks are candidates of this rank's anchors, and get their gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from facenet_ext import _validation as check
from facenet_ext._across import Across
from facenet_ext._agreement import Agreement
from facenet_ext._compilation import outside_graphs
from facenet_ext._gathering import Side
from facenet_ext._indices import as_triplets
from facenet_ext._ranks import Ranks
from facenet_ext._rule import RANDOM
from facenet_ext._selection import select
from facenet_ext._triplet_module import TripletModule, is_plain
from facenet_ext._whole_batch import Exchange
from facenet_ext.losses import HarmonicTripletLoss
from facenet_ext.miners import TripletMiner

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["DistributedLoss", "DistributedMiner"]

_ARGUMENTS = ("labels", "indices_tuple", "ref_emb", "ref_labels", "anchor_ids", "ref_ids")


class DistributedLoss(nn.Module):
    r"""A loss of the batch that the processes of a group have together.

    .. math:: L(X), \quad X = [X_0; \dots; X_{W-1}], \qquad
        \text{rank } r \text{ gets } W \cdot \partial L / \partial X_r

    Each rank calls it with its own rows. All get the same value: the loss of all rows, with the
    triplets, ties and counts of one process. DDP and FSDP average the gradients of ranks, so with
    the factor W the gradients of parameters are one process's too.

    A step sends the rows, once, with their labels; a sum and two counts (of a softmax loss also
    whether there is a negative); and the gradients of the rows, once. A rank compares its M_r
    anchors with all N rows as they stream by. Nothing of the size M_r x N is stored. Ranks may have
    different numbers of rows, also none. Random rules draw from rank 0's generator, and every
    rank's generator moves on.

    ``torch.compile`` runs it as it is, between two graphs. Where there is no process group it is
    the loss alone.

    Args:
        loss: a loss of this package, :class:`HarmonicTripletLoss` too.
        group: the processes; None: all of them.
        average: whether gradients of parameters will be averaged over ranks, as DDP and FSDP do.
            False leaves the factor W out, for callers who add them up.
        equal_rows: a promise that all ranks always have as many rows as each other. Counts are then
            exchanged in the first call alone, and the host does not wait for a GPU.
        chunk_rows: how many rows of all ranks a rank has at once, for batches that do not fit; at
            least one of each rank. The rows come round in pieces, more than once, and the rank
            keeps those of its anchors' classes: its own, where :class:`MPerClassSampler` gives them
            out. The result is the same. None: all rows at once.

    Raises:
        TypeError: a loss that is none of this package's.
        ValueError: ``chunk_rows`` below 1, or with a random rule, whose draws depend on places in
            the whole batch.

    Example:
        >>> from facenet_ext import TripletSemiHardLoss
        >>> loss = DistributedLoss(TripletSemiHardLoss(margin=0.5))
        >>> loss(torch.tensor([[0.0], [1.0], [-1.0], [1.5]]), torch.tensor([0, 0, 1, 1]))
        tensor(1.8125)

    Source: FaceNet (Schroff et al., CVPR 2015), section 3.2, whose batches of 1,800 faces are split
    over machines.
    """

    def __init__(
        self,
        loss: nn.Module,
        group: ProcessGroup | None = None,
        *,
        average: bool = True,
        equal_rows: bool = False,
        chunk_rows: int | None = None,
    ) -> None:
        super().__init__()
        harmonic = type(loss).forward is HarmonicTripletLoss.forward
        if not (is_plain(loss) or (isinstance(loss, HarmonicTripletLoss) and harmonic)):
            raise TypeError(
                "loss: expected a loss of facenet_ext that keeps its forward, got "
                f"{type(loss).__name__}"
            )
        check.check_flag("average", average)
        if chunk_rows is not None:
            _check_pieces(loss, chunk_rows)
        self.loss: TripletModule = loss
        self.group = group
        self.average = average
        self.chunk_rows = chunk_rows
        self._agreement = Agreement(equal_rows)

    @outside_graphs  # collectives are not traced
    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: tuple[Tensor, ...] | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
        anchor_ids: Tensor | None = None,
        ref_ids: Tensor | None = None,
    ) -> Tensor:
        """The loss of all ranks' rows.

        Args:
            embeddings: ``[M_r, D]`` of this rank.
            labels: ``[M_r]`` integers. Not read where ``indices_tuple`` is given.
            indices_tuple: triplets or pairs of rows of the whole batch, in place of selecting. Each
                rank gives some of them, as :class:`DistributedMiner` does. Not with ``chunk_rows``.
            ref_emb: ``[N_r, D]``, this rank's part of the candidates; see the loss.
            ref_labels: ``[N_r]``
            anchor_ids: ``[M_r]`` integers, see the loss.
            ref_ids: ``[N_r]``

        Returns:
            What the loss returns of the whole batch; the same on every rank.

        Raises:
            ValueError: what the loss raises; or options, columns or dtypes that differ between
                ranks. An error of one rank is raised on all of them.
            TypeError: as the loss.
        """
        ranks = Ranks.of(self.group)
        arguments = (ref_emb, ref_labels, anchor_ids, ref_ids)
        given = {
            name: value
            for name, value in zip(_ARGUMENTS, (labels, indices_tuple, *arguments), strict=True)
            if value is not None
        }
        if ranks.size == 1:
            loss: Tensor = self.loss(embeddings, **given)
            return loss
        shared = {
            "loss": self.loss,
            "average": self.average,
            "chunk_rows": self.chunk_rows,
            "the arguments": ", ".join(given),
        }
        exchange = Exchange(
            Across(ranks, self.average),
            self._agreement,
            shared,
            getattr(self.loss, "negatives", ""),
            self.chunk_rows,
        )
        if indices_tuple is not None:
            return self._of_triplets(exchange, embeddings, indices_tuple, ref_emb)
        if not isinstance(self.loss, HarmonicTripletLoss):
            batch, _ = exchange.batch(lambda: check.Batch(embeddings, _needed(labels), *arguments))
            return self.loss._of_batch(batch)
        both = self._union(exchange, embeddings, labels, ref_emb, ref_labels)
        if self.loss.reduction != "none":
            return self.loss._of_batch(both(slice(None)))
        # In the order of one process: the new model's anchors of all ranks come first.
        parts = slice(len(embeddings)), slice(len(embeddings), None)
        return torch.cat([self.loss._of_batch(both(part)) for part in parts])

    def _of_triplets(
        self,
        exchange: Exchange,
        embeddings: Tensor,
        indices_tuple: tuple[Tensor, ...],
        ref_emb: Tensor | None,
    ) -> Tensor:
        """The loss of triplets of the whole batch, some of them given to each rank."""
        harmonic = isinstance(self.loss, HarmonicTripletLoss)

        def sides() -> list[Side]:
            if exchange.chunk_rows is not None:
                raise ValueError(
                    "indices_tuple: expected None with chunk_rows, as no rank has all of its rows; "
                    "let the loss select, or leave chunk_rows out"
                )
            as_triplets(indices_tuple)
            if harmonic:
                (rows,), (old,) = HarmonicTripletLoss._models(embeddings, None, ref_emb, None)
                return [Side("embeddings", rows), Side("ref_emb", old)]
            check.check_embeddings("embeddings", embeddings)
            if ref_emb is None:
                return [Side("embeddings", embeddings)]
            rows, ref_rows = check.check_pair("embeddings", embeddings, "ref_emb", ref_emb)
            return [Side("embeddings", rows), Side("ref_emb", ref_rows)]

        rows, *bank = (side.rows for side in exchange.receive(sides).gathered)
        if harmonic:
            rows, bank = torch.cat([rows, *bank]), []
        ref_rows = bank[0] if bank else None
        return self.loss._of_triplets(rows, indices_tuple, ref_rows, exchange.across)

    @staticmethod
    def _union(
        exchange: Exchange, embeddings: Tensor, labels: Tensor | None, *of_old: Tensor | None
    ) -> Callable[[slice], check.Batch]:
        """A function from a slice of this rank's anchors to their batch in the union of all ranks.

        The anchors are those of the new model, then those of the old one.
        """

        def sides() -> list[Side]:
            models = HarmonicTripletLoss._models(embeddings, _needed(labels), *of_old)
            return [
                Side(name, rows, tuple(labels))
                for name, (rows, *labels) in zip(("embeddings", "ref_emb"), models, strict=True)
            ]

        received = exchange.receive(sides)
        new, old = received.totals
        rows = torch.cat([received.rows(0), received.rows(1) + new])
        anchors = torch.cat([side.rows for side in received.sides])
        anchor_labels = torch.cat([side.integers[0] for side in received.sides])
        ids = torch.arange(new + old, device=rows.device)

        def batch(of: slice) -> check.Batch:
            made = received.batch(anchors[of], anchor_labels[of], rows[of], ids)
            return exchange.placed(made, rows[of], received.seed)

        return batch

    def extra_repr(self) -> str:
        """The options, as they would be passed; the loss is shown as a module."""
        return (
            f"average={self.average}, equal_rows={self._agreement.equal_rows}, "
            f"chunk_rows={self.chunk_rows}"
        )


def _check_pieces(loss: TripletModule, chunk_rows: int) -> None:
    check.check_bound("chunk_rows", chunk_rows)
    negatives = getattr(loss, "negatives", "")
    if negatives in RANDOM:
        raise ValueError(
            f"chunk_rows: expected None with negatives={negatives!r}, whose draws depend on places "
            "in the whole batch; choose 'semihard' or 'hardest', or leave chunk_rows out"
        )


def _needed(labels: Tensor | None) -> Tensor:
    if labels is None:
        raise ValueError("labels: expected one per row of embeddings, or indices_tuple")
    return labels


class DistributedMiner(nn.Module):
    """Selects the triplets of this rank's anchors from the batch that all ranks have together.

    Each rank calls it with its own rows. What the ranks return is, one behind the other, what the
    miner returns of the whole batch. :class:`DistributedLoss` takes it as ``indices_tuple``.

    Args:
        miner: a miner of this package.
        group: the processes; None: all of them.
        equal_rows: see :class:`DistributedLoss`.

    Raises:
        TypeError: a miner that is none of this package's.

    Example:
        >>> from facenet_ext import TripletMiner
        >>> miner = DistributedMiner(TripletMiner())
        >>> embeddings = torch.tensor([[0.0], [1.0], [-1.0], [1.5]])
        >>> anchor, positive, negative = miner(embeddings, torch.tensor([0, 0, 1, 1]))
        >>> negative.tolist()
        [3, 2, 1, 0]

    Source: FaceNet, section 3.2.
    """

    def __init__(
        self, miner: nn.Module, group: ProcessGroup | None = None, *, equal_rows: bool = False
    ) -> None:
        super().__init__()
        if not isinstance(miner, TripletMiner):
            raise TypeError(f"miner: expected one of facenet_ext, got {type(miner).__name__}")
        self.miner = miner
        self.group = group
        self._agreement = Agreement(equal_rows)

    @outside_graphs  # collectives are not traced
    @torch.no_grad()
    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
        anchor_ids: Tensor | None = None,
        ref_ids: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Selects triplets.

        Args:
            embeddings: ``[M_r, D]`` of this rank.
            labels: ``[M_r]`` integers.
            ref_emb: ``[N_r, D]``, this rank's part of the candidates other than the batch itself.
            ref_labels: ``[N_r]``
            anchor_ids: ``[M_r]`` integers, see the miner.
            ref_ids: ``[N_r]``

        Returns:
            (anchor, positive, negative), each ``[T_r]`` int64: rows of the whole batch, and of all
            ranks' ``ref_emb`` if that is given.

        Raises:
            ValueError: what the miner raises; or columns or dtypes that differ between ranks. An
                error of one rank is raised on all of them.
            TypeError: as the miner.
        """
        arguments = (embeddings, labels, ref_emb, ref_labels, anchor_ids, ref_ids)
        ranks = Ranks.of(self.group)
        if ranks.size == 1:
            triplets: tuple[Tensor, Tensor, Tensor] = self.miner(*arguments)
            return triplets
        banks = ref_emb is not None, anchor_ids is not None
        shared = {"miner": self.miner, "ref_emb and anchor_ids are given": banks}
        exchange = Exchange(Across(ranks, False), self._agreement, shared, self.miner.negatives)
        batch, first = exchange.batch(lambda: check.Batch(*arguments))
        anchor, positive, negative = select(batch, self.miner.rule)[:3]
        return anchor + first, positive, negative

    def extra_repr(self) -> str:
        """The options, as they would be passed; the miner is shown as a module."""
        return f"equal_rows={self._agreement.equal_rows}"
