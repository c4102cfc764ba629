"""Stage: compute-sanitizer's tools on a few small calls of every operator, all tools at once."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.gpu import processes, records
from benchmarks.gpu.machine import tool
from benchmarks.gpu.stages import Entry, StageFailure

FOUND = 99  # the exit status of a tool that found something
ENDING = 15.0  # seconds for a tool to sum up
# Our kernels alone where others' would take the time; uninitialised memory is only told from other
# memory where all writes are seen.
OURS = ["--kernel-name", "kns=facenet"]
TOOLS: dict[str, list[str]] = {
    "memcheck": ["--report-api-errors", "no"],
    "racecheck": OURS,
    "synccheck": OURS,
    "initcheck": [],
}
# Memory from torch's cache has neighbours, into which a wrong index would silently reach.
UNCACHED = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1", "OMP_NUM_THREADS": "1"}


def stage(seconds: float, entry: Entry, quick: bool) -> None:
    """Adds each tool's verdict to the entry."""
    program = tool("compute-sanitizer")
    if program is None:
        entry["summary"] = "compute-sanitizer is not on this machine"
        raise StageFailure(entry["summary"])
    names = list(TOOLS)[:2] if quick else list(TOOLS)
    entry["tools"] = {}
    with ThreadPoolExecutor(len(names)) as pool:
        for name, found in zip(
            names, pool.map(lambda name: run_tool(program, name, seconds), names), strict=True
        ):
            entry["tools"][name] = found
    entry["summary"] = ", ".join(
        f"{name} {found['status']} ({found.get('calls', 0)} calls)"
        for name, found in entry["tools"].items()
    )
    if any(found["status"] != "clean" for found in entry["tools"].values()):
        raise StageFailure(entry["summary"])


def run_tool(program: str, name: str, seconds: float) -> dict[str, Any]:
    """Runs one tool; once more without its options if it does not know them."""
    found = _run(program, name, TOOLS[name], seconds)
    if found["status"] == "no verdict" and "stopped" not in found and TOOLS[name]:
        left = seconds - found["seconds"]
        if left > 2 * ENDING:
            found = _run(program, name, [], left) | {"first_try": found}
    return found


def _run(program: str, name: str, options: list[str], seconds: float) -> dict[str, Any]:
    begin = time.monotonic()
    command = [program, "--tool", name, "--error-exitcode", str(FOUND), "--print-limit", "20"]
    command += options
    # By the clock on the wall: under a tool, torch alone may take half a minute to start.
    command += processes.python(
        "benchmarks.gpu.small_calls", f"{time.time() + seconds - ENDING:.0f}"
    )
    found: dict[str, Any] = {"command": " ".join(command)}
    try:
        found["exit"] = processes.run(command, name=name, seconds=seconds, more=UNCACHED)
    except processes.TimeLimit as error:
        found["stopped"] = str(error)
    for record in records.read(processes.record_path(name)):
        found["calls"] = record.get("made")
    found |= judge_log(processes.tail(name, 400_000), found.get("exit"))
    return found | {"seconds": round(time.monotonic() - begin, 1)}


def judge_log(log: str, exit_status: int | None) -> dict[str, Any]:
    """What a tool's log says: clean, found, or no verdict."""
    summaries = re.findall(r"={9} ((?:ERROR|RACECHECK) SUMMARY: .*)", log)
    if not summaries or exit_status is None:
        return {"status": "no verdict", "log": log[-1200:]}
    errors = [
        int(count) for line in summaries for count in re.findall(r"(\d+) (?:error|hazard)", line)
    ]
    if exit_status == 0 and not any(errors):
        return {"status": "clean", "told": summaries}
    lines = [line for line in log.splitlines() if line.startswith("=========")]
    return {"status": "found" if any(errors) else "failed", "told": summaries, "log": lines[:60]}
