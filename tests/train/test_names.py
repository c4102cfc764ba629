"""Claims about names that something on the way to the reader would take for more than names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from command_runs import Command
from rich.table import Table
from small_runs import TINY, write_faces

import facenet_ext.commands.export
import facenet_ext.models
from facenet_ext.common.console import make_console

PEOPLE = ["[bold]", "x[red]", ":smile:", "$a$b^$", "_low", "{step}", "[link=y]%s"]
RUN = "runs/x[/red]"  # rich would close what was never opened


def test_every_command_prints_names_as_they_are(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = dict.fromkeys(PEOPLE, 4) | {f"Person_{i}[i]": 4 for i in range(5)}
    data = write_faces(tmp_path / "faces[old]", people).name
    image, other = (f"{data}/{name}/{name}_0001.png" for name in PEOPLE[:2])

    def assert_says(part: str, *arguments: object) -> None:
        status, out, err = command(*arguments)
        assert status in (0, 1), err
        assert part in out + err

    faces = ["--data", data, "--held-out", "0.4", "--identities", "3"]
    use = ["--checkpoint", RUN]
    short = ["--steps", 2, "--layer-steps", 2]
    assert_says(f"are in {RUN}\n", "train", *TINY, *faces, "--output", RUN)
    assert_says(f"are in {RUN}\n", "train", "--resume", RUN)
    assert_says(" are in e[old]/x\n", "evaluate", *use, "--quality", 0, "--output", "e[old]/x")
    evaluated = json.loads(Path("e[old]/x/metrics.json").read_text())
    assert evaluated["images"] == 20
    assert_says(f"{RUN}/checkpoints/best.ckpt).\n", "verify", image, other, *use)
    assert_says(" numbers in [bold], ", "embed", data, *use, "--output", "[bold]")
    assert_says(" [bold]_0001.png ", "identify", "[bold]", image, *use, "--output", "i[/]")
    assert_says(" :smile:/:smile:_0001.png ", "identify", "[bold]", data, *use)
    sheets = ["--sheets", 3, "--threshold", 4.0]
    assert_says(" in c[old]\n", "cluster", data, *use, *sheets, "--output", "c[old]")
    assert_says(": m[/red]/suspects.csv\n", "mine", RUN, "--output", "m[/red]", "--suspects", 4)
    assert_says(": m[b]/triplets.parquet\n", "mine", "[bold]", "--output", "m[b]")
    assert_says("are in h[/]\n", "harmonize", RUN, "--new", RUN, "--output", "h[/]", *short)
    for module in (facenet_ext.models, facenet_ext.commands.export):  # it takes seconds to write
        monkeypatch.setattr(
            module, "export_onnx", lambda _, path, __: Path(path).touch(), raising=False
        )
    assert_says("f[old].onnx: ", "export", RUN, "f[old].onnx")
    made = ("i[/]/identified.csv", "c[old]/clusters.csv", "c[old]/sheets/cluster-0000.png")
    for path in (*made, "m[/red]/suspects.png", "h[/]/all/checkpoints/last.ckpt"):
        assert Path(path).is_file()


def test_no_console_reads_names_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    name = "[bold]x[/red] :smile: 12"
    table = Table("who", title=name)
    table.add_row(name)
    console = make_console()
    console.print(name, style="bold")
    console.print(table)
    assert capsys.readouterr().out.count(name) == 3


def test_consoles_are_made_in_one_place() -> None:
    package = Path(facenet_ext.commands.__file__).parents[1]
    made = re.compile(r"(?<![\w`])Console\((?!quiet=True)|from_markup|rich\.markup")
    found = {path.name for path in package.rglob("*.py") if made.search(path.read_text("utf-8"))}
    assert found == {"console.py"}
