"""Claims about image sets: the same images, labels and rows, whatever the format."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import pickle
import shutil
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import (
    add,
    pictures,
    write_archive,
    write_folder,
    write_parquet,
    write_records,
    write_shards,
)

from facenet_ext.common.errors import InputError
from facenet_ext.data.image_list import ImageList
from facenet_ext.data.image_set import ImageSet, Subset
from facenet_ext.data.listing import list_images
from facenet_ext.data.sets import open_set
from facenet_ext.data.sets.index import Index, cached_index, text_columns
from facenet_ext.data.sets.patterns import matching
from facenet_ext.data.sources import find

SHARED = Path(__file__).parents[3] / "shared" / "data" / "insightface"
LABELS = [0, 0, 0, 2, 2, 5, 5, 5, 10, 10]
IMAGES = pictures(len(LABELS))

Writer = Callable[[Path], Path]
FORMATS: dict[str, Writer] = {
    "folder": lambda root: write_folder(root / "faces", IMAGES, LABELS),
    "rec": lambda root: write_records(root / "rec", IMAGES, LABELS),
    "shards": lambda root: write_shards(root / "shards", IMAGES, LABELS),
    "tar": lambda root: write_archive(root / "faces.tar", IMAGES, LABELS),
    "tar.gz": lambda root: write_archive(root / "faces.tar.gz", IMAGES, LABELS),
    "zip": lambda root: write_archive(root / "faces.zip", IMAGES, LABELS),
    "parquet": lambda root: write_parquet(root / "faces.parquet", IMAGES, LABELS),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "facenet_ext"


def contents(images: ImageSet) -> list[bytes]:
    return [images.read(row) for row in range(len(images))]


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_holds_the_same(form: str, tmp_path: Path) -> None:
    images: ImageSet = open_set(str(FORMATS[form](tmp_path)))
    assert contents(images) == IMAGES
    assert images.labels.dtype == np.int64
    assert not images.labels.flags.writeable
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]
    named = [f"P{label:02d}" for label in (0, 2, 5, 10)]
    numbered = ["0", "2", "5", "10"]
    assert list(images.identities) == (numbered if form in ("rec", "shards") else named)
    names = [images.name(row) for row in range(len(images))]
    assert len(set(names)) == len(names)
    assert sum(map(len, IMAGES)) <= open_set(str(images.root)).encoded_bytes + 200


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs shared/data/insightface beside the checkout")
def test_what_mxnet_wrote_is_read_byte_for_byte() -> None:
    images = open_set(str(SHARED))
    golden = json.loads((SHARED / "golden.json").read_text())
    assert len(images) == golden["images"]
    assert len(images.identities) == golden["identities"]
    for row, expected in enumerate(golden["records"]):
        content = images.read(row)
        assert len(content) == expected["bytes"]
        assert hashlib.sha256(content).hexdigest() == expected["sha256"]
        assert int(images.identities[images.labels[row]]) == expected["label"]
        assert images.name(row) == f"{expected['label']}/{expected['key']:07d}"
    assert images.encoded_bytes == sum(record["bytes"] for record in golden["records"])


def _read_elsewhere(pickled: bytes) -> tuple[list[bytes], int]:
    images = pickle.loads(pickled)
    return contents(images), images.index.path.stat().st_ino


@pytest.mark.parametrize("form", FORMATS)
def test_a_worker_opens_a_set_again(form: str, tmp_path: Path) -> None:
    """A set pickles in few bytes, and is read after a fork and in threads while the parent does."""
    images = open_set(str(FORMATS[form](tmp_path)))
    pickled = pickle.dumps(Subset(images, np.arange(3)).images)
    assert len(pickled) < 1000
    assert contents(images) == IMAGES  # its files are open now
    with multiprocessing.get_context("fork").Pool(2) as pool:
        waiting = [pool.apply_async(contents, (images,)) for _ in range(2)]
        again = pool.apply_async(_read_elsewhere, (pickled,))
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(images.read, [*range(len(IMAGES))] * 20)) == IMAGES * 20
        assert all(result.get(60) == IMAGES for result in waiting)
        assert images.index.path is not None
        assert again.get(60) == (IMAGES, images.index.path.stat().st_ino)  # the very same file


def test_a_spawned_worker_opens_a_set_again(tmp_path: Path) -> None:
    images = open_set(str(FORMATS["rec"](tmp_path)))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(contents, (images,)) == IMAGES


@pytest.mark.parametrize("form", ["rec", "shards", "tar", "zip", "parquet"])
def test_an_index_is_made_once(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    path = FORMATS[form](tmp_path)
    first = open_set(str(path))
    (index,) = (cache / "indices").iterdir()
    before = index.stat().st_mtime_ns, index.stat().st_ino
    second = open_set(str(path))
    assert (index.stat().st_mtime_ns, index.stat().st_ino) == before
    assert second.fingerprint == first.fingerprint
    index.write_bytes(index.read_bytes()[:-70])  # damaged: made again
    assert contents(open_set(str(path))) == IMAGES
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")  # cannot be written to
    assert contents(pickle.loads(pickle.dumps(open_set(str(path))))) == IMAGES


@pytest.mark.parametrize("form", ["rec", "shards", "tar", "zip", "parquet"])
def test_a_changed_file_is_noticed(form: str, tmp_path: Path) -> None:
    path = FORMATS[form](tmp_path)
    images = open_set(str(path))
    other, labels = [*reversed(IMAGES[:-1])], LABELS[:-1]
    shutil.rmtree(tmp_path / "new", ignore_errors=True)
    (tmp_path / "new").mkdir()
    writers: dict[str, Callable[[Path], Any]] = {
        "rec": lambda root: write_records(root / "rec", other, labels),
        "shards": lambda root: write_shards(root / "shards", other, labels),
        "tar": lambda root: write_archive(root / "faces.tar", other, labels),
        "zip": lambda root: write_archive(root / "faces.zip", other, labels),
        "parquet": lambda root: write_parquet(root / "faces.parquet", other, labels),
    }
    writers[form](tmp_path / "new")
    for file in (tmp_path / "new").rglob("*.*"):
        os.replace(file, tmp_path / file.relative_to(tmp_path / "new"))
    with pytest.raises(InputError, match=r"has changed since it was opened first"):
        images.read(0)
    again = open_set(str(path))
    assert contents(again) == other
    assert again.fingerprint != images.fingerprint
    with pytest.raises(InputError, match="has changed since the set was opened"):
        pickle.loads(pickle.dumps(images))


def test_a_changed_image_of_a_folder_is_noticed(tmp_path: Path) -> None:
    root = FORMATS["folder"](tmp_path)
    images = open_set(str(root))
    (root / "P00" / "0000.jpg").write_bytes(IMAGES[3])
    (root / "P02" / "0003.png").unlink()
    with pytest.raises(InputError, match=r"P00/0000\.jpg: has changed since its folder was listed"):
        images.read(0)
    with pytest.raises(InputError, match=r"P02/0003\.png: cannot be read"):
        images.read(3)
    again = open_set(str(root))
    assert contents(again) == [IMAGES[3], *IMAGES[1:3], *IMAGES[4:]]
    assert again.fingerprint != images.fingerprint


def test_a_large_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Afterwards the times of its folders tell of files that came, went or were replaced."""
    root = FORMATS["folder"](tmp_path)
    monkeypatch.setattr("facenet_ext.data.sets.folder._LISTED_ANEW", 5)
    first = open_set(str(root))
    with monkeypatch.context() as patch:
        patch.setattr("facenet_ext.data.sets.folder.images_under", pytest.fail)
        assert contents(open_set(str(root))) == IMAGES
    (root / "P00" / "new.png").write_bytes(IMAGES[1])
    assert len(open_set(str(root))) == len(IMAGES) + 1
    (root / "P00" / "new.png").unlink()
    (root / "P11").mkdir()
    (root / "P11" / "1.png").write_bytes(IMAGES[1])
    assert list(open_set(str(root)).identities) == [*first.identities, "P11"]


