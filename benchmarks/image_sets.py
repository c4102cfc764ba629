"""Measures the indices of image sets: time to make them, time to open them, bytes, and memory.

The records are real, and as small as records can be: 10 million of them take 600 MB of disk. Tar
files and folders are measured with fewer files, as many as ``--files`` says.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from facenet_ext.data.sets import open_set
from facenet_ext.data.sets.indexed import IndexedSet
from facenet_ext.data.sets.writing import write_set

_IMAGE = b"\xff\xd8\xff\xe0 no picture"
_OF_EACH = 20
"""Images of an identity."""


def write_records(folder: Path, count: int) -> Path:
    """Write a .rec of that many records, all by NumPy."""
    length = 24 + len(_IMAGE)
    size = 8 + -(-length // 4) * 4
    with (folder / "train.rec").open("wb") as records, (folder / "train.idx").open("w") as listed:
        for begin in range(0, count, 1_000_000):
            keys = np.arange(begin, min(begin + 1_000_000, count))
            rows = np.zeros((len(keys), size), np.uint8)
            rows[:, :8] = np.frombuffer(np.array([0xCED7230A, length], "<u4").tobytes(), np.uint8)
            labels = (keys // _OF_EACH).astype("<f4")
            rows[:, 12:16] = labels.view(np.uint8).reshape(-1, 4)
            rows[:, 16:24] = keys.astype("<u8").view(np.uint8).reshape(-1, 8)
            rows[:, 32 : 32 + len(_IMAGE)] = np.frombuffer(_IMAGE, np.uint8)
            rows.tofile(records)
            np.savetxt(listed, np.stack([keys, keys * size], 1), "%d", "\t")
    return folder / "train.rec"


def _opened(data: str, told: multiprocessing.Queue[tuple[float, int, float]]) -> None:
    """Open a set in a process of its own; tell the seconds, the memory and the time of a read."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before, begin = resident(), time.perf_counter()
    images = open_set(data)
    seconds = time.perf_counter() - begin
    rows = np.random.default_rng(0).integers(0, len(images), 10_000).tolist()
    begin = time.perf_counter()
    for row in rows:
        images.read(row)
    each = (time.perf_counter() - begin) / len(rows)
    told.put((seconds, resident() - before, each))


def measure(what: str, data: Path) -> None:
    """Print a row of the table."""
    begin = time.perf_counter()
    images = open_set(str(data))
    first = time.perf_counter() - begin
    context = multiprocessing.get_context("spawn")
    told: multiprocessing.Queue[tuple[float, int, float]] = context.Queue()
    process = context.Process(target=_opened, args=(str(data), told))
    process.start()
    again, memory, each = told.get()
    process.join()
    size = images.index.path.stat().st_size if images.index.path else 0
    print(
        f"| {what} | {len(images):,} | {first:.1f} s | {again:.2f} s | {size / 1e6:.0f} MB | "
        f"{memory / 1e6:.0f} MB | {each * 1e6:.0f} µs |",
        flush=True,
    )


def main() -> None:
    """Measure what the arguments say."""
    parser = argparse.ArgumentParser("python -m benchmarks.image_sets", description=__doc__)
    parser.add_argument("--records", type=int, default=10_000_000, help="of the .rec")
    parser.add_argument(
        "--files", type=int, default=200_000, help="of the folder and the tar files"
    )
    options = parser.parse_args()
    print("| set | images | indexed | opened | index | memory | a read |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        os.environ["XDG_CACHE_HOME"] = f"{name}/cache"
        root = Path(name)
        measure(".rec", write_records(root, options.records))
        (root / "train.rec").unlink()
        (root / "train.idx").unlink()
        write_records(root, options.files)
        images: IndexedSet = open_set(str(root / "train.rec"))
        forms: dict[str, Callable[[], None]] = {
            "shards": lambda: write_set(images, root / "shards", "shards"),
            "folder": lambda: write_set(images, root / "folder", "folder"),
            "parquet": lambda: write_set(images, root / "parquet", "parquet"),
        }
        for form, write in forms.items():
            write()
            measure(form, root / form)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"most memory of the process that indexed: {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
