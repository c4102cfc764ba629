"""The training step and the validation, as Lightning calls them."""

from __future__ import annotations

import dataclasses
import math
from contextlib import nullcontext
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from facenet_ext._ranks import Ranks
from facenet_ext._triplet_module import TripletModule
from facenet_ext._types import TripletCounts
from facenet_ext.common.errors import InputError
from facenet_ext.data.pairs import Pairs
from facenet_ext.distributed import DistributedLoss
from facenet_ext.embedding.embedder import Embedder
from facenet_ext.embedding.options import Options
from facenet_ext.evaluation.verification import Verification, verify
from facenet_ext.losses import SupConLoss, TripletLoss
from facenet_ext.micro_batches import embed_in_micro_batches
from facenet_ext.models import Committee
from facenet_ext.models.registry import network_source
from facenet_ext.samplers import derive_seed
from facenet_ext.train.activation_checkpointing import checkpoint_activations
from facenet_ext.train.augmentation import Augmentation, Reversal
from facenet_ext.train.data import TrainVal
from facenet_ext.train.draws import Rows, all_dropout
from facenet_ext.train.fitting import check_features
from facenet_ext.train.head import fit_head
from facenet_ext.train.optimization import make_optimizer, make_scheduler
from facenet_ext.train.processes import share_buffers


