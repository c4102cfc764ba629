"""Builds, checks and measures on one GPU, and writes one JSON: `python -m benchmarks.gpu`."""

import argparse
import os
import platform
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from types import FrameType

from benchmarks.gpu import build, machine, processes, sanitize, smoke, suite
from benchmarks.gpu.report import Report
from benchmarks.gpu.stages import Entry, Stage, run_stages

NAMES = ("machine", "build", "smoke", "core", "tests", "sanitizers", "rest")


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything [8]")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=NAMES,
        help="this stage alone (may be repeated), on what an earlier run built",
    )
    parser.add_argument("--quick", action="store_true", help="less of every stage")
    return parser.parse_args(given)


class Run:
    """One run: its report, and its stages bound to it."""

    def __init__(self, report: Report, quick: bool, only: Sequence[str] = ()) -> None:
        self.report = report
        self.quick = quick
        self.only = only

    def stages(self) -> list[Stage]:
        """In the order of their worth. Nothing of ours can be tried without the build."""
        of = self._of
        every = (
            Stage("machine", 60.0, self._machine),
            Stage("build", 330.0, self._build),
            Stage("smoke", 60.0, smoke.stage, ("build",)),
            Stage("core", 100.0, partial(of, "core"), least=20.0),
            Stage("tests", 150.0, partial(suite.stage, quick=self.quick), ("build",), 30.0),
            Stage("sanitizers", 100.0, partial(sanitize.stage, quick=self.quick), ("build",), 40.0),
            Stage("rest", 60.0, partial(of, "rest"), ("build",), 25.0),
        )
        if not self.only:
            return list(every)
        return [stage for stage in every if stage.name in ("machine", *self.only)]

    def _machine(self, seconds: float, entry: Entry) -> None:
        try:
            machine.stage(seconds, entry)
        finally:
            self.report.data["machine"] = dict(entry)
            if entry.get("device"):
                self.report.name_after(entry["device"])
                if self.only:
                    self.report.keep_earlier_stages()

    def _build(self, seconds: float, entry: Entry) -> None:
        build.stage(seconds, entry, self.report.data["machine"].get("capability"))

    def _of(self, which: str, seconds: float, entry: Entry) -> None:
        # Here, so that without a torch that works the other stages still say what is wrong.
        from benchmarks.gpu import measure

        def gather() -> None:
            self.report.data["measurements"] = list(measure.collected())
            self.report.save()

        try:
            measure.stage(seconds, entry, which, self.quick, gather)
        finally:
            errors = len(entry.get("errors", ()))
            entry["summary"] = f"{entry.get('measured', 0)} measured, {errors} errors"
            gather()
            self.judge()

    def judge(self) -> str:
        """What came of the targets, into the report; everything, as text."""
        from benchmarks.gpu import table, targets

        measurements = self.report.data["measurements"]
        verdicts = targets.judge(measurements)
        self.report.data["targets"] = [verdict.as_dict() for verdict in verdicts]
        return table.whole(self.report.data, measurements, verdicts)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(f"signal {number}")


def main(given: Sequence[str] | None = None) -> int:
    begin = time.monotonic()
    asked = arguments(given)
    if not asked.only:
        shutil.rmtree(processes.SCRATCH, ignore_errors=True)
    processes.SCRATCH.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, _interrupt)
    report = Report(out=os.environ.get("OUT"))
    report.data |= {
        "command": shlex.join([sys.executable, *sys.argv]),
        "host_python": platform.python_version(),
        "minutes": asked.minutes,
    }
    run = Run(report, asked.quick, asked.only)
    right = False
    try:
        right = run_stages(
            run.stages(),
            report,
            begin + 60.0 * asked.minutes,
            say=lambda text: print(text, flush=True),
        )
    except KeyboardInterrupt as signalled:
        report.data["interrupted"] = str(signalled)
    finally:
        report.data["seconds"] = round(time.monotonic() - begin, 1)
        report.data["passed"] = right
        try:
            text = run.judge()
        except Exception as error:  # the figures are worth more than their table
            text = f"no table: {error}"
        report.save()
    print(f"\n{text}\n\nwrote {report.path} after {report.data['seconds']} s", flush=True)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
