"""A pytest plugin: the emulated CUDA operators, or another build, in place of the CPU library.

``FACENET_EMULATED_LIBRARY`` or ``FACENET_CPU_LIBRARY`` says which; ``python -m pytest -p
facenet_emulated`` with this folder on ``PYTHONPATH``.
"""

from __future__ import annotations

import os
from typing import Any


def pytest_load_initial_conftests() -> None:
    """Before anything imports facenet_ext, which loads its library then."""
    import torch

    load = torch.ops.load_library
    other = os.environ.get("FACENET_EMULATED_LIBRARY") or os.environ["FACENET_CPU_LIBRARY"]

    def load_other(path: Any) -> None:
        load(other if str(path).endswith("libfacenet_ext_cpu.so") else path)

    torch.ops.load_library = load_other
