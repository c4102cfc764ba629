"""Builds, checks and measures on one GPU, and writes one JSON: `python -m benchmarks.gpu`."""

import argparse
import json
import os
import re
import runpy
import shlex
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks import table
from benchmarks.gpu import jobs, sanitizers
from benchmarks.gpu.build import build, built
from benchmarks.gpu.jobs import Entry, Job
from benchmarks.machine import ROOT, cuda_tool, host
from benchmarks.results import Peak, Results, Timing
from benchmarks.targets import judge

HERE = Path(__file__).parent
CHECKS = str(HERE / "check_operators.py")
FILES: tuple[str, ...] = runpy.run_path(str(ROOT / "tests" / "on_any_device.py"))["FILES"]
OPTIONAL = ("test_properties",)  # may have nothing to run, without what it needs
KINDS: dict[str, Any] = {"time": Timing, "peak": Peak}
LOG_BYTES = 500_000  # of each log, its end
NO_TIME = "no time left"


class StageFailure(RuntimeError):  # noqa: N818
    """A stage came to its end, and what it checked is not right."""


class StageStopped(RuntimeError):  # noqa: N818
    """A stage's time was up. What it had done until then is right, and is kept."""


@dataclass(frozen=True)
class Stage:
    """Works for ``seconds`` at most, and is not begun with fewer left than ``least``.

    It leaves the later stages what they need at least, unless only the ``whole`` is of use.
    """

    run: "Callable[[Run, float, Entry], None]"
    seconds: float
    least: float
    dry: bool = False  # part of a dry run
    whole: bool = False


