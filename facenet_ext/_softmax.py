"""The losses of a softmax over each anchor's pairs: a part of ``functional``."""

from torch import Tensor

from facenet_ext import _softmax_in_pieces, ops
from facenet_ext import _validation as check

__all__ = ["ntxent_loss", "supcon_loss"]


def supcon_loss(
    embeddings: Tensor,
    labels: Tensor,
    temperature: float = 0.1,
    *,
    reduction: str = "mean_nonzero",
    ref_emb: Tensor | None = None,
    ref_labels: Tensor | None = None,
    anchor_ids: Tensor | None = None,
    ref_ids: Tensor | None = None,
) -> Tensor:
    r"""The supervised contrastive loss, without an N x N matrix.

    .. math:: L = \frac{1}{Z} \sum_a \frac{-1}{|P(a)|} \sum_{p \in P(a)}
        \log \frac{e^{\cos(a, p) / t}}{\sum_{j \in P(a) \cup N(a)} e^{\cos(a, j) / t}}

    An anchor without a positive adds 0. So does every anchor where the batch has no negative.
    Time is O(M N D), and memory O((M + N) D): pairs are visited twice, tile by tile.

    Args:
        embeddings: ``[M, D]`` anchors, of any length: only their directions count.
        labels: ``[M]`` integers of any type.
        temperature: t, above 0.
        reduction: says what Z is. ``"mean_nonzero"``: the number of anchors with a positive and
            another candidate; ``"mean"``: the number of all anchors; ``"sum"``: 1.
        ref_emb: ``[N, D]`` candidates other than the anchors, with ``ref_labels``.
        ref_labels: ``[N]``
        anchor_ids: ``[M]``, see :func:`select_triplets`. A candidate that is no positive because of
            its id is left out of the sum too.
        ref_ids: ``[N]``

    Returns:
        A scalar; NaN where any embedding is not finite. Differentiable once.

    Warns:
        UserWarning: see :func:`mined_triplet_loss`.

    Raises:
        ValueError: shapes that do not fit, an unknown reduction, a temperature that is not a
            number above 0.
        TypeError: embeddings that are not floating point, labels that are not integers.

    Example:
        >>> import torch
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [-1.0, 0.0]])
        >>> supcon_loss(embeddings, torch.tensor([0, 0, 1, 1]), temperature=1.0)
        tensor(0.8620)

    Source: Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, equation 2 (L_out).
    """
    batch = check.Batch(embeddings, labels, ref_emb, ref_labels, anchor_ids, ref_ids)
    return softmax_loss("supcon", temperature, reduction, batch)


def ntxent_loss(
    embeddings: Tensor,
    labels: Tensor,
    temperature: float = 0.07,
    *,
    reduction: str = "mean",
    ref_emb: Tensor | None = None,
    ref_labels: Tensor | None = None,
    anchor_ids: Tensor | None = None,
    ref_ids: Tensor | None = None,
) -> Tensor:
    r"""The normalised temperature-scaled cross entropy (InfoNCE), without an N x N matrix.

    .. math:: L = \frac{1}{Z} \sum_a \sum_{p \in P(a)} -\log
        \frac{e^{\cos(a, p) / t}}{e^{\cos(a, p) / t} + \sum_{n \in N(a)} e^{\cos(a, n) / t}}

    Each positive meets the anchor's negatives, and no other positive. Time and memory are those of
    :func:`supcon_loss`.

    Args:
        embeddings: ``[M, D]`` anchors, of any length: only their directions count.
        labels: ``[M]`` integers of any type.
        temperature: t, above 0.
        reduction: says what Z is. ``"mean"``: the number of pairs (a, p); ``"mean_nonzero"``: the
            number of those whose anchor has a negative; ``"sum"``: 1.
        ref_emb: ``[N, D]`` candidates other than the anchors, with ``ref_labels``.
        ref_labels: ``[N]``
        anchor_ids: ``[M]``, see :func:`select_triplets`.
        ref_ids: ``[N]``

    Returns:
        A scalar; 0 without a positive or a negative, NaN where any embedding is not finite.
        Differentiable once.

    Warns:
        UserWarning: see :func:`mined_triplet_loss`.

    Raises:
        ValueError: shapes that do not fit, an unknown reduction, a temperature that is not a
            number above 0.
        TypeError: embeddings that are not floating point, labels that are not integers.

    Example:
        >>> import torch
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [-1.0, 0.0]])
        >>> ntxent_loss(embeddings, torch.tensor([0, 0, 1, 1]), temperature=1.0)
        tensor(0.8620)

    Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations",
    ICML 2020, equation 1, with labels; van den Oord et al., 2018 (InfoNCE).
    """
    batch = check.Batch(embeddings, labels, ref_emb, ref_labels, anchor_ids, ref_ids)
    return softmax_loss("ntxent", temperature, reduction, batch)


def softmax_loss(loss: str, temperature: float, reduction: str, batch: check.Batch) -> Tensor:
    """The loss of that name of a batch: see :func:`supcon_loss` and :func:`ntxent_loss`."""
    check.check_temperature(temperature)
    check.check_choice("reduction", reduction, check.SCALAR_REDUCTIONS)
    compute = ops.softmax_loss if batch.pieces is None else _softmax_in_pieces.softmax_loss
    result = compute(batch, loss, float(temperature), reduction)
    batch.warn_without_triplets(result)
    return result
