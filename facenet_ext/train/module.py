"""The training step and the validation, as Lightning calls them."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import normalize

from facenet_ext.functional import select_triplets
from facenet_ext.losses import TripletLoss
from facenet_ext.micro_batches import embed_in_micro_batches
from facenet_ext.models import PAPER, Committee, EmbeddingNetwork, SmallNet, conv1d, mlp
from facenet_ext.samplers import derive_seed
from facenet_ext.train.augmentation import Augmentation, CropResize
from facenet_ext.train.errors import InputError
from facenet_ext.train.evaluation import Verification, verify
from facenet_ext.train.optimization import make_optimizer, make_scheduler
from facenet_ext.train.options import AugmentationOptions, Options
from facenet_ext.train.pairs import Pairs

__all__ = ["EmbeddingModule", "build_network"]

_T = TypeVar("_T", int | None, float)


def build_network(options: Options, shape: tuple[int, ...]) -> EmbeddingNetwork | Committee:
    """Build the network that the options describe, or several that differ in their first weights.

    Args:
        options: of the run.
        shape: of one example as the data has it: [C, H, W] of images, anything else of features.

    Raises:
        InputError: the network does not fit its input.
    """
    for name in ("aligned_size", "aligned_window"):
        if getattr(options.model, name) == ():
            raise InputError(f"--{name.replace('_', '-')} []: give one number, or one per member")
    members = [_build_member(options, shape, member) for member in range(options.model.members)]
    return members[0] if len(members) == 1 else Committee(members)


def _build_member(options: Options, shape: tuple[int, ...], member: int) -> EmbeddingNetwork:
    o, size = options.model, options.data.input_size
    images = len(shape) == 3
    if images == (o.model in ("mlp", "conv1d")):
        kind = "images" if images else "features"
        fitting = "small, nn1, nn2, nn3, nn4, nns1 or nns2" if images else "mlp or conv1d"
        raise InputError(f"--model {o.model}: does not embed {kind}; choose {fitting}")
    if o.model == "mlp":
        return mlp(shape, o.embedding_dim, width=o.width, layers=len(o.stages), dropout=o.dropout)
    if o.model == "conv1d":
        return conv1d(shape, o.embedding_dim, width=o.width, stages=o.stages, dropout=o.dropout)
    if o.model != "small":
        return PAPER[o.model](
            o.embedding_dim,
            in_channels=shape[0],
            input_size=(size, size),
            batch_norm=o.batch_norm,
            dropout=o.dropout,
        )
    try:
        return SmallNet(
            shape[0],
            o.embedding_dim,
            input_size=size,
            width=o.width,
            stages=o.stages,
            dropout=o.dropout,
            aligned_size=_of_member(o.aligned_size, member),
            aligned_window=_of_member(o.aligned_window, member),
        )
    except ValueError as error:
        raise InputError(f"--stages, --input-size, --aligned-size: {error}") from None


def _of_member(values: _T | tuple[_T, ...], member: int) -> _T:
    """Return what an option says of one member: they take several values in turn."""
    return values[member % len(values)] if isinstance(values, tuple) else values


class EmbeddingModule(LightningModule):
    """Train a network with the fused triplet loss and verify pairs with it.

    Everything random in a step (augmentation, dropout) is drawn after seeding torch from the run's
    seed and the step, so a run that continues draws what an uninterrupted one would have.

    Args:
        options: of the run.
        shape: of one example: [C, H, W] of images, anything else of features.
        steps: steps of the whole run, for the schedule.
        pairs: pairs to verify, or None.
        log_every: steps between entries of the history.

    Attributes:
        history: step, loss and share of active triplets, each a list, at every logged step.
        verification: the latest, or None.
        matches: the SHA-256 of an older model's checkpoint whose embeddings these can be compared
            with, or None.
    """

    def __init__(
        self,
        options: Options,
        shape: tuple[int, ...],
        steps: int,
        pairs: Pairs | None = None,
        log_every: int = 1,
    ) -> None:
        super().__init__()
        self.options = options
        self.shape = shape
        self.steps = steps
        self.pairs = pairs
        self.log_every = log_every
        torch.manual_seed(derive_seed(options.run.seed, 0))
        self.network = build_network(options, shape)
        data = options.data
        self.images = len(shape) == 3
        self.augment: nn.Module = nn.Identity()
        if self.images:
            self.augment = Augmentation(options.augmentation, data.crop, data.input_size)
        elif options.augmentation != AugmentationOptions():
            raise InputError(
                f"--data {data.data}: features are not augmented as images are; leave "
                "the options of augmentation out"
            )
        self.prepare = CropResize(data.crop, data.input_size)
        rules = options.loss
        self.loss = TripletLoss(
            margin=rules.margin,
            positives=rules.positive_rule,
            negatives=rules.negative_rule,
            within_margin=rules.within_margin,
            fallback=rules.fallback,
            distance=rules.distance,
            smooth=rules.smooth,
            reduction=rules.reduction,
        )
        self.history: dict[str, list[float]] = {"step": [], "loss": [], "active": []}
        self.verification: Verification | None = None
        self.matches: str | None = None
        self._embeddings: list[Tensor] = []

    def forward(self, examples: Tensor) -> Tensor:
        """Embed examples as they are, without augmentation: [N, D] float32.

        Of [N, C, H, W] uint8 images the mean direction over nine shifted crops, where
        ``--test-shift`` asks for them, and over mirror images, where the network trained on these.
        """
        if not self.images:
            return self.embed_once(examples)
        shift = self.options.data.test_shift
        moves = [(x, y) for x in (-shift, 0, shift) for y in (-shift, 0, shift)] if shift else []
        views = []
        for move in moves or [(0.0, 0.0)]:
            inputs = self.prepare(examples, move).to(memory_format=torch.channels_last)
            views.append(self.network(inputs))
            if self.options.augmentation.flip:
                views.append(self.network(inputs.flip(3)))
        return views[0] if len(views) == 1 else normalize(torch.stack(views).sum(0))

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether it embeds examples of a shape: images of any size, sequences of any length."""
        if len(shape) != len(self.shape):
            return False
        any_length = self.images or (self.options.model.model == "conv1d" and len(shape) == 2)
        return shape[0] == self.shape[0] if any_length else shape == self.shape

    def embed_once(self, examples: Tensor) -> Tensor:
        """Embed examples by one pass through the network, of images the central crop."""
        if self.images:
            examples = self.prepare(examples).to(memory_format=torch.channels_last)
        embeddings: Tensor = self.network(examples)
        return embeddings

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Make the step's randomness a function of the seed and the step."""
        torch.manual_seed(derive_seed(self.options.run.seed, 1, self.global_step))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch: [B, ...] examples and [B] labels."""
        examples, labels = batch
        inputs = self.augment(examples)
        if self.images:
            inputs = inputs.to(memory_format=torch.channels_last)
        size = self.options.batch.micro_batch or len(inputs)
        embeddings = embed_in_micro_batches(self.network, inputs, size)
        loss = self.batch_loss(examples, embeddings, labels)
        self.log("loss", loss)
        if (self.global_step + 1) % self.log_every == 0:
            self._record(loss.item(), embeddings.detach(), labels)
        return loss

    def batch_loss(self, examples: Tensor, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch's embeddings; ``examples`` is what was embedded."""
        parts = [embeddings]
        if isinstance(self.network, Committee):
            parts = self.network.parts(embeddings)
        losses: list[Tensor] = [self.loss(part, labels) for part in parts]
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Embed a batch of what is to verify."""
        self._embeddings.append(self(batch[0]).float().cpu())

    def on_validation_epoch_end(self) -> None:
        """Verify the pairs and log the main figures."""
        embeddings = torch.cat(self._embeddings)
        self._embeddings.clear()
        if self.pairs is None or self.trainer.sanity_checking:
            return
        if not torch.isfinite(embeddings).all():
            raise InputError("the embeddings are not finite: lower --lr or set --precision 32-true")
        self.verification = verify(embeddings, self.pairs)
        self.log("accuracy", self.verification.accuracy.mean)
        self.log("auc", self.verification.auc)
        self.log("eer", self.verification.eer)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer and its schedule, which moves at every step."""
        optimizer = make_optimizer(self.network, self.options.optimizer)
        scheduler = make_scheduler(optimizer, self.options.optimizer, self.steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the options, from which the network can be built again, and the history."""
        checkpoint["facenet_ext"] = {
            "options": self.options.flat(),
            "shape": list(self.shape),
            "history": self.history,
            "matches": self.matches,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the history, and go on from a run's last step if there are more steps now."""
        self.history = checkpoint["facenet_ext"]["history"]
        if checkpoint["global_step"] < self.steps:
            checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"] = False

    def _record(self, loss: float, embeddings: Tensor, labels: Tensor) -> None:
        """Add to the history the loss and the share of triplets whose hinge is positive."""
        step = self.global_step + 1
        if not torch.isfinite(torch.tensor(loss)):
            raise InputError(f"the loss is {loss} at step {step}: lower --lr or raise --warmup")
        rules = self.options.loss
        triplets = select_triplets(
            embeddings,
            labels,
            positives=rules.positive_rule,
            negatives=rules.negative_rule,
            margin=rules.margin,
            within_margin=rules.within_margin,
            fallback=rules.fallback,
            distance=rules.distance,
        )
        violated = (triplets.d_ap - triplets.d_an + rules.margin) > 0
        active = violated.float().mean().item() if violated.numel() else 0.0
        self.log("active_triplets", active)
        for name, value in (("step", step), ("loss", loss), ("active", active)):
            self.history[name].append(value)
