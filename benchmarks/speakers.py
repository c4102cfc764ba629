"""Trains the preset for speakers and records how well it verifies strangers.

    python -m benchmarks.speakers voices.npz

The .npz has spectrograms of many speakers, 40 of whom are held out. A run that was stopped goes on,
and one that is done is recorded again without training.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT, describe
from facenet_ext.common.files import write_json

RESULTS = ROOT / "benchmarks" / "results" / "speakers.json"
SCRATCH = ROOT / "benchmarks" / "out" / "speakers"
PICTURE = ROOT / "docs" / "images" / "speakers_det.png"
HEAD = ("", "40 speakers never heard")
_ROWS = (
    ("EER", "eer", ".1%"),
    ("EER, ROC convex hull", "eer_convex_hull", ".1%"),
    ("minDCF, 1 % of trials of one speaker", "min_dcf", ".2f"),
    ("FNMR at FMR 1 %", "fnmr_at_fmr_0.01", ".1%"),
)


def recorded() -> dict[str, Any]:
    """Read what was recorded."""
    return dict(json.loads(RESULTS.read_text()))


def table() -> tuple[tuple[str, str], list[list[str]]]:
    """The head and the rows of the page's table."""
    result = recorded()
    rows = []
    for name, key, form in _ROWS:
        figure = result["figures"][key]
        low, high = figure["interval"]
        rows.append([name, f"{figure['value']:{form}} ({low:{form}} to {high:{form}})"])
    rows.append(["processor time of the training", f"{result['processor_minutes']:.0f} minutes"])
    return HEAD, rows


def train(data: str, threads: int) -> None:
    """Train in a process of its own, and count its processor time over interruptions."""
    clock = SCRATCH / "processor_seconds"
    command = [sys.executable, "-m", "facenet_ext.train"]
    if (SCRATCH / "checkpoints" / "last.ckpt").is_file():
        command += ["--resume", str(SCRATCH)]
    else:
        shutil.rmtree(SCRATCH, ignore_errors=True)
        command += ["--preset", "speakers", "--data", data, "--output", str(SCRATCH)]
        command += ["--threads", str(threads), "--accelerator", "cpu"]
    before = float(clock.read_text()) if clock.is_file() else 0.0
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    if SCRATCH.is_dir():
        clock.write_text(str(before + used.ru_utime + used.ru_stime))
    if done.returncode:
        raise SystemExit(done.returncode)


def record(threads: int) -> None:
    """Write the figures of the run that is done, and its DET curve."""
    metrics = json.loads((SCRATCH / "metrics.json").read_text())
    seconds = float((SCRATCH / "processor_seconds").read_text())
    names = (SCRATCH / "held_out.txt").read_text().splitlines()
    content = {
        "machine": describe(threads),
        "steps": metrics["steps"],
        "speakers": len(names),
        "pairs": metrics["pairs"],
        "processor_minutes": round(seconds / 60, 1),
        "figures": {key: metrics["summary"]["figures"][key] for _, key, _ in _ROWS},
    }
    write_json(RESULTS, content)
    shutil.copy(SCRATCH / "det.png", PICTURE)


def main() -> None:
    """Train unless that is done, record, and write the pages."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speakers", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("data", help="an .npz of spectrograms of 200 speakers")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()

    from benchmarks import pages

    if not (SCRATCH / "metrics.json").is_file():
        train(str(Path(arguments.data).resolve()), arguments.threads)
    record(arguments.threads)
    pages.write(print)


if __name__ == "__main__":
    main()
