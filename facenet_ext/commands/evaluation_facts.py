"""What an evaluation was of: the run, the data, when, and the command that repeats it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import shlex
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from facenet_ext.commands.evaluation_options import EvaluateOptions
from facenet_ext.commands.trained_model import Model
from facenet_ext.common.errors import InputError
from facenet_ext.common.text import counted
from facenet_ext.data.image_list import ImageList
from facenet_ext.data.sets import open_set
from facenet_ext.data.sources import find
from facenet_ext.embedding.folders import CHECKPOINTS, EVALUATION
from facenet_ext.embedding.options import DataOptions
from facenet_ext.embedding.provenance import Training
from facenet_ext.evaluation import held_out

_PATHS = ("data", "pairs", "enrol", "groups", "output")
_ELSEWHERE = ("checkpoint", "batch", "json")
"""Options that stand in the command before the others, or change none of the figures."""


class Facts(NamedTuple):
    """What an evaluation was of.

    Attributes:
        run: the run's folder, or the checkpoint's file where that lies in no run.
        data: the folder of the images.
        date: the time of the evaluation, to the minute, with the offset from UTC.
        identities: how many people were verified; None if not known.
        images: how many images were verified.
        trained: how the model was trained, in words.
        command: a command line that repeats the evaluation from any folder.
    """

    run: str
    data: str
    date: str
    identities: int | None
    images: int
    trained: str
    command: str


def find_facts(
    options: EvaluateOptions, model: Model, data: Path, identities: int | None, images: int
) -> Facts:
    """Return what an evaluation was of.

    Args:
        options: the options of the command.
        model: the model that was evaluated.
        data: the folder or file that has the images.
        identities: see :class:`Facts`.
        images: see there.
    """
    path = model.path.resolve()
    run = path.parent.parent if path.parent.name == CHECKPOINTS else path
    return Facts(
        run=str(run),
        data=str(data.resolve()),
        date=f"{datetime.datetime.now().astimezone():%Y-%m-%d %H:%M %z}",
        identities=identities,
        images=images,
        trained=_trained(model.module.provenance),
        command=_command(options, path),
    )


def report_folder(options: EvaluateOptions, model: Model) -> Path:
    """Return the folder to write to: by default in the run's.

    Raises:
        InputError: the model is in no run's folder.
    """
    if options.output is not None:
        return Path(options.output)
    folder = model.path.resolve().parent
    if folder.name != CHECKPOINTS:
        raise InputError(f"--output: {model.path} is in no run's folder; say where to write")
    return folder.parent / EVALUATION


def warn_of_known(
    options: DataOptions, run: Path, images: ImageList, people: Collection[str]
) -> list[str]:
    """Return a warning where people of the training's own data are verified.

    Args:
        options: the options of the training's data.
        run: the folder of the run.
        images: the images that are verified; for features, a list whose root is their file.
        people: the identities of these images.
    """
    unseen = held_out.read_names(run)
    known = 0 if unseen is None else len({*people} - unseen)
    if not known or not _is_of_training(images, Path(options.data).resolve()):
        return []
    return [
        f"the model was trained on {known:,} of these {len({*people}):,} people: figures of "
        "strangers are worse; without --data those are verified whom it has not seen"
    ]


def _is_of_training(images: ImageList, data: Path) -> bool:
    """Whether images are those of the data that a model was trained on."""
    if images.images is None:
        return images.root.resolve() in (data, data / "train")
    with contextlib.suppress(InputError):  # the data may be gone
        trained = open_set(str(find(str(data)).train))
        return images.images.fingerprint == trained.fingerprint
    return False


def _trained(training: Training) -> str:
    parts = []
    if training.steps is not None:
        steps, planned = counted(training.steps, "step"), training.planned
        if planned not in (None, training.steps):
            steps = f"{training.steps:,} of {planned:,} planned steps"
        parts.append(steps)
    if training.images is not None:
        parts.append(f"on {counted(training.images, 'image')} of {training.identities:,} people")
    if training.data:
        parts.append(f"from {_whole(training.data)}")
    if training.cut is not None:
        parts.append(f"cut {training.cut}")
    return " ".join(parts) or "not known"


def _command(options: EvaluateOptions, checkpoint: Path) -> str:
    """Return a command line that does the same from any folder."""
    parts = ["facenet", "evaluate", "--checkpoint", str(checkpoint)]
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if value == field.default or field.name in _ELSEWHERE:
            continue
        parts.append("--" + field.name.replace("_", "-"))
        if value is not True:
            parts.append(_whole(value) if field.name in _PATHS else str(value))
    return shlex.join(parts)


def _whole(path: str) -> str:
    """Return a path in full, from the root on; 'lfw' and 'digits' are none and stay the same."""
    return path if path in ("digits", "lfw") else str(Path(path).expanduser().resolve())
