"""Loads the compiled operators into ``torch.ops.facenet_ext``."""

import ctypes
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import torch

from facenet_ext import _info

_DRIVER = "libcuda.so.1"
# The operators that take tensors. torch has no public list of them.
_OPERATORS = (
    "distance_histogram",
    "mined_triplet_loss",
    "nearest",
    "pairs_within",
    "pairwise_squared_distance",
    "select_triplets",
    "softmax_loss",
    "triplet_losses",
    "triplet_losses_backward",
    "triplet_margin_loss",
)


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


def _driver_version() -> int:
    """The newest CUDA that the driver serves, as 1000 * major + 10 * minor; 0 without a driver.

    Asks the driver itself, as torch has no public function for it. This makes no CUDA context.
    """
    version = ctypes.c_int()
    try:
        failed = ctypes.CDLL(_DRIVER).cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):  # no such file, or a file that is no driver
        return 0
    return 0 if failed else version.value  # a toolkit's stub, for linking, fails


def _load_cuda() -> str | None:
    """Loads the CUDA operators where they can work, and else returns the reason.

    ``build_info`` shows the reason. There is also a warning, unless somebody chose so: a torch
    without CUDA, a machine without a GPU, a build without nvcc.
    """
    if torch.version.hip is not None:
        return f"torch {torch.__version__} is a ROCm build and the CUDA kernels are for NVIDIA GPUs"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is a CPU build"
    if not _info.cuda:
        return (
            "facenet_ext was built without its CUDA library: "
            "install it from source with nvcc on PATH and FACENET_EXT_CUDA=ON"
        )
    driver = _driver_version()
    if driver == 0:
        return "there is no NVIDIA driver on this machine"
    problem = None
    # Only major versions count: a driver serves later toolkits of its major version too. torch's
    # own CUDA version does not matter, as the library has a runtime of its own.
    major = int(_info.cuda.split(".")[0])
    if driver // 1000 < major:
        problem = (
            f"the NVIDIA driver serves CUDA up to {driver // 1000}.{driver % 1000 // 10} and "
            f"facenet_ext was built with {_info.cuda}: update the driver to one for CUDA {major}, "
            f"or build facenet_ext with nvcc {driver // 1000}"
        )
    else:
        try:
            _load("libfacenet_ext_cuda.so")
        except ImportError as error:
            problem = f"{error}; reinstall facenet_ext for this torch"
    if problem is not None:
        warnings.warn(
            f"facenet_ext works on CPU tensors only: {problem}", UserWarning, stacklevel=2
        )
    return problem


def _refuse_cuda_tensors(problem: str) -> torch.library.Library:
    """Registers CUDA operators that raise with the reason, for as long as the result lives."""

    def refuse(*arguments: Any) -> NoReturn:
        raise NotImplementedError(f"facenet_ext does not work on CUDA tensors here: {problem}")

    library = torch.library.Library("facenet_ext", "IMPL")  # type: ignore[no-untyped-call]
    for operator in _OPERATORS:
        library.impl(operator, refuse, "CUDA")  # type: ignore[no-untyped-call]
    return library


def build_info() -> dict[str, Any]:
    """What this build was made with, and which CPU kernels it uses here.

    Returns:
        ``version``, ``compiler``, ``cuda`` (the toolkit's version, None without the CUDA library),
        ``cuda_architectures`` (those compiled for, as "90a"; "120+PTX" serves later GPUs too),
        ``cuda_loaded`` (whether CUDA tensors can be used), ``cuda_problem`` (why not, or None),
        ``cpu_instruction_set`` ("avx512", "avx2" or "baseline") and ``torch``.

    Example:
        >>> import facenet_ext
        >>> for name in facenet_ext.build_info():
        ...     print(name)
        version
        compiler
        cuda
        cuda_architectures
        cuda_loaded
        cuda_problem
        cpu_instruction_set
        torch
    """
    return {
        "version": _info.version,
        "compiler": _info.compiler,
        "cuda": _info.cuda or None,
        "cuda_architectures": list(_info.cuda_architectures),
        "cuda_loaded": _cuda_problem is None,
        "cuda_problem": _cuda_problem,
        "cpu_instruction_set": _info.instruction_set(),
        "torch": torch.__version__,
    }


_load("libfacenet_ext_cpu.so")
_cuda_problem = _load_cuda()
if _cuda_problem is not None and torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
    _refusal = _refuse_cuda_tensors(_cuda_problem)
