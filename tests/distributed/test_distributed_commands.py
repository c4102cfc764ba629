"""Commands in several processes: the files of one, one report, and errors told once."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch.distributed as dist
from processes import run

from facenet_ext import cli
from facenet_ext.common import processes
from facenet_ext.embedding.folders import PAIRS
from facenet_ext.mining import storage
from facenet_ext.recognition import ModelName, StoredEmbeddings, write_embeddings

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "train"))

from small_runs import TINY, write_faces  # noqa: E402 - a folder beside this one

Result = tuple[int, str, str]


def command(folder: Path, *argv: object) -> Result:
    """Run a command in a folder as a process of torchrun would: status, stdout and stderr."""
    os.chdir(folder)
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    if dist.is_initialized():
        size = str(dist.get_world_size())
        os.environ |= {"RANK": str(dist.get_rank()), "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
        os.environ["TORCHELASTIC_RUN_ID"] = "none"
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main([str(argument) for argument in argv])
    return status, out.getvalue(), err.getvalue()


def alone(folder: Path, *argv: object) -> Result:
    """Run it in one process, with the one thread that each of several has."""
    return run(1, command, folder, *argv)[0]


def files(folder: Path, *left_out: str) -> dict[str, Any]:
    """What a command left behind, without the times that are in it."""
    found: dict[str, Any] = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name not in left_out and "cache" not in file.parts:
            found[str(file.relative_to(folder))] = file.read_bytes()
            if file.suffix == ".json":
                found[str(file.relative_to(folder))] = json.loads(file.read_text())
                found[str(file.relative_to(folder))].pop("seconds", None)
            elif file.name == PAIRS:  # which also tells when and by which command
                found[str(file.relative_to(folder))] = pq.read_table(file).to_pydict()
    return found


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with embeddings: an array with labels, and what ``facenet embed`` writes."""
    folder = tmp_path_factory.mktemp("stored")
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 40, 400)
    x = generator.standard_normal((40, 8))[labels] + 0.5 * generator.standard_normal((400, 8))
    np.save(folder / "e.npy", x.astype(np.float32))
    np.save(folder / "l.npy", labels)
    ids = [f"{label}/{row}.png" for row, label in enumerate(labels)]
    identities = [str(label) for label in labels]
    model = ModelName("small", "0" * 64)
    for name, rows in (("gallery", range(300)), ("probes", range(250, 400))):
        part = StoredEmbeddings(
            x[rows].astype(np.float32),
            [ids[row] for row in rows],
            [identities[row] for row in rows],
            model,
        )
        write_embeddings(folder / name, part)
    return folder


def arguments(name: str, stored: Path) -> list[object]:
    return {
        "mine": ["mine", stored / "e.npy", "--labels", stored / "l.npy", "--block", 32],
        "identify": ["identify", stored / "gallery", stored / "probes", "--threshold", 2],
        "cluster": ["cluster", stored / "gallery", "--threshold", 3],
    }[name] + ["--output", "out"]


