"""Kills commands at random moments, again and again, and compares what comes out in the end.

``python tests/train/kills.py`` kills ``train``, ``align``, ``embed`` and ``mine`` 50 times each; a
test does a few. Nothing is caught by the killed process: it is SIGKILL.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from small_runs import TINY, write_faces

Result = dict[str, Any]


def facenet(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "facenet_ext.cli", *map(str, arguments)]


def finish(command: Sequence[str]) -> float:
    """Run a command to its end and return how long it took."""
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - start


def state_of(folder: Path) -> list[tuple[str, int, int]]:
    """What is in a folder now: names, sizes, times."""
    found = []
    for path in sorted(folder.rglob("*")):
        try:
            status = path.stat()
        except FileNotFoundError:  # renamed meanwhile
            continue
        found.append((str(path), status.st_size, status.st_mtime_ns))
    return found


def kill(command: Sequence[str], folder: Path, longest: float, chance: random.Random) -> bool:
    """Start a command, wait until it writes, and kill it a random time later.

    Returns:
        Whether it was killed: not where it had finished before.
    """
    before = state_of(folder)
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    end = time.monotonic() + 120
    while process.poll() is None and state_of(folder) == before and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(chance.uniform(0, longest))
    if process.poll() is not None:
        assert process.returncode == 0
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


def survive(
    make_command: Callable[[Path], list[str]],
    result_of: Callable[[Path], Result],
    work: Path,
    kills: int,
    seed: int,
) -> int:
    """Compare an undisturbed run with one that is killed so often.

    Returns:
        How often it was killed: runs that ended before do not count.
    """
    finish(make_command(work / "whole"))
    expected = result_of(work / "whole")
    chance = random.Random(seed)
    killed = 0
    for attempt in range(4 * kills):
        folder = work / f"killed-{attempt}"
        folder.mkdir()
        # From early to late moments: of a run that is killed early each time nothing would be left.
        for _ in range(3):
            if killed == kills or not kill(make_command(folder), folder, 2.0, chance):
                break
            killed += 1
        finish(make_command(folder))
        same(result_of(folder), expected)
        shutil.rmtree(folder)
        if killed == kills:
            break
    return killed


def same(actual: Result, expected: Result) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(actual[name], value), name
        elif isinstance(value, np.ndarray):
            assert np.array_equal(actual[name], value), name
        else:
            assert actual[name] == value, name


def train_command(faces: Path) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        run = folder / "run"
        last = run / "checkpoints" / "last.ckpt"
        if last.is_file():
            return facenet("train", "--resume", last)
        shutil.rmtree(run, ignore_errors=True)  # as is told: there is no checkpoint yet
        more = ("--held-out", 0.4, "--max-steps", 40, "--evaluations", 8, "--seed", 3)
        return facenet("train", *TINY, *more, "--data", faces, "--output", run)

    return make


def trained(folder: Path) -> Result:
    state = torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    figures = json.loads((folder / "run" / "metrics.json").read_text())
    return {**state["state_dict"], "metrics": figures, "history": state["facenet_ext"]["history"]}


def align_command(photos: Path) -> Callable[[Path], list[str]]:
    path = str(Path(__file__).parent)  # of the detector
    start = (
        f"import sys; sys.path.append({path!r}); from facenet_ext import cli; sys.exit(cli.main())"
    )

    def make(folder: Path) -> list[str]:
        options = ("--detector", "detectors:one", "--min-face-size", "5", "--size", "160")
        output = ("--output", str(folder / "aligned"))
        return [sys.executable, "-c", start, "align", str(photos), *options, *output]

    return make


def aligned(folder: Path) -> Result:
    """Every file but the report, which has the time."""
    root = folder / "aligned"
    files = [path for path in root.rglob("*") if path.is_file() and path.name != "report.html"]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def embed_command(faces: Path, run: Path) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        options = ("--checkpoint", run, "--batch", 4, "--output", folder / "embeddings")
        return facenet("embed", faces, *options)

    return make


def embedded(folder: Path) -> Result:
    ids = (folder / "embeddings" / "ids.txt").read_text()
    return {"rows": np.load(folder / "embeddings" / "embeddings.npy"), "ids": ids}


def mine_command(embeddings: Path, labels: Path) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        if (folder / "mined" / "summary.json").is_file():
            return [sys.executable, "-c", "pass"]  # finished, and refused for that
        options = ("--labels", labels, "--block", 64, "--chunk", 256, "--suspects", 5)
        return facenet("mine", embeddings, *options, "--output", folder / "mined")

    return make


def mined(folder: Path) -> Result:
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "mined" / "triplets.parquet")
    triplets = {name: table[name].to_numpy() for name in table.column_names}
    return {**triplets, "suspects": (folder / "mined" / "suspects.csv").read_text()}


def prepare(root: Path) -> tuple[Path, Path, Path, Path]:
    """Write faces, a run on them, and random embeddings with labels."""
    faces = write_faces(root / "faces", {f"Person_{i:02d}": 12 for i in range(40)})
    run = root / "run"
    finish(facenet("train", *TINY, "--data", faces, "--held-out", 0.4, "--output", run))
    random_rows = np.random.default_rng(0)
    labels = random_rows.integers(0, 300, 4000)
    rows = random_rows.standard_normal((300, 16))[labels]
    rows += 0.5 * random_rows.standard_normal(rows.shape)
    np.save(root / "rows.npy", rows.astype(np.float32))
    np.save(root / "labels.npy", labels)
    return faces, run, root / "rows.npy", root / "labels.npy"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--kills", type=int, default=50, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        faces, run, rows, labels = prepare(root)
        subjects = {
            "train": (train_command(faces), trained),
            "align": (align_command(faces), aligned),
            "embed": (embed_command(faces, run), embedded),
            "mine": (mine_command(rows, labels), mined),
        }
        for name, (command, result) in subjects.items():
            work = root / name
            work.mkdir()
            killed = survive(command, result, work, arguments.kills, arguments.seed)
            print(f"{name}: killed {killed} times, the same result each time", flush=True)


if __name__ == "__main__":
    main()
