"""Embedding, identification and clustering by several processes: the results of one."""

from __future__ import annotations

import os
import signal
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from processes import RankError, run

from facenet_ext._files import lock
from facenet_ext.common.errors import InputError
from facenet_ext.common.processes import everyone
from facenet_ext.embedding.embedder import Embedder
from facenet_ext.embedding.options import DataOptions, ModelOptions, Options
from facenet_ext.recognition import (
    Identification,
    ModelName,
    cluster,
    embed_images,
    embedding,
    identification,
    identify,
    list_tree,
)

COUNT, BATCH = 50, 4
MODEL = ModelName("small", "0" * 64)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 24, 24), np.uint8)
    for number, image in enumerate(pixels):
        (folder / f"Person_{number // 5}").mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"Person_{number // 5}" / f"{number}.png")
    for name in ("Person_1/7.png", "Person_9/48.png"):
        (folder / name).write_bytes(b"no image")
    return folder


def embed_here(faces: Path, output: Path, **more: bool) -> list[int]:
    """Embed, and return which blocks this process added."""
    torch.manual_seed(0)
    options = Options(
        data=DataOptions(image_size=24, input_size=24, channels=1),
        model=ModelOptions(width=4, embedding_dim=8),
    )
    added: list[int] = []
    real = embedding._Parts.add

    def add(self: embedding._Parts, number: int, *rest: object) -> None:
        added.append(number)
        real(self, number, *rest)  # type: ignore[arg-type]

    embedding._Parts.add = add  # type: ignore[method-assign]
    try:
        embedder = Embedder(options, (1, 24, 24)).eval()
        embed_images(
            embedder, MODEL, list_tree(faces), output, batch=BATCH, group=everyone(), **more
        )  # type: ignore[arg-type]
    finally:
        embedding._Parts.add = real  # type: ignore[method-assign]
    return added


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the processes have
    output = tmp_path_factory.mktemp("whole") / "e"
    embed_here(faces, output)
    torch.set_num_threads(threads)
    found = files(output)
    assert set(found) == {
        "embeddings.npy",
        "ids.txt",
        "identities.txt",
        "store.json",
        "unreadable.csv",
    }
    return found


@pytest.mark.parametrize("world_size", [2, 4, 7])
def test_stored_embeddings_of_one_process(
    world_size: int, faces: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    added = list(chain(*run(world_size, embed_here, faces, tmp_path / "e")))
    assert sorted(added) == list(range(-(-COUNT // BATCH)))
    assert files(tmp_path / "e") == whole
    assert run(world_size, embed_here, faces, tmp_path / "e") == [[]] * world_size


def die_on_1(faces: Path, output: Path) -> None:
    if dist.get_rank() == 1:
        embedding._Parts.add = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore
    embed_here(faces, output)


def test_block_of_a_killed_rank_is_embedded_by_the_next_job(
    faces: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    with pytest.raises(RankError, match="rank 1: ended without a word"):
        run(3, die_on_1, faces, tmp_path / "e")
    done = len(list((tmp_path / "e" / ".unfinished").glob("[0-9]*.json")))
    added = list(chain(*run(2, embed_here, faces, tmp_path / "e")))
    assert len(added) == -(-COUNT // BATCH) - done
    assert files(tmp_path / "e") == whole


def refused(faces: Path, output: Path, stop: bool) -> str:
    with pytest.raises((InputError, ValueError)) as error:
        embed_here(faces, output, stop_at_unreadable=stop)
    return str(error.value)


def test_errors_on_every_rank(faces: Path, tmp_path: Path) -> None:
    for told in run(2, refused, faces, tmp_path / "e", True):
        assert "cannot be read" in told
    with lock(tmp_path / "e" / ".unfinished" / "lock"):
        for told in run(2, refused, faces, tmp_path / "e", False):
            assert "another command is embedding into it; wait for its end" in told


def search() -> list[torch.Tensor]:
    """Probes that are images of the gallery, with copies, and one identity with most rows."""
    identification._FEWEST, identification._MOST_NEIGHBOURS = 16, 64
    generator = np.random.default_rng(0)
    gallery = generator.standard_normal((600, 4)).astype(np.float32)
    gallery[:300] = gallery[0]
    names = np.where(np.arange(600) < 400, 0, np.arange(600) % 50)
    found: list[Identification] = []
    for leave_out in (None, identification.SAME_IMAGE):
        found.append(
            identify(gallery, names, gallery[::3], 3, leave_out=leave_out, group=everyone())
        )
    found.append(identify(gallery, names, gallery[:0], 3, group=everyone()))
    return list(chain(*found))


def test_identification(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = run(3, search)
    for name in ("_FEWEST", "_MOST_NEIGHBOURS"):  # which it changes
        monkeypatch.setattr(identification, name, getattr(identification, name))
    expected = search()
    for found in ranks:
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def group(linkage: str) -> list[np.ndarray]:
    x = np.random.default_rng(0).standard_normal((400, 3)).round(1)
    return list(cluster(x, 0.3 if linkage == "average" else 0.02, linkage, group=everyone()))


@pytest.mark.parametrize("linkage", ["average", "single"])
def test_clusters(linkage: str) -> None:
    expected = group(linkage)
    assert 10 < len(expected[1]) < 390
    for found in run(3, group, linkage):
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
