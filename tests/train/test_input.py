"""Claims about how images reach the batches: in memory, from the cache, or decoded by workers."""

from __future__ import annotations

import io
import os
import pickle
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from small_runs import Facenet, write_faces
from test_resume import EVERYTHING, assert_same, interrupt_before, last
from torch import Tensor

from facenet_ext._files import lock
from facenet_ext.common.errors import InputError
from facenet_ext.data import cache, decoding, loader
from facenet_ext.data.decoding import DecodedRows, Geometry, LazyImages, MappedImages
from facenet_ext.data.examples import Examples
from facenet_ext.data.image_set import ImageSet, Subset
from facenet_ext.data.placement import Room, place
from facenet_ext.data.sets import open_set
from facenet_ext.data.unreadable import Unreadable, most_unreadable

GEOMETRY = Geometry(12, 3)
FLY = Room(memory=1e-9)
PARTS = [[3, 1, 3, 2], [0], [], [7, 2, 9, 4], [5, 5], [8], [6], [1], [4], [9], [0, 1]]


class Told:
    """A console whose lines a test looks at."""

    def __init__(self) -> None:
        self.file = io.StringIO()
        self.console = Console(file=self.file, width=10_000)

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageSet:
    """Ann has the rows 0 to 3, Bob 4 to 6, Cy 7, Di 8 and 9."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "index"))
    write_faces(tmp_path / "faces", {"Ann": 4, "Bob": 3, "Cy": 1, "Di": 2})
    return open_set(str(tmp_path / "faces"))


def examples(images: ImageSet, room: Room, told: Told) -> Examples:
    (placed,) = place([images], GEOMETRY, room, told.console)
    return Examples(placed.values, torch.from_numpy(np.array(images.labels[placed.rows])))


def damage(images: ImageSet, *rows: int) -> ImageSet:
    """Let images be none, and open the set anew."""
    for row in rows:
        (images.root / images.name(row)).write_bytes(b"no image")
    return open_set(str(images.root))


def test_batches_are_the_same_wherever_the_images_are(
    images: ImageSet, tmp_path: Path, told: Told
) -> None:
    expected = [tuple(batch) for batch in examples(images, Room(1.0), told).batches(PARTS)]
    assert [len(values) for values, *_ in expected] == [4, 1, 0, 4, 2, 1, 1, 1, 1, 1, 2]
    rooms = {
        "cache": Room(1.0, tmp_path / "cache", 1.0, 2),
        "cache, by no worker": Room(1.0, tmp_path / "cache", 1.0, 0),
        **{f"{n} workers": FLY._replace(workers=n) for n in (0, 1, 3)},
    }
    for name, room in rooms.items():
        got = [tuple(batch) for batch in examples(images, room, told).batches(PARTS)]
        assert_same(got, expected, name)
    whole = examples(images, Room(1.0), told).values
    lazy = examples(images, FLY, told).values
    assert_same([lazy[4], lazy[[1, 9]]], [whole[4], whole[[1, 9]]])
    assert_same((lazy.shape, lazy.dtype, len(lazy)), (tuple(whole.shape), torch.uint8, 10))


def test_the_choice_is_printed(images: ImageSet, tmp_path: Path, told: Told) -> None:
    size = f"{10 * 3 * 12 * 12 / 2**10:.1f} KiB"
    folder = cache.entry_of(tmp_path / "cache", images, GEOMETRY)
    for room, line in (
        (Room(1.0), f"images: {size} decoded, in memory"),
        (Room(1.0, tmp_path / "cache", 1.0), f"images: {size} decoded, in {folder}"),
        (FLY._replace(workers=2), "images: decoded when a batch needs them, ahead of it by 2"),
        (FLY._replace(workers=0), "images: decoded when a batch needs them; all 10 are"),
        (Room(1.0, tmp_path / "cache", 1e-6), f"images: {size} decoded, in {folder}"),
    ):
        examples(images, room, told)
        assert told.lines[-1].startswith(line)
    other = Geometry(16, 1)
    place([images], other, Room(1.0, tmp_path / "cache", 5e-6), told.console)
    assert told.lines[-1].startswith("images: 2.5 KiB decoded, in memory; 2.5 KiB do not")
    assert "see --cache-size" in told.lines[-1]


# Whose place is taken by whom: the next of the identity, behind its last the first; if it has no
# other, the next of the set.
@pytest.mark.parametrize(
    ("damaged", "row", "shown"),
    [([1], 1, 2), ([3], 3, 0), ([1, 2], 1, 3), ([7], 7, 8), ([7, 8], 7, 9), ([4, 5, 6], 5, 7)],
)
@pytest.mark.parametrize("workers", [0, 2])
def test_another_image_takes_the_place_of_one_that_cannot_be_read(
    images: ImageSet, told: Told, damaged: list[int], row: int, shown: int, workers: int
) -> None:
    whole = examples(images, Room(1.0), told)
    lazy = examples(damage(images, *damaged), FLY._replace(workers=workers), told)
    told.file.truncate(0)
    for _ in range(2):
        (first, batch) = lazy.batches([[0], [row, 0]])
        assert first.readable.tolist() == [0 not in damaged]
        assert batch.readable.tolist() == [False, True]
        assert torch.equal(batch.values[0], whole.values[shown])
        assert batch.labels[0] == whole.labels[shown]
    named = [line for line in told.lines if images.name(row) in line]
    assert len(named) == 1, "once"
    assert f"{images.root / images.name(row)}: cannot identify image file (so far" in named[0]


def test_too_many_unreadable_images_stop_a_run(images: ImageSet, told: Told) -> None:
    assert most_unreadable(10) == 4
    lazy = examples(damage(images, 0, 1, 2, 3, 5), FLY._replace(workers=1), told)
    with pytest.raises(
        InputError, match=r"5 of 10 images cannot be read, more than the 4 that"
    ) as e:
        list(lazy.batches([[0], [5]]))
    assert str(e.value).count("cannot identify image file") == 5
    assert len([line for line in told.lines if "so far" in line]) == 4


def test_a_set_without_a_readable_image_ends_soon(images: ImageSet, told: Told) -> None:
    broken = damage(images, *range(10))
    lazy = examples(broken, FLY._replace(workers=1), told)
    with pytest.raises(InputError, match="5 of 10 images cannot be read, more than the 4"):
        list(lazy.batches([[0]]))


def test_an_image_that_changes_during_a_run_is_unreadable(images: ImageSet, told: Told) -> None:
    lazy = examples(images, FLY._replace(workers=0), told)
    (images.root / images.name(1)).unlink()
    (batch,) = lazy.batches([[1]])
    assert not batch.readable.any()
    assert "cannot be read (No such file" in told.lines[-1]


def test_what_a_worker_gets_is_small_and_opens_the_files_anew(
    images: ImageSet, tmp_path: Path, told: Told
) -> None:
    for room in (FLY, Room(1.0, tmp_path / "cache", 1.0)):
        values = examples(images, room, told).values
        expected = values[[1, 2]]
        pickled = pickle.dumps(values)
        assert len(pickled) < 2000
        assert torch.equal(pickle.loads(pickled)[[1, 2]], expected)


class Odd(LazyImages):
    """Images [1] made by a function."""

    def __init__(self, make: Any) -> None:
        told = Told()
        super().__init__(4, Geometry(1, 1), "", 1, Unreadable(4, told.console.print))
        self.make, self.told = make, told

    def _read_into(self, out: Tensor, rows: Sequence[int]) -> DecodedRows:
        return DecodedRows(out.fill_(self.make()), np.array(rows), {})

    def first(self) -> int:
        return int(next(iter(Examples(self, torch.arange(4)).batches([[0]]))).values)


def test_a_worker_that_is_killed_ends_the_run_with_a_line() -> None:
    with pytest.raises(InputError, match=r"a process that decodes images has ended .*`workers`"):
        Odd(lambda: os.kill(os.getpid(), signal.SIGKILL)).first()


def test_what_stops_the_run_does_not_stop_its_workers() -> None:
    """Ctrl-C, and a launcher, signal all processes of a group; the run ends its workers itself."""

    def alone() -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return os.getpgid(0) == os.getpid()

    assert Odd(alone).first() == 1


def test_workers_that_the_shared_memory_has_no_room_for_are_not_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = Odd(lambda: 3)
    one.workers = 8
    for free, expected in ((10**9, (8, 2)), (50, (8, 1)), (24, (4, 1)), (5, (0, 1))):
        monkeypatch.setattr(loader.shutil, "disk_usage", lambda _, n=free: SimpleNamespace(free=n))
        assert loader._fitting(one, 1) == expected
    assert "/dev/shm has room for 2 batches: 0 workers instead of 8" in one.told.lines[-1]


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "decode_blocks", lambda *_: pytest.fail("decoded again"))


def kept(
    folder: Path, images: ImageSet, told: Told, progress: Any = lambda *_: None
) -> cache.Entry:
    return cache.kept(folder, images, GEOMETRY, told.console.print, progress)


def test_later_runs_find_what_was_decoded(
    images: ImageSet, tmp_path: Path, told: Told, request: pytest.FixtureRequest
) -> None:
    whole = examples(images, Room(1.0), told).values
    room = Room(1.0, tmp_path / "cache", 1.0)
    examples(images, room, told)
    request.getfixturevalue("no_decoding")
    values = examples(images, room, told).values
    assert isinstance(values, MappedImages)
    assert torch.equal(values[list(range(10))], whole)
    # Another split of the same set is in the same file.
    rows = np.array([9, 2])
    (part,) = place([Subset(images, rows)], GEOMETRY, room, told.console)
    assert torch.equal(part.values[[0, 1]], whole[torch.from_numpy(rows)])


def test_another_geometry_or_content_is_another_entry(images: ImageSet, tmp_path: Path) -> None:
    folders = {cache.entry_of(tmp_path, images, one) for one in (GEOMETRY, Geometry(12, 1))}
    Image.new("L", (30, 30)).save(images.root / images.name(0))
    folders.add(cache.entry_of(tmp_path, open_set(str(images.root)), GEOMETRY))
    assert len(folders) == 3


def test_unreadable_images_are_left_out_of_what_the_cache_gives(
    images: ImageSet, tmp_path: Path, told: Told
) -> None:
    images = damage(images, 2, 7)
    room = Room(1.0, tmp_path / "cache", 1.0)
    for again in (False, True):
        told.file.truncate(0)
        (placed,) = place([images], GEOMETRY, room, told.console)
        assert placed.rows.tolist() == [0, 1, 3, 4, 5, 6, 8, 9], again
        assert torch.equal(
            placed.values[2], place([images], GEOMETRY, Room(1.0), told.console)[0].values[2]
        )
        assert any("skipped 2 of 10 images that cannot be read" in line for line in told.lines)


def test_decoding_into_the_cache_goes_on_where_it_was_killed(
    images: ImageSet, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = np.load(kept(tmp_path / "whole", images, told).path)
    images = damage(images, 1)
    monkeypatch.setattr(decoding, "BLOCK", 2)
    monkeypatch.setattr(cache, "_NOTED", 2)
    done: list[int] = []

    def killed(count: int, _: int) -> None:
        if count == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept(tmp_path / "cache", images, told, killed)
    assert (
        cache.find(cache.entry_of(tmp_path / "cache", images, GEOMETRY), images, GEOMETRY) is None
    )
    entry = kept(tmp_path / "cache", images, told, lambda count, _: done.append(count))
    assert done == [6, 8, 10]
    assert list(entry.errors) == [1]
    expected[1] = 0
    np.testing.assert_array_equal(np.load(entry.path), expected)
    assert {file.name for file in entry.path.parent.iterdir()} == {
        "images.npy",
        "images.json",
        "lock",
    }


def test_a_damaged_file_in_the_cache_is_made_anew(
    images: ImageSet, tmp_path: Path, told: Told
) -> None:
    path = kept(tmp_path / "cache", images, told).path
    before = path.read_bytes()
    for damaged in (before[:-1], b""):
        path.write_bytes(damaged)
        assert kept(tmp_path / "cache", images, told).path.read_bytes() == before
    (path.parent / "images.json").write_text("{}")
    assert kept(tmp_path / "cache", images, told).path.read_bytes() == before


def test_one_process_decodes_and_the_others_wait(
    images: ImageSet, tmp_path: Path, told: Told, no_decoding: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cache.entry_of(tmp_path, images, GEOMETRY)
    folder.mkdir()
    found: list[cache.Entry] = []
    waiting = threading.Thread(target=lambda: found.append(kept(tmp_path, images, told)))
    with lock(folder / "lock"):  # of another process, which decodes
        waiting.start()
        while waiting.is_alive() and not told.lines:
            time.sleep(0.01)
        assert not found
        monkeypatch.undo()
        cache._decode(folder, images, GEOMETRY, lambda *_: None)
        monkeypatch.setattr(cache, "decode_blocks", lambda *_: pytest.fail("decoded again"))
    waiting.join(10)
    assert len(found) == 1
    assert told.lines == [f"waiting for another process, which decodes the images into {folder}"]


def test_a_full_disk_is_told(
    images: ImageSet, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"`cache` .*: cannot be written to \(No space left"):
        kept(tmp_path / "cache", images, told)


STRAIGHT = [*EVERYTHING, "--mine-every", "3", "--mined-triplets", "2", "--evaluations", "2"]


@pytest.mark.ci
def test_a_run_is_the_same_wherever_its_images_are(
    facenet: Facenet, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one whose workers are others after it was stopped, between two searches."""
    data = ["--data", faces]
    status, out, _ = facenet(*STRAIGHT, *data, "--output", "memory")
    assert status == 0
    assert "decoded, in memory" in out
    cached = ["--cache", "cache", "--workers", 1]
    assert facenet(*STRAIGHT, *data, *cached, "--output", "cached")[0] == 0
    flying = [*STRAIGHT, *data, "--memory", 1e-9, "--workers", 3, "--output", "flying"]
    with monkeypatch.context() as patch:
        interrupt_before(4, patch)
        assert facenet(*flying)[0] == 130
    status, out, err = facenet("--resume", "flying", "--workers", 1, tiny=False)
    assert (status, err) == (0, "")
    assert "decoded when a batch needs them, ahead of it by 1 worker;" in out
    memory = last("memory")
    for other in ("cached", "flying"):
        for part in ("global_step", "state_dict", "current_model_state", "optimizer_states"):
            assert_same(memory[part], last(other)[part], f"{other}.{part}")
        figures = [Path(run, "metrics.json").read_text() for run in ("memory", other)]
        assert figures[0] == figures[1]


