"""Writes the last checkpoint, and stops a run so that it can continue."""

from __future__ import annotations

import datetime
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from facenet_ext._ranks import Ranks
from facenet_ext.common.errors import InterruptedRunError
from facenet_ext.embedding.folders import LAST_FILE

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_TIMEOUT = datetime.timedelta(days=1)


class GracefulStop(Callback):
    """Keep ``last.ckpt`` up to date; stop between two steps at Ctrl-C, SIGTERM or when time is up.

    A step is never cut in half, so what is saved continues to the result of an uninterrupted run.
    A second Ctrl-C stops at once, and leaves the checkpoint written before. Of several processes
    each tells the others after each step whether it has to stop, so all stop after the same one.

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
        self._handlers: dict[int, Any] = {}
        self._ranks = Ranks()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over Ctrl-C."""
        self._handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        signal.signal(signal.SIGINT, self._on_signal)
        if Ranks.of().size > 1:  # flags are the CPU's, so that no GPU is waited for
            self._ranks = Ranks.of(torch.distributed.new_group(backend="gloo", timeout=_TIMEOUT))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over SIGTERM from Lightning, which would stop in the middle of a step."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def on_train_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """Save and stop if the user or the time limit asks for it, or after the last step."""
        flags = torch.tensor([time.monotonic() > self.deadline, self._interrupted]).int()
        out_of_time, interrupted = self._ranks.all_reduce(flags).tolist()
        if out_of_time or interrupted:
            trainer.save_checkpoint(self.path)
        if interrupted:
            raise InterruptedRunError(self.path)
        if out_of_time or trainer.global_step == self.steps:
            trainer.should_stop = True  # an evaluation follows, which saves the last checkpoint

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let SIGTERM be Ctrl-C outside of training too, where Lightning would wait for others."""
        if trainer.state.fn != "fit":
            signal.signal(signal.SIGTERM, signal.default_int_handler)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, with the thresholds that were just measured."""
        if trainer.state.fn == "fit":
            trainer.save_checkpoint(self.path)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back to their handlers of before."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._interrupted and number == signal.SIGINT:
            raise InterruptedRunError(self.path if self.path.is_file() else None)
        self._interrupted = True
