"""A pytest plugin that loads another library in place of the CPU library.

``FACENET_EMULATED_LIBRARY`` names one with the emulated CUDA operators, ``FACENET_CPU_LIBRARY``
another build for the CPU. Run ``python -m pytest -p facenet_emulated`` with this folder on
``PYTHONPATH``.
"""

from __future__ import annotations

import os
from typing import Any


def pytest_load_initial_conftests() -> None:
    """Replace torch's loader before anything imports facenet_ext, which loads its library."""
    import torch

    load = torch.ops.load_library
    other = os.environ.get("FACENET_EMULATED_LIBRARY") or os.environ["FACENET_CPU_LIBRARY"]

    def load_other(path: Any) -> None:
        load(other if str(path).endswith("libfacenet_ext_cpu.so") else path)

    torch.ops.load_library = load_other
