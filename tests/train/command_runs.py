"""What a run of a subcommand gives, and how one that was refused looks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Command = Callable[..., tuple[int, str, str]]


def keep_evaluation(checkpoint: Path, evaluation: Any) -> None:
    """Let a checkpoint hold another evaluation than its own."""
    state = torch.load(checkpoint, weights_only=True)
    state["facenet_ext"]["evaluation"] = evaluation
    torch.save(state, checkpoint)


def assert_told(result: tuple[int, str, str], *parts: str) -> None:
    """Assert that a command refused its input in one line."""
    status, _, err = result
    assert status == 2, err
    assert err.count("\n") == 1, err
    assert "error: " in err
    for part in parts:
        assert part in err
