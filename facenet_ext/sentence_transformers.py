"""Triplet losses for ``SentenceTransformerTrainer``, in place of sentence-transformers' own.

Classes with the names of sentence-transformers' own take their arguments and return their values,
without N x N matrices. Nothing here imports sentence-transformers.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from facenet_ext import _validation as check
from facenet_ext.losses import (
    TripletHardLoss,
    TripletLoss,
    TripletMarginLoss,
    TripletSemiHardLoss,
)

__all__ = [
    "BatchAllTripletLoss",
    "BatchHardSoftMarginTripletLoss",
    "BatchHardTripletLoss",
    "BatchSemiHardTripletLoss",
    "BatchTripletLoss",
]

Metric = str | Callable[..., Tensor]

# Names of sentence-transformers' distance functions, and ours of the same distances.
_THEIRS = {
    "cosine_distance": "cosine",
    "eucledian_distance": "euclidean",
    "euclidean_distance": "euclidean",
}

_FACENET = """
@inproceedings{schroff2015facenet,
    title={FaceNet: A Unified Embedding for Face Recognition and Clustering},
    author={Schroff, Florian and Kalenichenko, Dmitry and Philbin, James},
    booktitle={CVPR},
    year={2015}
}
"""
_HERMANS = """
@misc{hermans2017defense,
    title={In Defense of the Triplet Loss for Person Re-Identification},
    author={Hermans, Alexander and Beyer, Lucas and Leibe, Bastian},
    year={2017},
    eprint={1703.07737},
    archivePrefix={arXiv}
}
"""


class BatchTripletLoss(nn.Module):
    """Any of this project's losses over the embeddings of a batch of labelled sentences.

    Args:
        model: a ``SentenceTransformer``, or what maps features to a dict with
            ``"sentence_embedding"``, ``[N, D]``.
        loss: called with embeddings and labels, :class:`TripletSemiHardLoss` if None. It has to
            return a scalar.

    Example:
        >>> import torch
        >>> class Model(torch.nn.Module):
        ...     def forward(self, features):
        ...         return {"sentence_embedding": features["x"]}
        >>> loss = BatchTripletLoss(Model(), TripletSemiHardLoss(margin=0.5))
        >>> features = [{"x": torch.tensor([[0.0], [1.0], [-1.0], [1.5]])}]
        >>> loss(features, torch.tensor([0, 0, 1, 1]))
        tensor(1.8125)

    Source: FaceNet (Schroff et al., CVPR 2015), section 3.
    """

    citation = _FACENET
    """BibTeX for a model card."""

    def __init__(self, model: nn.Module, loss: nn.Module | None = None) -> None:
        super().__init__()
        # The trainer replaces this attribute by its wrapped (distributed, compiled) model.
        self.model = model
        self.loss = TripletSemiHardLoss() if loss is None else loss

    def forward(self, sentence_features: Sequence[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            sentence_features: one entry, the model's input for ``N`` sentences.
            labels: ``N`` integers.

        Returns:
            A scalar.

        Raises:
            ValueError: other than one label per sentence.
            TypeError: labels that are not integers.
        """
        embeddings = self.model(sentence_features[0])["sentence_embedding"]
        return self.compute_loss_from_embeddings([embeddings], labels)

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor) -> Tensor:
        """The loss of embeddings that exist already: a list of one tensor ``[N, D]``."""
        loss: Tensor = self.loss(embeddings[0], labels.reshape(-1))
        return loss

    def get_config_dict(self) -> dict[str, Any]:
        """What a model card shows of this loss."""
        return {"loss": repr(self.loss)}


class _NamedTripletLoss(BatchTripletLoss):
    """A loss with the options of sentence-transformers' own: distance and margin."""

    loss: TripletLoss | TripletMarginLoss

    def get_config_dict(self) -> dict[str, Any]:
        """What a model card shows of this loss."""
        return {"distance_metric": self.loss.distance, "margin": self.loss.margin}


