"""The losses of a softmax over each anchor's pairs, as modules: a part of ``losses``."""

from typing import ClassVar

from torch import Tensor

from facenet_ext import _validation as check
from facenet_ext._across import Across
from facenet_ext._softmax import softmax_loss
from facenet_ext._triplet_module import TripletModule

__all__ = ["NTXentLoss", "SupConLoss"]


class _SoftmaxLoss(TripletModule):
    """What the losses over all pairs of an anchor share: as every pair counts, none is given."""

    _options = ("temperature", "reduction")
    _loss: ClassVar[str]

    def __init__(self, temperature: float, reduction: str) -> None:
        super().__init__()
        check.check_temperature(temperature)
        check.check_choice("reduction", reduction, check.SCALAR_REDUCTIONS)
        self.temperature = float(temperature)
        self.reduction = reduction

    def _of_batch(self, batch: check.Batch) -> Tensor:
        return softmax_loss(self._loss, self.temperature, self.reduction, batch)

    def _of_triplets(
        self,
        embeddings: Tensor,
        indices_tuple: tuple[Tensor, ...],
        ref_emb: Tensor | None,
        across: Across | None = None,
    ) -> Tensor:
        """Refuse them."""
        raise ValueError(
            f"indices_tuple: expected None, as {type(self).__name__} takes every pair of the "
            f"batch, got {len(indices_tuple)} tensors; use it without a miner"
        )


class SupConLoss(_SoftmaxLoss):
    r"""The supervised contrastive loss: all of an anchor's pairs in one softmax.

    .. math:: L = \frac{1}{Z} \sum_a \frac{-1}{|P(a)|} \sum_{p \in P(a)}
        \log \frac{e^{\cos(a, p) / t}}{\sum_{j \in P(a) \cup N(a)} e^{\cos(a, j) / t}}

    See :func:`facenet_ext.functional.supcon_loss`. ``indices_tuple`` is refused.

    Args:
        temperature: t, above 0.
        reduction: ``"mean_nonzero"`` (over anchors with a positive), ``"mean"`` or ``"sum"``.

    Raises:
        ValueError: a temperature that is not above 0, an unknown reduction.

    Example:
        >>> import torch
        >>> loss = SupConLoss(temperature=1.0)
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [-1.0, 0.0]])
        >>> loss(x, torch.tensor([0, 0, 1, 1]))
        tensor(0.8620)

    Source: Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, equation 2.
    """

    _loss = "supcon"

    def __init__(self, temperature: float = 0.1, *, reduction: str = "mean_nonzero") -> None:
        super().__init__(temperature, reduction)


class NTXentLoss(_SoftmaxLoss):
    r"""The normalised temperature-scaled cross entropy: a softmax for each anchor and positive.

    .. math:: L = \frac{1}{Z} \sum_{a,\ p \in P(a)} -\log
        \frac{e^{\cos(a, p) / t}}{e^{\cos(a, p) / t} + \sum_{n \in N(a)} e^{\cos(a, n) / t}}

    See :func:`facenet_ext.functional.ntxent_loss`. ``indices_tuple`` is refused.

    Args:
        temperature: t, above 0.
        reduction: ``"mean"`` (over pairs of an anchor and a positive), ``"mean_nonzero"`` or
            ``"sum"``.

    Raises:
        ValueError: a temperature that is not above 0, an unknown reduction.

    Example:
        >>> import torch
        >>> loss = NTXentLoss(temperature=1.0)
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [-1.0, 0.0]])
        >>> loss(x, torch.tensor([0, 0, 1, 1]))
        tensor(0.8620)

    Source: Chen et al. (SimCLR), ICML 2020, equation 1, with labels.
    """

    _loss = "ntxent"

    def __init__(self, temperature: float = 0.07, *, reduction: str = "mean") -> None:
        super().__init__(temperature, reduction)
