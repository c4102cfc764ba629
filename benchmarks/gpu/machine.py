"""Stage: the GPU, the driver, CUDA, torch, Python and the commit."""

import os
import platform
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.gpu import processes, records
from benchmarks.gpu.stages import Entry, StageFailure
from benchmarks.machine import PACKAGES, commit, package_version

QUERY = ("name", "driver_version", "memory.total", "power.limit", "clocks.max.sm", "clocks.max.mem")
TOOLKIT = Path("/usr/local/cuda/bin")


def stage(seconds: float, entry: Entry) -> None:
    """Fills the entry with what :func:`describe` says, found in a process of its own."""
    code = processes.run(
        processes.python("benchmarks.gpu.machine"), name="machine", seconds=seconds
    )
    for record in records.read(processes.record_path("machine")):
        entry.update({key: value for key, value in record.items() if key != "kind"})
    if code:
        raise StageFailure(f"exit status {code}: {processes.tail('machine', 500)}")
    if not entry.get("device"):
        raise StageFailure("torch sees no CUDA device")


def tool(name: str) -> str | None:
    """A tool of the CUDA toolkit: on PATH, beside nvcc, or where toolkits usually are."""
    nvcc = shutil.which("nvcc")
    folders = [Path(nvcc).resolve().parent] if nvcc else []
    folders += [Path(os.environ[key]) / "bin" for key in ("CUDA_HOME",) if key in os.environ]
    for folder in (*folders, TOOLKIT):
        if (folder / name).exists():
            return shutil.which(name) or str(folder / name)
    return shutil.which(name)


def describe() -> dict[str, Any]:
    """Everything that a figure depends on."""
    import torch

    found: dict[str, Any] = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": os.environ.get("FACENET_COMMIT") or commit(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "packages": {name: package_version(name) for name in (*PACKAGES, "numpy", "pytest")},
        "nvcc": _output(tool("nvcc") or "nvcc", "--version").splitlines()[-1:],
        "compute_sanitizer": tool("compute-sanitizer"),
        "nvidia_smi": dict(
            zip(
                QUERY,
                _output("nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader")
                .split("\n")[0]
                .split(", "),
                strict=False,
            )
        ),
        "device": None,
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "device": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "processors": properties.multi_processor_count,
            "memory": properties.total_memory,
            "l2": getattr(properties, "L2_cache_size", None),
            "devices": torch.cuda.device_count(),
        }
    return found


def _output(*command: str) -> str:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)


if __name__ == "__main__":
    records.write("machine", **describe())