class EmbeddingModule(Embedder, LightningModule):
    """Train a network with the fused triplet loss and verify pairs with it.

    Everything random in a step (augmentation, dropout) is drawn after seeding torch from the run's
    seed and the step, so a run that continues draws what an uninterrupted one would have. With
    several processes each draws for the whole batch and takes its rows, and the loss is that of the
    whole batch: they do what one process does.

    Args:
        options: of the run.
        shape: of one example: [C, H, W] of images, anything else of features.
        steps: steps of the whole run, for the schedule.
        pairs: pairs to verify, or None.
        log_every: steps between entries of the history.

    Attributes:
        history: step, loss and share of active triplets, each a list, at every logged step.
        verification: the latest, or None.
        evaluated_at: the step at which that was measured.
        evaluation: what each checkpoint keeps of the latest: its step, its threshold, its VAL and
            FAR by threshold, its accuracy. A run that continues has it from its checkpoint.
    """

    def __init__(
        self,
        options: Options,
        shape: tuple[int, ...],
        steps: int,
        pairs: Pairs | None = None,
        log_every: int = 1,
    ) -> None:
        torch.manual_seed(derive_seed(options.run.seed, 0))
        super().__init__(options, shape)
        self._dropout = all_dropout(self.network)
        if options.run.activation_checkpointing:
            checkpoint_activations(self.network)
        self.steps = steps
        self.pairs = pairs
        self.log_every = log_every
        data = options.data
        self.augment: nn.Module = nn.Identity()
        if self.images:
            self.augment = Augmentation(options.augmentation, data.crop, data.input_size)
        else:
            check_features(options, shape)
            if options.augmentation.flip:
                self.augment = Reversal()
        self.triplets = TripletLoss(
            **dataclasses.asdict(options.loss.rule),
            smooth=options.loss.smooth,
            reduction=options.loss.reduction,
        )
        losses: dict[str, TripletModule] = {
            "triplet": self.triplets,
            "supcon": SupConLoss(options.loss.temperature),
        }
        given = options.loss.loss
        if given == ():
            raise InputError("`loss` []: give one, or one per member")
        self.losses = [losses[name] for name in ([given] if isinstance(given, str) else given)]
        self.history: dict[str, list[float]] = {"step": [], "loss": [], "active": []}
        self.verification: Verification | None = None
        self.evaluated_at = 0
        self.evaluation: dict[str, Any] | None = None
        self._embeddings: list[Tensor] = []
        self._counts: list[int] = []
        self._fitted: dict[str, Tensor] = {}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Make the step's randomness a function of the seed and the step."""
        torch.manual_seed(derive_seed(self.options.run.seed, 1, self.global_step))

    def training_step(
        self, batch: tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Rows], batch_idx: int
    ) -> Tensor:
        """Return the loss of a batch.

        Args:
            batch: ``[B, ...]`` examples, ``[B]`` labels, and which rows of the whole batch these
                are, if it has more.
            batch_idx: not used.
        """
        examples, labels, *given = batch
        rows = given[0] if given else Rows(0, len(labels), len(labels))
        inputs = examples
        if self.images:
            inputs = self.augment(examples, rows).to(memory_format=torch.channels_last)
        elif self.options.augmentation.flip:
            inputs = self.augment(examples, rows)
        size = self.options.batch.micro_batch or len(inputs)
        for layer in self._dropout:
            layer.begin()

        def on_part(begin: int, end: int) -> None:
            for layer in self._dropout:
                layer.rows = rows.part(begin, end)

        embeddings = embed_in_micro_batches(self.network, inputs, size, on_part)
        logged = (self.global_step + 1) % self.log_every == 0
        with self.triplets.counting() if logged else nullcontext() as counts:
            loss = self.batch_loss(examples, embeddings, labels)
            if logged and self.triplets not in self.losses:  # they are shown for other losses too
                with torch.no_grad():
                    self._of_parts([self.triplets], embeddings, labels)
        loss = loss + self.further_loss(inputs, embeddings, rows)
        self.log("loss", loss)
        if counts is not None:
            self._record(loss.item(), counts)
        return loss

    def batch_loss(self, examples: Tensor, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch's embeddings; ``examples`` is what was embedded."""
        return self._of_parts(self.losses, embeddings, labels)

    def _of_parts(self, losses: list[TripletModule], embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of a committee's members, which take several losses in turn."""
        parts = [embeddings]
        if isinstance(self.network, Committee):
            parts = self.network.parts(embeddings)
        values: list[Tensor] = [
            DistributedLoss(losses[member % len(losses)])(part, labels)
            for member, part in enumerate(parts)
        ]
        return values[0] if len(values) == 1 else torch.stack(values).mean()

    def further_loss(self, inputs: Tensor, embeddings: Tensor, rows: Rows) -> Tensor | float:
        """Return what is added to the loss of a batch: nothing.

        Args:
            inputs: ``[B, ...]``, what was embedded.
            embeddings: ``[B, D]``
            rows: which rows of the whole batch these are.
        """
        return 0.0

    def on_validation_epoch_start(self) -> None:
        """Let all processes evaluate the same network; fit what is measured on the training."""
        ranks = Ranks.of()
        share_buffers(self, ranks)
        data: TrainVal = self.trainer.datamodule.data  # type: ignore[attr-defined]
        if self.matches is None:  # else embeddings stay where the other model's are
            fit_head(self, data.train, self.options.run.seed)
            share_buffers(self.head, ranks)  # processors of other kinds may round otherwise
        self._fitted = {name: value.clone() for name, value in self.head.state_dict().items()}
        if self.images and ranks.rank == 0:  # rank 0 writes the checkpoints
            self.provenance = self.provenance.with_range(
                self, data.train.values, data.val.values, self.global_step
            )

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Embed this process's part of a batch of what is to verify.

        Args:
            batch: ``[B, ...]`` examples, and ``[B]`` whether each could be read.
            batch_idx: not used.
        """
        part, readable = batch
        self._counts.append(len(part))
        if len(part):
            embedded = self.embed(part)
            embedded[~readable.cpu()] = torch.nan
            self._embeddings.append(embedded)

    def on_validation_epoch_end(self) -> None:
        """Verify the pairs and log the main figures."""
        # The averaged network was in this one's place, with its head; both go on with the same.
        self.head.load_state_dict(self._fitted)
        embeddings = self._all_embeddings()
        if self.pairs is None or self.trainer.sanity_checking:
            return
        readable = embeddings.isfinite().all(1)
        self.verification = verify(embeddings.nan_to_num(), self.pairs.between(readable))
        figures = self.verification.as_dict()
        kept = {name: figures[name] for name in ("threshold", "curve", "accuracy")}
        self.evaluated_at = self.global_step
        self.evaluation = {"steps": self.evaluated_at} | kept
        self.log("accuracy", self.verification.accuracy.mean)
        self.log("auc", self.verification.auc)
        self.log("eer", self.verification.eer)

    def _all_embeddings(self) -> Tensor:
        """Return what all processes have embedded, in the order of the examples."""
        ranks = Ranks.of()
        dim = self.embedding_dim
        own = torch.cat([torch.empty(0, dim), *self._embeddings])
        counts = torch.tensor(self._counts, device=ranks.device)
        self._embeddings.clear()
        self._counts.clear()
        parts = [
            torch.split(of_rank, of_batch)
            for of_rank, of_batch in zip(
                ranks.all_gather_rows(own), ranks.all_gather(counts).tolist(), strict=True
            )
        ]
        batches = [part for of_batch in zip(*parts, strict=True) for part in of_batch]
        return torch.cat(batches).cpu()

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
            "network": network_source(self.options.model.model),
            "shape": list(self.shape),
            "history": self.history,
            "matches": self.matches,
            "training": self.provenance._replace(planned=self.steps).as_dict(),
            "evaluation": self.evaluation,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the history, and go on from a run's last step if there are more steps now."""
        self.history = checkpoint["facenet_ext"]["history"]
        self.evaluation = checkpoint["facenet_ext"].get("evaluation")
        if checkpoint["global_step"] < self.steps:
            checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"] = False

    def _record(self, loss: float, counts: TripletCounts) -> None:
        """Add to the history the loss and the share of its triplets whose hinge is positive."""
        step = self.global_step + 1
        if not math.isfinite(loss):
            raise InputError(f"the loss is {loss} at step {step}: lower `lr` or raise `warmup`")
        self.log("active_triplets", counts.share)
        for name, value in (("step", step), ("loss", loss), ("active", counts.share)):
            self.history[name].append(value)
