"""Claims about what counts as an image in a folder, and that nothing is passed over in silence."""

from __future__ import annotations

import importlib
import io
import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_runs import Command, assert_told
from PIL import Image
from rich.console import Console
from small_runs import Facenet, write_faces

from facenet_ext.data import heic
from facenet_ext.data.image_list import ImageList, is_image, list_identities, tell_passed_over, told
from facenet_ext.data.images import UnreadableImageError, read_image
from facenet_ext.recognition import list_tree


def encoded(form: str) -> bytes:
    file = io.BytesIO()
    Image.new("L", (20, 20)).save(file, form)
    return file.getvalue()


def add_odd_files(folder: Path) -> list[str]:
    """Add to a folder images with odd names, which are returned, and what is no image."""
    images = {"two.mpo": "MPO", "none": "PNG", "phone.heic": "JPEG", "x.jpg_large": "JPEG"}
    for name, form in images.items():
        (folder / name).write_bytes(encoded(form))
    (folder / "real.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (folder / "film.MPG").write_bytes(b"\0\0\1\xb3" + bytes(100))
    (folder / "notes").write_text("Not an image.")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "itself").symlink_to(folder / "itself")
    os.mkfifo(folder / "pipe.png")
    for name in (".hidden.heic", "pairs.txt", "Thumbs.db", "table.CSV"):  # not worth a word
        (folder / name).write_bytes(b"no image")
    return sorted(images)


ODD = "2 dangling links, 1 .mpg, 1 file without ending, 1 special file, 1 .heic"


def test_what_pillow_reads_is_an_image_and_the_rest_is_counted(tmp_path: Path) -> None:
    images = add_odd_files(tmp_path)
    passed_over: Counter[str] = Counter()
    entries = sorted(tmp_path.iterdir())
    assert [entry.name for entry in entries if is_image(entry, passed_over)] == images
    assert told(passed_over) == ODD
    tree = list_tree(tmp_path)
    assert tree.ids == images
    assert tree.passed_over == passed_over


def test_an_ending_says_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged image is one: it is named when it cannot be read. Nothing is opened for it."""
    monkeypatch.setattr(Image, "open", pytest.fail)
    for name in ("a.jpg", "a.MPO", "a.webp", "a.pgm"):
        (tmp_path / name).write_bytes(b"no image")
        assert is_image(tmp_path / name, Counter()), name


def test_many_kinds_are_summed_up(tmp_path: Path) -> None:
    passed_over = Counter({f".{number}": 20 - number for number in range(10)})
    assert told(passed_over).endswith("14 .6, 13 .7, 23 of other kinds")
    console = Console(file=io.StringIO(), width=10)
    passed_over = Counter({"file without ending": 1200})
    tell_passed_over(ImageList(tmp_path, [], [], passed_over), console)
    line = console.file.getvalue()
    assert line == f"passed over in {tmp_path}: 1,200 files without ending\n"


def test_a_plugin_adds_a_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.novel").write_bytes(b"novel")
    assert not is_image(tmp_path / "a.novel", Counter())
    monkeypatch.setattr(Image, "EXTENSION", {**Image.EXTENSION, ".novel": "NOVEL"})
    monkeypatch.setattr(Image, "OPEN", {**Image.OPEN, "NOVEL": (lambda *_: None, None)})
    assert is_image(tmp_path / "a.novel", Counter())


def test_what_lies_elsewhere_is_counted_too(tmp_path: Path) -> None:
    faces = write_faces(tmp_path / "faces", {"Ann": 2, "Bob": 2})
    shutil.copy(faces / "Ann" / "Ann_0001.png", faces)
    write_faces(faces / "Bob", {"more": 1})
    write_faces(faces, {".hidden": 1})
    images = list_identities(faces)
    assert len(images) == 4
    expected = "1 image in no identity's folder, 1 folder in an identity's folder"
    assert told(images.passed_over) == expected


def test_every_command_that_lists_images_says_what_it_passes_over(
    command: Command, facenet: Facenet, world: Path
) -> None:
    shutil.copytree(world / "faces", "faces")
    add_odd_files(Path("faces/Person_00"))
    line = f"passed over in faces: {ODD}\n"
    model = ("--checkpoint", world / "old")
    for arguments in (
        ("embed", "faces"),
        ("identify", "faces", world / "faces/Person_00/Person_00_0001.png"),
        ("cluster", "faces", "--sheets", 0),
        ("evaluate", "--data", "faces", "--quality", 0, "--output", "report"),
    ):
        _, _, err = command(*arguments, *model)
        said = [told for told in err.splitlines(True) if not told.startswith("warning: ")]
        assert said == [line], arguments[0]
    _, out, err = facenet("--data", "faces", "--held-out", 0.4)
    assert line in out
    _, _, err = command("mine", world / "old", "--data", "faces", "--suspects", 0)
    assert line in err


def test_where_there_are_none_it_says_what_there_is(command: Command, tmp_path: Path) -> None:
    Path("phone/Ann").mkdir(parents=True)
    for number in range(3):
        Path(f"phone/Ann/{number}.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    plugin = "pip install pillow-heif"
    assert_told(command("embed", "phone"), "phone: no images found in it, only 3 .heic", plugin)
    assert_told(
        command("train", "--data", "phone"), "phone: no images found (3 .heic); put", plugin
    )


def test_heic_is_told_with_the_plugin_that_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the file is called; once the plugin is there it is registered."""
    for name in ("photo.heic", "photo.jpg"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
        with pytest.raises(UnreadableImageError, match=r"photo\..*: .*pip install pillow-heif"):
            read_image(tmp_path / name, 32, 3)
    registered: list[bool] = []
    plugin = SimpleNamespace(register_heif_opener=lambda: registered.append(True))
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)  # type: ignore[arg-type]
    importlib.reload(heic)
    assert registered
