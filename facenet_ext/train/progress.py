"""Shows how a run comes along: a bar in a terminal, and a line at each evaluation."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["ShowProgress"]

_FIGURES = ("loss", "active_triplets", "accuracy", "auc", "eer")


class ShowProgress(Callback):
    """Show the steps as a bar that keeps to one line, with a line above it at each evaluation.

    Where the output is no terminal there are only the lines, which is what a log file wants.

    Args:
        steps: steps of the whole run.
        console: where to print; the bar and the lines must share it.
    """

    def __init__(self, steps: int, console: Console) -> None:
        self.steps = steps
        self.console = console
        self._bar = Progress(
            TextColumn("training", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", total=steps)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar, from where the run continues."""
        self._bar.update(self._task, completed=trainer.global_step)
        self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        if self._bar.disable:
            return
        loss = trainer.callback_metrics["loss"].item()
        self._bar.update(self._task, completed=trainer.global_step, description=f"loss {loss:.4f}")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the step and the main figures."""
        if trainer.state.fn != "fit":
            return
        metrics = trainer.callback_metrics
        shown = ", ".join(f"{name} {metrics[name]:.4f}" for name in _FIGURES if name in metrics)
        self.console.print(f"step {trainer.global_step}/{self.steps}: {shown}", soft_wrap=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away."""
        self._bar.stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Take the bar away, for the terminal to be as it was."""
        self._bar.stop()
