"""Triplet losses as modules, with pytorch-metric-learning's calling convention."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from facenet_ext import _validation as check
from facenet_ext._rule import RULE_OPTIONS, TripletRule
from facenet_ext._selection import margin_loss, mined_loss
from facenet_ext._softmax_modules import NTXentLoss, SupConLoss
from facenet_ext._triplet_module import RuleModule, TripletModule
from facenet_ext._types import TripletCounts

__all__ = [
    "HarmonicTripletLoss",
    "NTXentLoss",
    "SupConLoss",
    "TripletHardLoss",
    "TripletLoss",
    "TripletMarginLoss",
    "TripletSemiHardLoss",
]


class TripletLoss(RuleModule, TripletModule):
    r"""The triplet loss over triplets that a rule selects from each batch.

    .. math:: h = \max(0,\ d(a, p) - d(a, n) + \text{margin})

    Args:
        margin: the margin, in units of the distance.
        positives: ``"all"``, ``"hardest"`` or ``"easiest"``.
        negatives: ``"semihard"``, ``"hardest"``, or one of the random rules of
            :class:`TripletRule`, which draws from the default generator.
        within_margin: ask semi-hard negatives to lie inside the margin.
        fallback: ``"farthest"`` or ``"drop"`` where no negative qualifies.
        distance: ``"sqeuclidean"``, ``"euclidean"`` or ``"cosine"``.
        cutoff: of distance-weighted negatives, see :class:`TripletRule`.
        nonzero_loss_cutoff: of distance-weighted negatives, see :class:`TripletRule`.
        smooth: softplus in place of the hinge.
        swap: anchor swap, see :func:`triplet_loss`; not fused, see :func:`mined_triplet_loss`.
        reduction: ``"mean"``, ``"mean_nonzero"``, ``"sum"`` or ``"none"``.
        max_per_class: a bound on the rows of a class, see :func:`mined_triplet_loss`.

    Raises:
        ValueError: an unknown option, a margin that is not finite.

    Example:
        >>> import torch
        >>> loss = TripletLoss(margin=0.5, distance="euclidean")
        >>> loss(torch.tensor([[0.0], [1.0], [-1.0], [1.5]]), torch.tensor([0, 0, 1, 1]))
        tensor(0.6250)

    Source: FaceNet (Schroff et al., CVPR 2015), section 3.
    """

    _options = (*RULE_OPTIONS, "smooth", "swap", "reduction", "max_per_class")
    _counts: TripletCounts | None = None

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
        smooth: bool = False,
        swap: bool = False,
        reduction: str = "mean",
        max_per_class: int | None = None,
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
        check.check_loss_margin(margin)
        check.check_flag("smooth", smooth)
        check.check_flag("swap", swap)
        check.check_choice("reduction", reduction, check.REDUCTIONS)
        check.check_max_per_class(max_per_class)
        self.smooth = smooth
        self.swap = swap
        self.reduction = reduction
        self.max_per_class = max_per_class

    @contextlib.contextmanager
    def counting(self) -> Iterator[TripletCounts]:
        """Count the triplets that the loss selects in a ``with`` block, to show beside the loss.

        The fused pass lists no triplets. So counting takes a second pass, which selects the same
        triplets, also by a random rule, and waits for the device.

        Yields:
            The :class:`TripletCounts` of all calls in the block so far. Calls with given triplets
            are not counted.

        Example:
            >>> loss = TripletLoss(margin=0.5, distance="euclidean")
            >>> with loss.counting() as counts:
            ...     loss(torch.tensor([[0.0], [1.0], [-1.0], [1.5]]), torch.tensor([0, 0, 1, 1]))
            tensor(0.6250)
            >>> counts.active, counts.selected
            (2, 4)
        """
        before, self._counts = self._counts, TripletCounts()
        try:
            yield self._counts
        finally:
            self._counts = before

    def _of_batch(self, batch: check.Batch) -> Tensor:
        return mined_loss(
            batch,
            self.rule,
            self.smooth,
            self.swap,
            self.reduction,
            self.max_per_class,
            counts=self._counts,
        )


class TripletSemiHardLoss(TripletLoss):
    """FaceNet's loss: all anchor-positive pairs, each with its semi-hard negative.

    Args:
        margin: the margin, 0.2 in the paper.
        within_margin: ask negatives to lie inside the margin.
        fallback: ``"farthest"`` (as TensorFlow-Addons' loss of this name) or ``"drop"``.
        distance: ``"sqeuclidean"``, ``"euclidean"`` or ``"cosine"``.
        reduction: ``"mean"``, ``"mean_nonzero"``, ``"sum"`` or ``"none"``.
        max_per_class: a bound on the rows of a class, see :func:`mined_triplet_loss`.

    Raises:
        ValueError: an unknown option, a margin that is not finite.

    Example:
        >>> import torch
        >>> loss = TripletSemiHardLoss(margin=0.5)
        >>> loss(torch.tensor([[0.0], [1.0], [-1.0], [1.5]]), torch.tensor([0, 0, 1, 1]))
        tensor(1.8125)

    Source: FaceNet, section 3.2.
    """

    _options = ("margin", "within_margin", "fallback", "distance", "reduction", "max_per_class")

    def __init__(
        self,
        margin: float = 0.2,
        *,
        within_margin: bool = False,
        fallback: str = "farthest",
        distance: str = "sqeuclidean",
        reduction: str = "mean",
        max_per_class: int | None = None,
    ) -> None:
        super().__init__(
            margin,
            within_margin=within_margin,
            fallback=fallback,
            distance=distance,
            reduction=reduction,
            max_per_class=max_per_class,
        )


class TripletHardLoss(TripletLoss):
    """Batch hard: each anchor with its farthest positive and its closest negative.

    Args:
        margin: the margin.
        soft: softplus in place of the hinge, the paper's soft margin (with ``margin=0``).
        distance: ``"sqeuclidean"``, ``"euclidean"`` (the paper's) or ``"cosine"``.
        reduction: ``"mean"``, ``"mean_nonzero"``, ``"sum"`` or ``"none"``.
        max_per_class: a bound on the rows of a class, see :func:`mined_triplet_loss`.

    Raises:
        ValueError: an unknown option, a margin that is not finite.

    Example:
        >>> import torch
        >>> loss = TripletHardLoss(margin=0.5, distance="euclidean")
        >>> loss(torch.tensor([[0.0], [1.0], [-1.0], [1.5]]), torch.tensor([0, 0, 1, 1]))
        tensor(1.5000)

    Source: Hermans, Beyer, Leibe, "In Defense of the Triplet Loss", 2017, equation 5.
    """

    _options = ("margin", "soft", "distance", "reduction", "max_per_class")

    def __init__(
        self,
        margin: float = 0.2,
        *,
        soft: bool = False,
        distance: str = "sqeuclidean",
        reduction: str = "mean",
        max_per_class: int | None = None,
    ) -> None:
        super().__init__(
            margin,
            positives="hardest",
            negatives="hardest",
            distance=distance,
            smooth=soft,
            reduction=reduction,
            max_per_class=max_per_class,
        )

    @property
    def soft(self) -> bool:
        """Whether the hinge is softplus."""
        return self.smooth


class TripletMarginLoss(TripletModule):
    r"""The triplet loss over *every* triplet of a kind, without a list of triplets.

    .. math:: L = \frac{1}{Z} \sum_{a, p, n} \max(0,\ d(a, p) - d(a, n) + \text{margin})

    See :func:`facenet_ext.functional.triplet_margin_loss`.

    Args:
        margin: the margin, in units of the distance.
        triplets: ``"all"``, ``"hard"`` (the negative no farther than the positive), ``"semihard"``
            (farther, but inside the margin) or ``"easy"`` (beyond the margin).
        distance: ``"sqeuclidean"``, ``"euclidean"`` or ``"cosine"``.
        smooth: softplus in place of the hinge, at the cost of one term per triplet.
        reduction: ``"mean_nonzero"``, ``"mean"`` or ``"sum"``.
        max_per_class: a bound on the rows of a class, see :func:`mined_triplet_loss`.

    Raises:
        ValueError: an unknown option, a margin that is not finite.

    Example:
        >>> import torch
        >>> loss = TripletMarginLoss(margin=0.5, distance="euclidean")
        >>> loss(torch.tensor([[0.0], [1.0], [-1.0], [1.5]]), torch.tensor([0, 0, 1, 1]))
        tensor(1.4167)

    Source: FaceNet, section 3.1, equation 2; "batch all" of Hermans et al. 2017, section 2.
    """

    _options = ("margin", "triplets", "distance", "smooth", "reduction", "max_per_class")

    def __init__(
        self,
        margin: float = 0.2,
        *,
        triplets: str = "all",
        distance: str = "sqeuclidean",
        smooth: bool = False,
        reduction: str = "mean_nonzero",
        max_per_class: int | None = None,
    ) -> None:
        super().__init__()
        check.check_loss_margin(margin)
        check.check_choice("triplets", triplets, check.TRIPLETS)
        check.check_choice("distance", distance, check.DISTANCES)
        check.check_flag("smooth", smooth)
        check.check_choice("reduction", reduction, check.SCALAR_REDUCTIONS)
        check.check_max_per_class(max_per_class)
        self.margin = float(margin)
        self.triplets = triplets
        self.distance = distance
        self.smooth = smooth
        self.reduction = reduction
        self.max_per_class = max_per_class

    def _of_batch(self, batch: check.Batch) -> Tensor:
        return margin_loss(
            batch,
            self.margin,
            self.triplets,
            self.distance,
            self.smooth,
            self.reduction,
            self.max_per_class,
        )


class HarmonicTripletLoss(TripletLoss):
    r"""The loss of triplets from the union of an old model's embeddings and a new one's.

    .. math:: U = \{v_2(x_i)\} \cup \{v_1(x_i)\}

    The old model, v1, is frozen. The new model, v2, learns embeddings that can be compared with the
    old ones. An anchor may be of either model, and so may its positive and its negative: both are
    selected from all of U. The two embeddings of one image are a positive pair like any other.

    The arguments are those of :class:`TripletLoss`. The default is semi-hard negatives of all
    pairs. ``max_per_class`` counts the rows of U. Pass the old embeddings as ``ref_emb``, with as
    many columns as the new ones. Pass their labels as ``ref_labels``, unless they are the labels of
    the batch. If you give triplets, they index U, in which the new embeddings come first.

    Raises:
        ValueError: an unknown option, a margin that is not finite; a call without
            ``ref_emb``.

    Example:
        >>> import torch
        >>> old, new = torch.tensor([[0.0], [4.0]]), torch.tensor([[1.0], [3.0]])
        >>> HarmonicTripletLoss(margin=0.2)(new, torch.tensor([0, 1]), ref_emb=old)
        tensor(0.)

    Source: FaceNet (Schroff et al., CVPR 2015), appendix "Harmonic Embedding".
    """

    def forward(  # type: ignore[override]  # no ids: an image's two embeddings are a pair
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: tuple[Tensor, ...] | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: ``[M, D]`` of the new model.
            labels: ``[M]`` integers. Not read where ``indices_tuple`` is given.
            indices_tuple: triplets or pairs of rows of U, in place of selecting.
            ref_emb: ``[N, D]`` of the old model. Gets no gradient.
            ref_labels: ``[N]`` integers; None: ``labels``, of the same images.

        Returns:
            A scalar, or ``[T]`` for the reduction ``"none"``.

        Raises:
            ValueError: no old embeddings, neither labels nor triplets, or shapes that do not fit.
            TypeError: embeddings that are not floating point, labels that are not integers.
        """
        (new, *new_labels), (old, *old_labels) = self._models(
            embeddings, labels, ref_emb, ref_labels
        )
        union_labels = torch.cat(new_labels + old_labels) if new_labels else None
        return super().forward(torch.cat([new, old]), union_labels, indices_tuple)

    @staticmethod
    def _models(
        embeddings: Tensor,
        labels: Tensor | None,
        ref_emb: Tensor | None,
        ref_labels: Tensor | None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The embeddings, and the labels if there are any, of the new model and of the old one."""
        if ref_emb is None:
            raise ValueError("ref_emb: expected the old model's embeddings, got None")
        check.check_embeddings("embeddings", embeddings)
        new, old = check.check_pair("embeddings", embeddings, "ref_emb", ref_emb)
        old = old.detach()
        if labels is None:
            return [new], [old]
        new_labels = check.check_integers("labels", labels, "embeddings", new)
        old_labels = new_labels if ref_labels is None else ref_labels
        return [new, new_labels], [
            old,
            check.check_integers("ref_labels", old_labels, "ref_emb", old),
        ]
