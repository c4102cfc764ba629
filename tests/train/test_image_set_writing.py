"""Claims about conversions: nothing is lost from one format to another, nor by a kill."""

from __future__ import annotations

import json
import os
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest
from image_files import pictures, record, write_folder, write_parquet, write_records

from facenet_ext.common.errors import InputError
from facenet_ext.data.image_set import ImageSet
from facenet_ext.data.names import Format
from facenet_ext.data.sets import open_set
from facenet_ext.data.sets.writing import STATE, write_set

SHARED = Path(__file__).parents[3] / "shared" / "data" / "insightface"
LABELS = [0, 0, 0, 2, 2, 5, 5, 5, 10, 10]
IMAGES = pictures(len(LABELS))
FORMATS: tuple[Format, ...] = get_args(Format)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def content(images: ImageSet) -> list[tuple[bytes, str]]:
    """Each image, and who is on it, in the order of the rows."""
    names = list(images.identities)
    return [(images.read(row), names[images.labels[row]]) for row in range(len(images))]


@pytest.mark.parametrize(("first", "second"), [*product(FORMATS, FORMATS)])
def test_formats_round_trip(first: Format, second: Format, tmp_path: Path) -> None:
    """Images, their order and the names of identities stay, over two formats and back."""
    images = open_set(str(write_folder(tmp_path / "faces", IMAGES, LABELS)))
    expected = content(images)
    for number, form in enumerate((first, second, "folder")):
        to = tmp_path / str(number)
        write_set(images, to, form, part=4)
        images = open_set(str(to))
        assert content(images) == expected
        assert not (to / STATE).exists()


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs shared/data/insightface beside the checkout")
def test_records_are_those_of_mxnet_byte_for_byte(tmp_path: Path) -> None:
    """All but those images that mxnet wrote with several labels, of which the first counts."""
    images = open_set(str(SHARED))
    write_set(images, tmp_path / "rec", "rec", part=7)

    def records(folder: Path) -> dict[int, bytes]:
        lines = [line.split() for line in (folder / "train.idx").read_text().splitlines()]
        starts = {int(key): int(at) for key, at in lines}
        whole = (folder / "train.rec").read_bytes()
        ends = [*sorted(starts.values()), len(whole)]
        return {key: whole[at : ends[ends.index(at) + 1]] for key, at in starts.items()}

    ours, theirs = records(tmp_path / "rec"), records(SHARED)
    assert set(ours) == set(theirs)
    several = [key for key, it in theirs.items() if it[8] > 0 and 0 < key <= len(images)]
    assert len(several) == 8  # of 32
    assert [key for key in ours if ours[key] != theirs[key]] == several
    assert (tmp_path / "rec" / "property").read_text() == (SHARED / "property").read_text().strip()


def test_an_image_that_holds_the_magic(tmp_path: Path) -> None:
    """The record is divided there, and joined again."""
    magic = record(0, b"")[:4]
    odd = [magic, b"\xff\xd8" + magic * 3, b"abc" + magic + b"d", magic + b"x" * 5 + magic]
    images = open_set(str(write_parquet(tmp_path / "a.parquet", odd, [0, 0, 1, 1])))
    write_set(images, tmp_path / "rec", "rec")
    again = open_set(str(tmp_path / "rec"))
    assert content(again) == content(images)
    assert again.encoded_bytes == sum(map(len, odd))


def test_images_of_one_identity_need_not_lie_together(tmp_path: Path) -> None:
    """Then record 0 is an image."""
    labels = [3, 1, 3, 1, 0, 1, 2, 2, 2, 3]
    images = open_set(str(write_records(tmp_path / "a", IMAGES, labels)))
    for form in FORMATS[:3]:
        write_set(images, tmp_path / form, form)
        assert content(open_set(str(tmp_path / form))) == content(images)
    assert len((tmp_path / "rec" / "train.idx").read_text().splitlines()) == len(IMAGES)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kept", [0, 3, 4, 5, 9])
def test_a_stopped_conversion_goes_on(
    form: Format, kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with the files of one that was not stopped, and reads nothing twice but a part."""
    images = open_set(str(write_folder(tmp_path / "faces", IMAGES, LABELS)))
    write_set(images, tmp_path / "whole", form, part=4)
    read, seen = images.read, []

    def stopping(row: int) -> bytes:
        seen.append(row)
        if row == kept and len(seen) == kept + 1:
            raise KeyboardInterrupt
        return read(row)

    monkeypatch.setattr(images, "read", stopping)
    with pytest.raises(KeyboardInterrupt):
        write_set(images, tmp_path / "stopped", form, part=4)
    if form == "rec" and kept > 4:  # killed amid a write
        with (tmp_path / "stopped" / "train.rec").open("ab") as file:
            file.write(b"half a record" * 1000)
    seen.append(-1)  # it is stopped once
    write_set(images, tmp_path / "stopped", form, part=4)
    first = kept // 4 * 4
    assert [row for row in seen[kept + 2 :] if row >= first] == [
        *range(first, len(IMAGES)),
        *([] if form != "rec" or first else [0]),
    ]
    files = {
        path.relative_to(tmp_path / "whole"): path.read_bytes()
        for path in (tmp_path / "whole").rglob("*")
        if path.is_file()
    }
    for name, whole in files.items():
        assert (tmp_path / "stopped" / name).read_bytes() == whole, name
    assert len([*(tmp_path / "stopped").rglob("*.*")]) == len([*(tmp_path / "whole").rglob("*.*")])


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    images = open_set(str(write_folder(tmp_path / "faces", IMAGES, LABELS)))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"`to` .*taken: holds other files"):
        write_set(images, tmp_path / "taken", "shards")
    assert os.listdir(tmp_path / "taken") == ["mine.txt"]
    (tmp_path / "taken" / STATE).write_text(json.dumps({"from": "x", "format": "shards"}))
    with pytest.raises(InputError, match="holds other files"):
        write_set(images, tmp_path / "taken", "shards")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"`to` .*file: cannot be written to"):
        write_set(images, tmp_path / "file", "shards")


def test_names_of_identities_may_be_anything(tmp_path: Path) -> None:
    """A folder of them stays inside, and no two of them fall together."""
    import pyarrow
    import pyarrow.parquet

    names = ["../../etc", "/etc", "a/b", "a_b", "", "..", ".hidden", "x" * 300, "caf\u00e9\n", " "]
    table = pyarrow.table({"image": IMAGES, "label": names})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    images = open_set(str(tmp_path / "a.parquet"))
    assert len(images.identities) == len(names)
    write_set(images, tmp_path / "out" / "in", "folder")
    assert os.listdir(tmp_path / "out") == ["in"]
    folders: list[Any] = [path for path in (tmp_path / "out" / "in").iterdir() if path.is_dir()]
    assert len(folders) == len(names)
    again = open_set(str(tmp_path / "out" / "in"))
    assert sorted(row[0] for row in content(again)) == sorted(IMAGES)
    for form in FORMATS[:2]:
        write_set(images, tmp_path / form, form)
        assert len(open_set(str(tmp_path / form)).identities) == len(names)
