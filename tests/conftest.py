"""Settings shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from helpers import SetThreads
from hypothesis import settings

# Deterministic, and no deadline: the first call of an operator is slower than the others.
settings.register_profile("default", deadline=None, derandomize=True, max_examples=50)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile("default")


@pytest.fixture
def set_threads() -> Iterator[SetThreads]:
    """``torch.set_num_threads``, undone at the end of the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
