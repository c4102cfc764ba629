"""compute-sanitizer's tools on the small calls of check_operators.py."""

import re
from dataclasses import replace

from benchmarks.gpu import jobs
from benchmarks.gpu.jobs import Entry, Job

FOUND = 99  # the exit status of a tool that found something
LIMIT = "20000"  # reports: those beyond are counted, and so could not be excused
# Our kernels alone where others' would take the time; uninitialised memory is only told from other
# memory where all writes are seen.
OURS = ("--kernel-name", "kns=facenet")
TOOLS = {
    "memcheck": ("--report-api-errors", "no"),
    "racecheck": OURS,
    "synccheck": OURS,
    "initcheck": ("--show-backtrace", "no"),
}
# Bounds in shared memory, read without a barrier while atomics of other threads change them: one
# that lags behind lets more pairs through, and changes no result (csrc/cuda/epilogues/). The tool
# cannot tell such a load from others. The emulation's race detector can (make test-ci), and watches
# all loads of these kernels.
BOUNDS = re.compile(r"(Hardest|Successor\w*)Epilogue")
# Memory from torch's cache has neighbours, into which a wrong index would silently reach.
UNCACHED = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1", "OMP_NUM_THREADS": "1"}


def job(program: str, name: str, calls: str) -> Job:
    tool = (program, "--tool", name, "--error-exitcode", str(FOUND), "--print-limit", LIMIT)
    return Job(name, [calls], (*tool, *TOOLS[name]), environment=UNCACHED)


def without_options(job: Job) -> Job:
    """The tool as it is, where it does not know its options."""
    return replace(job, tool=job.tool[: -len(TOOLS[job.name]) or None])


def outcome(job: Job, status: int | None) -> Entry:
    """What a tool and its calls found. That time ran out after some calls is no fault."""
    entry = jobs.outcome(job, status)
    log = job.log(8_000_000)
    verdict = verdict_of(log, status, job.name)
    if verdict == "no verdict" and status is None:
        pass  # it was stopped
    elif verdict != "clean":
        entry["status"] = verdict
    elif entry.get("stopped") == "out of time" and entry["counts"].get("passed"):
        entry["status"] = "passed"
    ours, others = findings(log, job.name)
    entry["excused"] = len(others)
    lines = [line for found in (*ours, *others[:3]) for line in found.splitlines()]
    entry["told"] = [*lines[:60], *(line for line in log.splitlines() if " SUMMARY: " in line)]
    return entry


def findings(log: str, tool: str) -> tuple[list[str], list[str]]:
    """What a tool reports, and what of it is no fault of these kernels."""
    lines = [line for line in log.splitlines() if line.startswith("========= ")]
    text = "\n".join(line for line in lines if " SUMMARY: " not in line)
    reports = re.split(r"\n(?=={9} \S)", text)  # their later lines are indented
    found = [r for r in reports if re.match(r"={9} (Uninitialized|Invalid|(Error|Warning): )", r)]
    others = [report for report in found if _is_excused(report, tool)]
    return [report for report in found if report not in others], others


def _is_excused(report: str, tool: str) -> bool:
    if tool == "initcheck":  # torch's own kernels read what they do not use
        return "facenet" not in report
    kinds = set(re.findall(r"(Read|Write) access at", report))
    return tool == "racecheck" and kinds == {"Read", "Write"} and bool(BOUNDS.search(report))


def verdict_of(log: str, status: int | None, tool: str = "") -> str:
    """What a tool's log says: clean, found, failed, or no verdict."""
    summaries = re.findall(r"={9} (?:ERROR|RACECHECK) SUMMARY: .*", log)
    if not summaries or status is None:
        return "no verdict"
    counts = [re.findall(r"(\d+) (?:error|hazard)", line) for line in summaries]
    told = sum(int(count[0]) for count in counts if count)
    ours, others = findings(log, tool)
    if ours or told > len(others):
        return "found"
    # 2: pytest's, interrupted; FOUND: what is excused
    return "clean" if status in (0, 2, FOUND if others else 0) else "failed"