@pytest.mark.parametrize("name", ["mine", "identify", "cluster"])
def test_output_of_one_process(name: str, stored: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    expected = alone(one, *arguments(name, stored))
    found = run(3, command, two, *arguments(name, stored))
    assert expected[0] == 0
    assert found == [expected, (0, "", ""), (0, "", "")]
    assert files(two) == files(one)
    assert len(files(two)) > 1


def test_photos_are_divided(tmp_path: Path) -> None:
    photos = write_faces(tmp_path / "photos", {f"Person_{i:02d}": 4 for i in range(10)}, size=100)
    one, two = tmp_path / "one", tmp_path / "two"
    given = ("align", photos, "--detector", "detectors:one", "--size", 32, "--output", "out")
    for folder, size in ((one, 1), (two, 2)):
        folder.mkdir()
        first, *others = run(size, command, folder, *given)
        assert (first[0], first[2]) == (0, "")
        assert first[1].startswith("40 faces of 40 photos in out")
        assert others == [(0, "", "")] * (size - 1)
    assert files(two, "report.html") == files(one, "report.html")
    assert len(files(two)) == 44


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with faces and a run on them."""
    folder = tmp_path_factory.mktemp("trained")
    write_faces(folder / "faces", {f"Person_{i:02d}": 4 for i in range(12)})
    options = [*TINY, "--held-out", "0.4", "--seed", "1"]
    status, _, err = alone(
        folder, "train", *options, "--data", folder / "faces", "--output", folder / "run"
    )
    assert status == 0, err
    return folder


@pytest.mark.ci
@pytest.mark.parametrize(
    "argv",
    [
        ["embed", "{}/faces", "--checkpoint", "{}/run", "--batch", "5", "--output", "out"],
        [
            "evaluate",
            "--data",
            "{}/faces",
            "--checkpoint",
            "{}/run",
            "--all-pairs",
            "--far",
            "0.1",
            "--output",
            "out",
        ],
        ["mine", "{}/run", "--data", "{}/faces", "--output", "out", "--suspects", "0"],
    ],
    ids=lambda argv: argv[0],
)
def test_images_as_in_one_process(argv: list[str], trained: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    given = [argument.format(trained) for argument in argv]
    expected = alone(one, *given)
    assert expected[0] == 0, expected
    first, other = run(2, command, two, *given)
    assert other == (0, "", "")
    assert first[0] == 0
    if argv[0] != "embed":  # which tells how fast it was
        assert first[1] == expected[1]
    assert files(two, "report.html", "metrics.json") == files(one, "report.html", "metrics.json")
    if argv[0] == "evaluate":
        figures = [json.loads((at / "out" / "metrics.json").read_text()) for at in (one, two)]
        for one_of_both in figures:
            del one_of_both["all_pairs"]["pairs_per_second"]
            del one_of_both["command"], one_of_both["date"]
        assert figures[0] == figures[1]


def with_fault(folder: Path, fault: str, *argv: object) -> Result:
    """Run a command, with a fault on rank 1 or in what was given to all."""
    processes._TELLING = 1.0
    if dist.get_rank() == 1:
        errors = {
            "disk": OSError(28, "No space left on device"),
            "bug": KeyError("a bug"),
            "Ctrl-C": KeyboardInterrupt(),
        }
        if fault in errors:

            def fail(*_: object) -> int:
                raise errors[fault]

            storage._write = fail  # type: ignore[assignment]
    return command(folder, *argv)


@pytest.mark.parametrize(
    ("fault", "statuses", "told"),
    [
        ("disk", {2}, "error: --output out: cannot be written to (No space left on device)"),
        ("bug", {1}, "Traceback"),
        ("Ctrl-C", {1, 130}, "stopped"),
        ("--block", {2}, "error: --block none: expected a whole number above 0; see --help"),
        ("output", {2}, "error: --output out: already holds the result of a search"),
    ],
)
def test_error_is_told_once(
    fault: str, statuses: set[int], told: str, stored: Path, tmp_path: Path
) -> None:
    given = arguments("mine", stored)
    if fault == "--block":
        given += ["--block", "none"]
    if fault == "output":
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "summary.json").touch()
    found = run(3, with_fault, tmp_path, fault, *given)
    errors = [err for _, _, err in found if err]
    assert len(errors) == 1, errors
    assert errors[0].startswith(f"facenet mine: {told}")
    assert errors[0].count("Traceback") == (fault == "bug")
    assert fault == "bug" or errors[0].count("\n") == 1
    assert {status for status, _, _ in found} <= statuses
    assert not any(out for _, out, _ in found)


KILLED_ONCE = """
import os, signal, sys
from pathlib import Path
from facenet_ext import cli
from facenet_ext.mining import storage
parts = Path("out/triplets.parquet.parts")
real = storage._write
def write(path, tables):
    if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        Path("before").write_text(" ".join(sorted(file.name for file in parts.glob("*.parquet"))))
        os.kill(os.getpid(), signal.SIGKILL)
    return real(path, tables)
storage._write = write
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.ci
def test_torchrun_starts_a_killed_process_again(stored: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    (two / "killed_once.py").write_text(KILLED_ONCE)
    assert alone(one, *arguments("mine", stored))[0] == 0
    given = [str(argument) for argument in arguments("mine", stored)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "--max-restarts", "1", "killed_once.py", *given, "--json"],
        cwd=two,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert (two / "before").exists(), "rank 1 was killed"
    assert json.loads(done.stdout)["rows"] == 400
    assert files(two / "out") == files(one / "out")
