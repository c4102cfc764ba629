"""Settings shared by all tests.

``--device cuda`` runs the operators' tests on a GPU: torch makes tensors there by default, and
helpers.py makes random data on the CPU first, so that it is the same on every device.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import on_any_device
import pytest
import torch
from helpers import SetThreads

try:
    from hypothesis import settings
except ModuleNotFoundError:
    pass  # test_properties.py skips itself
else:
    # Deterministic, and no deadline: the first call of an operator is slower than the others.
    settings.register_profile("default", deadline=None, derandomize=True, max_examples=50)
    settings.register_profile("thorough", deadline=None, max_examples=1000)
    settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        default=os.environ.get("FACENET_TEST_DEVICE", "cpu"),
        help="where the operators' tests run, as torch names it [FACENET_TEST_DEVICE, or cpu]",
    )


def pytest_configure(config: pytest.Config) -> None:
    device = config.getoption("--device")
    if device != "cpu":
        os.environ["FACENET_TEST_DEVICE"] = device  # for tests that start a process
        torch.set_default_device(device)  # before modules are imported: some make tensors then


def pytest_report_header(config: pytest.Config) -> str | None:
    device = config.getoption("--device")
    return None if device == "cpu" else f"device: {device} (the operators' tests only)"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    elsewhere = config.getoption("--device") != "cpu" and collection_path.suffix == ".py"
    return True if elsewhere and collection_path.name not in on_any_device.FILES else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deal the tests out as cards: each process has its share of every file, and the longest first.

    xdist gives every process as many tests that follow each other, and what is left of them changes
    hands only when a process has nothing to do.
    """
    items.sort(key=lambda item: "ci" not in item.keywords)
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    items[:] = [item for first in range(processes) for item in items[first::processes]]


@pytest.fixture
def cpu_only(pytestconfig: pytest.Config) -> None:
    """Skips a test of the CPU library alone."""
    if (device := pytestconfig.getoption("--device")) != "cpu":
        pytest.skip(f"about the CPU's kernels, not {device}'s")


@pytest.fixture
def set_threads(cpu_only: None) -> Iterator[SetThreads]:
    """``torch.set_num_threads``, undone at the end of the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
