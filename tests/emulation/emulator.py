"""Builds the host emulation of the CUDA kernels, and runs tests against it.

    python tests/emulation/emulator.py [flavour ...]
    python tests/emulation/emulator.py flavour --run [pytest's arguments]

A flavour is "plain", "address" (AddressSanitizer and UBSan) or "race" (the race detector).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

FLAVOURS = ("plain", "address", "race")
HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]


class UnavailableError(Exception):
    """The emulation cannot be built here; the message says why."""


def _tool(name: str) -> str:
    """The path of a program, beside this Python or on PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    tool = shutil.which(name, path=path)
    if tool is None:
        raise UnavailableError(f"{name} is not installed")
    return tool


def build(flavour: str, target: str = "all") -> Path:
    """Builds what changed, and returns the folder of the libraries.

    Raises:
        UnavailableError: Without the CUDA sources beside the tests, or without g++.
        RuntimeError: The sources do not compile.
    """
    import torch

    if not (REPOSITORY / "csrc" / "cuda").is_dir():
        raise UnavailableError("csrc/cuda is not beside the tests")
    compiler = _tool("g++")
    return run_cmake(
        HERE,
        REPOSITORY / "build" / "emulation" / flavour,
        target,
        CMAKE_CXX_COMPILER=compiler,
        FACENET_FLAVOUR=flavour,
        FACENET_TORCH=Path(torch.__file__).parent,
    )


def run_cmake(source: Path, folder: Path, target: str, **variables: object) -> Path:
    """Configures `source` in `folder`, builds what changed, and returns the folder."""
    cmake, ninja = _tool("cmake"), _tool("ninja")
    folder.mkdir(parents=True, exist_ok=True)
    job_count = len(os.sched_getaffinity(0))
    configure = [cmake, "-S", str(source), "-B", str(folder), "-G", "Ninja"]
    configure += [f"-D{name}={value}" for name, value in variables.items()]
    configure += [f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    make = [cmake, "--build", str(folder), "--target", target, "--parallel", str(job_count)]
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test process may be building the same
        for command in (configure, make):
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                raise RuntimeError(f"{' '.join(command)}:\n{result.stdout}\n{result.stderr}")
    return folder


def environment(flavour: str, **settings: object) -> dict[str, str]:
    """The environment variables of a process that loads a library of this flavour."""
    variables = os.environ | {f"FACENET_EMULATED_{k.upper()}": str(v) for k, v in settings.items()}
    if flavour == "address":
        libraries = [
            subprocess.run(
                [_tool("g++"), f"-print-file-name={name}"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
            # The C++ library too, or AddressSanitizer finds no exceptions to intercept.
            for name in ("libasan.so", "libubsan.so", "libstdc++.so.6")
        ]
        variables["LD_PRELOAD"] = " ".join(libraries)
        # Python and torch are not compiled with it.
        variables["ASAN_OPTIONS"] = (
            "detect_leaks=0:alloc_dealloc_mismatch=0:allocator_may_return_null=1"
            ":malloc_context_size=4"
        )
        variables["UBSAN_OPTIONS"] = "print_stacktrace=1"
    return variables


def pytest_command(*arguments: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "facenet_emulated",
        "-p",
        "no:cacheprovider",
        *arguments,
    ]


def operators_environment(flavour: str, **settings: object) -> dict[str, str]:
    """The environment variables of a process whose facenet_ext uses the emulated operators."""
    library = build(flavour, "facenet_ext_emulated") / "libfacenet_ext_emulated.so"
    return with_plugin(environment(flavour, library=library, **settings))


def with_plugin(variables: dict[str, str]) -> dict[str, str]:
    """These variables, and the plugin of `pytest_command` on Python's path."""
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    return variables | {"PYTHONPATH": path}


def main() -> int:
    flavours = [argument for argument in sys.argv[1:] if argument in FLAVOURS]
    if "--run" not in sys.argv:
        for flavour in flavours or FLAVOURS:
            print(build(flavour))
        return 0
    command = pytest_command(*sys.argv[sys.argv.index("--run") + 1 :])
    return subprocess.run(command, env=operators_environment(flavours[0]), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