def test_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    root = FORMATS["folder"](tmp_path)
    (root / "P00" / "film.mpg").write_bytes(b"")
    (root / "P00" / "gone.png").symlink_to("nowhere")
    (root / "P00" / "notes").write_text("Not an image.")
    (root / "P00" / "more").mkdir()
    passed_over = open_set(str(root)).passed_over
    kinds = (".mpg", "dangling link", "file without ending", "folder in an identity's folder")
    assert passed_over == dict.fromkeys(kinds, 1)
    with tarfile.open(tmp_path / "odd.tar", "w") as tar:
        add(tar, "1.png", IMAGES[1])
        add(tar, "2.png", IMAGES[1])
        add(tar, "2.cls", b"7\n")
        add(tar, "2.json", b"{}")
        add(tar, "2.mp3", b"")
        add(tar, "3.cls", b"7")
    images = open_set(str(tmp_path / "odd.tar"))
    assert (len(images), list(images.identities)) == (1, ["7"])
    assert images.passed_over == {"image without .cls": 1, ".cls without image": 1, ".mp3": 1}


def test_names_of_identities_lie_beside_numbers(tmp_path: Path) -> None:
    names = [f"Person {number}" for number in range(11)]
    for form in ("rec", "shards"):
        path = FORMATS[form](tmp_path)
        before = open_set(str(path)).fingerprint
        folder = path if path.is_dir() else path.parent
        (folder / "identity_names.txt").write_text("\n".join(names))
        images = open_set(str(path))
        assert list(images.identities) == [names[number] for number in (0, 2, 5, 10)]
        assert images.fingerprint != before
        (folder / "identity_names.txt").write_text("\n".join(names[:10]))
        with pytest.raises(InputError, match="has 10 lines, and the identities are numbered 0 to"):
            open_set(str(path))


