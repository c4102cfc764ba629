"""The stages of `make gpu-check` where there is no GPU, its report, and the processes it starts."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ci  # the tool for a machine with a GPU

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "benchmarks" / "gpu").is_dir():
    pytest.skip("benchmarks/ is not here: these are installed tests", allow_module_level=True)
sys.path.append(str(ROOT))

from benchmarks.gpu import (  # noqa: E402
    outcomes,
    processes,
    records,
    sanitize,
    small_calls,
    smoke,
    suite,
)
from benchmarks.gpu.__main__ import NAMES, Run, arguments  # noqa: E402
from benchmarks.gpu.report import Report, slug  # noqa: E402
from benchmarks.gpu.stages import Entry, Stage, StageFailure, run_stages  # noqa: E402


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything is written here, and records are not taken from the environment."""
    folder = tmp_path / "gpu"
    monkeypatch.setattr(processes, "SCRATCH", folder)
    monkeypatch.setattr(processes, "SITE", folder / "site")
    monkeypatch.delenv(records.VARIABLE, raising=False)
    return folder


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> Callable[[float, Entry], None]:
        def run(limit: float, entry: Entry) -> None:
            entry["limit"] = limit
            self.now += seconds

        return run


def saved(report: Report) -> dict[str, Any]:
    return json.loads(report.path.read_text())


# --- stages --------------------------------------------------------------------------------------


def test_a_failing_stage_stops_no_other(tmp_path: Path) -> None:
    def fail(seconds: float, entry: Entry) -> None:
        entry["found"] = 3
        raise StageFailure("three are wrong")

    clock, told = Clock(), []
    report = Report(tmp_path / "report.json")
    stages = [Stage("a", 10, fail), Stage("b", 10, clock.spend(2)), Stage("c", 10, fail, ("a",))]
    assert not run_stages(stages, report, 100.0, clock, told.append)
    found = saved(report)["stages"]
    assert found["a"]["status"] == "failed"
    assert found["a"]["found"] == 3
    assert "three are wrong" in found["a"]["error"]
    assert (found["b"]["status"], found["b"]["seconds"], found["b"]["limit"]) == ("passed", 2, 10)
    assert found["c"] == {"status": "left out", "reason": "needs a"}
    assert len(told) == 3


def test_the_deadline_is_kept(tmp_path: Path) -> None:
    clock = Clock()
    report = Report(tmp_path / "report.json")
    stages = [Stage(name, 40, clock.spend(40), least=15.0) for name in "abc"]
    assert not run_stages(stages, report, 60.0, clock, lambda text: None)
    found = saved(report)["stages"]
    assert [found[name].get("limit") for name in "abc"] == [40, 20, None]
    assert found["c"]["reason"] == "no time left"


def test_all_passed(tmp_path: Path) -> None:
    clock = Clock()
    report = Report(tmp_path / "report.json")
    assert run_stages([Stage("a", 9, clock.spend(1))], report, 60.0, clock, lambda text: None)


def test_an_interrupted_stage_leaves_what_it_has(tmp_path: Path) -> None:
    def interrupted(seconds: float, entry: Entry) -> None:
        entry["found"] = 3
        raise KeyboardInterrupt

    report = Report(tmp_path / "report.json")
    with pytest.raises(KeyboardInterrupt):
        run_stages([Stage("a", 10, interrupted)], report, time.monotonic() + 60)
    assert saved(report)["stages"]["a"]["status"] == "interrupted"
    assert saved(report)["stages"]["a"]["found"] == 3


def test_the_stages_are_those_that_can_be_asked_for(tmp_path: Path) -> None:
    report = Report(tmp_path / "report.json")
    assert tuple(stage.name for stage in Run(report, quick=False).stages()) == NAMES
    some = Run(report, quick=False, only=["core"]).stages()
    assert [stage.name for stage in some] == ["machine", "core"]
    asked = arguments(["--minutes", "2", "--only", "core", "--only", "tests", "--quick"])
    assert (asked.minutes, asked.only, asked.quick) == (2.0, ["core", "tests"], True)


# --- report --------------------------------------------------------------------------------------


