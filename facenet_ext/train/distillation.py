"""Trains one network to embed in one view what a trained model embeds in many."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from facenet_ext._ranks import Ranks
from facenet_ext.common.errors import InputError
from facenet_ext.data.pairs import Pairs
from facenet_ext.embedding.embedder import Embedder
from facenet_ext.embedding.examples import embed_examples
from facenet_ext.embedding.loading import checkpoint_path, file_hash, load_embedder
from facenet_ext.embedding.options import Options
from facenet_ext.evaluation.verification import verify
from facenet_ext.models import NormalizedNetwork, members_of
from facenet_ext.models.network import evaluating
from facenet_ext.train.data import TrainVal
from facenet_ext.train.draws import Rows
from facenet_ext.train.module import EmbeddingModule

DISTILLED = "distilled.json"
"""The file in the run's folder with the figures of :func:`side_by_side`."""


class DistilledModule(EmbeddingModule):
    r"""Train a network with the triplet loss, and towards the embeddings of a frozen teacher.

    .. math:: L = L_\mathrm{triplet}(f(x)) +
        \frac{\lambda}{B} \sum_i \lVert f(x_i) - t(v_i(x_i)) \rVert^2

    x are augmented training images, and f sees them as they are. The teacher t sees each in one of
    its views v, drawn at random: a shift and a mirror image of those over which it takes the mean.
    Least squares learn the mean of a random target, so f learns the mean over all views, at the
    cost of one. Distances to f's embeddings then are what distances to the teacher's are: either
    can be looked for in the other's gallery.

    The network begins with the weights of the teacher's first member, where it has the same.

    Args:
        options: of the run.
        shape: see :class:`EmbeddingModule`.
        steps: see there.
        pairs: see there.
        log_every: see there.
        teacher: the trained model.
        teacher_checkpoint: the SHA-256 of its file, which this model's checkpoints keep.

    Raises:
        InputError: the two see different examples, or have embeddings of different lengths.

    Source: Hinton, Vinyals, Dean, *Distilling the Knowledge in a Neural Network*, 2015; that both
    see the same augmented image is Beyer et al., *Knowledge distillation: A good teacher is patient
    and consistent*, CVPR 2022.
    """

    def __init__(
        self,
        options: Options,
        shape: tuple[int, ...],
        steps: int,
        pairs: Pairs | None = None,
        log_every: int = 1,
        *,
        teacher: Embedder,
        teacher_checkpoint: str,
    ) -> None:
        super().__init__(options, shape, steps, pairs, log_every)
        _check(self, teacher)
        for network, member in zip(
            members_of(self.network), members_of(teacher.network), strict=False
        ):
            _begin_with(network, member)
        self.head.load_state_dict(teacher.head.state_dict())
        self.matches = teacher_checkpoint
        # In a list, as torch would make an attribute a part of this module's parameters and state.
        self._teacher = [teacher.eval().requires_grad_(False)]

    def on_fit_start(self) -> None:
        """Move the teacher to this model's device."""
        self._teacher[0].to(self.device)

    def further_loss(self, inputs: Tensor, embeddings: Tensor, rows: Rows) -> Tensor:
        """Return the mean squared distance to the teacher's embeddings, weighted."""
        size = self.options.batch.micro_batch or len(inputs)
        (teacher,) = self._teacher
        with torch.no_grad():
            views = one_view(teacher, inputs, rows)
            targets = torch.cat([teacher.network(part) for part in torch.split(views, size)])
        distances = (embeddings - targets).square().sum(1)
        return self.options.distillation.distil_weight * _mean_over_ranks(distances, rows)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the run goes on with the teacher that it began with."""
        super().on_load_checkpoint(checkpoint)
        if checkpoint["facenet_ext"].get("matches") != self.matches:
            raise InputError(
                f"`distil` {self.options.distillation.distil}: is not the model that this run "
                "began to learn from; put that one back, or start a new run"
            )


class SideBySide(NamedTuple):
    """What one of two models reaches on the same pairs.

    Attributes:
        accuracy: the mean over folds.
        auc: the area under the ROC curve.
        examples_per_second: how many it embeds, by all processes of the run together.
    """

    accuracy: float
    auc: float
    examples_per_second: float


def side_by_side(module: DistilledModule, data: TrainVal) -> dict[str, SideBySide]:
    """Let the teacher and the model that has learned from it embed and verify the same.

    Every process of the run calls it.

    Args:
        module: what was trained.
        data: of the run.

    Returns:
        The figures of the "teacher" and of the "distilled" model, each with its own views.
    """
    (teacher,) = module._teacher
    teacher.to(module.device)
    figures = {}
    for name, model in (("teacher", teacher), ("distilled", module)):
        with evaluating(model):
            start = time.perf_counter()
            embeddings = torch.cat(list(embed_examples(model, data.val)))
            seconds = time.perf_counter() - start
        readable = embeddings.isfinite().all(1)
        found = verify(embeddings.nan_to_num(), data.pairs.between(readable))
        figures[name] = SideBySide(found.accuracy.mean, found.auc, len(embeddings) / seconds)
    return figures


def tell(figures: dict[str, SideBySide], teacher: str) -> str:
    """Return in a line what :func:`side_by_side` found.

    Args:
        figures: what it returned.
        teacher: what the teacher is called.

    Example:
        >>> old, new = SideBySide(0.93, 0.98, 20), SideBySide(0.926, 0.98, 430)
        >>> tell({"teacher": old, "distilled": new}, "runs/faces")
        'distilled: accuracy 92.60%, of runs/faces 93.00%; embeds 430 a second, 21.5 times as many'
    """
    old, new = figures["teacher"], figures["distilled"]
    return (
        f"distilled: accuracy {new.accuracy:.2%}, of {teacher} {old.accuracy:.2%}; embeds "
        f"{new.examples_per_second:.3g} a second, "
        f"{new.examples_per_second / old.examples_per_second:.3g} times as many"
    )


def load_teacher(options: Options) -> dict[str, Any]:
    """Return what :class:`DistilledModule` takes beside the options: the teacher and its hash.

    Raises:
        InputError: ``--distil`` names no checkpoint that can be read.
    """
    path = checkpoint_path(str(options.distillation.distil))
    return {"teacher": load_embedder(path), "teacher_checkpoint": file_hash(path)}


def one_view(teacher: Embedder, inputs: Tensor, rows: Rows) -> Tensor:
    """Return each input as one of the views over which a model takes the mean.

    Args:
        teacher: the model.
        inputs: ``[B, ...]`` prepared examples.
        rows: those that the inputs are of a larger batch, for all of which is drawn.
    """
    drawn = torch.rand(3, rows.total, device=inputs.device)[:, rows.begin : rows.end]
    mirrored = (drawn[0] < 0.5) if teacher.flips else torch.zeros_like(drawn[0], dtype=torch.bool)
    if not teacher.images:
        sequences = (len(inputs), *[1] * (inputs.ndim - 1))
        return torch.where(mirrored.view(sequences), inputs.flip(-1), inputs)
    data = teacher.options.data
    size = inputs.shape[-1]
    shift = round(data.test_shift / data.crop * size) / size  # of whole pixels: nothing is blurred
    theta = torch.zeros(len(inputs), 2, 3, device=inputs.device)
    theta[:, 0, 0] = torch.where(mirrored, -1.0, 1.0)
    theta[:, 1, 1] = 1.0
    theta[:, :, 2] = 2 * shift * ((3 * drawn[1:]).floor() - 1).T
    grid = affine_grid(theta, list(inputs.shape), align_corners=False)
    views = grid_sample(inputs, grid, padding_mode="reflection", align_corners=False)
    return views.to(memory_format=torch.channels_last)


def _begin_with(network: NormalizedNetwork, member: NormalizedNetwork) -> None:
    """Give a network the weights of another one that have the same names and shapes.

    Its last layer has more rows, as it returns what all members do together. The others are 0 at
    first: so distances begin as the one member's.
    """
    own = network.state_dict()
    heads = tuple(f"{name}." for name in network.head)
    for name, weight in member.state_dict().items():
        drawn = own.get(name)
        if drawn is None:
            continue
        if drawn.shape == weight.shape:
            own[name] = weight
        elif name.startswith(heads) and drawn.shape[1:] == weight.shape[1:]:
            rows = torch.zeros_like(drawn)
            rows[: len(weight)] = weight[: len(rows)]
            own[name] = rows
    network.load_state_dict(own)


def _check(module: EmbeddingModule, teacher: Embedder) -> None:
    """Raise where a module cannot learn from a teacher."""
    data, theirs = module.options.data, teacher.options.data
    asked = f"`distil` {module.options.distillation.distil}"
    if teacher.shape != module.shape:
        raise InputError(
            f"{asked}: embeds {list(teacher.shape)}, and the data is {list(module.shape)}; both "
            "models must see the same, so give data of that shape"
        )
    for name in ("crop", "input_size"):
        own, other = getattr(data, name), getattr(theirs, name)
        if module.images and own != other:
            raise InputError(
                f"`{name}` {own}: the model to learn from has {other}, and both must see the same; "
                "leave it out"
            )
    for name in ("wccn", "fisher", "cohort"):
        own, other = getattr(module.options.model, name), getattr(teacher.options.model, name)
        if own != other:
            raise InputError(
                f"`{name}` {str(own).lower()}: the model to learn from has {str(other).lower()}, "
                "and this one takes it from there; leave it out"
            )
    length = teacher.network.embedding_dim
    if module.network.embedding_dim != length:
        raise InputError(
            f"{asked}: its embeddings have {length} numbers, and those to learn "
            f"{module.network.embedding_dim}; give `embedding_dim` {length} and `members` 1"
        )


def _mean_over_ranks(values: Tensor, rows: Rows) -> Tensor:
    """Return the mean over the rows of all ranks; ranks then average the gradients of it."""
    ranks = Ranks.of()
    total = values.sum()
    if ranks.size == 1:
        return total / rows.total
    everyone = ranks.all_reduce(total.detach().clone())
    return (everyone + ranks.size * (total - total.detach())) / rows.total
