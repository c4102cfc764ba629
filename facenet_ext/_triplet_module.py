"""What all losses share: how they are called, and how they show themselves."""

from typing import Any, ClassVar

from torch import Tensor, nn

from facenet_ext import functional as F  # noqa: N812
from facenet_ext._indices import as_triplets

__all__ = ["TripletModule", "is_fused"]


class TripletModule(nn.Module):
    """What the losses share: the call, given triplets, and a repr of the options."""

    _options: ClassVar[tuple[str, ...]]
    margin: float
    distance: str
    smooth: bool
    swap: bool = False
    reduction: str

    def _mined(self, embeddings: Tensor, labels: Tensor, **reference: Any) -> Tensor:
        """The loss of a batch whose triplets are not given."""
        raise NotImplementedError

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
        """The loss of a batch.

        Args:
            embeddings: ``[M, D]``
            labels: ``[M]`` integers. Not read where ``indices_tuple`` is given.
            indices_tuple: (anchor, positive, negative), each ``[T]``, in place of selecting; or
                pairs (a1, p, a2, n), then every (a1, p) with every (a2, n) of the same anchor.
            ref_emb: ``[N, D]`` candidates other than the batch itself.
            ref_labels: ``[N]``
            anchor_ids: ``[M]`` integers; a candidate with its anchor's id is not a positive of it.
            ref_ids: ``[N]``

        Returns:
            A scalar, or ``[T]`` for the reduction ``"none"``.

        Raises:
            ValueError: neither labels nor triplets, or shapes that do not fit.
            TypeError: embeddings that are not floating point, labels that are not integers.
        """
        if indices_tuple is not None:
            return F.triplet_loss(
                embeddings,
                as_triplets(indices_tuple),
                self.margin,
                distance=self.distance,
                smooth=self.smooth,
                swap=self.swap,
                reduction=self.reduction,
                ref_emb=ref_emb,
            )
        if labels is None:
            raise ValueError("labels: expected one per row of embeddings, or indices_tuple")
        return self._mined(
            embeddings,
            labels,
            ref_emb=ref_emb,
            ref_labels=ref_labels,
            anchor_ids=anchor_ids,
            ref_ids=ref_ids,
        )

    def extra_repr(self) -> str:
        """The options, as they would be passed."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self._options)


def is_fused(loss: nn.Module) -> bool:
    """Whether the gradient comes with the mined loss: a backward then reads no candidates.

    Not known of a subclass with a call of its own.
    """
    return (
        isinstance(loss, TripletModule)
        and type(loss).forward is TripletModule.forward
        and loss.reduction != "none"
        and not loss.swap
    )
