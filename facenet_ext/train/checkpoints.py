"""Writes the last checkpoint, and stops a run so that it can continue."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from facenet_ext.common.errors import InterruptedRunError
from facenet_ext.embedding.folders import LAST_FILE


class GracefulStop(Callback):
    """Keep ``last.ckpt`` up to date; stop between two steps at Ctrl-C or when time is up.

    A step is never cut in half, so what is saved continues to the result of an uninterrupted run.
    A second Ctrl-C stops at once, and leaves the checkpoint written before.

    Args:
        folder: where ``last.ckpt`` goes.
        steps: steps of the whole run.
        deadline: when to stop training, by ``time.monotonic``.

    Raises:
        InterruptedRunError: from the trainer, when the user stopped the run.
    """

    def __init__(self, folder: Path, steps: int, deadline: float) -> None:
        self.path = folder / LAST_FILE
        self.steps = steps
        self.deadline = deadline
        self._interrupted = False
        self._handler: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over Ctrl-C."""
        self._handler = signal.signal(signal.SIGINT, self._on_signal)

    def on_train_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """Save and stop if the user or the time limit asks for it, or after the last step."""
        out_of_time = time.monotonic() > self.deadline
        if out_of_time or self._interrupted:
            trainer.save_checkpoint(self.path)
        if self._interrupted:
            raise InterruptedRunError(self.path)
        if out_of_time or trainer.global_step == self.steps:
            trainer.should_stop = True  # an evaluation follows, which saves the last checkpoint

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, with the thresholds that were just measured."""
        if trainer.state.fn == "fit":
            trainer.save_checkpoint(self.path)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give Ctrl-C back to its handler of before."""
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            self._handler = None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._interrupted:
            raise InterruptedRunError(self.path if self.path.is_file() else None)
        self._interrupted = True
