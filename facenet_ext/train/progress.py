"""Shows the progress of a run: a bar in a terminal, and a line at each evaluation."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.console import Console
from torch import Tensor

_EVERY = 20.0
"""Seconds between two lines of a log."""


_FIGURES = ("loss", "active_triplets", "accuracy", "auc", "eer")


def show_progress(steps: int, console: Console) -> list[Callback]:
    """Return callbacks that show progress: lines, and in a terminal Lightning's bar.

    Args:
        steps: steps of the whole run.
        console: where to print.
    """
    bar = _Bar(10, console_kwargs={"stderr": console.stderr}) if console.is_terminal else None
    return [_Lines(steps, console), *([bar] if bar else [])]


class _Bar(RichProgressBar):
    """Lightning's bar without epoch and version, of which a run has one."""

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        return super().configure_columns(trainer)[1:]

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        loss = trainer.callback_metrics.get("loss")
        return {} if loss is None else {"loss": loss.item()}


class _Lines(Callback):
    """Print a line at each evaluation.

    Where the output is not a terminal, also print a line with the step, the loss and the time left
    every 20 seconds, for a log.
    """

    def __init__(self, steps: int, console: Console) -> None:
        self.steps = steps
        self.console = console
        self._ended = threading.Event()
        self._began = (0, 0.0)
        self._latest: tuple[int, Tensor] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start printing the lines of a log."""
        self._began = (trainer.global_step, time.monotonic())
        if not self.console.is_terminal:
            self._ended = threading.Event()
            threading.Thread(target=self._tell, args=(self._ended,), daemon=True).start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any, **__: Any
    ) -> None:
        """Keep the step and the loss for the next line."""
        self._latest = (trainer.global_step, outputs["loss"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the step and the main figures."""
        if trainer.state.fn != "fit":
            return
        metrics = trainer.callback_metrics
        shown = ", ".join(f"{name} {metrics[name]:.4f}" for name in _FIGURES if name in metrics)
        self.console.print(f"step {trainer.global_step}/{self.steps}: {shown}", soft_wrap=True)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """End the lines, also after an exception."""
        self._ended.set()

    on_exception = on_train_end

    def _tell(self, ended: threading.Event) -> None:
        """Print a line every _EVERY seconds, in a thread, as one step may take longer."""
        while not ended.wait(_EVERY):
            self.console.print(self._line(), soft_wrap=True)

    def _line(self) -> str:
        first, start = self._began
        if self._latest is None:
            return f"step {first}/{self.steps}: at the first step"
        step, loss = self._latest
        seconds = (time.monotonic() - start) / (step - first) * (self.steps - step)
        left = f"{duration(seconds)} left" if step < self.steps else "at the last evaluation"
        return f"step {step}/{self.steps}: loss {loss:.4f}, {left}"


def duration(seconds: float) -> str:
    """Return a time in words, in minutes from 60 s and in hours from 60 min.

    Example:
        >>> duration(40), duration(260), duration(9000)
        ('40 s', '4 min 20 s', '2 h 30 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def quiet() -> None:
    """Silence messages of Lightning and others that are for developers; errors stay."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", category=FutureWarning)
