"""Claims about ``facenet embed``: what it stores, that it goes on after a kill, what it refuses."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_runs import Command, assert_told

import facenet_ext.recognition.embedding as embedding
from facenet_ext.common import blocks
from facenet_ext.common.errors import InputError
from facenet_ext.data.images import read_image
from facenet_ext.embedding.loading import checkpoint_path, file_hash, load_embedder
from facenet_ext.recognition import list_tree, read_embeddings


def embed(command: Command, world: Path, *more: object, images: str = "faces") -> Any:
    return command("embed", world / images, "--checkpoint", world / "old", *more)


def test_a_folder_is_embedded_as_the_network_does(command: Command, world: Path) -> None:
    status, out, err = embed(command, world, "--output", "e", "--batch", 7)
    assert (status, err) == (0, "")
    assert "52 embeddings of 8 numbers in e" in out
    stored = read_embeddings(Path("e"))
    path = checkpoint_path(str(world / "old"))
    assert stored.model.checkpoint == file_hash(path)
    assert stored.model.network == "small"
    assert stored.ids == sorted(stored.ids)
    assert stored.ids[0] == "Person_00/Person_00_0001.png"
    assert stored.identities == [name.split("/")[0] for name in stored.ids]
    module = load_embedder(path)
    data = module.options.data
    images = [read_image(world / "faces" / i, data.image_size, data.channels) for i in stored.ids]
    with torch.no_grad():
        expected = module(torch.stack(images))
    np.testing.assert_allclose(stored.embeddings, expected, atol=1e-6)
    assert not list(Path("e").glob(".*"))
    assert not Path("e/unreadable.csv").exists()


def test_loading_a_model_leaves_the_random_state_as_it_is(world: Path) -> None:
    before = torch.get_rng_state()
    load_embedder(checkpoint_path(str(world / "old")))
    assert torch.equal(torch.get_rng_state(), before)


def test_images_are_listed_in_order_of_their_paths(tmp_path: Path) -> None:
    """Part by part: a folder lies where its name does among the files beside it."""
    names = ["b.png", "a/2.png", "a/10.png", "a b/c.png", "a/b/x.png", "a-b/y.png", "á/z.JPG"]
    for name in (*names, ".hidden/no.png", "a/.no.png", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "linked.png").symlink_to(tmp_path / "b.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    (tmp_path / "c").symlink_to(tmp_path / "a" / "b")
    found = list_tree(tmp_path)
    expected = sorted(map(Path, [*names, "linked.png", "c/x.png"]))
    assert found.ids == [path.as_posix() for path in expected]
    assert found.identities == [path.parent.name for path in expected]
    assert [found.path(row) for row in range(len(found))] == [tmp_path / path for path in expected]


def test_a_folder_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def refused(folder: Path) -> Any:
        if Path(folder).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(InputError, match=r"closed: cannot be read \(Permission denied\)"):
        list_tree(tmp_path)


def test_one_view_is_another_embedding(command: Command, world: Path) -> None:
    embed(command, world, "--output", "all")
    status, out, _ = embed(command, world, "--output", "one", "--views", "one", "--json")
    figures = json.loads(out)
    assert status == 0
    assert figures["views"] == "one"
    assert figures["rows"] == 52
    assert figures["identities"] == 16
    one, every = read_embeddings(Path("one")), read_embeddings(Path("all"))
    assert one.model != every.model
    assert np.abs(one.embeddings - every.embeddings).max() > 1e-4


def test_a_single_image_has_no_identity(command: Command, world: Path) -> None:
    image = "faces/Person_00/Person_00_0001.png"
    assert embed(command, world, "--output", "e", images=image)[0] == 0
    stored = read_embeddings(Path("e"))
    assert stored.ids == ["Person_00_0001.png"]
    assert stored.identities == [""]


class Kill(BaseException):
    """What no handler catches, as a killed process runs none."""


@pytest.mark.parametrize("moment", ["in a batch", "in its rows", "before it is told", "at the end"])
def test_it_goes_on_after_a_kill(
    moment: str, command: Command, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(command, world, "--output", "whole", "--batch", 10)
    calls = 0

    def now(at: int) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise Kill

    with monkeypatch.context() as patch:
        if moment == "in a batch":
            real_read = embedding.read_row
            patch.setattr(embedding, "read_row", lambda *a: (now(35), real_read(*a))[1])
        elif moment == "in its rows":
            real_add = embedding._Parts.add

            def add(self: Any, number: int, *rest: Any) -> None:
                if calls == 2:  # half of a block's rows have reached the disk
                    self._rows(number).write_bytes(b"half a row")
                now(3)
                real_add(self, number, *rest)

            patch.setattr(embedding._Parts, "add", add)
        elif moment == "before it is told":
            real_json = blocks.write_json
            patch.setattr(blocks, "write_json", lambda *a: (now(4), real_json(*a)))
        else:
            patch.setattr(embedding, "finish_store", lambda *_: now(1))
        with pytest.raises(Kill):
            embed(command, world, "--output", "e", "--batch", 10)
    done = blocks.Blocks(Path("e/.unfinished"), items=52, size=10).done
    assert done > 0
    with pytest.raises(Exception, match=r"store\.json is missing"):
        read_embeddings(Path("e"))

    decoded: list[int] = []
    real = embedding.read_row
    monkeypatch.setattr(
        embedding, "read_row", lambda of, row, *a: (decoded.append(row), real(of, row, *a))[1]
    )
    status, out, _ = embed(command, world, "--output", "e", "--batch", 10)
    assert status == 0
    assert "52 embeddings" in out
    assert len(decoded) == 52 - done, "nothing that was finished is done again"
    a, b = read_embeddings(Path("whole")), read_embeddings(Path("e"))
    assert a.ids == b.ids
    assert np.array_equal(a.embeddings, b.embeddings)
    decoded.clear()
    assert "all of it before" in embed(command, world, "--output", "e")[1]
    assert not decoded


def damage(world: Path, folder: Path) -> Path:
    shutil.copytree(world / "faces", folder)
    (folder / "Person_01" / "Person_01_0002.png").write_bytes(b"no image")
    whole = (folder / "Person_02" / "Person_02_0001.png").read_bytes()
    (folder / "Person_02" / "Person_02_0001.png").write_bytes(whole[:90])
    (folder / "Person_02" / "two\nlines.png").write_bytes(whole)
    return folder


def test_unreadable_images_are_listed_and_stop_nothing(command: Command, world: Path) -> None:
    folder = damage(world, Path("damaged"))
    status, out, err = embed(command, world, "--output", "e", images=str(folder.resolve()))
    assert (status, err) == (0, "")
    assert "50 embeddings" in out
    assert "3 images cannot be read: e/unreadable.csv" in out
    rows = list(csv.DictReader(Path("e/unreadable.csv").read_text().splitlines()[:3]))
    assert [row["image"] for row in rows] == [
        "Person_01/Person_01_0002.png",
        "Person_02/Person_02_0001.png",
    ]
    assert all(row["reason"] for row in rows)
    stored = read_embeddings(Path("e"))
    assert len(stored) == len(stored.embeddings) == 50
    assert "Person_01/Person_01_0002.png" not in stored.ids
    stop = ("--on-unreadable", "stop", "--output", "other")
    assert_told(
        embed(command, world, *stop, images=str(folder.resolve())),
        "Person_01_0002.png: cannot be read",
    )


def test_other_images_and_other_models_are_refused(command: Command, world: Path) -> None:
    embed(command, world, "--output", "e")
    result = command("embed", world / "faces", "--checkpoint", world / "new", "--output", "e")
    assert_told(result, "e: holds the embeddings of other images or of another model")
    some = world / "faces" / "Person_00"
    assert_told(
        command("embed", some, "--checkpoint", world / "old", "--output", "e"), "of other images"
    )


def test_a_changed_image_is_not_taken_for_what_it_was(command: Command, world: Path) -> None:
    folder = Path("changing")
    shutil.copytree(world / "faces", folder)
    embed(command, world, "--output", "e", images=str(folder.resolve()))
    image = folder / "Person_00" / "Person_00_0001.png"
    image.write_bytes((folder / "Person_01" / "Person_01_0001.png").read_bytes())
    result = embed(command, world, "--output", "e", images=str(folder.resolve()))
    assert_told(result, "of other images")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "nowhere: no such folder or image"),
        (["."], "no images found in it"),
        (["{faces}", "--checkpoint", "nothing.ckpt"], "nothing.ckpt: no such checkpoint"),
        (["{faces}"], "--checkpoint: no run in runs/"),
        (["{faces}", "--device", "abacus", "--checkpoint", "{run}"], "--device abacus"),
        (["{faces}", "--batch", "0"], "batch"),
        (["{faces}", "--views", "two"], "views"),
        (["{faces}", "--on-unreadable", "cry"], "on-unreadable"),
        (["{faces}", "--checkpoint", "{run}", "--output", "file/e"], "cannot be written to"),
        ([], "images"),
    ],
)
def test_what_it_cannot_do_is_one_line(
    arguments: list[str], told: str, command: Command, world: Path
) -> None:
    Path("file").write_text("")
    filled = [a.format(faces=world / "faces", run=world / "old") for a in arguments]
    assert_told(command("embed", *filled), told)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("store.json", "[]", "store.json: not that of embeddings"),
        ("store.json", '{"format": "another"}', "expected 'facenet_ext embeddings, 1'"),
        ("store.json", None, "store.json is missing"),
        ("ids.txt", "one\n", "ids.txt: expected 52 lines, got 1"),
        ("identities.txt", None, "identities.txt: cannot be read"),
        ("embeddings.npy", "gibberish", "embeddings.npy: not an .npy file of numbers"),
    ],
)
def test_a_damaged_store_is_one_line(
    name: str, content: str | None, told: str, command: Command, world: Path
) -> None:
    embed(command, world, "--output", "e")
    if content is None:
        Path("e", name).unlink()
    else:
        Path("e", name).write_text(content)
    with pytest.raises(Exception, match=told.replace(".", r"\.")):
        read_embeddings(Path("e"))


def test_objects_and_other_matrices_are_refused(command: Command, world: Path) -> None:
    embed(command, world, "--output", "e")
    for array, told in (
        (np.zeros((52, 8)), "expected a float32 matrix"),
        (np.zeros((51, 8), np.float32), "expected 52 rows, got 51"),
        (np.array([{}] * 52, object), "not an .npy file of numbers"),
    ):
        np.save("e/embeddings.npy", array, allow_pickle=True)
        with pytest.raises(Exception, match=told):
            read_embeddings(Path("e"))
