"""Small data and small runs of the training script."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_runs import Command
from small_runs import TINY, Facenet, write_faces

import facenet_ext.train.run
from facenet_ext import cli
from facenet_ext.cli.train import main
from facenet_ext.models import registry


@pytest.fixture
def facenet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Facenet:
    """Run ``facenet train`` with tiny defaults in an empty folder: status, stdout and stderr.

    Drawing takes longer than everything else of such a run, so it is left out unless asked for.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist's

    def run(*arguments: object, tiny: bool = True, pictures: bool = False) -> tuple[int, str, str]:
        capsys.readouterr()
        given = [str(argument) for argument in (*(TINY if tiny else ()), *arguments)]
        with monkeypatch.context() as patch:
            if not pictures:
                patch.setattr(facenet_ext.train.run, "draw_all", lambda *_: [])
            status = main(given, prog="facenet train")
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """A folder of ten people with four images each and four with one."""
    people = {f"Person_{i:02d}": 4 for i in range(10)}
    return write_faces(tmp_path / "faces", people | {f"Single_{i}": 1 for i in range(4)})


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of faces, and two finished runs on them, old/ and new/."""
    root = tmp_path_factory.mktemp("world")
    people = {f"Person_{i:02d}": 4 for i in range(12)} | {f"Single_{i}": 1 for i in range(4)}
    faces = write_faces(root / "faces", people)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facenet_ext.train.run, "draw_all", lambda *_: [])
        for name, seed in (("old", "1"), ("new", "2")):
            options = ["--data", str(faces), "--held-out", "0.4", "--seed", seed]
            assert main([*TINY, *options, "--output", str(root / name)]) == 0
    return root


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Command:
    """Run ``facenet`` in an empty folder: status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist's
    monkeypatch.setattr(facenet_ext.train.run, "draw_all", lambda *_: [])
    monkeypatch.setattr(registry, "_REGISTERED", {})  # what examples in pages register

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return run