class BatchSemiHardTripletLoss(_NamedTripletLoss):
    """sentence-transformers' loss of this name: all pairs, each with its semi-hard negative.

    Args:
        model: a ``SentenceTransformer``.
        distance_metric: ``"euclidean"``, ``"cosine"``, ``"sqeuclidean"``, or sentence-transformers'
            ``BatchHardTripletLossDistanceFunction.euclidean_distance`` or ``.cosine_distance``.
        margin: the margin, in units of the distance.

    Raises:
        ValueError: another distance, a margin that is not finite.

    Example:
        >>> import torch
        >>> BatchSemiHardTripletLoss(torch.nn.Identity(), "cosine", margin=0.1).get_config_dict()
        {'distance_metric': 'cosine', 'margin': 0.1}

    Source: FaceNet, section 3.2.
    """

    def __init__(
        self, model: nn.Module, distance_metric: Metric = "euclidean", margin: float = 5
    ) -> None:
        super().__init__(model, TripletSemiHardLoss(margin, distance=_distance(distance_metric)))


class BatchHardTripletLoss(_NamedTripletLoss):
    """sentence-transformers' loss of this name: hardest positive, hardest negative.

    An anchor without a positive or without a negative does not count; in sentence-transformers it
    does.

    Args:
        model: a ``SentenceTransformer``.
        distance_metric: as for :class:`BatchSemiHardTripletLoss`.
        margin: the margin, in units of the distance.

    Raises:
        ValueError: another distance, a margin that is not finite.

    Example:
        >>> import torch
        >>> BatchHardTripletLoss(torch.nn.Identity()).get_config_dict()
        {'distance_metric': 'euclidean', 'margin': 5.0}

    Source: Hermans, Beyer, Leibe, "In Defense of the Triplet Loss", 2017, equation 5.
    """

    citation = _HERMANS

    def __init__(
        self, model: nn.Module, distance_metric: Metric = "euclidean", margin: float = 5
    ) -> None:
        super().__init__(model, TripletHardLoss(margin, distance=_distance(distance_metric)))


class BatchAllTripletLoss(_NamedTripletLoss):
    """sentence-transformers' loss of this name: the mean of all triplets' hinges above 0.

    Args:
        model: a ``SentenceTransformer``.
        distance_metric: as for :class:`BatchSemiHardTripletLoss`.
        margin: the margin, in units of the distance.

    Raises:
        ValueError: another distance, a margin that is not finite.

    Example:
        >>> import torch
        >>> BatchAllTripletLoss(torch.nn.Identity(), margin=1).get_config_dict()
        {'distance_metric': 'euclidean', 'margin': 1.0}

    Source: Hermans et al. 2017, section 2, batch all.
    """

    citation = _HERMANS

    def __init__(
        self, model: nn.Module, distance_metric: Metric = "euclidean", margin: float = 5
    ) -> None:
        super().__init__(model, TripletMarginLoss(margin, distance=_distance(distance_metric)))


class BatchHardSoftMarginTripletLoss(_NamedTripletLoss):
    """sentence-transformers' loss of this name: batch hard with softplus in place of a margin.

    Args:
        model: a ``SentenceTransformer``.
        distance_metric: as for :class:`BatchSemiHardTripletLoss`.

    Raises:
        ValueError: another distance.

    Example:
        >>> import torch
        >>> BatchHardSoftMarginTripletLoss(torch.nn.Identity()).get_config_dict()
        {'distance_metric': 'euclidean'}

    Source: Hermans et al. 2017, section 2, soft margin.
    """

    citation = _HERMANS

    def __init__(self, model: nn.Module, distance_metric: Metric = "euclidean") -> None:
        hard = TripletHardLoss(0.0, soft=True, distance=_distance(distance_metric))
        super().__init__(model, hard)

    def get_config_dict(self) -> dict[str, Any]:
        """What a model card shows of this loss."""
        return {"distance_metric": self.loss.distance}


def _distance(metric: Metric) -> str:
    """This project's name of a distance, which may be a function of sentence-transformers."""
    if not isinstance(metric, str):
        module, name = getattr(metric, "__module__", None), getattr(metric, "__name__", None)
        if name not in _THEIRS or (module or "").partition(".")[0] != "sentence_transformers":
            choices = ", ".join(repr(choice) for choice in check.DISTANCES)
            raise ValueError(
                f"distance_metric: expected one of {choices}, or sentence-transformers' "
                f"cosine_distance or euclidean_distance, got {metric!r}"
            )
        return _THEIRS[name]
    check.check_choice("distance_metric", metric, check.DISTANCES)
    return metric
