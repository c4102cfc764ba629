"""Measures how images reach the batches: `python -m benchmarks.input`, a part of `make bench`.

Images per second from the disk to batches of 480 uint8 images, by two workers, beside what one
would write without this library; the share of a training step that waits for its batch; and the
memory that a million records take.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch.utils.data import DataLoader, Dataset, RandomSampler

from benchmarks.machine import ROOT, describe
from facenet_ext.common.console import make_console

RESULTS = ROOT / "benchmarks" / "results" / "input.json"
_SIZE, _BATCH, _WORKERS, _IDENTITIES, _PER_IDENTITY = 112, 480, 2, 160, 24
_RECORDS = 1_000_000

OURS, SHARDS = "facenet_ext, folder", "facenet_ext, the same shards"
ONE = "facenet_ext, the same shards by one worker"
FOLDER, WEBDATASET = "ImageFolder with Pillow", "webdataset"
RAW = "simplejpeg alone, one core"


@dataclasses.dataclass(frozen=True)
class Target:
    """A figure, and the least or the most that it is to be."""

    what: str
    least: float | None = None
    most: float | None = None

    def met(self, value: float) -> bool:
        return value >= (self.least or 0) and value <= (
            math.inf if self.most is None else self.most
        )


RATIO_FOLDER = Target(f"rate, of {FOLDER}", least=2.0)
RATIO_WEBDATASET = Target(f"rate from shards, of {WEBDATASET}", least=1.0)
RATIO_RAW = Target("rate of one worker from shards, of raw decoding in one core", least=0.7)
WAITING = Target("share of a step spent waiting, small at batch 480", most=0.03)
MEMORY = Target(f"GiB that {_RECORDS:,} records take beside the network's own", most=1.0)


class _ImageFolder(Dataset[Any]):
    """What torchvision's ImageFolder does, with `PILToTensor`."""

    def __init__(self, root: Path) -> None:
        self.samples = [
            (str(path), label)
            for label, folder in enumerate(sorted(root.iterdir()))
            for path in sorted(folder.iterdir())
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        path, label = self.samples[row]
        with open(path, "rb") as file:
            image = Image.open(file).convert("RGB")
        return torch.as_tensor(np.array(image, copy=True)).permute(2, 0, 1), label


def write_faces(root: Path, quality: int = 90) -> None:
    """Write JPEG files that have about the size of aligned faces of that many pixels."""
    random = np.random.default_rng(0)
    for identity in range(_IDENTITIES):
        folder = root / f"{identity:04d}"
        folder.mkdir(parents=True)
        for number in range(_PER_IDENTITY):
            coarse = random.integers(0, 256, (_SIZE // 8, _SIZE // 8, 3), np.uint8)
            smooth = Image.fromarray(coarse).resize((_SIZE, _SIZE), Image.Resampling.BICUBIC)
            noisy = np.asarray(smooth) + random.normal(0, 4, (_SIZE, _SIZE, 3))
            image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
            image.save(folder / f"{number:04d}.jpg", quality=quality)


def _set_batches(data: str, batches: int, workers: int = _WORKERS) -> Iterator[Any]:
    """Batches as a run takes them: identities with three images each, decoded by workers."""
    from facenet_ext.data.decoding import Geometry
    from facenet_ext.data.examples import Examples
    from facenet_ext.data.placement import Room, place
    from facenet_ext.data.sets import open_set
    from facenet_ext.samplers import MPerClassSampler

    images = open_set(data)
    room = Room(memory=1e-9, workers=workers)
    (placed,) = place([images], Geometry(_SIZE, 3), room, Console(quiet=True))
    labels = torch.from_numpy(np.array(images.labels))
    sampler = MPerClassSampler(labels, m=3, classes=_BATCH // 3)
    parts = (sampler.batch(position) for position in range(batches))
    return Examples(placed.values, labels).batches(parts, copy=False)


def _folder_batches(root: Path, batches: int) -> Iterable[Any]:
    dataset = _ImageFolder(root)
    sampler = RandomSampler(dataset, replacement=True, num_samples=batches * _BATCH)
    return DataLoader(dataset, _BATCH, sampler=sampler, num_workers=_WORKERS)


def _webdataset_batches(shards: Path, batches: int) -> Iterable[Any]:
    import webdataset

    urls = sorted(map(str, shards.glob("*.tar")))
    dataset = webdataset.WebDataset(urls, shardshuffle=False).repeat()
    dataset = dataset.decode("torchrgb8").to_tuple("jpg", "cls").batched(_BATCH, partial=False)
    loader = webdataset.WebLoader(dataset, batch_size=None, num_workers=_WORKERS)
    return itertools.islice(loader, batches)


class Rate(NamedTuple):
    """Images per second, and microseconds of all processors for an image."""

    images: float
    cpu: float


def _rate(count: int, work: Callable[[], object]) -> Rate:
    """Measure what makes so many images, from the start of its workers on."""
    start, used = time.perf_counter(), _used()
    work()
    seconds = time.perf_counter() - start
    return Rate(count / seconds, (_used() - used) / count * 1e6)


def _used() -> float:
    """Seconds that this process and its workers have computed."""
    usage = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in usage)


def _consume(make: Callable[[int], Iterable[Any]], batches: int) -> Rate:
    made = make(batches)

    def work() -> None:
        nonlocal made
        assert sum(len(batch[0]) for batch in made) == batches * _BATCH
        made = ()  # its workers end

    return _rate(batches * _BATCH, work)


def _raw(root: Path, batches: int) -> Rate:
    """What simplejpeg decodes from memory in one thread."""
    import simplejpeg

    contents = [path.read_bytes() for path in sorted(root.glob("*/*.jpg"))]
    rows = list(itertools.islice(itertools.cycle(contents), batches * _BATCH // 4))
    return _rate(len(rows), lambda: [simplejpeg.decode_jpeg(content) for content in rows])


def measure_rates(
    scratch: Path, rounds: int, batches: int, tell: Callable[[str], None]
) -> dict[str, list[Rate]]:
    """Measure each way several times, by turns, so that all see the same load of the machine."""
    from facenet_ext.data.sets import open_set
    from facenet_ext.data.sets.writing import write_set

    faces, shards = scratch / "faces", scratch / "shards"
    write_faces(faces)
    write_set(open_set(str(faces)), shards, "shards", part=640)
    ways: dict[str, Callable[[], Rate]] = {
        OURS: lambda: _consume(lambda n: _set_batches(str(faces), n), batches),
        SHARDS: lambda: _consume(lambda n: _set_batches(str(shards / "*.tar"), n), batches),
        ONE: lambda: _consume(lambda n: _set_batches(str(shards / "*.tar"), n, 1), batches // 2),
        FOLDER: lambda: _consume(lambda n: _folder_batches(faces, n), batches),
        WEBDATASET: lambda: _consume(lambda n: _webdataset_batches(shards, n), batches),
        RAW: lambda: _raw(faces, batches),
    }
    rates: dict[str, list[Rate]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, measure in ways.items():
            try:
                rates[way].append(measure())
            except ImportError as error:
                tell(f"  {way}: not measured ({error})")
                continue
            last = rates[way][-1]
            tell(f"  {way}: {last.images:,.0f} images/s, {last.cpu:.0f} us of a core each")
    return {way: of for way, of in rates.items() if of}


def measure_waiting(scratch: Path, steps: int, tell: Callable[[str], None]) -> float:
    """The share of training steps of `small` that passes before the batch is there."""
    from facenet_ext.cli.train_options import parse
    from facenet_ext.train.module import EmbeddingModule
    from facenet_ext.train.optimization import make_optimizer

    arguments = ["--preset", "faces", "--data", "images", "--model", "small", "--members", "1"]
    arguments += ["--channels", "3", "--image-size", str(_SIZE), "--precision", "32-true"]
    options = parse(arguments, "benchmarks").options
    module = EmbeddingModule(options, (3, _SIZE, _SIZE), steps=1)
    optimizer = make_optimizer(module.network, options.optimizer)
    waited, times = [], []
    loaded = _set_batches(str(scratch / "faces"), steps + 1)
    for _ in range(steps + 1):
        start = time.perf_counter()
        images, labels, _ = next(loaded)
        waited.append(time.perf_counter() - start)
        embeddings = module.network(module.augment(images).to(memory_format=torch.channels_last))
        optimizer.zero_grad()
        module.batch_loss(images, embeddings, labels).backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
    share = sum(waited[1:]) / sum(times[1:])  # the workers start in the first step
    tell(f"  a step takes {statistics.median(times[1:]):.2f} s, of which {share:.2%} are waiting")
    return share


def write_records(root: Path, records: int, of: Path) -> Path:
    """Write so many records, ten of an identity, of the images of a folder again and again."""
    from facenet_ext.data.sets.records import encode_record

    root.mkdir()
    contents = [path.read_bytes() for path in sorted(of.glob("*/*.jpg"))[:500]]
    offset = 0
    with (root / "train.rec").open("wb") as rec, (root / "train.idx").open("w") as idx:
        for key in range(1, records + 1):
            record = encode_record(key, [(key - 1) // 10], contents[key % len(contents)])
            idx.write(f"{key}\t{offset}\n")
            rec.write(record)
            offset += len(record)
    return root / "train.rec"


def _resident(process: int) -> tuple[int, list[int]]:
    """Bytes of a process and of its children, of what they share their part; and the children."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{process}/smaps_rollup").read_text().split("\n")
        own = sum(int(line.split()[1]) * 1024 for line in fields if line.startswith("Pss:"))
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        parts = [_resident(int(child)) for child in children]
        return own + sum(size for size, _ in parts), list(map(int, children))
    return 0, []


def _peak(data: Path, output: Path, *more: str) -> float:
    """The most bytes that a short training has in memory, with its workers."""
    options = ["--data", str(data), "--output", str(output), "--held-out"]
    options += ["0.0005" if "big" in str(data) else "0.05", "--model", "small", "--members", "1"]
    options += ["--channels", "3", "--image-size", str(_SIZE), "--accelerator", "cpu"]
    options += ["--max-steps", "6", "--evaluations", "1", "--identities", "160", "--negatives", "0"]
    options += ["--images-per-identity", "3", "--aligned-size", "null", "--batch-size", "null"]
    command = [sys.executable, "-m", "facenet_ext.train", *options, *more]
    environment = os.environ | {"XDG_CACHE_HOME": str(output.parent / "cache")}
    process = subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    most = 0
    while process.poll() is None:
        most = max(most, _resident(process.pid)[0])
        time.sleep(0.1)
    if process.returncode:
        assert process.stderr is not None
        sys.exit(f"{' '.join(command)}\n{process.stderr.read().decode()}")
    return most


def measure_memory(scratch: Path, records: int, tell: Callable[[str], None]) -> dict[str, float]:
    """Peak memory of a training on many records, beside the same on the fewest."""
    faces = scratch / "faces"
    small = write_records(scratch / "small", 4_000, faces)
    big = write_records(scratch / "big", records, faces)
    peaks = {
        "network": _peak(small, scratch / "run-small", "--memory", "1e-6", "--workers", "0"),
        "records": _peak(big, scratch / "run-big", "--workers", str(_WORKERS)),
    }
    over = (peaks["records"] - peaks["network"]) / 2**30
    tell(
        f"  {records:,} records: {peaks['records'] / 2**30:.2f} GiB at most, {over:.2f} more than "
        f"4,000 decoded without workers"
    )
    return peaks | {"over_gib": over}


def figures(rates: dict[str, list[Rate]], waiting: float, memory: dict[str, float]) -> list[Any]:
    """What the targets are about, each with its value and whether it is met."""

    def ratio(ours: str, other: str) -> float | None:
        if other not in rates:
            return None
        pairs = zip(rates[ours], rates[other], strict=True)
        return statistics.median(a.images / b.images for a, b in pairs)

    values = {
        RATIO_FOLDER: ratio(OURS, FOLDER),
        RATIO_WEBDATASET: ratio(SHARDS, WEBDATASET),
        RATIO_RAW: ratio(ONE, RAW),
        WAITING: waiting,
        MEMORY: memory.get("over_gib"),
    }
    return [
        {"target": dataclasses.asdict(target), "value": value, "met": target.met(value)}
        for target, value in values.items()
        if value is not None
    ]


def record(quick: bool, tell: Callable[[str], None], path: Path | None = RESULTS) -> dict[str, Any]:
    """Measure everything and write it to a file."""
    from facenet_ext.common.files import write_json

    machine = describe(torch.get_num_threads())
    scratch = Path(tempfile.mkdtemp(prefix="facenet-input-"))
    os.environ["XDG_CACHE_HOME"] = str(scratch / "cache")
    try:
        rates = measure_rates(scratch, 2 if quick else 5, 4 if quick else 80, tell)
        waiting = measure_waiting(scratch, 2 if quick else 8, tell)
        memory = measure_memory(scratch, 20_000 if quick else _RECORDS, tell)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    measured = {
        "machine": machine,
        "rates": rates,
        "waiting": waiting,
        "memory": memory,
        "targets": figures(rates, waiting, memory),
    }
    for entry in measured["targets"]:
        tell(line(entry))
    if path is not None:
        write_json(path, measured)
        tell(f"wrote {path.relative_to(ROOT)}")
    return measured


def line(entry: dict[str, Any]) -> str:
    """A target and its figure in a line."""
    target = Target(**entry["target"])
    goal = f"at least {target.least}" if target.most is None else f"at most {target.most}"
    return f"{target.what}: {entry['value']:.3g}, {goal}: {'met' if entry['met'] else 'missed'}"


def recorded() -> dict[str, Any]:
    """What the last recorded run measured."""
    result: dict[str, Any] = json.loads(RESULTS.read_text())
    return result


def table() -> tuple[list[str], list[list[str]]]:
    """The recorded rates: columns and rows."""
    rates = {
        way: Rate(*map(statistics.median, zip(*of, strict=True)))
        for way, of in recorded()["rates"].items()
    }
    rows = [[way, f"{rate.images:,.0f}", f"{rate.cpu:.0f} µs"] for way, rate in rates.items()]
    return ["", "images/s", "of a core, for an image"], rows


def targets_table() -> tuple[list[str], list[list[str]]]:
    """The recorded figures that have a target: columns and rows."""
    rows = []
    for entry in recorded()["targets"]:
        target = Target(**entry["target"])
        goal = f"≥ {target.least:g}" if target.most is None else f"≤ {target.most:g}"
        rows.append([target.what, f"{entry['value']:.3g}", goal])
    return ["", "measured", "target"], rows


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.input", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="small, and nothing recorded")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    console = make_console(width=120)
    if os.getloadavg()[0] > 0.3:
        console.print("The machine is busy: its load is above 0.3.", style="yellow")
    record(
        arguments.quick,
        lambda told: console.print(told, soft_wrap=True),
        None if arguments.quick else RESULTS,
    )


if __name__ == "__main__":
    main()
