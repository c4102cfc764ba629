"""The run: from the options to the report."""

from __future__ import annotations

import math
import shlex
import time
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from facenet_ext._network_names import BUILT_IN
from facenet_ext._ranks import Ranks
from facenet_ext.common.console import make_console
from facenet_ext.common.errors import InputError, InterruptedRunError
from facenet_ext.common.files import write_json, write_text, writing
from facenet_ext.common.text import counted
from facenet_ext.embedding.folders import CHECKPOINTS, CONFIG, LAST_FILE, METRICS, run_folder
from facenet_ext.embedding.loading import check_model, read_checkpoint
from facenet_ext.embedding.options import Options, dump, spelled
from facenet_ext.embedding.provenance import Training
from facenet_ext.evaluation import held_out
from facenet_ext.evaluation.compared import as_dict
from facenet_ext.evaluation.pictures import draw_all
from facenet_ext.evaluation.table import table
from facenet_ext.models.registry import network_source
from facenet_ext.train.checkpoints import GracefulStop
from facenet_ext.train.data import Batches, TrainVal, load
from facenet_ext.train.distillation import (
    DISTILLED,
    DistilledModule,
    load_teacher,
    side_by_side,
    tell,
)
from facenet_ext.train.fitting import Changes, fit_batches, split_of
from facenet_ext.train.freed_memory import ReturnFreedMemory
from facenet_ext.train.module import EmbeddingModule
from facenet_ext.train.offline_mining import OfflineMining
from facenet_ext.train.optimization import AveragedWeights
from facenet_ext.train.pace import Pace, Plan, measure, plan_steps
from facenet_ext.train.processes import join, trainer_options
from facenet_ext.train.progress import show_progress

_LOGGED_STEPS = 200
"""About how many points a curve of the training has."""


