"""Trains a new model so that its embeddings can be compared with an old one's."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from facenet_ext.common.errors import InputError
from facenet_ext.common.figures import DIFFERENT_COLOUR, SAME_COLOUR, new_figure
from facenet_ext.common.files import without_nan
from facenet_ext.data.pairs import Pairs
from facenet_ext.distributed import DistributedLoss
from facenet_ext.embedding.embedder import Embedder
from facenet_ext.embedding.options import Options
from facenet_ext.functional import pairwise_squared_distance
from facenet_ext.losses import HarmonicTripletLoss
from facenet_ext.metrics import auc, roc, val_far
from facenet_ext.models import members_of
from facenet_ext.train.module import EmbeddingModule

_BATCH = 256


class HarmonicModule(EmbeddingModule):
    """Train a network with the harmonic triplet loss, beside an old one that is frozen.

    Args:
        options: of the run.
        shape: see :class:`EmbeddingModule`.
        steps: see there.
        pairs: see there.
        log_every: see there.
        old: the old model.
        old_checkpoint: the SHA-256 of its file, which the new model's checkpoints keep.
        start: the new model to start from. With ``layer_only`` it gets a new random last layer.
        layer_only: train the last layer alone, the first stage of the procedure. The layers before
            it then compute as in evaluation.

    Source: FaceNet (Schroff et al., CVPR 2015), appendix "Harmonic Embedding".
    """

    def __init__(
        self,
        options: Options,
        shape: tuple[int, ...],
        steps: int,
        pairs: Pairs | None = None,
        log_every: int = 1,
        *,
        old: Embedder,
        old_checkpoint: str | None = None,
        start: Embedder,
        layer_only: bool,
    ) -> None:
        super().__init__(options, shape, steps, pairs, log_every)
        if old.shape != shape:
            raise InputError(
                f"the old model embeds {list(old.shape)} and the new one {list(shape)}: both must "
                "see the same; train the new one on data of that shape"
            )
        if self.embedding_dim != old.embedding_dim:
            raise InputError(
                f"`model` {options.model.model}: returns {self.embedding_dim} numbers, and "
                f"the old model's embeddings have {old.embedding_dim}; let the function "
                "take embedding_dim"
            )
        weights = start.network.state_dict()
        if layer_only:  # the last layers keep their random weights
            drawn = self.network.state_dict()
            heads = [name for name, module in self.network.named_modules() if module in self._head]
            prefixes = tuple(f"{name}." for name in heads)
            weights |= {name: drawn[name] for name in drawn if name.startswith(prefixes)}
            trained = [p for m in self._head for p in m.parameters() if p.requires_grad]
            if not trained:
                raise InputError(
                    "the new network has no last layer of weights that could be trained alone; "
                    "end it in a torch.nn layer, such as Linear"
                )
            self.network.requires_grad_(False)
            for parameter in trained:
                parameter.requires_grad_(True)
        self.network.load_state_dict(weights)
        self.layer_only = layer_only
        self.matches = old_checkpoint
        # In a list, as torch would make an attribute a part of this module's parameters and state.
        self._old = [old.eval().requires_grad_(False)]
        self.triplets = HarmonicTripletLoss(
            **{name: getattr(self.triplets, name) for name in self.triplets._options}
        )
        self.losses = [self.triplets]

    def on_fit_start(self) -> None:
        """Move the old model to this one's device."""
        self._old[0].to(self.device)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """In the first stage, keep the layers before the last in evaluation mode."""
        super().on_train_batch_start(batch, batch_idx)
        if self.layer_only:
            self.network.eval()
            for module in self._head:
                module.train()

    @property
    def _head(self) -> list[nn.Module]:
        """The last layers of all members, and what follows them."""
        return [
            member.get_submodule(name)
            for member in members_of(self.network)
            for name in member.head
        ]

    def batch_loss(self, examples: Tensor, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the harmonic loss of the batch beside the old model's embeddings of it."""
        with torch.no_grad():
            old = torch.cat(
                [self._old[0].embed_once(part) for part in torch.split(examples, _BATCH)]
            )
        loss: Tensor = DistributedLoss(self.triplets)(embeddings, labels, ref_emb=old)
        return loss


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How well pairs are told apart when one model embeds the first image and another the second.

    Attributes:
        name: what is compared.
        distances: [N] squared distances of the pairs.
        same: [N] whether a pair is of one identity.
    """

    name: str
    distances: Tensor
    same: Tensor

    def as_dict(self) -> dict[str, Any]:
        """Return the figures, for JSON."""
        point = val_far(self.distances, self.same, 1e-2)
        figures = {"auc": auc(self.distances, self.same), "val_at_far_1e-2": point.val}
        return dict(without_nan(figures))


def compare(name: str, probes: Tensor, gallery: Tensor, pairs: Pairs) -> Comparison:
    """Compare pairs in both orders: each image of a pair is the probe once.

    Args:
        name: what is compared.
        probes: [N, D] embeddings of the images by one model.
        gallery: [N, D] of the same images by another.
        pairs: pairs of images.
    """
    a = (probes[pairs.first] - gallery[pairs.second]).square().sum(1)
    b = (probes[pairs.second] - gallery[pairs.first]).square().sum(1)
    return Comparison(name, torch.cat([a, b]), torch.cat([pairs.same, pairs.same]))


def recognised(probes: Tensor, gallery: Tensor, labels: Tensor) -> tuple[int, int]:
    """Count the probes whose nearest gallery image is of their identity.

    The gallery is the first image of each identity, the probes are all others.

    Args:
        probes: [N, D] embeddings of the images by one model.
        gallery: [N, D] of the same images by another.
        labels: [N] the images' identities.

    Returns:
        The number of probes recognised, and the number of probes.
    """
    seen: dict[int, int] = {}
    for row, label in enumerate(labels.tolist()):
        seen.setdefault(label, row)
    first = torch.tensor(list(seen.values()))
    others = torch.ones(len(labels), dtype=torch.bool).index_fill(0, first, False)
    nearest = pairwise_squared_distance(probes[others], gallery[first]).argmin(1)
    return int((labels[first][nearest] == labels[others]).sum()), int(others.sum())


def draw_comparison(comparisons: list[Comparison]) -> Figure:
    """Draw the ROC curves of comparisons over each other, on a log axis."""
    figure, axes = new_figure(6.4, 4.8)
    colours = (SAME_COLOUR, DIFFERENT_COLOUR, "#009E73", "#888888")
    smallest = 1 / int((~comparisons[0].same).sum())
    for comparison, colour in zip(comparisons, colours, strict=False):
        curve = roc(comparison.distances, comparison.same)
        area = auc(comparison.distances, comparison.same)
        axes.semilogx(
            curve.far.clamp(min=smallest / 2).numpy(),
            curve.val.numpy(),
            color=colour,
            drawstyle="steps-post",
            label=f"{comparison.name}, AUC {area:.3f}",
        )
    axes.set(
        xlim=(smallest, 1),
        ylim=(0, 1.02),
        xlabel="FAR: share of different pairs accepted",
        ylabel="VAL: share of same pairs accepted",
        title="Old embeddings and new ones, compared with each other",
    )
    axes.legend(loc="upper left", frameon=False)
    return figure