def test_patterns(tmp_path: Path) -> None:
    root = FORMATS["shards"](tmp_path)
    for pattern in ("shard-{000..001}.tar", "shard-*.tar", "shard-00{0,1}.tar", ""):
        assert contents(open_set(str(root / pattern))) == IMAGES
    assert contents(open_set(str(root / "shard-001.tar"))) == IMAGES[5:]
    assert contents(open_set(str(root / "shard-{001..000}.tar"))) == IMAGES[5:] + IMAGES[:5]
    with pytest.raises(InputError, match=r"shard-002\.tar is missing, and 1 others of 4"):
        open_set(str(root / "shard-{000..003}.tar"))
    with pytest.raises(InputError, match="more than 1,000,000 files"):
        open_set(str(root / "shard-{0..99999999999}.tar"))
    odd = root.rename(tmp_path / "odd[1]{2,3}*")
    assert contents(open_set(str(odd))) == IMAGES  # a path that exists is itself
    assert matching(str(tmp_path / "nothing-*")) == []


def test_a_folder_of_parquet_with_several_splits(tmp_path: Path) -> None:
    (tmp_path / "hub" / "data").mkdir(parents=True)
    for name in ("test", "train"):
        write_parquet(tmp_path / "hub" / "data" / f"{name}-00000-of-00001.parquet", IMAGES, LABELS)
    with pytest.raises(InputError, match=r"holds the splits test, train; give .*train-\*\.parquet"):
        open_set(str(tmp_path / "hub"))
    assert len(open_set(str(tmp_path / "hub" / "data" / "train-*.parquet"))) == len(IMAGES)


