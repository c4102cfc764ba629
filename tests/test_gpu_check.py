"""`make gpu-check` where there is no GPU: its parts, and the measurements on CPU tensors."""

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

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "benchmarks" / "gpu").is_dir():
    pytest.skip("benchmarks/ is not here: these are installed tests", allow_module_level=True)
sys.path.append(str(ROOT))

from benchmarks.gpu import (  # noqa: E402
    build,
    cases,
    measure,
    outcomes,
    processes,
    records,
    sanitize,
    small_calls,
    smoke,
    subjects,
    suite,
    table,
    targets,
    timing,
)
from benchmarks.gpu.__main__ import NAMES, Run, arguments  # noqa: E402
from benchmarks.gpu.accelerator import Host  # noqa: E402
from benchmarks.gpu.cases import Case  # noqa: E402
from benchmarks.gpu.floors import Ceilings, bytes_moved, floors, operations  # noqa: E402
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


# --- arithmetic ----------------------------------------------------------------------------------


def test_floors() -> None:
    case = Case(1000, 10, 4, "bfloat16")
    assert case.row_bytes == 20_000
    assert case.input_bytes == 28_000
    assert bytes_moved("mining", case) == 28_004
    assert bytes_moved("step", case) == 48_004
    assert bytes_moved("distances", case) == 20_000 + 4_000_000
    assert operations(case) == 20_000_000
    ceilings = Ceilings(bandwidth=1e9, rates={"bfloat16": 1e12})
    found = floors("step", case, ceilings)
    assert found == {"bytes": 48_004e-9, "operations": 20e-6, "floor": 48_004e-9}
    assert floors("step", case, Ceilings(rates={"float32": 1e12})) == {}
    only_bytes = floors("step", case, Ceilings(bandwidth=1e9))
    assert only_bytes == {"bytes": 48_004e-9, "floor": 48_004e-9}


def test_sets_of_inputs_overflow_the_cache_but_not_the_memory() -> None:
    l2 = 50 * 2**20
    assert timing.sets_of_inputs(1 << 20, 0, l2) == 8
    assert timing.sets_of_inputs(40 << 20, 0, l2) == 3
    assert timing.sets_of_inputs(200 << 20, 0, l2) == 1
    assert timing.sets_of_inputs(16 << 20, 2 * 65536**2, l2) == 1


def test_architecture() -> None:
    assert [build.architecture(c) for c in ("9.0", "8.0", "12.0", None)] == [
        "90a-real",
        "80-real",
        "120-real",
        "native",
    ]


class Ticks(Host):
    """A device whose calls take what they say, and whose clock shows no other time."""

    def __init__(self) -> None:
        self.now = 0.0

    def mark(self) -> float:
        return self.now


def test_timing_is_the_median_of_rounds_over_all_inputs() -> None:
    ticks, made = Ticks(), []

    def call(number: int) -> Callable[[], None]:
        def run() -> None:
            made.append(number)
            ticks.now += (1 + number) * 1e-4

        return run

    found = timing.measure([call(0), call(1)], ticks, 0.03)
    assert found.calls == 7  # of 150 us on average: a millisecond
    assert found.sets == 2
    assert found.rounds == 28
    assert len(found.as_dict()["raw"]) == 28
    assert found.least == pytest.approx(1e-3 / 7)
    assert found.most == pytest.approx(1.1e-3 / 7)
    assert made[4:8] == [0, 1, 0, 1]


def test_a_slow_call_is_timed_few_times() -> None:
    ticks = Ticks()

    def run() -> None:
        ticks.now += 5.0

    found = timing.measure([run], ticks, 0.3)
    assert (found.rounds, found.calls, found.median) == (2, 1, 5.0)


# --- targets -------------------------------------------------------------------------------------


def timed(operator: str, who: str, mode: str, case: Case, seconds: float) -> dict[str, Any]:
    what = {"kind": "time", "operator": operator, "who": who, "mode": mode, **case.as_dict()}
    return what | {"timing": {"median": seconds}}


def test_targets_are_judged() -> None:
    case = cases.LARGE[0]
    of = [t for t in targets.TARGETS if t.operator == "mining" and t.case == case]
    paper = [t for t in targets.TARGETS if t.case == cases.PAPER and t.against is None]
    measured = [
        timed("mining", subjects.OURS, subjects.GRAPH, case, 1.0e-4),
        timed("mm", subjects.MM, subjects.GRAPH, case, 1.0e-4),
        timed("step", subjects.OURS, subjects.GRAPH, cases.PAPER, 70e-6),
    ]
    (verdict,) = targets.judge(measured, of)
    assert (verdict.value, verdict.met, verdict.aim_met) == (1.0, True, False)
    assert verdict.word == "met"
    graph, eager = targets.judge(measured, paper)
    assert (graph.value, graph.word) == (70e-6, "NOT MET")
    assert eager.word == "not measured"
    assert eager.as_dict()["met"] is None


