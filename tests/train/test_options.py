"""Claims about the options and the command line."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import facenet_ext.cli
from facenet_ext import __version__, cli
from facenet_ext.cli.train_options import parse
from facenet_ext.common.errors import InputError
from facenet_ext.embedding.options import Options, dump


def options(*argv: str) -> Options:
    return parse(argv, "facenet train")[0]


def test_defaults_depend_on_the_kind_of_data() -> None:
    assert options().batch.negatives == 0
    assert options("--data", "some/folder").batch.negatives > 0


def test_a_preset_takes_the_place_of_the_datas_defaults() -> None:
    found = options("--data", "some/folder", "--preset", "paper", "--lr", "0.01")
    assert (found.model.model, found.batch.batch_size, found.batch.repeat) == ("nn4", 1800, False)
    assert (found.optimizer.optimizer, found.optimizer.lr) == ("adagrad", 0.01)
    assert options("--data", "features.npz").model.model == "mlp"


def test_the_command_line_overlays_the_config_file_overlays_the_defaults(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("data: some/folder\nwidth: 17\nlr: 0.5\n")
    found = options("--config", str(config), "--lr", "0.25")
    assert (found.model.width, found.optimizer.lr) == (17, 0.25)
    assert found.batch.negatives == options("--data", "some/folder").batch.negatives


def test_what_is_saved_reads_back_as_the_same_options(tmp_path: Path) -> None:
    found = options("--data", "x", "--stages", "[2,1]", "--max-minutes", "3", "--pairs", "p.txt")
    saved = tmp_path / "saved.yaml"
    saved.write_text(dump(found))
    assert options("--config", str(saved)) == found
    assert all(type(v) in (int, float, str, bool, list, type(None)) for v in found.flat().values())


def test_every_option_has_help_and_one_group() -> None:
    fields = [
        field
        for group in dataclasses.fields(Options)
        for field in dataclasses.fields(group.default)  # type: ignore[arg-type]
    ]
    assert all(field.metadata["help"] for field in fields)
    assert len({field.name for field in fields}) == len(fields)


def test_every_config_file_names_only_options() -> None:
    folder = Path(facenet_ext.cli.__file__).parent / "configs"
    files = sorted(folder.glob("*.yaml"))
    names = ["aligned", "digits", "faces", "features", "paper", "speakers"]
    assert [file.stem for file in files] == names
    for file in files:
        assert yaml.safe_load(file.read_text()).keys() <= Options().flat().keys()


def test_help_shows_every_option_with_its_default_for_the_data(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for data in ("digits", "some/folder"):
        with pytest.raises(SystemExit, match="0"):
            cli.main(["train", "--data", data, "--help-all"])
        text = capsys.readouterr().out
        assert "usage: facenet train" in text
        for name, value in options("--data", data).flat().items():
            assert f"--{name.replace('_', '-')}" in text
            if isinstance(value, int) and name != "data":
                line = re.search(rf"\n  --{name.replace('_', '-')} .*?default: (\w+)\)", text, re.S)
                assert line is not None
                assert line[1].lower() == str(value).lower()


def test_help_leaves_out_rare_options_and_says_how_to_see_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    texts = {}
    for flag in ("--help", "--help-all"):
        with pytest.raises(SystemExit, match="0"):
            cli.main(["train", "--data", "some/folder", flag])
        texts[flag] = capsys.readouterr().out
    assert "--help-all" in texts["--help"]
    listed = {flag: set(re.findall(r"^  (--[\w-]+)", text, re.M)) for flag, text in texts.items()}
    assert len(listed["--help"]) <= 50
    left_out = listed["--help-all"] - listed["--help"]
    assert {"--gamma", "--accumulator", "--mine-subset"} <= left_out
    assert not left_out & {"--data", "--margin", "--lr", "--max-minutes", "--output"}
    assert options("--gamma", "0.5").augmentation.gamma == 0.5
    assert "configs" not in texts["--help"], "where the defaults lie is of no use"


def test_help_shows_the_defaults_for_every_kind_of_data_where_none_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit, match="0"):
        cli.main(["train", "--help"])
    lines = " ".join(capsys.readouterr().out.split()).split(" --")
    shown = {line.split()[0]: line for line in lines if "(default: " in line}
    told = "for aligned 144, for digits 24, for faces 144, for features 16, for paper 90)"
    assert f"(default: 32, {told}" in shown["identities"]
    assert "(default: 0, for aligned 24, for faces 24)" in shown["negatives"]
    sizes = "for aligned [64,48,64,64], for faces [72,72,48]"
    assert f"(default: null, {sizes})" in shown["aligned-size"]
    assert "(default: 2)" in shown["min-images"]
    assert not [line for line in lines if "type:" in line or "Literal" in line]


def test_ctrl_c_while_the_libraries_load_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupted)
    assert cli.main(["mine", "x"]) == 130
    assert capsys.readouterr().err == "facenet mine: stopped\n"


def test_help_is_there_before_the_training_libraries_are() -> None:
    code = (
        "import sys; from facenet_ext.cli import main\n"
        "try: main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'lightning', 'kornia', 'matplotlib'} & sys.modules.keys()"
    )
    environment = dict(os.environ, COLUMNS="100")
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)


def test_print_config_prints_what_a_run_would_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["train", "--lr", "0.125", "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["lr"] == 0.125


def test_an_error_says_where_the_choices_are() -> None:
    with pytest.raises(InputError, match=r"adagrad.*sgd.*adamw.*see --help"):
        options("--optimizer", "adam")


def test_the_facenet_command_tells_its_version_and_its_commands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"facenet_ext {__version__}\n"
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    assert "train" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["--nonsense"], ["Train"]])
def test_the_facenet_command_refuses_what_it_does_not_know(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "choose from: train" in err