def test_an_unreadable_image_does_not_end_a_run(facenet: Facenet, faces: Path) -> None:
    """One to learn from is replaced, and the pairs of one to verify are left out."""
    options = [*EVERYTHING[2:], "--max-steps", 6, "--data", faces, "--memory", 1e-9]
    assert facenet(*options, "--output", "whole")[0] == 0
    held_out = Path("whole/held_out.txt").read_text().split()
    learned = [name for name in sorted(os.listdir(faces)) if name not in held_out]
    verified = next(name for name in held_out if name.startswith("Person"))
    for name in (learned[0], verified):
        (faces / name / f"{name}_0002.png").write_bytes(b"no image")
    for workers in (0, 2):
        status, out, err = facenet(*options, "--workers", workers, "--output", f"run{workers}")
        assert (status, err) == (0, "")
        for name in (learned[0], verified):
            assert out.count(f"{name}_0002.png: cannot identify image file (so far") == 1
    assert_same(last("run0")["state_dict"], last("run2")["state_dict"])
    assert not torch.equal(*(_weight(run) for run in ("whole", "run0")))
    assert "verification of 27 same" in out  # of 30: three were with the image of four
    # Where all is decoded before the first step, the two are left out as they always were.
    assert "skipped 2 of 44 images" in facenet(*options[:-2], "--output", "memory")[1]


def _weight(run: str) -> Tensor:
    weight: Tensor = last(run)["state_dict"]["network.members.0.embedding.weight"]
    return weight
