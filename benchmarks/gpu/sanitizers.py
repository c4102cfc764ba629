"""compute-sanitizer's tools on the small calls of check_operators.py."""

import re
from dataclasses import replace

from benchmarks.gpu import jobs
from benchmarks.gpu.jobs import Entry, Job

FOUND = 99  # the exit status of a tool that found something
# Our kernels alone where others' would take the time; uninitialised memory is only told from other
# memory where all writes are seen.
OURS = ("--kernel-name", "kns=facenet")
TOOLS = {
    "memcheck": ("--report-api-errors", "no"),
    "racecheck": OURS,
    "synccheck": OURS,
    "initcheck": (),
}
# Memory from torch's cache has neighbours, into which a wrong index would silently reach.
UNCACHED = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1", "OMP_NUM_THREADS": "1"}


def job(program: str, name: str, calls: str) -> Job:
    tool = (program, "--tool", name, "--error-exitcode", str(FOUND), "--print-limit", "20")
    return Job(name, [calls], (*tool, *TOOLS[name]), environment=UNCACHED)


def without_options(job: Job) -> Job:
    """The tool as it is, where it does not know its options."""
    return replace(job, tool=job.tool[: -len(TOOLS[job.name]) or None])


def outcome(job: Job, status: int | None) -> Entry:
    """What a tool and its calls found. That time ran out after some calls is no fault."""
    entry = jobs.outcome(job, status)
    verdict = verdict_of(job.log(400_000), status)
    if verdict != "clean":
        entry["status"] = verdict
    elif entry.get("stopped") == "out of time" and entry["counts"].get("passed"):
        entry["status"] = "passed"
    lines = job.log(400_000).splitlines()
    entry["told"] = [line for line in lines if line.startswith("========= ")][:60]
    return entry


def verdict_of(log: str, status: int | None) -> str:
    """What a tool's log says: clean, found, failed, or no verdict."""
    summaries = re.findall(r"={9} (?:ERROR|RACECHECK) SUMMARY: .*", log)
    if not summaries or status is None:
        return "no verdict"
    if any(int(n) for line in summaries for n in re.findall(r"(\d+) (?:error|hazard)", line)):
        return "found"
    return "clean" if status in (0, 2) else "failed"  # 2: pytest's, interrupted
