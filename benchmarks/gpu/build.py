"""Stage: builds the package for this GPU alone and installs it into build/gpu."""

import os
import shutil
import sys
from pathlib import Path

from benchmarks.gpu import processes, records
from benchmarks.gpu.machine import tool
from benchmarks.gpu.stages import Entry, StageFailure

# As the wheels have it: Hopper's own instructions need the "a".
OWN_INSTRUCTIONS = {"9.0": "90a"}


def architecture(capability: str | None) -> str:
    """What to build for, as CMake names it: machine code of this one GPU."""
    if not capability:
        return "native"
    return OWN_INSTRUCTIONS.get(capability, capability.replace(".", "")) + "-real"


def stage(seconds: float, entry: Entry, capability: str | None) -> None:
    """pip's own build, without isolation, network or dependencies."""
    asked = os.environ.get("FACENET_EXT_CUDA_ARCHITECTURES")
    entry["architectures"] = asked or architecture(capability)
    shutil.rmtree(processes.SITE, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps"]
    command += ["--no-index", "--disable-pip-version-check", "--no-cache-dir", "--verbose"]
    command += [f"--config-settings=build-dir={processes.SCRATCH / 'objects'}"]
    command += ["--target", str(processes.SITE), str(processes.ROOT)]
    entry["command"] = " ".join(command)
    more = {
        "FACENET_EXT_CUDA": "ON",
        "FACENET_EXT_CUDA_ARCHITECTURES": entry["architectures"],
        "PIP_ROOT_USER_ACTION": "ignore",
    }
    nvcc = tool("nvcc")
    if nvcc:
        more["PATH"] = os.pathsep.join([str(Path(nvcc).parent), os.environ.get("PATH", "")])
    code = processes.run(command, name="build", seconds=seconds, more=more)
    if code:
        raise StageFailure(f"exit status {code}: {_errors()}")
    check = processes.python("benchmarks.gpu.build")
    code = processes.run(check, name="build_info", seconds=60.0)
    for record in records.read(processes.record_path("build_info")):
        entry.update(build_info=record["build_info"], path=record["path"])
    if code:
        raise StageFailure(f"it cannot be imported: {processes.tail('build_info', 1000)}")
    if not Path(entry["path"]).is_relative_to(processes.SITE):
        raise StageFailure(
            f"{sys.executable} imports another facenet_ext, {entry['path']}: uninstall that one, "
            "or take another Python"
        )
    if not entry["build_info"]["cuda_loaded"]:
        raise StageFailure(entry["build_info"]["cuda_problem"])


def _errors() -> str:
    """The lines of the build that say what is wrong, else its end."""
    lines = processes.tail("build", 200_000).splitlines()
    told = [line for line in lines if "error" in line.lower()]
    return "\n".join(told[:15])[:1500] or processes.tail("build", 1500)


if __name__ == "__main__":
    import facenet_ext

    records.write(
        "build", build_info=facenet_ext.build_info(), path=str(Path(facenet_ext.__file__).parent)
    )
