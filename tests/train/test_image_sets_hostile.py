"""Claims about damaged and hostile files: one clear line each, nothing executed, nothing lost."""

from __future__ import annotations

import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from image_files import (
    add,
    pictures,
    record,
    write_archive,
    write_parquet,
    write_records,
    write_shards,
)

from facenet_ext.common.errors import InputError
from facenet_ext.data import unpacking
from facenet_ext.data.insightface_bin import read_bin
from facenet_ext.data.sets import open_set
from facenet_ext.data.sources import find

IMAGES, LABELS = pictures(6), [0, 0, 1, 1, 2, 2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "facenet_ext"


def read_all(path: Path) -> None:
    images = open_set(str(path))
    for row in range(len(images)):
        images.name(row)
        images.read(row)


def told(path: Path, *parts: str) -> None:
    """Opening some data, or reading all of it, says these things in one line."""
    with pytest.raises(InputError) as caught:
        read_all(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.stem in message
    for part in parts:
        assert part in message


def changed(path: Path, at: int, content: bytes) -> None:
    whole = bytearray(path.read_bytes())
    whole[at : at + len(content)] = content
    path.write_bytes(whole)


def test_records_that_are_none(tmp_path: Path) -> None:
    def fresh() -> Path:
        return write_records(tmp_path, IMAGES, LABELS)

    path = fresh()
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-20])
    told(path, "key 5", "is no whole record")
    path.write_bytes(path.read_bytes()[: size // 3])
    told(path, "lists a record at byte", "cut off")
    changed(fresh(), 0, b"nope")
    told(path, "key 0", "magic")
    changed(fresh(), 4, struct.pack("<I", 2**29 - 1))
    told(path, "key 0", "cut off")
    offset = int((tmp_path / "train.idx").read_text().split()[3])
    for content, at in ((b"nope", 0), (struct.pack("<I", 2**29 - 1), 4)):
        changed(fresh(), offset + at, content)
        told(path, "key 1", "1 record of 6 records from there on are damaged")
    changed(fresh(), offset + 4, struct.pack("<I", 3 << 29 | 40))  # the end of another
    told(path, "key 1", "is no whole record")
    changed(fresh(), offset + 8, struct.pack("<I", 2**31))  # so many labels
    told(path, "key 1", "is no whole record")
    for label in (float("nan"), float("inf"), 0.5, 1e30):
        changed(fresh(), offset + 12, struct.pack("<f", label))
        told(path, "the record of key 1 has label", "no number of an identity")
    path.unlink()
    told(path, "no such folder")


def test_parts_without_end(tmp_path: Path) -> None:
    """A record in parts goes on for ever, or into another record."""
    payload = struct.pack("<IfQQ", 0, 0.0, 0, 0) + b"x" * 8
    for following, why in (
        (struct.pack("<II", 0xCED7230A, 2 << 29), "cut off"),
        (record(0.0, b"y"), "has no last part"),
        (b"nope" * 5, "has a damaged part"),
        (b"", "cut off"),
    ):
        first = struct.pack("<II", 0xCED7230A, 1 << 29 | len(payload)) + payload
        (tmp_path / "train.rec").write_bytes(record(1.0, b"a") + first + following)
        (tmp_path / "train.idx").write_text(f"0\t0\n1\t{len(record(1.0, b'a'))}\n")
        told(tmp_path / "train.rec", "key 1", why)


def test_an_index_of_something_else(tmp_path: Path) -> None:
    path, listed = write_records(tmp_path, IMAGES, LABELS), tmp_path / "train.idx"
    for text, *parts in (
        ("", "lists no records"),
        ("0\n", "expected a key and an offset"),
        ("0\t1\t2\n", "expected a key and an offset"),
        ("a\tb\n", "not a list of keys and offsets"),
        ("0\t0\n0\t8\n", "lists key 0 twice"),
        ("0\t-8\n", "both 0 or above"),
        ("0\t99999999\n", "lists a record at byte 99,999,999"),
        ("0\t99999999999999999999999\n", "not a list of keys and offsets"),
        ("0\t4\n", "does not begin with the magic number"),
        ("\x00\xff\t0\n", "not a list of keys and offsets"),
    ):
        listed.write_text(text, encoding="latin-1")
        told(path, *parts)
    listed.unlink()
    told(path, "train.idx is missing beside it")


def test_record_0_may_lie(tmp_path: Path) -> None:
    """It says where the images end."""
    for last in (0.0, 1.0, -5.0, float("nan"), 1e30):
        content = struct.pack("<II", 0xCED7230A, 32)
        content += struct.pack("<IfQQ", 2, 0, 0, 0) + struct.pack("<2f", last, 9)
        (tmp_path / "train.rec").write_bytes(content + record(3.0, IMAGES[0]))
        (tmp_path / "train.idx").write_text(f"0\t0\n1\t{len(content)}\n")
        if last == 1e30:
            assert open_set(str(tmp_path)).read(0) == IMAGES[0]
        else:
            told(tmp_path / "train.rec", "record 0")


def test_damaged_shards(tmp_path: Path) -> None:
    (path,) = write_shards(tmp_path / "s", IMAGES, LABELS, 1).iterdir()
    whole = path.read_bytes()
    for end, why in ((700, "is cut off"), (1024, "is cut off"), (0, "is empty"), (100, "cut off")):
        path.write_bytes(whole[:end])
        told(path, why)
    path.write_bytes(whole + whole)
    told(path, "goes on after its end mark")
    path.write_bytes(whole)
    changed(path, 0, b"zzzz")  # the checksum of the first header is wrong
    told(path, "is no tar file")
    path.write_bytes(whole)
    second = 512 * (2 + len(IMAGES[0]) // 512)
    changed(path, second, b"\xff" * 100)
    told(path, f"is damaged at byte {second:,}")
    with tarfile.open(path, "w:gz") as tar:
        add(tar, "1.jpg", IMAGES[0])
    told(path, "no tar file that is not compressed")
    path.write_bytes(b"")
    told(path, "is empty")


@pytest.mark.parametrize("label", [b"", b"x", b"1.5", b"\xff", b"1" * 5000, b"0x1"])
def test_a_label_that_is_no_number(label: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "1.jpg", IMAGES[0])
        add(tar, "1.cls", label)
    told(tmp_path / "a.tar", "1.cls should have the number of an identity")


def test_a_label_beyond_64_bits(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "1.jpg", IMAGES[0])
        add(tar, "1.cls", b"9" * 20)
    told(tmp_path / "a.tar", "1.cls should have the number of an identity")


def test_samples_that_are_ambiguous_or_none(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "1.jpg", IMAGES[0])
        add(tar, "1.png", IMAGES[1])
        add(tar, "1.cls", b"1")
    told(tmp_path / "a.tar", "1 has two images, 1.jpg and 1.png")
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        add(tar, "1.cls", b"1")
        add(tar, "1.mp3", b"1")
    told(tmp_path / "b.tar", "no images found", ".mp3", "KEY.jpg with KEY.cls")


@pytest.mark.parametrize("name", ["/etc/Ann/1.jpg", "../../Ann/1.jpg", "a/../../Ann/1.jpg"])
def test_names_that_lead_out(name: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, name, IMAGES[0])
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, IMAGES[0])
    for path in (tmp_path / "a.tar", tmp_path / "a.zip"):
        told(path, "leads out of its folder")
        with pytest.raises(InputError):
            find(str(path))
    assert not list(tmp_path.rglob("1.jpg"))


def test_members_that_are_no_files(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(f"Ann/{number}.jpg")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        add(tar, "Ann/9.jpg", IMAGES[0])
    images = open_set(str(tmp_path / "a.tar"))
    assert [images.name(row) for row in range(len(images))] == ["Ann/9.jpg"]


def test_a_member_that_claims_an_exabyte(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        member = tarfile.TarInfo("Ann/1.jpg")
        member.size = 2**60
        tar.addfile(member)
    told(
        tmp_path / "a.tar", "is cut off: Ann/1.jpg at byte 0 should have 1,152,921,504,606,846,976"
    )


def test_archives_that_unpack_to_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(unpacking, "_FREE", 100_000)
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as tar:
        add(tar, "Ann/1.jpg", bytes(10_000_000))
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/Ann/1.jpg", bytes(10_000_000))
        archive.writestr("val/Ann/1.jpg", b"")
    for name in ("bomb.tar.gz", "bomb.zip"):
        with pytest.raises(InputError, match=f"{name}: cannot be unpacked .*has 10,000,000 bytes"):
            find(str(tmp_path / name))
    assert not list(cache.rglob("*.jpg"))


def test_a_zip_whose_members_lie(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"

    def fresh() -> bytes:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("Ann/1.jpg", bytes(5000))
        return path.read_bytes()

    whole = fresh()
    directory = whole.index(b"PK\1\2")
    for at, content, why in (
        (0, b"nope", "member at byte 0 is damaged"),
        (40, b"\xff\xff", "Ann/1.jpg is damaged"),
        (directory + 24, struct.pack("<I", 50), "is damaged"),  # another size
        (directory + 16, b"\1\2\3\4", "is damaged"),  # another checksum
        (directory + 20, struct.pack("<I", 2**29), "lies behind the file's end"),
        (directory + 24, struct.pack("<I", 2**31), "has more than 1,073,741,824 bytes"),
        (directory + 10, struct.pack("<H", 99), "unusual method"),
        (directory + 8, struct.pack("<H", 1), "is encrypted"),
        (directory, b"nope", "is no zip archive"),
    ):
        path.write_bytes(whole)
        changed(path, at, content)
        told(path, why)
    path.write_bytes(whole[:-5])
    told(path, "is no zip archive")


def test_parquet_without_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    tables: list[tuple[dict[str, Any], str]] = [
        ({"label": [1, 2]}, "has no column of images"),
        ({"image": IMAGES[:2]}, "has no column of labels"),
        ({"image": ["a", "b"], "label": [1, 2]}, "has no column of images"),
        ({"image": IMAGES[:2], "label": [1.5, 2]}, "has no column of labels"),
        ({"image": IMAGES[:2], "a": [1, 2], "b": [1, 2]}, "has no column of labels"),
        ({"image": IMAGES[:2], "label": [1, None]}, "is empty"),
        ({"image": [IMAGES[0], None], "label": [1, 2]}, "row 1: has no bytes of an image"),
        ({"image": [], "label": []}, "has no"),
    ]
    for columns, why in tables:
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
        told(path, why)
    write_parquet(path, IMAGES, LABELS)
    whole = path.read_bytes()
    for end in (0, 3, 100, len(whole) - 10):
        path.write_bytes(whole[:end])
        told(path, "no Parquet file")
    path.write_bytes(whole)
    changed(path, 4, b"\xff" * 60)
    told(path, "row group 0 is damaged")
    write_parquet(path, IMAGES, LABELS)
    pyarrow.parquet.write_table(
        pyarrow.table({"jpg": IMAGES, "id": LABELS}), tmp_path / "b.parquet"
    )
    with pytest.raises(InputError, match=r"b\.parquet: has the columns .*'jpg', 'id'.*'image'"):
        open_set(str(tmp_path / "*.parquet"))


def test_names_from_metadata_may_be_anything(tmp_path: Path) -> None:
    table = pyarrow.table({"image": IMAGES, "label": LABELS})
    for names in (b"", b"[", b"1", b'{"info": 1}', b"[" * 100_000, b'{"info": {"features": []}}'):
        described = table.replace_schema_metadata({b"huggingface": names})
        pyarrow.parquet.write_table(described, tmp_path / "a.parquet")
        assert list(open_set(str(tmp_path / "a.parquet")).identities) == ["0", "1", "2"]


class Harm:
    """What a hostile pickle would run."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_bin_runs_nothing(protocol: int, tmp_path: Path) -> None:
    import builtins
    import os

    path, marker = tmp_path / "a.bin", tmp_path / "marker"
    for harm in (
        Harm(os.system, f"touch {marker}"),
        Harm(builtins.exec, f"open({str(marker)!r}, 'w')"),
        Harm(builtins.open, str(marker), "w"),
        Harm(np.load, str(path)),
        np.array([Harm(os.mkdir, str(marker))], object),
        {"a": 1},
        1.5,
    ):
        for pairs in ((IMAGES[:2], [harm]), ([harm, harm], [True]), harm):
            path.write_bytes(pickle.dumps(pairs, protocol))
            with pytest.raises(InputError, match=r"a\.bin: "):
                read_bin(path)
    assert not marker.exists()


def test_a_bin_that_says_too_much(tmp_path: Path) -> None:
    """A large number of a memo or of bytes is not believed, nor any state set."""
    path = tmp_path / "a.bin"
    for content, why in (
        (b"", "no file of pairs"),
        (b"\x80\x04N.", "no file of pairs"),
        (b"\x80\x04]r\xff\xff\xff\x7f.", "no file of pairs"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".", "no file of pairs"),
        (b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b".", "no file of pairs"),
        (b"c_codecs\nencode\n]b.", "sets the state of a function"),
        (b"cnumpy\nndarray\n]b.", "sets the state of a type"),
        (b"c_codecs\nencode\nX\1\0\0\0aX\3\0\0\0hex\x86R.", "encoded in an unusual way"),
        (b"csys\nmodules\n.", "names sys.modules"),
        (pickle.dumps((IMAGES[:3], [True])), "3 images for 1 pair"),
        (pickle.dumps(([], [])), "0 images for 0 pairs"),
        (pickle.dumps((IMAGES[:2], [2])), "no list of booleans"),
        (pickle.dumps((IMAGES[:2], "yes")), "and no list"),
        (pickle.dumps(([np.zeros(3)] * 2, [True])), "an array is of f8"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"a.bin: .*{why}"):
            read_bin(path)


WRITERS: dict[str, Callable[[Path], list[Path]]] = {
    "rec": lambda root: [write_records(root, IMAGES, LABELS), root / "train.idx"],
    "shards": lambda root: [*write_shards(root, IMAGES, LABELS, 1).glob("*.tar")],
    "tar": lambda root: [write_archive(root / "a.tar", IMAGES, LABELS)],
    "zip": lambda root: [write_archive(root / "a.zip", IMAGES, LABELS)],
    "parquet": lambda root: [write_parquet(root / "a.parquet", IMAGES, LABELS)],
    "bin": lambda root: [_write_bin(root / "a.bin")],
}


def _write_bin(path: Path) -> Path:
    same = [np.bool_(True), True, np.bool_(False)]
    path.write_bytes(pickle.dumps(([*IMAGES[:4], *map(_as_array, IMAGES[4:])], same), 2))
    return path


def _as_array(content: bytes) -> Any:
    return np.frombuffer(content, np.uint8)


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """A file with a few bytes changed, cut out, doubled or cut off."""
    changed = bytearray(content)
    for _ in range(random.integers(1, 4)):
        at = int(random.integers(0, len(changed) + 1))
        length = int(random.choice([1, 1, 4, 8, 100]))
        match random.integers(0, 6):
            case 0:
                changed[at : at + length] = random.bytes(length)
            case 1:
                changed[at : at + length] = b"\xff" * length
            case 2:
                changed[at : at + length] = bytes(length)
            case 3:
                del changed[at : at + length]
            case 4:
                changed[at:at] = changed[at : at + length]
            case _:
                del changed[max(1, at) :]
    return bytes(changed)


@pytest.mark.parametrize("form", WRITERS)
def test_damage_of_any_kind_is_one_line_or_does_no_harm(form: str, tmp_path: Path) -> None:
    files = WRITERS[form](tmp_path / "fuzz" if form == "shards" else tmp_path)
    whole = {file: file.read_bytes() for file in files}
    random = np.random.default_rng(len(form))
    messages = []
    for _ in range(150):
        for file, content in whole.items():
            file.write_bytes(damaged(content, random))
        try:
            (read_bin if form == "bin" else read_all)(files[0])
        except InputError as error:
            messages.append(str(error))
    assert len(messages) > 20
    for message in messages:
        assert str(tmp_path) in message
        assert len(message) < 2000
        assert "\n" not in message
