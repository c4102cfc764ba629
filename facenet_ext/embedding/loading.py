"""Reads checkpoints, and builds their embedders."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from facenet_ext.common.errors import InputError
from facenet_ext.embedding.embedder import Embedder
from facenet_ext.embedding.folders import CHECKPOINTS, LAST_FILE
from facenet_ext.embedding.networks import check_named
from facenet_ext.embedding.options import Options
from facenet_ext.embedding.provenance import Training

_FOREIGN = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""Errors that options and weights of another version may raise."""

_PART = 2**20
"""Bytes of a file that are hashed at once."""


def read_checkpoint(path: Path, option: str = "`resume` ") -> dict[str, Any]:
    """Read a checkpoint, as data only: nothing in the file is executed.

    Args:
        path: the file.
        option: the option that named it, with a space, for messages.

    Raises:
        InputError: the file cannot be read, is damaged, or is not a checkpoint of
            ``facenet train``.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{option}{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise InputError(
            f"{option}{path}: the checkpoint is damaged or no checkpoint ({reason}); "
            f"try the other one in {path.parent}"
        ) from error
    if not isinstance(checkpoint, dict) or "facenet_ext" not in checkpoint:
        raise InputError(f"{option}{path}: not a checkpoint that 'facenet train' wrote")
    return checkpoint


def check_model(
    checkpoint: dict[str, Any], module: nn.Module, path: Path, option: str = "`resume` "
) -> None:
    """Check that a checkpoint's weights are those of the module's network.

    Args:
        checkpoint: what :func:`read_checkpoint` returned.
        module: the module that is to have the weights.
        path: of the checkpoint, for messages.
        option: the option that named it, with a space, for messages.

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


def checkpoint_path(given: str) -> Path:
    """Return the checkpoint that an argument means.

    Args:
        given: a checkpoint, or a run's folder: that means its best checkpoint, or its last one
            where it has no best.

    Raises:
        InputError: there is no such checkpoint.
    """
    path = Path(given)
    if path.is_dir():
        inside = [path / CHECKPOINTS / name for name in ("best.ckpt", LAST_FILE)]
        path = next((file for file in inside if file.is_file()), inside[-1])
    if not path.is_file():
        raise InputError(f"{given}: no such checkpoint; give a run's folder or a .ckpt file")
    return path


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content; of a file that has not changed it is known."""
    return _hash(path, *_state_of(path))


def read_facts(path: Path) -> dict[str, Any]:
    """Return what a checkpoint says about its run, ``steps`` among it; the weights are left out.

    A file that has not changed is read once: a command asks for its model, whom it matches and its
    thresholds.

    Args:
        path: a checkpoint that ``facenet train`` wrote.

    Raises:
        InputError: as :func:`read_checkpoint`.
    """
    return _facts(path, *_state_of(path))


def _state_of(path: Path) -> tuple[int, ...]:
    """Return what differs after a file was written again."""
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


@lru_cache(maxsize=4)
def _hash(path: Path, *_state: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_PART):
            digest.update(part)
    return digest.hexdigest()


@lru_cache(maxsize=4)
def _facts(path: Path, *_state: int) -> dict[str, Any]:
    state = read_checkpoint(path, "")
    return {**state["facenet_ext"], "steps": state["global_step"]}


def matched_by(path: Path) -> str | None:
    """Return the hash of the checkpoint that a checkpoint's model was trained to match, if any."""
    return _matches(read_facts(path))


def _matches(kept: dict[str, Any]) -> str | None:
    matches = kept.get("matches")
    return matches if isinstance(matches, str) else None


def load_embedder(path: Path, model: str | None = None, option: str = "model") -> Embedder:
    """Build the network of a checkpoint, with its weights, to embed with.

    If the run averaged its weights (``--ema``), these are the averaged ones. torch's random state
    is not changed.

    Args:
        path: a checkpoint that ``facenet train`` wrote.
        model: what builds the network, in place of what the file says. A network of one's own must
            be named here, or registered, or listed in the environment: the file alone has nothing
            imported.
        option: the option that ``model`` is the value of, for messages.

    Returns:
        The embedder, in evaluation mode.

    Raises:
        InputError: the file is damaged, foreign, or of another version, or nobody has named its
            network.
    """
    state = read_checkpoint(path, "")
    kept = state["facenet_ext"]
    try:
        options = Options.from_flat(kept["options"])
        if model is None:
            check_named(options.model.model, kept.get("network"), f"{path}", option)
        else:
            options = replace(options, model=replace(options.model, model=model))
        with torch.random.fork_rng(devices=[]):  # a new network draws weights, to be replaced
            embedder = Embedder(options, tuple(kept["shape"]))
        # The state of training alone, such as that of augmentation, is left out.
        weights = {
            n: w for n, w in state["state_dict"].items() if n.startswith(("network.", "head."))
        }
        check_model(state | {"state_dict": weights}, embedder, path, "")
        embedder.load_state_dict(weights)
    except InputError:
        raise
    except _FOREIGN as error:
        told = " ".join(str(error).split())
        raise InputError(f"{path}: not a checkpoint that this version reads ({told})") from error
    embedder.matches = _matches(kept)
    embedder.provenance = Training.read(kept, state.get("global_step"))
    return embedder.eval()
