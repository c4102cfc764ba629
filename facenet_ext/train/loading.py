"""Takes a trained network out of a checkpoint."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from facenet_ext.train import checkpoints
from facenet_ext.train.errors import InputError
from facenet_ext.train.folders import CHECKPOINTS, LAST_FILE
from facenet_ext.train.module import EmbeddingModule
from facenet_ext.train.options import Options

__all__ = ["checkpoint_path", "file_hash", "load_module", "matched_by"]


def checkpoint_path(given: str) -> Path:
    """Return the checkpoint that an argument means.

    Args:
        given: a checkpoint, or a run's folder for its best one, or for its last.

    Raises:
        InputError: there is none.
    """
    path = Path(given)
    if path.is_dir():
        inside = [path / CHECKPOINTS / name for name in ("best.ckpt", LAST_FILE)]
        path = next((file for file in inside if file.is_file()), inside[-1])
    if not path.is_file():
        raise InputError(f"{given}: no such checkpoint; give a run's folder or a .ckpt file")
    return path


def file_hash(path: Path) -> str:
    """Return a name for what a file holds: its SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def matched_by(path: Path) -> str | None:
    """Return the hash of the checkpoint that a checkpoint's model was trained to match, if any."""
    return _matches(checkpoints.read_checkpoint(path, "")["facenet_ext"])


def _matches(kept: dict[str, Any]) -> str | None:
    matches = kept.get("matches")
    return matches if isinstance(matches, str) else None


def load_module(path: Path) -> EmbeddingModule:
    """Build the network of a checkpoint, with its weights, to embed with.

    With averaged weights (``--ema``) these are the averaged ones.

    Args:
        path: a checkpoint that ``facenet train`` wrote.

    Returns:
        The module, in evaluation mode.

    Raises:
        InputError: the file is damaged, foreign, or of another version.
    """
    state = checkpoints.read_checkpoint(path, "")
    kept = state["facenet_ext"]
    try:
        options = Options.from_flat(kept["options"])
        module = EmbeddingModule(options, tuple(kept["shape"]), steps=1)
        checkpoints.check_model(state, module, path, "")
        module.load_state_dict(state["state_dict"])
    except InputError:
        raise
    except Exception as error:  # of many kinds, where options or weights are not what they were
        told = " ".join(str(error).split())
        raise InputError(f"{path}: not a checkpoint that this version reads ({told})") from None
    module.matches = _matches(kept)
    return module.eval()
