"""Measures everything, prints it, writes it to JSON and draws it: `python -m benchmarks`."""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import cases, input, instruction_sets, memory, pages, plots, table, training
from benchmarks.machine import ROOT, describe
from benchmarks.results import Results, Timing
from benchmarks.targets import judge

HERE = Path(__file__).parent
SCRATCH = HERE / "out"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--threads", type=int, default=2, help="torch's threads [2]")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"only up to N = {cases.QUICK_N}, in a minute or two, to {SCRATCH.relative_to(ROOT)}",
    )
    parser.add_argument(
        "--redraw", action="store_true", help="measure nothing: tables and pictures of the last run"
    )
    return parser.parse_args()


def _times(
    files: list[Path], threads: int, quick: bool, instruction_set: str | None = None
) -> list[Timing]:
    """Runs pytest-benchmark files, in one process of their own."""
    SCRATCH.mkdir(exist_ok=True)
    report = SCRATCH / "pytest-benchmark.json"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", *map(str, files)]
    command += ["--benchmark-only", "--benchmark-quiet", f"--benchmark-json={report}"]
    command += ["-q", "-rN", "--disable-warnings", "-p", "no:cacheprovider"]
    command += ["--bench-lines", f"--bench-threads={threads}"]
    command += ["--bench-quick"] if quick else []
    environment = dict(os.environ)
    if instruction_set is not None:
        command += [f"--bench-mode={instruction_set}"]
        environment[instruction_sets.VARIABLE] = instruction_set
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
        sys.exit("the benchmarks failed: see above")
    entries = json.loads(report.read_text())["benchmarks"]
    return [Timing.from_pytest_benchmark(entry) for entry in entries]


def main() -> None:
    arguments = _arguments()
    results_path = (SCRATCH if arguments.quick else HERE / "results") / "cpu.json"
    images = SCRATCH if arguments.quick else ROOT / "docs" / "images"

    if arguments.redraw:
        results = Results.load(results_path)
    else:
        if os.getloadavg()[0] > 0.3:
            print("The machine is busy: its load is above 0.3.")
        start = time.perf_counter()
        machine = describe(arguments.threads)
        print("Time, after a check that the peers agree")
        times = _times(sorted(HERE.glob("bench_*.py")), arguments.threads, arguments.quick)
        for name in instruction_sets.available():
            print(f"Time with {name} kernels")
            file = HERE / "instruction_sets.py"
            times += _times([file], arguments.threads, arguments.quick, name)
        print("Peak memory")
        peaks = memory.measure(arguments.quick, arguments.threads, print)
        print("Training steps")
        steps = training.measure(arguments.quick, arguments.threads, print)
        print("Images from the disk to a batch")
        input.record(arguments.quick, print, None if arguments.quick else input.RESULTS)
        results = Results(machine, times, peaks, steps)
        print(f"Measured in {(time.perf_counter() - start) / 60:.1f} minutes.\n")

    verdicts = judge(results)
    if not arguments.redraw:
        results.save(results_path, [verdict.as_dict() for verdict in verdicts])
    print(table.text(results, verdicts))
    pictures = plots.draw(results, images)
    for path in pictures if arguments.redraw else (results_path, *pictures):
        print(f"wrote {path.relative_to(ROOT)}")
    if not arguments.quick:
        pages.write(print)


if __name__ == "__main__":
    main()
