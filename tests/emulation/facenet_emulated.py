"""A pytest plugin: the emulated CUDA operators in place of the CPU library.

``FACENET_EMULATED_LIBRARY`` says which; ``python -m pytest -p facenet_emulated`` with this folder
on ``PYTHONPATH``.
"""

from __future__ import annotations

import os
from typing import Any


def pytest_load_initial_conftests() -> None:
    """Before anything imports facenet_ext, which loads its library then."""
    import torch

    load, emulated = torch.ops.load_library, os.environ["FACENET_EMULATED_LIBRARY"]

    def load_emulated(path: Any) -> None:
        load(emulated if str(path).endswith("libfacenet_ext_cpu.so") else path)

    torch.ops.load_library = load_emulated
