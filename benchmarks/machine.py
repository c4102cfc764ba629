"""Describes the machine and the versions; `python -m benchmarks.machine` prints the GPU."""

import json
import os
import platform
import shutil
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "torch",
    "triton",
    "pytorch-metric-learning",
    "sentence-transformers",
    "pytest-benchmark",
)


def describe(threads: int) -> dict[str, Any]:
    """The host, the threads and the library that is measured."""
    import facenet_ext

    return host() | {"threads": threads, "facenet_ext": facenet_ext.build_info()}


def host() -> dict[str, Any]:
    """The CPU, the versions and the commit."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in PACKAGES},
        "commit": os.environ.get("FACENET_COMMIT") or commit(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def gpu() -> dict[str, Any] | None:
    """The GPU that torch sees, its driver and the toolkit; None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    query = "driver_version,power.limit,clocks.max.sm,clocks.max.mem"
    asked = _output("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader")
    driver, *settings = asked.splitlines()[0].split(", ") if asked else ("",)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "processors": properties.multi_processor_count,
        "memory": properties.total_memory,
        "driver": driver,
        "power_and_clocks": settings,
        "cuda": torch.version.cuda,
        "nvcc": _output(cuda_tool("nvcc") or "nvcc", "--version").splitlines()[-1:],
    }


def cuda_tool(name: str) -> str | None:
    """A tool of the CUDA toolkit: on PATH, in CUDA_HOME, or where toolkits usually are."""
    folders = (os.environ.get("CUDA_HOME", "/usr/local/cuda"), "/usr/local/cuda")
    return shutil.which(name) or next(
        (path for folder in folders if (path := shutil.which(f"{folder}/bin/{name}"))), None
    )


def _output(*command: str) -> str:
    try:
        return subprocess.check_output(
            command, cwd=ROOT, stderr=subprocess.DEVNULL, text=True, timeout=20
        ).strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _cpu() -> str:
    """The model's name and its family, as the name alone may say little on a virtual machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    name = fields.get("model name", platform.machine())
    family, model = fields.get("cpu family"), fields.get("model")
    return f"{name} (family {family}, model {model})" if family else name


def package_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """The commit, with "-dirty" where tracked files of the library differ from it."""
    commit = _output("git", "rev-parse", "--short=12", "HEAD")
    changed = _output("git", "status", "--porcelain", "-uno", "--", "csrc", "facenet_ext")
    return commit + ("-dirty" if changed else "") if commit else None


if __name__ == "__main__":
    print(json.dumps(gpu()))
