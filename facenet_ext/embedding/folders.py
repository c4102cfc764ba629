"""Where a run and its checkpoints lie: ``runs/<name>/checkpoints/<name>.ckpt``."""

from __future__ import annotations

import datetime
from itertools import count
from pathlib import Path

from facenet_ext.common.errors import InputError
from facenet_ext.common.launch import restarted
from facenet_ext.data.names import data_name

LAST = "last"
"""The value of ``--resume`` given without a checkpoint: the last one of the latest run."""

CHECKPOINTS = "checkpoints"
LAST_FILE = "last.ckpt"
CONFIG = "config.yaml"
METRICS = "metrics.json"
EVALUATION = "evaluation"
"""The folder inside a run's folder that ``facenet evaluate`` writes to."""
PAIRS = "pairs.parquet"
"""The file beside an evaluation's metrics, with the distance of each pair."""
HELD_OUT = "held_out.txt"
"""The file in a run's folder with the names of the identities that it verifies on, one a line."""

_RUNS = Path("runs")


def find_checkpoint(resume: str, output: str | None) -> Path:
    """Find the checkpoint that ``--resume`` means.

    Args:
        resume: a checkpoint, a run's folder, or "last" for the latest run.
        output: the folder that ``--output`` names, where "last" looks first.

    Returns:
        The path of a file ``<run>/checkpoints/<name>.ckpt``.

    Raises:
        InputError: there is no such checkpoint.
    """
    if resume != LAST:
        path = Path(resume)
        path = path / CHECKPOINTS / LAST_FILE if path.is_dir() else path
    elif output is not None:
        path = Path(output) / CHECKPOINTS / LAST_FILE
    else:
        latest = latest_run()
        if latest is None:
            raise InputError(f"`resume`: no run in {_RUNS}/; give the path of a checkpoint")
        path = latest / CHECKPOINTS / LAST_FILE
    if not path.is_file():
        raise InputError(
            f"`resume` {path}: no such checkpoint; give a run's folder or a .ckpt file"
        )
    if not (path.parent.parent / CONFIG).is_file():
        raise InputError(f"`resume` {path}: not in a run's folder, which has a {CONFIG}")
    return path


def run_of(given: str, option: str) -> Path:
    """Return the folder of the run that an argument means.

    Args:
        given: the folder, or a checkpoint of the run.
        option: the name of the argument, for messages.

    Raises:
        InputError: there is no run, or none with its options.
    """
    path = Path(given)
    folder = path.parent.parent if path.is_file() else path
    if not path.exists():
        raise InputError(f"`{option}` {given}: no such checkpoint; give a run's folder or a .ckpt")
    if not (folder / CONFIG).is_file():
        raise InputError(f"`{option}` {given}: not a run's folder, or in one, which has a {CONFIG}")
    return folder


def latest_run() -> Path | None:
    """Return the folder of the run in ``runs/`` that saved a checkpoint last, if there is one."""
    checkpoints = _RUNS.glob(f"*/{CHECKPOINTS}/{LAST_FILE}")
    last = max(checkpoints, key=lambda path: path.stat().st_mtime, default=None)
    return None if last is None else last.parent.parent


def run_folder(output: str | None, data: str, checkpoint: Path | None) -> Path:
    """Return the folder of a run: that of the checkpoint it continues, else a new one.

    A run that a launcher starts again takes the folder that it began.

    Args:
        output: the folder that ``--output`` names.
        data: the value of ``--data``; a new folder is named after it.
        checkpoint: the checkpoint that the run continues, or None.

    Raises:
        InputError: the folder holds another run already, or has no name.
    """
    if checkpoint is not None:
        return checkpoint.parent.parent
    if output is None:
        folder = _RUNS / f"{data_name(data)}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
        names = (f"{folder.name}-{number}" if number > 1 else folder.name for number in count(1))
        return next(free for name in names if not (free := folder.with_name(name)).exists())
    if not output:
        raise InputError("`output` '': an empty name; give a folder, or leave the option out")
    if (Path(output) / CONFIG).exists() and not restarted():
        raise InputError(
            f"`output` {output} already holds a run; "
            "continue it with `resume`, or choose another folder"
        )
    return Path(output)
