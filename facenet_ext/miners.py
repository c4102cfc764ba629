"""Triplet selection as a module."""

import torch
from torch import Tensor

from facenet_ext._rule import TripletRule
from facenet_ext._selection import select
from facenet_ext._triplet_module import RuleModule
from facenet_ext._validation import Batch

__all__ = ["TripletMiner"]


class TripletMiner(RuleModule):
    """:func:`facenet_ext.functional.select_triplets` as a module.

    Args:
        margin: what ``within_margin`` and the random rules compare with.
        positives: ``"all"``, ``"hardest"`` or ``"easiest"``.
        negatives: ``"semihard"``, ``"hardest"``, or one of the random rules of
            :class:`TripletRule`, which draws from the default generator.
        within_margin: ask semi-hard negatives to lie inside the margin.
        fallback: ``"farthest"`` or ``"drop"`` where no negative qualifies.
        distance: ``"sqeuclidean"``, ``"euclidean"`` or ``"cosine"``.
        cutoff: of distance-weighted negatives, see :class:`TripletRule`.
        nonzero_loss_cutoff: of distance-weighted negatives, see :class:`TripletRule`.

    Raises:
        ValueError: an unknown option, a margin that is not finite.

    Example:
        >>> miner = TripletMiner()
        >>> anchor, positive, negative = miner(
        ...     torch.tensor([[0.0], [1.0], [-1.0], [1.5]]), torch.tensor([0, 0, 1, 1])
        ... )
        >>> negative.tolist()
        [3, 2, 1, 0]

    Source: FaceNet (Schroff et al., CVPR 2015), section 3.2.
    """

    def __init__(
        self,
        margin: float = 0.2,
        *,
        positives: str = "all",
        negatives: str = "semihard",
        within_margin: bool = False,
        fallback: str = "farthest",
        distance: str = "sqeuclidean",
        cutoff: float = 0.5,
        nonzero_loss_cutoff: float = 1.4,
    ) -> None:
        super().__init__()
        self.rule = TripletRule(
            margin,
            positives,
            negatives,
            within_margin,
            fallback,
            distance,
            cutoff,
            nonzero_loss_cutoff,
        )

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
            embeddings: ``[M, D]``
            labels: ``[M]`` integers.
            ref_emb: ``[N, D]`` candidates other than the batch itself.
            ref_labels: ``[N]``
            anchor_ids: ``[M]`` integers; a candidate with its anchor's id is not a positive of it.
            ref_ids: ``[N]``

        Returns:
            (anchor, positive, negative), each ``[T]`` int64.

        Raises:
            ValueError: shapes that do not fit.
            TypeError: embeddings that are not floating point, labels that are not integers.
        """
        batch = Batch(embeddings, labels, ref_emb, ref_labels, anchor_ids, ref_ids)
        triplets = select(batch, self.rule)
        return triplets.anchor, triplets.positive, triplets.negative
