"""pytest in processes of their own: a few at once, with a time limit, a log and a junit file."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.machine import ROOT

SCRATCH = ROOT / "build" / "gpu"
SITE = SCRATCH / "installed"  # where the package is
GRACE = 10.0  # seconds for a process to end once it is asked to
STARTING = 15.0  # seconds in which pytest begins, and ends, besides its tests
TEST_SECONDS = 60.0  # for one test
LISTED = 12  # failures that are listed

Entry = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Job:
    """A command, or pytest on ``tests``, under a tool where one is given."""

    name: str
    tests: Sequence[str] = ()
    tool: Sequence[str] = ()
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def line(self, seconds: float) -> list[str]:
        if self.command:
            return list(self.command)
        line = [*self.tool, sys.executable, "-m", "pytest", "-p", "benchmarks.gpu.limits"]
        line += [f"--session-seconds={max(seconds - STARTING, 0.0)}"]
        line += [f"--test-seconds={min(seconds - STARTING / 2, TEST_SECONDS)}"]
        line += [f"--junitxml={self.path('xml')}", "-p", "no:cacheprovider", "-v", "--tb=short"]
        # Appended, so that the package that was built is found before the source.
        return [*line, "-m", "not slow", "--import-mode=append", *self.tests]

    def path(self, ending: str) -> Path:
        return SCRATCH / f"{self.name}.{ending}"

    def log(self, characters: int = 2000) -> str:
        """The end of the log."""
        try:
            return self.path("log").read_text(errors="replace")[-characters:]
        except OSError:
            return ""


def run(
    jobs: Sequence[Job],
    seconds: float,
    device: str = "cuda",
    at_once: int = 1,
    done: Callable[[Job, int | None], None] = lambda job, status: None,
) -> dict[str, int | None]:
    """Each job's exit status, None for one that was not begun within ``seconds``.

    Each has a session of its own, away from the source folder. ``done`` is told as each ends.
    """
    SCRATCH.mkdir(parents=True, exist_ok=True)
    for job in jobs:
        for ending in ("xml", "log"):
            job.path(ending).unlink(missing_ok=True)
    end = time.monotonic() + seconds
    waiting = list(jobs)
    running: dict[Job, subprocess.Popen[bytes]] = {}
    statuses: dict[str, int | None] = dict.fromkeys((job.name for job in jobs), None)

    def ended(jobs: list[Job]) -> None:
        for job in jobs:
            process = running.pop(job, None)
            statuses[job.name] = process.returncode if process else None
            done(job, statuses[job.name])

    try:
        while (waiting or running) and time.monotonic() < end:
            while waiting and len(running) < at_once:
                job = waiting.pop(0)
                running[job] = _start(job, end - time.monotonic(), device)
            ended([job for job, process in running.items() if process.poll() is not None])
            time.sleep(0.05)
    finally:
        _end(list(running.values()))
        ended([*running, *waiting])
    return statuses


def _start(job: Job, seconds: float, device: str) -> "subprocess.Popen[bytes]":
    path = [str(SITE), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "FACENET_TEST_DEVICE": device,
    }
    with open(job.path("log"), "w") as log:
        line = job.line(seconds)
        print("$", *line, file=log, flush=True)
        return subprocess.Popen(
            line,
            cwd=SCRATCH,
            env={**os.environ, **environment, **job.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _end(processes: "list[subprocess.Popen[bytes]]") -> None:
    """Ends processes and those that they started: asked first, when pytest writes its files."""
    for how in (signal.SIGINT, signal.SIGKILL):
        alive = [process for process in processes if process.poll() is None]
        for process in alive:
            os.killpg(process.pid, how)
        end = time.monotonic() + GRACE
        while time.monotonic() < end and any(process.poll() is None for process in alive):
            time.sleep(0.05)


def outcome(job: Job, status: int | None) -> Entry:
    """How the tests of a job came out. Passed: all of them ran, and none failed."""
    tests = _read(job.path("xml"))
    counts = Counter(test["outcome"] for test in tests)
    failures = [test for test in tests if test["outcome"] in ("failure", "error")]
    entry: Entry = {
        "counts": dict(counts),
        "failures": failures[:LISTED],
        "skipped": dict(Counter(t["told"] for t in tests if t["outcome"] == "skipped")),
        "properties": [test["properties"] for test in tests if test["properties"]],
    }
    if failures:
        entry["status"] = "failed"
    elif status in (None, pytest.ExitCode.INTERRUPTED, -signal.SIGKILL):
        entry["status"] = "stopped"
    elif status in (0, 5) and not counts["passed"]:
        entry["status"] = "nothing ran"
    else:
        entry["status"] = "failed" if status else "passed"
    if entry["status"] != "passed":
        entry["log"] = job.log(1500)
    if why := re.findall(r"^!+ (?:\S*Interrupted: )?(.+?) !+$", job.log(), re.MULTILINE):
        entry["stopped"] = why[-1]
    return entry


def _read(path: Path) -> list[dict[str, Any]]:
    """The tests of a junit file; none where there is no whole one."""
    try:
        cases = ElementTree.parse(path).iter("testcase")
    except (OSError, ElementTree.ParseError):
        return []
    tests = []
    for case in cases:
        bad = next((e for e in case if e.tag in ("failure", "error", "skipped")), None)
        tests.append(
            {
                "id": f"{case.get('classname')}::{case.get('name')}",
                "outcome": "passed" if bad is None else bad.tag,
                "told": "" if bad is None else f"{bad.get('message')}\n{bad.text}"[-1000:],
                "properties": {
                    str(p.get("name")): str(p.get("value")) for p in case.iter("property")
                },
            }
        )
    return tests
