"""Builds the package for this GPU alone and installs it into build/gpu."""

import json
import os
import shutil
import sys
from pathlib import Path

from benchmarks.gpu import jobs
from benchmarks.gpu.jobs import Entry, Job
from benchmarks.machine import ROOT, cuda_tool

# As the wheels have it: Hopper's own instructions need the "a".
OWN_INSTRUCTIONS = {"9.0": "90a"}
SHOW = (
    "import json, facenet_ext as f; "
    "print(json.dumps({'path': f.__path__[0], 'build_info': f.build_info()}))"
)


class BuildError(RuntimeError):
    """Nothing was built that can be measured."""


def architecture(capability: str) -> str:
    """What to build for, as CMake names it: machine code of this one GPU."""
    return OWN_INSTRUCTIONS.get(capability, capability.replace(".", "")) + "-real"


def build(seconds: float, entry: Entry, capability: str) -> None:
    """pip's own build, without isolation, network or dependencies. The entry gets build_info."""
    architectures = os.environ.get("FACENET_EXT_CUDA_ARCHITECTURES") or architecture(capability)
    shutil.rmtree(jobs.SITE, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps"]
    pip += ["--no-index", "--disable-pip-version-check", "--no-cache-dir", "--verbose"]
    pip += [f"--config-settings=build-dir={jobs.SCRATCH / 'objects'}"]
    pip += ["--target", str(jobs.SITE), str(ROOT)]
    environment = {
        "FACENET_EXT_CUDA": "ON",
        "FACENET_EXT_CUDA_ARCHITECTURES": architectures,
        "PIP_ROOT_USER_ACTION": "ignore",
    }
    if nvcc := cuda_tool("nvcc"):
        folders = [str(Path(nvcc).parent), os.environ.get("PATH", "")]
        environment["PATH"] = os.pathsep.join(folders)
    entry["architectures"] = architectures
    job = Job("build", command=pip, environment=environment)
    if (status := jobs.run([job], seconds)["build"]) != 0:
        lines = [line for line in job.log(200_000).splitlines() if "error" in line.lower()]
        raise BuildError(f"exit status {status}: " + ("\n".join(lines[:15]) or job.log())[:1500])
    try:
        _check(entry)
    except BuildError:
        shutil.rmtree(jobs.SITE)
        raise


def _check(entry: Entry) -> None:
    job = Job("build_info", command=[sys.executable, "-c", SHOW])
    if jobs.run([job], 60.0)["build_info"] != 0:
        raise BuildError(f"it cannot be imported: {job.log()}")
    entry |= json.loads(job.log().splitlines()[-1])
    if not Path(entry["path"]).is_relative_to(jobs.SITE):
        raise BuildError(
            f"{sys.executable} imports another facenet_ext, {entry['path']}: uninstall that one, "
            "or take another Python"
        )
    if not entry["build_info"]["cuda_loaded"]:
        raise BuildError(entry["build_info"]["cuda_problem"])


def built() -> bool:
    return (jobs.SITE / "facenet_ext").is_dir()
