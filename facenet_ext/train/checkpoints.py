"""Reads and writes checkpoints, and stops a run so that it can continue."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from facenet_ext.train.errors import InputError, InterruptedRunError
from facenet_ext.train.folders import LAST_FILE

__all__ = ["GracefulStop", "check_model", "read_checkpoint", "save_best"]


def read_checkpoint(path: Path, option: str = "--resume ") -> dict[str, Any]:
    """Read a checkpoint, as data only: nothing in the file is executed.

    Args:
        path: the file.
        option: what named it, for messages.

    Raises:
        InputError: the file is damaged or was not written by this script.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise InputError(
            f"{option}{path}: the checkpoint is damaged or no checkpoint ({reason}); "
            f"try the other one in {path.parent}"
        ) from None
    if not isinstance(checkpoint, dict) or "facenet_ext" not in checkpoint:
        raise InputError(f"{option}{path}: not a checkpoint of this script; give one it wrote")
    return checkpoint


def check_model(
    checkpoint: dict[str, Any], module: LightningModule, path: Path, option: str = "--resume "
) -> None:
    """Check that a checkpoint's weights are those of the module's network.

    Args:
        checkpoint: what :func:`read_checkpoint` returned.
        module: of the same network.
        path: of the checkpoint, for messages.
        option: what named it, for messages.

    Raises:
        InputError: a weight is missing, left over, or of another shape; the message names one.
    """
    theirs = {name: tuple(w.shape) for name, w in checkpoint.get("state_dict", {}).items()}
    ours = {name: tuple(weight.shape) for name, weight in module.state_dict().items()}
    differing = sorted(n for n in theirs.keys() | ours.keys() if theirs.get(n) != ours.get(n))
    if differing:
        name = differing[0]
        raise InputError(
            f"{option}{path}: the checkpoint is of another model: {name} is "
            f"{theirs.get(name, 'missing')} there and {ours.get(name, 'missing')} here; "
            "leave the model's options as they were, or start a new run"
        )


def save_best(folder: Path) -> ModelCheckpoint:
    """Return the callback that keeps the checkpoint of the best accuracy as ``best.ckpt``."""
    return ModelCheckpoint(
        folder,
        filename="best",
        monitor="accuracy",
        mode="max",
        enable_version_counter=False,
    )


class GracefulStop(Callback):
    """Keep ``last.ckpt`` up to date; stop between two steps at Ctrl-C or when time is up.

    A step is never cut in half, so what is saved continues to the result of an uninterrupted run.
    A second Ctrl-C stops at once, and leaves the checkpoint written before.

    Args:
        folder: where ``last.ckpt`` goes.
        steps: steps of the whole run; the last one is saved.
        every: steps between checkpoints.
        minutes: stop training after that time, or None.

    Raises:
        InterruptedRunError: from the trainer, when the user stopped the run.
    """

    def __init__(self, folder: Path, steps: int, every: int, minutes: float | None) -> None:
        self.path = folder / LAST_FILE
        self.steps = steps
        self.every = every
        self.seconds = float("inf") if minutes is None else 60 * minutes
        self._started = time.monotonic()
        self._interrupted = False
        self._handler: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock and take over Ctrl-C."""
        self._started = time.monotonic()
        self._handler = signal.signal(signal.SIGINT, self._on_signal)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is due, and stop where it is wanted."""
        out_of_time = time.monotonic() - self._started > self.seconds
        step = trainer.global_step
        due = step % self.every == 0 or step == self.steps
        if due or out_of_time or self._interrupted:
            trainer.save_checkpoint(self.path)
        if self._interrupted:
            raise InterruptedRunError(self.path)
        if out_of_time:
            trainer.should_stop = True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give Ctrl-C back."""
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            self._handler = None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._interrupted:
            raise InterruptedRunError(self.path if self.path.is_file() else None)
        self._interrupted = True
