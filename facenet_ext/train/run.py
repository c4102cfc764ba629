"""The run: from the options to the report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from facenet_ext.commands.console import make_console
from facenet_ext.train import checkpoints
from facenet_ext.train.data import Batches, load
from facenet_ext.train.errors import InputError, InterruptedRunError
from facenet_ext.train.folders import CHECKPOINTS, CONFIG, LAST_FILE, METRICS, run_folder
from facenet_ext.train.loading import check_model, read_checkpoint
from facenet_ext.train.measuring import MeasureRange
from facenet_ext.train.module import EmbeddingModule
from facenet_ext.train.offline import OfflineMining
from facenet_ext.train.optimization import AveragedWeights
from facenet_ext.train.options import Options, dump
from facenet_ext.train.pictures import draw_all
from facenet_ext.train.progress import ShowProgress
from facenet_ext.train.provenance import Training
from facenet_ext.train.report import table, write_json, write_text

__all__ = ["train"]

_LOGGED_STEPS = 200
"""About how many points a curve of the training has."""


def train(
    options: Options,
    checkpoint: Path | None = None,
    make_module: Callable[..., EmbeddingModule] = EmbeddingModule,
    console: Console | None = None,
) -> Path:
    """Train, evaluate and report.

    Nothing is written before everything that can be wrong with the input has been looked at.

    Args:
        options: of the run.
        checkpoint: where to continue, or None to start.
        make_module: makes what is trained, of the arguments of :class:`EmbeddingModule`.
        console: where progress and figures are shown; by default standard output.

    Returns:
        The run's folder.

    Raises:
        InputError: the input cannot be used.
        InterruptedRunError: the user stopped the run.
    """
    console = make_console() if console is None else console
    if options.run.threads:
        torch.set_num_threads(options.run.threads)
    folder = run_folder(options.run.output, options.data.data, checkpoint)
    state = read_checkpoint(checkpoint) if checkpoint else None
    data = load(options.data, console)
    batches = Batches(
        data,
        options.batch,
        seed=options.run.seed,
        epochs=options.run.max_epochs,
        steps=options.run.max_steps,
    )
    log_every = max(1, batches.steps // _LOGGED_STEPS)
    module = make_module(options, data.train.shape, batches.steps, data.pairs, log_every)
    module.provenance = Training.start(options.data.data, data.train.labels, data.files)
    if state is not None and checkpoint is not None:
        check_model(state, module, checkpoint)
    console.print(
        f"train on {data.train!r}, verify {data.val!r}; {batches.steps} steps", soft_wrap=True
    )

    try:
        trainer = _trainer(options, folder, batches, log_every, console)
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise InputError(f"--accelerator, --precision: {error}") from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / CONFIG, dump(options))
    except OSError as error:
        raise InputError(f"--output {folder}: cannot be written to ({error.strerror})") from None
    try:
        trainer.fit(module, batches, ckpt_path=checkpoint, weights_only=True)
        trainer.validate(module, batches, verbose=False)
        _report(folder, module, batches, trainer.global_step, console)
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C outside the steps: Lightning makes it an exit
        last = folder / CHECKPOINTS / LAST_FILE
        raise InterruptedRunError(last if last.is_file() else None) from None
    return folder


def _report(
    folder: Path, module: EmbeddingModule, batches: Batches, steps: int, console: Console
) -> None:
    verification = module.verification
    if verification is None:
        raise RuntimeError("validation must come before the report")
    console.print(table(verification))
    write_json(folder / METRICS, {"steps": steps} | verification.as_dict())
    draw_all(folder, verification, module.history, batches.data.val)
    console.print(f"metrics.json, pictures and checkpoints are in {folder}", soft_wrap=True)


def _trainer(
    options: Options, folder: Path, batches: Batches, log_every: int, console: Console
) -> Trainer:
    steps = batches.steps
    interval = max(1, steps // options.run.evaluations)
    saved = folder / CHECKPOINTS
    callbacks: list[Callback] = [ShowProgress(steps, console)]
    if options.optimizer.ema:
        callbacks.append(AveragedWeights(options.optimizer.ema))
    if batches.data.train.are_images:
        callbacks.append(MeasureRange(batches.data))
    callbacks.append(checkpoints.GracefulStop(saved, steps, interval, options.run.max_minutes))
    if options.mining.mine_every:
        callbacks.append(OfflineMining(folder, options, batches, console))
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
        enable_progress_bar=False,
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
