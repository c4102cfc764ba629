"""What losses and miners share: how they are called, their rule, and their ``repr``."""

import dataclasses
from typing import Any, ClassVar, TypeGuard

from torch import Tensor, nn

from facenet_ext._across import Across
from facenet_ext._indices import as_triplets
from facenet_ext._rule import RULE_OPTIONS, TripletRule
from facenet_ext._selection import given_loss
from facenet_ext._validation import Batch

__all__ = ["RuleModule", "TripletModule", "is_fused"]


class OptionsModule(nn.Module):
    """A module whose ``repr`` shows its options, as they would be passed."""

    _options: ClassVar[tuple[str, ...]]

    def extra_repr(self) -> str:
        """The options, as they would be passed."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self._options)


def _of_rule(name: str) -> Any:
    """The attribute of a module that is an option of its rule."""

    def get(module: "RuleModule") -> Any:
        return getattr(module.rule, name)

    def put(module: "RuleModule", value: Any) -> None:
        module.rule = dataclasses.replace(module.rule, **{name: value})

    return property(get, put)


class RuleModule(OptionsModule):
    """A module with a rule, whose options are attributes of the module too.

    Attributes:
        rule: which triplets are selected. Setting one of its options makes a new rule.
    """

    _options = RULE_OPTIONS
    rule: TripletRule
    margin: float = _of_rule("margin")
    positives: str = _of_rule("positives")
    negatives: str = _of_rule("negatives")
    within_margin: bool = _of_rule("within_margin")
    fallback: str = _of_rule("fallback")
    distance: str = _of_rule("distance")
    cutoff: float = _of_rule("cutoff")
    nonzero_loss_cutoff: float = _of_rule("nonzero_loss_cutoff")


class TripletModule(OptionsModule):
    """What the losses share: how they are called, and the loss of given triplets."""

    margin: float
    distance: str
    smooth: bool
    swap: bool = False
    reduction: str

    def _of_batch(self, batch: Batch) -> Tensor:
        """The loss of a batch whose triplets are not given."""
        raise NotImplementedError

    def _of_triplets(
        self,
        embeddings: Tensor,
        indices_tuple: tuple[Tensor, ...],
        ref_emb: Tensor | None,
        across: Across | None = None,
    ) -> Tensor:
        """The loss of given triplets or pairs."""
        return given_loss(
            embeddings,
            as_triplets(indices_tuple),
            self.margin,
            self.distance,
            self.smooth,
            self.swap,
            self.reduction,
            ref_emb,
            across,
        )

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
                pairs (a1, p, a2, n), which stand for every (a1, p) with every (a2, n) of the same
                anchor.
            ref_emb: ``[N, D]`` candidates other than the batch itself.
            ref_labels: ``[N]``
            anchor_ids: ``[M]`` integers. A candidate with the id of an anchor is not a positive of
                this anchor.
            ref_ids: ``[N]``

        Returns:
            A scalar, or ``[T]`` for the reduction ``"none"``.

        Raises:
            ValueError: neither labels nor triplets, or shapes that do not fit.
            TypeError: embeddings that are not floating point, labels that are not integers.
        """
        if indices_tuple is not None:
            return self._of_triplets(embeddings, indices_tuple, ref_emb)
        if labels is None:
            raise ValueError("labels: expected one per row of embeddings, or indices_tuple")
        return self._of_batch(Batch(embeddings, labels, ref_emb, ref_labels, anchor_ids, ref_ids))


def is_plain(loss: nn.Module) -> TypeGuard[TripletModule]:
    """Whether a loss is of this package, and no subclass has overridden its ``forward``."""
    return isinstance(loss, TripletModule) and type(loss).forward is TripletModule.forward


def is_fused(loss: nn.Module) -> bool:
    """Whether the gradient comes with the mined loss: a backward then reads no candidates.

    False for a subclass that overrides ``forward``, as its computation is not known.
    """
    return is_plain(loss) and loss.reduction != "none" and not loss.swap