class Run:
    """One run: its stages, and its results, which are written after each."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.output: Path = options.output
        self.device: str = options.device
        self.quick: bool = options.quick
        self.resume: bool = options.resume
        self.only: list[str] = options.only
        self.results = Results(host() | {"gpu": None})
        self.name = "gpu"
        self.unfinished: list[str] = []  # stages that the time did not reach, or not to their end

    def go(self, stages: dict[str, Stage], deadline: float) -> bool:
        """Whether none failed. One stage's failure stops no other, nor does its absence fail it."""
        wanted = [name for name in stages if self._wanted(name, stages[name])]
        self.unfinished = []
        for place, name in enumerate(wanted):
            again = not self.resume and (not self.only or name in self.only)
            if not again and name != "machine" and self._passed(name):
                print(f"[{name}] passed earlier", flush=True)
                continue
            stage, entry = stages[name], Entry()
            self.results.stages[name] = entry
            later = [] if stage.whole else wanted[place + 1 :]
            begin = time.monotonic()
            left = deadline - begin
            spared = sum(stages[other].least for other in later)
            seconds = min(stage.seconds, max(left - spared, stage.least), left)
            if reason := self._reason(name, left, stage.least):
                entry |= {"status": "left out", "reason": reason}
            else:
                self._stage(stage, seconds, entry)
            entry["seconds"] = round(time.monotonic() - begin, 1)
            self.save()
            told = entry.get("error") or entry.get("reason") or entry.get("summary", "")
            print(f"[{name}] {entry['status']} after {entry['seconds']} s {told}", flush=True)
            if entry["status"] == "stopped" or entry.get("reason") == NO_TIME:
                self.unfinished.append(name)
        return all(self._passed(name) for name in wanted if name not in self.unfinished)

    def _stage(self, stage: Stage, seconds: float, entry: Entry) -> None:
        entry["status"] = "running"
        try:
            stage.run(self, seconds, entry)
            if "jobs" in entry:
                self._sum_up(entry)
            entry["status"] = "passed"
        except StageStopped:
            entry["status"] = "stopped"
        except Exception as error:
            entry |= {"status": "failed", "error": f"{type(error).__name__}: {error}"[:2000]}
        except BaseException:
            entry["status"] = "interrupted"
            self.save()
            raise

    def _wanted(self, name: str, stage: Stage) -> bool:
        if self.device != "cuda" and not stage.dry:
            return False
        return not self.only or name in ("machine", "build", *self.only)

    def _passed(self, name: str) -> bool:
        passed = self.results.stages.get(name, {}).get("status") == "passed"
        return passed and (name != "build" or built())

    def _reason(self, name: str, left: float, least: float) -> str | None:
        """Why a stage is left out, if it is."""
        if name != "machine" and not self._passed("machine"):
            return "needs machine"
        if name not in ("machine", "build") and self.device == "cuda" and not self._passed("build"):
            return "needs build"
        return NO_TIME if left < least else None

    def save(self) -> None:
        """Writes the JSON in one step, and the logs beside it."""
        verdicts = judge(self.results)
        self.results.save(self.output / f"{self.name}.json", [v.as_dict() for v in verdicts])
        with open(self.output / "logs.txt", "wb") as logs:
            for source in sorted(jobs.SCRATCH.glob("*.log")):
                logs.write(f"\n===== {source.name}\n".encode())
                logs.write(source.read_bytes()[-LOG_BYTES:])

    # --- stages -----------------------------------------------------------------------------

    def machine(self, seconds: float, entry: Entry) -> None:
        job = Job("machine", command=[sys.executable, "-m", "benchmarks.machine"])
        if jobs.run([job], seconds)["machine"] != 0:
            raise StageFailure(job.log(500))
        gpu = json.loads(job.log(100_000).splitlines()[-1])
        machine = self.results.machine | {"gpu": gpu}
        name = gpu["name"] if gpu else "gpu" if self.device == "cuda" else "dry run"
        self.name = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        path = self.output / f"{self.name}.json"
        if (self.only or self.resume) and path.exists():
            earlier = Results.load(path)
            if earlier.machine["commit"] == machine["commit"]:
                stages = {name: old | {"earlier": True} for name, old in earlier.stages.items()}
                earlier.stages = stages | {"machine": entry}
                self.results, machine = earlier, earlier.machine | machine
        self.results.machine = machine
        entry["command"] = shlex.join(sys.argv)
        if self.device == "cuda" and gpu is None:
            raise StageFailure("torch sees no CUDA device")

    def build(self, seconds: float, entry: Entry) -> None:
        build(seconds, entry, self.results.machine["gpu"]["capability"])
        self.results.machine["facenet_ext"] = entry["build_info"]

    def smoke(self, seconds: float, entry: Entry) -> None:
        self._pytest([Job("smoke", [CHECKS])], seconds, entry)

    def tests(self, seconds: float, entry: Entry) -> None:
        """Each file in a process of its own: an error of the GPU ends that one."""
        files = FILES[:2] if self.quick else FILES
        of = [
            Job(Path(name).stem, [str(ROOT / "tests" / name)], environment={"OMP_NUM_THREADS": "2"})
            for name in files
        ]
        self._pytest(of, seconds, entry, at_once=min(6, (os.cpu_count() or 2) // 2))

    def sanitizers(self, seconds: float, entry: Entry) -> None:
        program = cuda_tool("compute-sanitizer")
        if program is None:
            raise StageFailure("compute-sanitizer is not on this machine")
        names = list(sanitizers.TOOLS)[: 2 if self.quick else None]
        of = [sanitizers.job(program, name, CHECKS) for name in names]
        end = time.monotonic() + seconds
        self._pytest(of, seconds, entry, len(of), sanitizers.outcome)
        if (left := end - time.monotonic()) > 2 * jobs.STARTING:
            plain = [
                sanitizers.without_options(job)
                for job in of
                if entry["jobs"][job.name]["status"] == "no verdict"
            ]
            self._pytest(plain, left, entry, len(of), sanitizers.outcome)

    def core(self, seconds: float, entry: Entry) -> None:
        self._measure("core", ("test_ceiling", "test_core", "test_peak"), seconds, entry)

    def rest(self, seconds: float, entry: Entry) -> None:
        self._measure("rest", ("test_kernels", "test_rest"), seconds, entry)

    def _measure(self, name: str, tests: Sequence[str], seconds: float, entry: Entry) -> None:
        of = [f"{HERE / 'measurements.py'}::{test}" for test in tests]
        of += ["-k", "ceiling or 1800"] if self.quick else []
        try:
            self._pytest([Job(name, of)], seconds, entry)
        finally:
            for properties in entry["jobs"][name].pop("properties"):
                for kind, value in properties.items():
                    if kind in KINDS:
                        self.results.add(KINDS[kind](**json.loads(value)))
                    else:
                        getattr(self.results, kind).update(json.loads(value))

    def _pytest(
        self,
        of: list[Job],
        seconds: float,
        entry: Entry,
        at_once: int = 1,
        outcome: Callable[[Job, int | None], Entry] = jobs.outcome,
    ) -> None:
        """Each job's outcome is in the entry as soon as it ends."""
        found = entry.setdefault("jobs", {})

        def done(job: Job, status: int | None) -> None:
            found[job.name] = outcome(job, status)
            self.save()

        jobs.run(of, seconds, self.device, at_once, done)

    def _sum_up(self, entry: Entry) -> None:
        """The entry's summary; raises where a job is not right."""
        counts: Counter[str] = Counter()
        for found in entry["jobs"].values():
            counts.update(found["counts"])
        told = [f"{count} {outcome}" for outcome, count in sorted(counts.items())]
        wrong = {
            name: found["status"]
            for name, found in entry["jobs"].items()
            if found["status"] != "passed"
            and not (found["status"] == "nothing ran" and name in OPTIONAL)
        }
        entry["summary"] = "; ".join([*told, *(f"{name} {word}" for name, word in wrong.items())])
        if set(wrong.values()) == {"stopped"}:
            raise StageStopped
        if wrong:
            raise StageFailure(entry["summary"])


# In the order of their worth: the machine may be taken away at any moment. Nothing of ours can be
# tried without the build.
STAGES = {
    "machine": Stage(Run.machine, 60.0, 5.0, dry=True, whole=True),
    "build": Stage(Run.build, 330.0, 30.0, whole=True),
    "smoke": Stage(Run.smoke, 60.0, 20.0, dry=True, whole=True),
    "core": Stage(Run.core, 100.0, 40.0, dry=True),
    "tests": Stage(Run.tests, 150.0, 30.0),
    "sanitizers": Stage(Run.sanitizers, 100.0, 40.0),
    "rest": Stage(Run.rest, 60.0, 25.0, dry=True),
}


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything [8]")
    parser.add_argument(
        "--output",
        type=Path,
        default=jobs.SCRATCH / "output",
        help="folder for the JSON, named after the GPU, and logs.txt [build/gpu/output]",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=STAGES,
        help="this stage alone (may be repeated), and the build if there is none",
    )
    parser.add_argument(
        "--resume", action="store_true", help="leave out what has passed at this commit"
    )
    parser.add_argument("--quick", action="store_true", help="less of every stage")
    parser.add_argument(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="cpu: a dry run of this Python's facenet_ext, on tiny batches [cuda]",
    )
    return parser.parse_args(given)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(f"signal {number}")


def main(given: Sequence[str] | None = None) -> int:
    begin = time.monotonic()
    options = arguments(given)
    if options.device == "cuda" and not options.only and not options.resume:
        shutil.rmtree(jobs.SITE, ignore_errors=True)
    signal.signal(signal.SIGTERM, _interrupt)
    run = Run(options)
    right = False
    try:
        right = run.go(STAGES, begin + 60.0 * options.minutes)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    print(f"\n{table.text(run.results, judge(run.results))}\n")
    if run.unfinished:
        print(f"no time for all of {', '.join(run.unfinished)}: --resume goes on")
    print(f"wrote {run.output / run.name}.json after {time.monotonic() - begin:.0f} s", flush=True)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