def test_parquet_with_names_for_labels(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"label": ["Zoe", "Ann", "Zoe"], "n": [1, 2, 3], "image": IMAGES[:3]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    images = open_set(str(tmp_path / "a.parquet"))
    assert (list(images.identities), images.labels.tolist()) == (["Ann", "Zoe"], [1, 0, 1])
    assert contents(images) == IMAGES[:3]


def test_an_archive_is_read_where_it_is_unless_it_holds_more(tmp_path: Path, cache: Path) -> None:
    for name in ("faces.tar", "faces.zip"):
        path = write_archive(tmp_path / name, IMAGES, LABELS)
        assert find(str(path)).train == path
    assert [entry.name for entry in cache.iterdir()] == ["indices"]
    with tarfile.open(tmp_path / "both.tar", "w") as tar:
        for row, part in enumerate(("train", "val")):
            add(tar, f"top/{part}/Ann/1.png", IMAGES[2 * row + 1])
        add(tar, "top/pairs.txt", b"")
    source = find(str(tmp_path / "both.tar"))
    assert source.val is not None
    assert source.pairs is not None
    assert source.pairs.parent == source.val.parent == source.train.parent
    assert source.train.is_relative_to(cache)


def test_a_list_of_a_set_is_that_of_its_folder(tmp_path: Path) -> None:
    of_folder = list_images(str(FORMATS["folder"](tmp_path)))
    for form in ("tar", "zip", "tar.gz"):
        images = list_images(str(FORMATS[form](tmp_path)))
        assert (images.ids, images.identities) == (of_folder.ids, of_folder.identities)
        some = images.among([7, 2])
        assert [some.read(row) for row in range(2)] == [IMAGES[7], IMAGES[2]]
        assert some.ids == of_folder.among([7, 2]).ids
        assert some.fingerprint != images.fingerprint
    one = ImageList.of_set(open_set(str(FORMATS["parquet"](tmp_path))))
    assert len(set(one.ids)) == len(IMAGES)


@pytest.mark.parametrize("form", FORMATS)
def test_an_index_of_ten_million_images_has_400_megabytes(form: str, tmp_path: Path) -> None:
    """That is 40 bytes of an image, names of 13 letters included, beside those of identities."""
    count, people = 2000, 20
    labels = [row // (count // people) for row in range(count)]
    images = [f"an image {row}".encode() for row in range(count)]
    writers: dict[str, Callable[[], Path]] = {
        "folder": lambda: write_folder(tmp_path / "faces", images, labels, "Person_{row:06d}"),
        "rec": lambda: write_records(tmp_path, images, labels),
        "shards": lambda: write_shards(tmp_path / "shards", images, labels),
        "tar": lambda: write_archive(tmp_path / "faces.tar", images, labels),
        "tar.gz": lambda: write_archive(tmp_path / "faces.tar.gz", images, labels),
        "zip": lambda: write_archive(tmp_path / "faces.zip", images, labels),
        "parquet": lambda: write_parquet(tmp_path / "faces.parquet", images, labels),
    }
    images_of = open_set(str(writers[form]()))
    assert len(images_of) == count
    assert images_of.index.nbytes <= 40 * count + 100 * people


def test_columns_of_an_index(cache: Path) -> None:
    """An index is mapped, read-only, in its file; texts of all kinds come back."""
    texts = ["Zoë", "", "a\nb", "caf\udce9"]
    columns = {"numbers": np.arange(1000, dtype=np.uint64), **text_columns("names", texts)}
    columns |= {**text_columns("empty", [""]), **text_columns("none", [])}
    facts: dict[str, Any] = {"fingerprint": "f", "more": [1]}
    made = cached_index("about", lambda _: True, lambda: Index(columns, facts))
    again = cached_index("about", lambda index: index.facts == facts, pytest.fail)
    assert list(again.texts("names")) == texts
    assert (list(again.texts("empty")), list(again.texts("none"))) == ([""], [])
    assert again.texts("names")[-1] == texts[-1]
    with pytest.raises(IndexError):
        again.texts("names")[4]
    for index in (made, again):
        assert index["numbers"].tolist() == list(range(1000))
        with pytest.raises(ValueError, match="read-only"):
            index["numbers"][0] = 1
    assert again.nbytes == sum(column.nbytes for column in columns.values())
