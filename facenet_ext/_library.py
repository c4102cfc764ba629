"""Loads the compiled operators into ``torch.ops.facenet_ext``."""

import sys
from pathlib import Path
from typing import Any

import torch

from facenet_ext import _info


def _find(name: str) -> Path:
    package = sys.modules["facenet_ext"]
    for folder in package.__path__:
        path = Path(folder) / name
        if path.exists():
            return path
    raise ImportError(
        f"{name} is not beside facenet_ext: the package was not built. "
        "Install it with `pip install .` from its source folder."
    )


def _load(name: str) -> None:
    path = _find(name)
    try:
        torch.ops.load_library(path)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise ImportError(
            f"{path} cannot be loaded under torch {torch.__version__} (it needs 2.10 or later): "
            f"{error}"
        ) from error


def build_info() -> dict[str, Any]:
    """What this build was made with, and which CPU kernels it uses here.

    Returns:
        ``version``, ``compiler``, ``cuda`` (the toolkit's version, None without the CUDA library),
        ``cpu_instruction_set`` ("avx512", "avx2" or "baseline") and ``torch``.

    Example:
        >>> import facenet_ext
        >>> sorted(facenet_ext.build_info())
        ['compiler', 'cpu_instruction_set', 'cuda', 'torch', 'version']
    """
    return {
        "version": _info.version,
        "compiler": _info.compiler,
        "cuda": _info.cuda or None,
        "cpu_instruction_set": _info.instruction_set(),
        "torch": torch.__version__,
    }


_load("libfacenet_ext_cpu.so")