def test_a_report_is_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report(tmp_path / "report.json")
    report.data["machine"] = {"device": "one"}
    report.save()

    def fail(*arguments: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", fail)
    report.data["machine"] = {"device": "two"}
    with pytest.raises(OSError, match="no space"):
        report.save()
    assert saved(report)["machine"] == {"device": "one"}


def test_a_report_is_copied_with_its_logs(tmp_path: Path) -> None:
    report = Report(tmp_path / "report.json", out=str(tmp_path / "out"))
    report.name_after("NVIDIA H100 80GB HBM3", tmp_path / "results")
    assert processes.run([sys.executable, "-c", "print(7)"], name="seven", seconds=60) == 0
    report.save()
    assert (tmp_path / "results" / "nvidia-h100-80gb-hbm3.json").exists()
    copied = {path.name for path in (tmp_path / "out").iterdir()}
    assert copied == {"nvidia-h100-80gb-hbm3.json", "logs.txt"}
    assert "7" in (tmp_path / "out" / "logs.txt").read_text()


def test_a_run_of_one_stage_keeps_the_others_of_the_last(tmp_path: Path) -> None:
    first = Report(tmp_path / "gpu.json")
    first.data["stages"] = {"build": {"status": "passed"}, "core": {"status": "failed"}}
    first.save()
    second = Report()
    second.stage("core")["status"] = "passed"
    second.name_after("GPU", tmp_path)
    second.keep_earlier_stages()
    assert second.data["stages"] == {
        "core": {"status": "passed"},
        "build": {"status": "passed", "earlier": True},
    }


def test_slug() -> None:
    assert slug("NVIDIA GeForce RTX 4090 (Laptop)") == "nvidia-geforce-rtx-4090-laptop"
    assert slug("") == "gpu"


# --- processes -----------------------------------------------------------------------------------


def test_a_process_that_takes_too_long_is_ended_and_leaves_its_records() -> None:
    code = (
        "import time\nfrom benchmarks.gpu import records\n"
        "records.write('found', number=1)\nprint('begun')\ntime.sleep(600)"
    )
    begin = time.monotonic()
    with pytest.raises(processes.TimeLimit, match="slow: stopped after"):
        processes.run([sys.executable, "-c", code], name="slow", seconds=3.0)
    assert time.monotonic() - begin < 30
    assert records.read(processes.record_path("slow")) == [{"kind": "found", "number": 1}]
    assert "begun" in processes.tail("slow")


def test_a_record_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text('{"kind": "a", "n": 1}\n{"kind": "b", "n"')
    assert records.read(path) == [{"kind": "a", "n": 1}]
    assert records.read(tmp_path / "none.jsonl") == []


def test_errors_that_end_a_context_are_known() -> None:
    told = "CUDA error: an illegal memory access was encountered"
    assert records.is_fatal(told)
    assert not records.is_fatal("CUDA out of memory")


# --- tests, sanitizers ---------------------------------------------------------------------------


def test_the_calls_for_the_sanitizers_run_on_cpu_tensors() -> None:
    assert small_calls.run("cpu", time.time() + 60.0) == 180
    assert small_calls.run("cpu", 0.0) == 1


def test_the_smoke_test_on_the_cpu_agrees_with_itself() -> None:
    found = smoke.check("cpu")
    assert len(found) == 40
    assert [told for told in found if "error" in told] == []


def test_the_outcomes_of_a_file_are_counted(tmp_path: Path) -> None:
    test = tmp_path / "test_some.py"
    test.write_text(
        "import pytest\n"
        "def test_right(record_property): record_property('bytes', 7)\n"
        "def test_wrong(): assert 1 == 2\n"
        "@pytest.mark.skip(reason='no such GPU')\n"
        "def test_skipped(): pass\n"
        "@pytest.fixture\n"
        "def broken(): raise ValueError('broken')\n"
        "def test_error(broken): pass\n"
    )
    command = [*processes.python("pytest", "-q", "-p", "benchmarks.gpu.outcomes"), str(test)]
    code = processes.run([*command, "-p", "no:cacheprovider"], name="some", seconds=60)
    found = suite.judge_file(records.read(processes.record_path("some")), code)
    assert found["counts"] == {"passed": 1, "failed": 1, "skipped": 1, "error": 1}
    assert found["collected"] == 4
    assert found["status"] == "failed"
    assert [f["id"].split("::")[1] for f in found["failures"]] == ["test_wrong", "test_error"]
    assert "1 == 2" in found["failures"][0]["text"]
    assert found["properties"][0]["bytes"] == 7
    assert found["skipped"] == {"Skipped: no such GPU": 1}


@pytest.mark.parametrize(
    ("wrong", "more", "told"),
    [
        ("raise RuntimeError('CUDA error: an illegal memory access')", {}, "context is lost"),
        ("pass", {outcomes.SECONDS: "0"}, "out of time"),
    ],
)
def test_a_file_is_stopped(wrong: str, more: dict[str, str], told: str, tmp_path: Path) -> None:
    test = tmp_path / "test_some.py"
    test.write_text(f"def test_first(): {wrong}\ndef test_second(): pass\n")
    command = [*processes.python("pytest", "-q", "-p", "benchmarks.gpu.outcomes"), str(test)]
    command += ["-p", "no:cacheprovider"]
    code = processes.run(command, name="some", seconds=60, more=more)
    found = suite.judge_file(records.read(processes.record_path("some")), code)
    assert told in found["stopped"]
    assert found["status"] != "passed"
    assert sum(found["counts"].values()) == 1


def test_a_file_that_was_killed_has_not_passed() -> None:
    found = suite.judge_file(
        [{"kind": "collected", "count": 9}, {"kind": "test", "id": "a", "outcome": "passed"}], None
    )
    assert (found["status"], found["counts"]) == ("stopped", {"passed": 1})


def test_a_file_of_which_nothing_ran_has_not_passed() -> None:
    skipped = {"kind": "test", "id": "a", "outcome": "skipped", "text": "no CUDA device"}
    end = {"kind": "end", "stopped": ""}
    assert suite.judge_file([skipped, end], 5)["status"] == "nothing ran"
    assert suite.judge_file([end], 2)["status"] == "failed"


def test_the_files_of_the_suite_are_those_that_conftest_collects() -> None:
    # Not by its name, which other folders' have too.
    tree = ast.parse((Path(__file__).parent / "conftest.py").read_text())
    (value,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ON_ANY_DEVICE"
    )
    assert sorted(suite.FILES) == sorted(ast.literal_eval(value))


@pytest.mark.parametrize(
    ("log", "status"),
    [
        ("========= ERROR SUMMARY: 0 errors\n", "clean"),
        ("========= ERROR SUMMARY: 3 errors\n", "found"),
        ("========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n", "clean"),
        ("========= RACECHECK SUMMARY: 2 hazards displayed (2 errors, 0 warnings)\n", "found"),
        ("unrecognised option '--kernel-name'\n", "no verdict"),
    ],
)
def test_sanitizers_logs_are_read(log: str, status: str) -> None:
    assert sanitize.judge_log(log, 0)["status"] == status


def test_a_tool_that_was_stopped_has_no_verdict() -> None:
    assert sanitize.judge_log("========= ERROR SUMMARY: 0 errors", None)["status"] == "no verdict"
    assert sanitize.judge_log("========= ERROR SUMMARY: 0 errors", 1)["status"] == "failed"


# --- the command ---------------------------------------------------------------------------------


def test_without_a_gpu_it_says_so_and_writes_its_report(tmp_path: Path) -> None:
    """The whole command, in a copy of the repository's package without a GPU to see."""
    out = tmp_path / "out"
    code = (
        "import sys\nfrom pathlib import Path\nfrom benchmarks.gpu import processes\n"
        f"processes.SCRATCH = Path({str(tmp_path / 'run')!r})\n"
        "from benchmarks.gpu.__main__ import main\n"
        "sys.exit(main(['--only', 'machine', '--minutes', '2']))\n"
    )
    environment = os.environ | {
        "OUT": str(out),
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "torch sees no CUDA device" in done.stdout
    (written,) = out.glob("*.json")
    found = json.loads(written.read_text())
    assert found["passed"] is False
    assert found["machine"]["torch"]
    assert all(target["verdict"] == "not measured" for target in found["targets"])


def test_it_imports_without_what_a_gpu_machine_may_lack() -> None:
    lacking = ("rich", "matplotlib", "pytest_benchmark", "hypothesis", "pytorch_metric_learning")
    code = (
        f"import sys\nfor name in {lacking}: sys.modules[name] = None\n"
        "from benchmarks.gpu import __main__, build, measure, outcomes, small_calls, smoke, table\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
