"""The run: from the command line to the report."""

from __future__ import annotations

import datetime
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from facenet_ext.train import checkpoints
from facenet_ext.train.data import Batches, load
from facenet_ext.train.errors import InputError, InterruptedRunError
from facenet_ext.train.module import EmbeddingModule
from facenet_ext.train.optimization import AveragedWeights
from facenet_ext.train.options import Options, dump, parse
from facenet_ext.train.pictures import draw_all
from facenet_ext.train.report import table, write_json, write_text

__all__ = ["main", "train"]

_LOGGED_STEPS = 200
"""About how many points a curve of the training has."""


def main(argv: Sequence[str] | None = None, prog: str = "python -m facenet_ext.train") -> int:
    """Run the command and return its exit status.

    Args:
        argv: arguments; None takes the process's own.
        prog: the command's name, for messages.

    Returns:
        0; 2 where the input cannot be used; 130 where the user stopped the run.
    """
    _quiet()
    try:
        options, resume = parse(argv, prog)
        output = options.run.output
        train(options, checkpoints.find_checkpoint(resume, output) if resume else None)
    except InputError as error:
        print(f"{prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except InterruptedRunError as stop:
        how = f"continue with {prog} --resume {stop.checkpoint}" if stop.checkpoint else "no steps"
        print(f"{prog}: stopped; {how}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print(f"{prog}: stopped before the first step; nothing was written", file=sys.stderr)
        return 130
    return 0


def train(options: Options, checkpoint: Path | None = None) -> Path:
    """Train, evaluate and report.

    Nothing is written before everything that can be wrong with the input has been looked at.

    Args:
        options: of the run.
        checkpoint: where to continue, or None to start.

    Returns:
        The run's folder.

    Raises:
        InputError: the input cannot be used.
        InterruptedRunError: the user stopped the run.
    """
    console = Console()
    if options.run.threads:
        torch.set_num_threads(options.run.threads)
    folder = _folder(options, checkpoint)
    state = checkpoints.read_checkpoint(checkpoint) if checkpoint else None
    data = load(options.data, console)
    batches = Batches(
        data,
        options.batch,
        seed=options.run.seed,
        epochs=options.run.max_epochs,
        steps=options.run.max_steps,
    )
    log_every = max(1, batches.steps // _LOGGED_STEPS)
    module = EmbeddingModule(options, batches.steps, data.pairs, log_every)
    if state is not None and checkpoint is not None:
        checkpoints.check_model(state, module, checkpoint)
    console.print(
        f"train on {data.train!r}, verify {data.val!r}; {batches.steps} steps", soft_wrap=True
    )

    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.yaml", dump(options))
    trainer = _trainer(options, folder, batches.steps, log_every, console)
    trainer.fit(module, batches, ckpt_path=checkpoint, weights_only=True)
    trainer.validate(module, batches, verbose=False)
    _report(folder, module, batches, trainer.global_step, console)
    return folder


def _report(
    folder: Path, module: EmbeddingModule, batches: Batches, steps: int, console: Console
) -> None:
    verification = module.verification
    if verification is None:
        raise RuntimeError("validation must come before the report")
    console.print(table(verification))
    write_json(folder / "metrics.json", {"steps": steps} | verification.as_dict())
    draw_all(folder, verification, module.history, batches.data.val)
    console.print(f"metrics.json, pictures and checkpoints are in {folder}", soft_wrap=True)


def _folder(options: Options, checkpoint: Path | None) -> Path:
    """Return the run's folder: a new one, or that of the checkpoint."""
    if checkpoint is not None:
        return checkpoint.parent.parent
    if options.run.output is not None:
        folder = Path(options.run.output)
        if (folder / "config.yaml").exists():
            raise InputError(
                f"--output {folder} already holds a run; "
                "continue it with --resume, or choose another folder"
            )
        return folder
    name = Path(options.data.data).name.split(".")[0]
    return checkpoints.RUNS / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def _trainer(
    options: Options, folder: Path, steps: int, log_every: int, console: Console
) -> Trainer:
    interval = max(1, steps // options.run.evaluations)
    saved = folder / checkpoints.FOLDER
    callbacks: list[Callback] = [_Lines(steps, console)]
    if console.is_terminal:
        callbacks.append(RichProgressBar(leave=True))
    if options.optimizer.ema:
        callbacks.append(AveragedWeights(options.optimizer.ema))
    callbacks.append(checkpoints.GracefulStop(saved, steps, interval, options.run.max_minutes))
    callbacks.append(checkpoints.save_best(saved))
    return Trainer(
        accelerator=options.run.accelerator,
        devices=1,
        precision=_precision(options.run.precision, options.run.accelerator),
        max_epochs=1,  # of `steps` batches: one stretch, to stop and continue anywhere in it
        val_check_interval=interval,
        num_sanity_val_steps=0,
        log_every_n_steps=log_every,
        gradient_clip_val=options.optimizer.clip or None,
        logger=TensorBoardLogger(folder, name="", version="tensorboard"),
        callbacks=callbacks,
        enable_progress_bar=console.is_terminal,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def _precision(wanted: str, accelerator: str) -> Any:
    """Resolve "auto": bfloat16 is fast only where the device has instructions for it."""
    if wanted != "auto":
        return wanted
    if accelerator != "cpu" and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        cpu = torch.cpu.get_capabilities()
        fast = bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16") or cpu.get("bf16"))
    return "bf16-mixed" if fast else "32-true"


class _Lines(Callback):
    """Print a line at each evaluation, which also stays in a log file."""

    def __init__(self, steps: int, console: Console) -> None:
        self.steps = steps
        self.console = console

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the step and the main figures."""
        if trainer.state.fn != "fit":
            return
        figures = trainer.callback_metrics
        shown = ", ".join(
            f"{name} {figures[name].item():.4f}"
            for name in ("loss", "active_triplets", "accuracy", "auc", "eer")
            if name in figures
        )
        self.console.print(f"step {trainer.global_step}/{self.steps}: {shown}", soft_wrap=True)


def _quiet() -> None:
    """Silence what Lightning tells its own developers; errors stay."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", category=FutureWarning)
