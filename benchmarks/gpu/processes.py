"""Processes with a time limit, whose output goes to a log."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.gpu import records

ROOT = Path(__file__).parents[2]
SCRATCH = ROOT / "build" / "gpu"
SITE = SCRATCH / "installed"  # where the package is
WATCH = 5.0  # seconds between looks at what a process has found
GRACE = 10.0  # seconds between asking a process to end and ending it


class TimeLimit(RuntimeError):  # noqa: N818
    """A process took longer than it may."""


def environment(**more: str) -> dict[str, str]:
    """Python's path begins with the built package; then comes what has this `benchmarks`."""
    path = [str(SITE), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }


def python(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", module, *map(str, arguments)]


def run(
    command: Sequence[str],
    *,
    name: str,
    seconds: float,
    more: Mapping[str, str] | None = None,
    watch: Callable[[], None] = lambda: None,
) -> int:
    """Runs a command to its end, in SCRATCH and a session of its own; returns its exit status.

    Its output is SCRATCH/<name>.log and its records SCRATCH/<name>.jsonl. The package's source
    folder is not where it runs, so that the built one is imported. `watch` is called now and then.
    """
    SCRATCH.mkdir(parents=True, exist_ok=True)
    record_path(name).unlink(missing_ok=True)
    env = environment(**{records.VARIABLE: str(record_path(name)), **(more or {})})
    end = time.monotonic() + seconds
    with open(log_path(name), "w") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        process = subprocess.Popen(
            command,
            cwd=SCRATCH,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            watched = time.monotonic()
            while process.poll() is None:
                if time.monotonic() > end:
                    raise TimeLimit(f"{name}: stopped after {seconds:.0f} s")
                time.sleep(0.1)
                if time.monotonic() - watched > WATCH:
                    watch()
                    watched = time.monotonic()
        finally:
            _end(process)
    return process.returncode


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends the process and those that it started: first asked, then made to."""
    if process.poll() is not None:
        return
    for how, grace in ((signal.SIGINT, GRACE), (signal.SIGKILL, GRACE)):
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            return
        try:
            process.wait(grace)
            return
        except subprocess.TimeoutExpired:
            continue


def log_path(name: str) -> Path:
    return SCRATCH / f"{name}.log"


def record_path(name: str) -> Path:
    return SCRATCH / f"{name}.jsonl"


def tail(name: str, characters: int = 2000) -> str:
    """The end of a log."""
    try:
        return log_path(name).read_text(errors="replace")[-characters:]
    except OSError:
        return ""
