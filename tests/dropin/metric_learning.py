"""Which pytorch-metric-learning is installed."""

from __future__ import annotations

from importlib.metadata import version

import pytest

pytest.importorskip("pytorch_metric_learning")
VERSION = version("pytorch-metric-learning")
MAJOR = int(VERSION.partition(".")[0])


def skip_unless(major: int) -> None:
    """Skip a module of tests where another version is installed."""
    if major != MAJOR:
        pytest.skip(
            f"about pytorch-metric-learning {major}, here is {VERSION}", allow_module_level=True
        )
