"""Where a package of an extra is missing, it is said which, with a command that works."""

from __future__ import annotations

import shlex
import subprocess
import sys
from importlib import metadata

import pytest

from facenet_ext._extras import how_to_install
from facenet_ext._lazy import lazily
from facenet_ext.cli import main

REQUIREMENTS = [
    "torch>=2.10",
    'jsonargparse[signatures]; extra == "train"',
    "rich<16 ; extra == 'train'",
    "onnx; extra == 'onnx'",
]


def lacking(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """An installation of REQUIREMENTS without some of them."""

    def version(name: str) -> str:
        if name in names:
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(metadata, "requires", lambda name: REQUIREMENTS)
    monkeypatch.setattr(metadata, "version", version)
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


def test_the_command_has_what_the_extra_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking(monkeypatch, "jsonargparse", "rich", "onnx", "torch")
    told = how_to_install("rich", "train")
    assert told == (
        "needs rich, which is not installed: pip install 'jsonargparse[signatures]' 'rich<16'"
    )
    lacking(monkeypatch, "rich")
    assert how_to_install("rich", "train").endswith(": pip install 'rich<16'")


def test_what_no_extra_names_is_named_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking(monkeypatch)
    assert how_to_install("markdown_it", "train").endswith(": pip install markdown_it")


def test_in_the_source_folder_it_is_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    assert how_to_install("rich", "train").endswith("source folder: pip install '.[train]'")


def test_of_this_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its own metadata lists, were none of it there."""
    monkeypatch.setattr("facenet_ext._extras._is_installed", lambda _: False)
    command = shlex.split(how_to_install("lightning", "train").partition(": ")[2])
    assert {"pip", "install", "lightning", "jsonargparse[signatures]"} < set(command)
    assert not {"onnx", "torch", "pytest"} & set(command)


def test_a_command_without_its_packages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The core alone reads no options, and says what would."""
    lacking(monkeypatch, "jsonargparse", "rich")
    monkeypatch.delitem(sys.modules, "facenet_ext.cli.parsers", raising=False)
    monkeypatch.delitem(sys.modules, "facenet_ext.cli.command_line", raising=False)
    assert main(["models", "--json"]) == 2
    assert capsys.readouterr().err == (
        "facenet models: error: needs jsonargparse, which is not installed: "
        "pip install 'jsonargparse[signatures]' 'rich<16'\n"
    )


@pytest.mark.ci
def test_the_core_alone_says_what_networks_cost() -> None:
    """``facenet models`` where torch and NumPy are all that is installed."""
    code = """
import sys
for name in ("jsonargparse", "rich", "lightning", "PIL", "kornia", "matplotlib", "scipy", "yaml"):
    sys.modules[name] = None
import facenet_ext.models.cost
facenet_ext.models.cost.milliseconds_per_image = lambda *_: 1.5
from facenet_ext.cli import main
sys.exit(main(["models"]))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for figure in ("nn2", "7,456,304", "6,607,888", "1.50 ms"):
        assert figure in shown.stdout


def test_a_module_without_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking(monkeypatch, "rich", "pyarrow")
    monkeypatch.delitem(sys.modules, "facenet_ext.mining.storage", raising=False)
    get, _ = lazily("facenet_ext.mining", {"storage": ["read_triplets"]})
    told = r"facenet_ext\.mining\.read_triplets needs pyarrow, .*: pip install 'rich<16'"
    with pytest.raises(ModuleNotFoundError, match=told) as error:
        get("read_triplets")
    assert error.value.name == "pyarrow"
