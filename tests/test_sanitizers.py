"""The operators under AddressSanitizer and UBSan: hostile arguments read and write nothing amiss.

The fuzz test and the operators' tests of every size run against the CPU library, built with the
sanitizers in a folder of its own. For the CUDA kernels test_emulation.py does the latter, and this
file the former.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from emulation import emulator
from test_emulation import CAPABILITIES, OPERATORS

pytestmark = pytest.mark.ci

HERE = Path(__file__).resolve().parent
FUZZ = "test_fuzz_operators.py"
# Every size of a matrix and of a class, below, on and above that of a tile.
SIZES = (
    "every_number_of_rows or every_number_of_columns or tiny_banks or hundred_positives "
    "or many_tiles or labels_of_every_size or non_contiguous or two_sets_of_rows"
)


def cpu_environment() -> dict[str, str]:
    """What a process needs whose facenet_ext uses the CPU library with the sanitizers."""
    pybind11 = pytest.importorskip("pybind11")
    if not (HERE.parent / "csrc" / "cpu").is_dir():
        pytest.skip("csrc/cpu is not beside the tests")
    folder = emulator.run_cmake(
        HERE.parent,
        HERE.parent / "build" / "sanitized",
        "facenet_ext_cpu",
        FACENET_EXT_SANITIZE="ON",
        FACENET_EXT_CUDA="OFF",
        SKBUILD_PROJECT_VERSION=0,
        Python_EXECUTABLE=sys.executable,
        pybind11_DIR=pybind11.get_cmake_dir(),
    )
    library = {"FACENET_CPU_LIBRARY": str(folder / "libfacenet_ext_cpu.so")}
    return emulator.with_plugin(emulator.environment("address") | library)


def run(environment: dict[str, str], *arguments: str) -> None:
    # What a sanitizer says before it ends the process goes past sys.stderr.
    command = emulator.pytest_command("-q", "-x", "--capture=sys", *arguments)
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]


@pytest.mark.parametrize("tests", ["hostile arguments", "every size"])
def test_the_cpu_library(tests: str) -> None:
    try:
        environment = cpu_environment() | {"OMP_NUM_THREADS": "1"}
    except emulator.UnavailableError as reason:
        pytest.skip(f"no build with sanitizers: {reason}")
    if tests == "hostile arguments":
        run(environment, str(HERE / FUZZ))
    else:
        run(environment, *(str(HERE / name) for name in OPERATORS), "-k", SIZES)


@pytest.mark.parametrize(
    "capability", [90, *(pytest.param(c, marks=pytest.mark.slow) for c in CAPABILITIES if c != 90)]
)
def test_the_cuda_kernels_under_hostile_arguments(capability: int) -> None:
    try:
        run(emulator.operators_environment("address", capability=capability), str(HERE / FUZZ))
    except emulator.UnavailableError as reason:
        pytest.skip(f"no emulation of the CUDA kernels: {reason}")
