"""Stage: the operators' tests on the GPU, each file in a process of its own, a few at a time."""

import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.gpu import outcomes, processes, records
from benchmarks.gpu.stages import Entry, StageFailure

# The most telling first. An error of the device ends one file's process and not the others'.
FILES = (
    "test_cuda.py",
    "test_mined_triplet_loss.py",
    "test_random_rules.py",
    "test_random_draws.py",
    "test_select_triplets.py",
    "test_pairwise.py",
    "test_triplet_loss.py",
    "test_triplet_margin_loss.py",
    "test_all_pairs.py",
    "test_neighbours.py",
    "test_anchor_swap.py",
    "test_memory.py",
    "test_memory_state.py",
    "test_compile.py",
    "test_properties.py",
    "test_losses.py",
    "test_miners.py",
    "test_indices.py",
    "test_inputs.py",
    "test_errors.py",
    "test_edges_of_the_contract.py",
)
# Without what they need these may have nothing to run: the others must.
OPTIONAL = ("test_properties.py",)
QUICK = ("test_cuda.py", "test_mined_triplet_loss.py")
AT_ONCE = 6
STARTING = 20.0  # seconds that a process may take to start and to end besides its tests
LISTED = 12  # failures of a file that are listed in full


def stage(seconds: float, entry: Entry, quick: bool, device: str = "cuda") -> None:
    """Adds each file's counts and failures to the entry."""
    files = QUICK if quick else FILES
    entry["files"] = {}
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(max(1, min(AT_ONCE, (os.cpu_count() or 2) // 2))) as pool:
        each = pool.map(lambda name: run_file(name, device, end), files)
        for name, found in zip(files, each, strict=True):
            entry["files"][name] = found
    totals = Counter[str]()
    for found in entry["files"].values():
        totals.update(found["counts"])
    entry["counts"] = dict(totals)
    bad = [
        name
        for name, found in entry["files"].items()
        if found["status"] != "passed"
        and not (found["status"] == "nothing ran" and name in OPTIONAL)
    ]
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(totals.items()))
    entry["summary"] = f"{told}; not right: {', '.join(bad)}" if bad else told
    if bad:
        raise StageFailure(entry["summary"])


def run_file(name: str, device: str, end: float) -> dict[str, Any]:
    """Runs one file's tests, until `end`, and says how they came out, finished or not."""
    seconds = end - time.monotonic()
    if seconds < STARTING:
        return {"counts": {}, "status": "stopped", "stopped": "not begun: no time left"}
    label = f"tests_{Path(name).stem}"
    command = processes.python("pytest", "-p", "benchmarks.gpu.outcomes", "-p", "no:cacheprovider")
    command += ["-q", "--tb=short", "-rfE", "-m", "not slow", "--device", device]
    command += [str(processes.ROOT / "tests" / name)]
    more = {outcomes.SECONDS: str(max(seconds - STARTING, 1.0)), "OMP_NUM_THREADS": "2"}
    found: dict[str, Any] = {}
    try:
        found["exit"] = processes.run(command, name=label, seconds=seconds, more=more)
    except processes.TimeLimit as error:
        found["stopped"] = str(error)
    return found | judge_file(records.read(processes.record_path(label)), found.get("exit"), label)


def judge_file(
    found: list[dict[str, Any]], exit_status: int | None, label: str = ""
) -> dict[str, Any]:
    """Counts and failures of one file's records. Passed: all of it ran, and nothing failed."""
    tests = [r for r in found if r["kind"] == "test"]
    counts = Counter(r["outcome"] for r in tests)
    failures = [r for r in tests if r["outcome"] in ("failed", "error")]
    collected = next((r["count"] for r in found if r["kind"] == "collected"), None)
    stopped = next((r["stopped"] for r in found if r["kind"] == "end"), "did not come to its end")
    result: dict[str, Any] = {
        "counts": dict(counts),
        "collected": collected,
        "failures": failures[:LISTED],
        "more_failures": [r["id"] for r in failures[LISTED:]],
        "skipped": dict(Counter(r["text"] for r in tests if r["outcome"] == "skipped")),
        "properties": [{"id": r["id"], **r["properties"]} for r in tests if r.get("properties")],
    }
    if stopped:
        result["stopped"] = stopped
    if failures or stopped:
        result["status"] = "failed" if failures else "stopped"
    elif exit_status in (0, 5) and not counts["passed"]:
        result["status"] = "nothing ran"
    elif exit_status != 0:
        result["status"] = "failed"
        result["log"] = processes.tail(label, 1500)
    else:
        result["status"] = "passed"
    return result