def train(
    options: Options,
    checkpoint: Path | None = None,
    make_module: Callable[..., EmbeddingModule] | None = None,
    console: Console | None = None,
    given: Collection[str] = (),
    started: float | None = None,
) -> Path:
    """Train, evaluate and report.

    All of the input is checked before anything is written. Under torchrun, or with several
    ``--devices``, every process calls this, and the first one prints and writes.

    Args:
        options: of the run, fitted to its data: see :func:`.fitting.fit`.
        checkpoint: where to continue, or None to start.
        make_module: makes the module to train; it takes the arguments of :class:`EmbeddingModule`.
            By default that class, or :class:`.DistilledModule` with ``--distil``.
        console: where progress and figures are shown; by default standard output.
        given: the names of the options that a person gave.
        started: when ``--max-minutes`` began, by ``time.monotonic``; by default now.

    Returns:
        The run's folder.

    Raises:
        InputError: the input cannot be used.
        InterruptedRunError: the user stopped the run.
    """
    started = time.monotonic() if started is None else started
    console = make_console() if console is None else console
    if options.run.threads:
        torch.set_num_threads(options.run.threads)
    ranks = join(options.run, given)
    console.quiet |= ranks.rank > 0
    folder = run_folder(options.run.output, options.data.data, checkpoint)
    folder = Path(ranks.tell(str(folder))[0])  # a new one is named after the time
    state = read_checkpoint(checkpoint) if checkpoint else None
    _check_device(options)
    if make_module is None:
        make_module = EmbeddingModule
        if options.distillation.distil is not None:
            make_module = partial(DistilledModule, **load_teacher(options))
    data = load(options.data, console, split_of(options, checkpoint, given))
    batches = _batches(options, data, given, console)
    deadline = (
        math.inf if options.run.max_minutes is None else started + 60 * options.run.max_minutes
    )
    try:
        if options.run.max_minutes is not None and (state is None or "max_minutes" in given):
            done = 0 if state is None else int(state["global_step"])
            copy = make_module(options, data.train.shape, batches.steps)
            options, pace = _fit_to_time(options, given, copy, batches, done, deadline, console)
            deadline -= pace.evaluation  # leaves time for the last one
        log_every = max(1, batches.steps // _LOGGED_STEPS)
        module = make_module(options, data.train.shape, batches.steps, data.pairs, log_every)
        module.provenance = Training.start(options.data.data, data.train.labels, data.images)
        if state is not None and checkpoint is not None:
            check_model(state, module, checkpoint)
        console.print(
            f"train on {data.train!r}, verify {data.val!r}; {counted(batches.steps, 'step')}",
            soft_wrap=True,
        )
        trainer = _trainer(options, folder, batches, log_every, console, deadline)
        if ranks.rank == 0:
            _claim(folder, options, data)
        trainer.fit(module, batches, ckpt_path=checkpoint, weights_only=True)
        if trainer.global_step < batches.steps:
            console.print(
                f"--max-minutes {options.run.max_minutes:g}: time is up at step "
                f"{trainer.global_step} of {batches.steps}"
            )
        if module.verification is None or module.evaluated_at != trainer.global_step:
            trainer.validate(module, batches, verbose=False)
        if ranks.rank == 0:
            _report(folder, module, batches, trainer.global_step, console)
        if isinstance(module, DistilledModule):
            figures = side_by_side(module, data)  # all processes embed
            if ranks.rank == 0:
                console.print(tell(figures, str(options.distillation.distil)), soft_wrap=True)
                write_json(folder / DISTILLED, {n: f._asdict() for n, f in figures.items()})
        trainer.strategy.barrier()  # what comes next finds the files
    except (KeyboardInterrupt, SystemExit):  # Lightning makes Ctrl-C outside a step a SystemExit
        last = folder / CHECKPOINTS / LAST_FILE
        raise InterruptedRunError(last if last.is_file() else None) from None
    return folder


def _batches(options: Options, data: TrainVal, given: Collection[str], console: Console) -> Batches:
    """Return the batches, fitted again: unreadable images may have left fewer identities."""
    changes = Changes(options, given)
    told = fit_batches(
        changes, Counter(data.train.labels.tolist()).values(), "identities", "images"
    )
    if problems := changes.problems():
        raise InputError("; ".join(problems))
    if free := changes.changed(given=False):
        shown = " ".join(spelled(name, value) for name, value in free.items())
        console.print(f"fitted to {told}: {shown}", soft_wrap=True)
        options = Options.from_flat(changes.values)
    return Batches(
        data,
        options.batch,
        seed=options.run.seed,
        epochs=options.run.max_epochs,
        steps=options.run.max_steps,
    )


def _fit_to_time(
    options: Options,
    given: Collection[str],
    copy: EmbeddingModule,
    batches: Batches,
    done: int,
    deadline: float,
    console: Console,
) -> tuple[Options, Pace]:
    """Return the options of a run that ends in time, and its measured pace."""
    wanted = batches.steps
    seconds = deadline - time.monotonic()
    pace = measure(copy, batches, seconds, **_device(options))
    most = max(1, wanted - done) if {"max_steps", "max_epochs"} & set(given) else None
    plan = plan_steps(pace, deadline - time.monotonic(), options.run.evaluations, most)
    ranks = Ranks.of()
    plan = Plan(*ranks.all_gather(torch.tensor(plan, device=ranks.device))[0].tolist())
    batches.steps = done + plan.steps
    console.print(
        f"--max-minutes {options.run.max_minutes:g}: a step takes {pace.step:.3g} s and an "
        f"evaluation {pace.evaluation:.3g} s; the schedule is fitted to "
        f"{counted(batches.steps, 'step')} and {counted(plan.evaluations, 'evaluation')}",
        soft_wrap=True,
    )
    changed = {"max_steps": batches.steps, "evaluations": plan.evaluations}
    if "ema" not in given:  # so that weights are averaged over the same share of the run
        changed["ema"] = round(options.optimizer.ema ** (wanted / batches.steps), 6)
    return Options.from_flat(options.flat() | changed), pace


def _claim(folder: Path, options: Options, data: TrainVal) -> None:
    """Make the run's folder, and write the options and the held-out identities into it."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        held_out.write_names(folder, data.held_out)
        write_text(folder / CONFIG, dump(options))


def _report(
    folder: Path, module: EmbeddingModule, batches: Batches, steps: int, console: Console
) -> None:
    verification = module.verification
    if verification is None:
        raise RuntimeError("validation must come before the report")
    console.print(table(verification))
    figures = verification.as_dict() | {"summary": as_dict(verification.summary)}
    write_json(folder / METRICS, {"steps": steps} | figures)
    draw_all(folder, verification, module.history, batches.data.val)
    console.print(f"metrics.json, pictures and checkpoints are in {folder}", soft_wrap=True)
    if batches.data.val.are_images and module.options.data.data != "digits":
        model = f"--checkpoint {shlex.quote(str(folder))}"
        if module.options.model.model not in BUILT_IN:
            model += f" --model {network_source(module.options.model.model)}"
        console.print(
            f"next: facenet evaluate {model}, or facenet verify a.jpg b.jpg {model}", soft_wrap=True
        )


def _trainer(
    options: Options,
    folder: Path,
    batches: Batches,
    log_every: int,
    console: Console,
    deadline: float,
) -> Trainer:
    steps = batches.steps
    interval = -(-steps // options.run.evaluations)
    saved = folder / CHECKPOINTS
    callbacks: list[Callback] = show_progress(steps, console)
    if options.optimizer.ema:
        callbacks.append(AveragedWeights(options.optimizer.ema))
    callbacks += [GracefulStop(saved, steps, deadline), ReturnFreedMemory()]
    if options.mining.mine_every:
        callbacks.append(OfflineMining(folder, options, batches, console))
    callbacks.append(
        ModelCheckpoint(
            saved, filename="best", monitor="accuracy", mode="max", enable_version_counter=False
        )
    )
    return Trainer(
        max_epochs=1,  # of `steps` batches, so that a run can stop and continue anywhere
        val_check_interval=interval,
        num_sanity_val_steps=0,
        log_every_n_steps=log_every,
        logger=TensorBoardLogger(folder, name="", version="tensorboard"),
        callbacks=callbacks,
        default_root_dir=folder,
        **_device(options) | {"enable_progress_bar": console.is_terminal},
    )


def _device(options: Options) -> dict[str, Any]:
    """Return the trainer's options for device, precision and clipping; it prints nothing."""
    return {
        "accelerator": options.run.accelerator,
        **trainer_options(options.run),
        "precision": _precision(options.run.precision, options.run.accelerator),
        "gradient_clip_val": options.optimizer.clip or None,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }


def _check_device(options: Options) -> None:
    """Raise where the trainer refuses device or precision, before images are decoded."""
    device = _device(options)
    try:
        Trainer(logger=False, enable_checkpointing=False, **device)
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise InputError(f"`accelerator`, `precision`: {error}") from None


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
