"""Claims about ``facenet bench`` and ``facenet completion``, and what all commands share."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from command_runs import Command, assert_told
from small_runs import TINY

from facenet_ext.cli import COMMANDS, build_parser


def test_bench_measures_beside_a_product(command: Command) -> None:
    options = ("--rows", 300, "--dim", 16, "--batch", 90, "--repeats", 1, "--threads", 1)
    status, out, err = command("bench", *options, "--json")
    assert (status, err) == (0, "")
    figures = json.loads(out)
    assert len(figures["measured"]) == 6
    for one in figures["measured"]:
        assert one["seconds"] > 0
        assert one["pairs_per_second"] == pytest.approx(one["pairs"] / one["seconds"])
    status, out, _ = command("bench", *options)
    assert status == 0
    assert "histogram of distances" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--rows", "1"], "--rows, --batch: expected at least 2 rows"),
        (["--batch", "40"], "--rows, --batch: expected at least 2 rows"),
        (["--device", "abacus"], "--device abacus: cannot be used"),
        (["--repeats", "0"], "repeats"),
    ],
)
def test_what_bench_cannot_do_is_one_line(
    arguments: list[str], told: str, command: Command
) -> None:
    assert_told(command("bench", *arguments), told)


def complete(script: Path, *words: str) -> list[str]:
    """What bash offers for the last of some words, in the folder of the script."""
    line = " ".join(f"'{word}'" for word in words)
    program = (
        f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _shtab_facenet; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    found = subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True, check=True, cwd=script.parent
    ).stdout
    return found.split()


@pytest.fixture
def script(command: Command, tmp_path: Path) -> Path:
    status, out, err = command("completion", "bash")
    assert (status, err) == (0, "")
    (tmp_path / "facenet.bash").write_text(out)
    return tmp_path / "facenet.bash"


def test_bash_completes_commands_options_and_choices(script: Path) -> None:
    assert set(COMMANDS) <= set(complete(script, "facenet", ""))
    assert complete(script, "facenet", "ver") == ["verify"]
    assert complete(script, "facenet", "verify", "a.jpg", "--thr") == ["--threshold"]
    assert complete(script, "facenet", "cluster", "--linkage", "") == ["average", "single"]
    assert "--preset" in complete(script, "facenet", "train", "--")
    assert complete(script, "facenet", "completion", "") == ["bash", "zsh", "fish"]
    assert complete(script, "facenet", "train", "--model", "nn") == [
        "nn1",
        "nn2",
        "nn3",
        "nn4",
        "nns1",
        "nns2",
    ]
    assert complete(script, "facenet", "train", "--flip", "") == ["true", "false"]


def test_bash_completes_files_where_a_command_takes_them(script: Path) -> None:
    (script.parent / "a.jpg").touch()
    for words in (("verify",), ("verify", "b.jpg"), ("train", "--data"), ("train", "--config")):
        assert complete(script, "facenet", *words, "a.") == ["a.jpg"]
    assert complete(script, "facenet", "verify", "--batch", "") == [], "a number"


def test_every_option_of_every_command_is_completed(script: Path, command: Command) -> None:
    for name in COMMANDS:
        offered = set(complete(script, "facenet", name, "--"))
        with pytest.raises(SystemExit):
            command(name, "--help")
        assert "--help" in offered
    assert "--views" in complete(script, "facenet", "identify", "--")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_take_their_script(shell: str, command: Command, tmp_path: Path) -> None:
    status, out, _ = command("completion", shell)
    assert status == 0
    for name in COMMANDS:
        assert name in out
    program = shutil.which(shell)
    if program is not None:
        (tmp_path / "script").write_text(out)
        subprocess.run([program, "-n", str(tmp_path / "script")], check=True)
    assert_told(command("completion", "tcsh"), "shell")


@pytest.mark.parametrize("arguments", ["train --data nowhere", "evaluate --data nowhere", "verify"])
def test_a_traceback_is_shown_where_it_is_asked_for(
    arguments: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, _, told = command(*arguments.split())
    assert (status, told.count("\n")) == (2, 1)
    monkeypatch.setenv("FACENET_TRACEBACK", "1")
    status, _, shown = command(*arguments.split())
    assert status == 2
    assert shown.startswith("Traceback (most recent call last):\n")
    assert shown.endswith(told)


@pytest.mark.ci
def test_machines_read_json(command: Command, world: Path) -> None:
    """Nothing but JSON on standard output, whatever is told beside it."""
    data = ("--data", world / "faces", "--held-out", 0.4)
    status, out, _ = command("train", *TINY, *data, "--output", "run", "--json")
    assert status == 0
    figures = json.loads(out)
    assert figures["folder"] == "run"
    assert figures["auc"] == json.loads(Path("run/metrics.json").read_text())["auc"]
    options = ("--layer-steps", 1, "--steps", 1, "--output", "harmonic", "--json")
    status, out, _ = command("harmonize", "run", "--new", world / "new", *options)
    assert status == 0
    assert "comparisons" in json.loads(out)
    pytest.importorskip("onnx")
    status, out, _ = command("export", "run", "run.onnx", "--json")
    assert status == 0
    assert json.loads(out)["bytes"] == Path("run.onnx").stat().st_size
    for name in COMMANDS:
        if name != "completion":
            assert "--json" in build_options(name)


def build_options(name: str) -> set[str]:
    return {option for action in build_parser(name)._actions for option in action.option_strings}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples(name: str, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command(name, "--help")
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert f"facenet {name}" in out
    assert "examples:" in out
