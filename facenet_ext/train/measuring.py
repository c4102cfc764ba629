"""Measures the range of the features that a network has learned, for its checkpoints."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from facenet_ext.train.data import TrainVal
from facenet_ext.train.module import EmbeddingModule

__all__ = ["MeasureRange"]


class MeasureRange(Callback):
    """Measure the range before each evaluation, with the weights that it evaluates.

    Args:
        data: images to train on, and held-out ones.
    """

    def __init__(self, data: TrainVal) -> None:
        self.data = data

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Store the range in the module's ``provenance``."""
        if isinstance(pl_module, EmbeddingModule):
            pl_module.provenance = pl_module.provenance.with_range(
                pl_module, self.data.train.values, self.data.val.values, trainer.global_step
            )