def test_a_failed_measurement_is_not_judged() -> None:
    case = cases.LARGE[0]
    of = [t for t in targets.TARGETS if t.operator == "mining" and t.case == case]
    failed = timed("mining", subjects.OURS, subjects.GRAPH, case, 0.0) | {"error": "out of memory"}
    other = timed("mm", subjects.MM, subjects.GRAPH, case, 1.0e-4)
    (verdict,) = targets.judge([failed, other], of)
    assert verdict.word == "not measured"


def test_memory_is_judged_by_the_bytes_of_the_inputs() -> None:
    (target,) = (t for t in targets.TARGETS if t.quantity == "memory")
    record = {
        "kind": "memory",
        "operator": "step",
        "who": subjects.OURS,
        "mode": target.mode,
        **target.case.as_dict(),
        "bytes": 50,
        "input_bytes": 20,
    }
    (verdict,) = targets.judge([record], [target])
    assert (verdict.value, verdict.word) == (2.5, "met")


def test_every_target_is_measured_by_the_core() -> None:
    planned = {
        (subject.operator, subject.who, subject.mode, case)
        for case, of in measure.CORE
        for subject in of
    }
    for target in targets.TARGETS:
        if target.quantity == "memory":
            continue
        assert (target.operator, subjects.OURS, target.mode, target.case) in planned
        if (other := target.against) is not None:
            assert (other.operator, other.who, other.mode, target.case) in planned


# --- the measurements, dry -----------------------------------------------------------------------


def small(plan: measure.Plan) -> measure.Plan:
    """The plan, its cases cut down to what a CPU does at once, without a peer that imports long."""
    return [
        (
            Case(min(case.n, 64), min(case.dim, 8), min(case.per_class, 4), case.dtype),
            [subject for subject in of if subject.who != subjects.SENTENCE_TRANSFORMERS],
        )
        for case, of in plan
    ]


def dry_run(seconds: float = 60.0) -> tuple[measure.Measurements, list[dict[str, Any]]]:
    found: list[dict[str, Any]] = []

    def write(kind: str, **fields: Any) -> None:
        found.append(json.loads(json.dumps({"kind": kind, **fields})))

    return measure.Measurements(Host(), write, seconds, each=1e-4), found


def test_every_measurement_runs_on_cpu_tensors() -> None:
    run, found = dry_run()
    run.measure_ceilings(side=64, copied=2**16)
    run.measure_plan(small(measure.CORE))
    run.measure_plan(small(measure.REST))
    case = Case(64, 8, 4, "bfloat16")
    run.measure_memory(case)
    run.measure_kernels(case)
    ours = [m for m in found if m.get("who", subjects.OURS) == subjects.OURS]
    assert [m for m in ours if "error" in m] == []
    assert run.failed == 0
    assert all(m["timing"]["median"] > 0 for m in ours if m["kind"] == "time")
    floored = [m for m in ours if m["kind"] == "time" and m["operator"] in measure.FLOORED]
    assert all(m["fraction"] > 0 for m in floored)
    others = {m["who"] for m in found if m["kind"] == "time" and "error" not in m}
    assert {subjects.MM, subjects.CDIST, subjects.SORT} <= others
    text = table.whole({"machine": {}, "stages": {}}, found, targets.judge(found))
    assert "TFLOP/s" in text
    assert "step N=64 D=8 float32, 4 per class" in text
    assert max(map(len, text.splitlines())) <= table.WIDTH


def test_what_fails_is_recorded_and_the_next_is_measured() -> None:
    def missing(case: Case, accelerator: Any) -> Any:
        raise ModuleNotFoundError("No module named 'a_peer'")

    run, found = dry_run()
    case = Case(32, 8, 4, "float32")
    run.measure_subject(case, subjects.Subject("step", "a peer", subjects.EAGER, missing))
    run.measure_subject(case, subjects.PRODUCTS[1])
    assert "No module named 'a_peer'" in found[0]["error"]
    assert "error" not in found[1]
    assert run.failed == 0
    run.measure_subject(case, subjects.Subject("step", subjects.OURS, subjects.EAGER, missing))
    assert run.failed == 1


def test_a_lost_context_ends_the_measurements() -> None:
    def lost(case: Case, accelerator: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    run, found = dry_run()
    subject = subjects.Subject("step", subjects.OURS, subjects.EAGER, lost)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        run.measure_subject(Case(32, 8, 4, "float32"), subject)
    assert "illegal memory access" in found[0]["error"]


def test_measurements_end_with_their_time() -> None:
    run, found = dry_run(seconds=-1.0)
    with pytest.raises(measure.OutOfTime):
        run.measure_plan(small(measure.CORE))
    assert found == []


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
