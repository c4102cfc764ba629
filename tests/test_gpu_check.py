"""`make gpu-check` where there is no GPU: its stages, jobs and targets, and a dry run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.ci  # the tool for a machine with a GPU

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "benchmarks" / "gpu").is_dir():
    pytest.skip("benchmarks/ is not here: these are installed tests", allow_module_level=True)
sys.path.append(str(ROOT))

from benchmarks import cases, distances, peers, table, targets  # noqa: E402
from benchmarks.cases import Case  # noqa: E402
from benchmarks.floors import bytes_moved, floor, operations  # noqa: E402
from benchmarks.gpu import build, clock, jobs, limits, measurements, sanitizers  # noqa: E402
from benchmarks.gpu.__main__ import (  # noqa: E402
    FILES,
    STAGES,
    Run,
    Stage,
    StageFailure,
    StageStopped,
    arguments,
    main,
)
from benchmarks.gpu.jobs import Entry, Job  # noqa: E402
from benchmarks.results import Peak, Results, Timing  # noqa: E402


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Everything is written here, and SIGTERM means afterwards what it meant before."""
    monkeypatch.setattr(jobs, "SCRATCH", tmp_path / "gpu")
    monkeypatch.setattr(jobs, "SITE", tmp_path / "gpu" / "site")
    (tmp_path / "gpu").mkdir()
    before = signal.getsignal(signal.SIGTERM)
    yield tmp_path / "gpu"
    signal.signal(signal.SIGTERM, before)


def saved(output: Path) -> dict[str, Any]:
    (path,) = output.glob("*.json")
    return json.loads(path.read_text())


# --- stages --------------------------------------------------------------------------------------


class Clock:
    """`time.monotonic`, moved on by the stages alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def spend(self, seconds: float) -> Callable[[Run, float, Entry], None]:
        def run(run: Run, limit: float, entry: Entry) -> None:
            entry["limit"] = limit
            self.now += seconds

        return run


def fail(run: Run, seconds: float, entry: Entry) -> None:
    entry["found"] = 3
    raise StageFailure("three are wrong")


def dry(tmp_path: Path, *more: str) -> Run:
    return Run(arguments(["--device", "cpu", "--output", str(tmp_path / "out"), *more]))


def test_a_failing_stage_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ticks = Clock(monkeypatch)
    stages = {
        "machine": Stage(ticks.spend(1), 10, 5, dry=True),
        "a": Stage(fail, 10, 5, dry=True),
        "b": Stage(ticks.spend(2), 10, 5, dry=True),
    }
    assert not dry(tmp_path).go(stages, 100.0)
    found = saved(tmp_path / "out")["stages"]
    assert found["a"]["status"] == "failed"
    assert found["a"]["found"] == 3
    assert "three are wrong" in found["a"]["error"]
    assert (found["b"]["status"], found["b"]["seconds"], found["b"]["limit"]) == ("passed", 2, 10)
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_what_the_others_need_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = Clock(monkeypatch)
    run = Run(arguments(["--output", str(tmp_path / "out")]))
    stages = {"machine": Stage(ticks.spend(1), 9, 5), "build": Stage(fail, 9, 5)}
    stages["smoke"] = Stage(ticks.spend(1), 9, 5)
    assert not run.go(stages, 100.0)
    assert saved(tmp_path / "out")["stages"]["smoke"]["reason"] == "needs build"
    stages["build"] = Stage(ticks.spend(1), 9, 5)
    assert not run.go(stages, 100.0)  # it left nothing
    (jobs.SITE / "facenet_ext").mkdir(parents=True)
    assert run.go(stages, 100.0)
    assert not run.go({"machine": Stage(fail, 9, 5), "smoke": stages["machine"]}, 100.0)
    assert saved(tmp_path / "out")["stages"]["smoke"]["reason"] == "needs machine"


def test_the_deadline_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And each stage leaves the later ones the least that they need."""
    ticks = Clock(monkeypatch)
    stages = {"machine": Stage(ticks.spend(0), 10, 0, dry=True)}
    stages |= {name: Stage(ticks.spend(40), 40, 15, dry=True) for name in "abc"}
    assert dry(tmp_path).go(stages, 95.0)
    found = saved(tmp_path / "out")["stages"]
    assert [found[name].get("limit") for name in "abc"] == [40, 40, 15]
    ticks.now = 0
    stages["machine"] = Stage(ticks.spend(0), 59, 0, dry=True, whole=True)
    assert dry(tmp_path).go(stages, 60.0)
    found = saved(tmp_path / "out")["stages"]
    assert [found[name].get("limit") for name in ("machine", *"abc")] == [59, 30, 15, None]
    assert found["c"]["reason"] == "no time left"


def test_what_was_not_reached_or_not_finished_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = Clock(monkeypatch)

    def stop(run: Run, seconds: float, entry: Entry) -> None:
        ticks.now += seconds
        entry["jobs"] = {"one": {"status": "stopped", "counts": {"passed": 7}}}

    stages = {
        "machine": Stage(ticks.spend(1), 10, 5, dry=True),
        "a": Stage(stop, 20, 5, dry=True),
        "b": Stage(ticks.spend(2), 10, 5, dry=True),
    }
    run = dry(tmp_path)
    assert run.go(stages, 23.0)
    found = saved(tmp_path / "out")["stages"]
    assert [found[name]["status"] for name in stages] == ["passed", "stopped", "passed"]
    assert (found["a"]["summary"], run.unfinished) == ("7 passed; one stopped", ["a"])
    assert run.go(stages, ticks.now + 7.0)
    assert run.unfinished == ["a", "b"]
    stopped = {"status": "stopped", "counts": {}}
    failed = {"status": "failed", "counts": {"failure": 1}}
    with pytest.raises(StageFailure):
        run._sum_up({"jobs": {"one": stopped, "two": failed}})
    with pytest.raises(StageStopped):
        run._sum_up({"jobs": {"one": stopped}})


def test_one_stage_alone_builds_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So two machines can share the stages."""
    ticks = Clock(monkeypatch)

    def build(run: Run, seconds: float, entry: Entry) -> None:
        (jobs.SITE / "facenet_ext").mkdir(parents=True)

    stages = {"machine": Stage(ticks.spend(1), 9, 5), "build": Stage(build, 9, 5)}
    stages |= {name: Stage(ticks.spend(1), 9, 5) for name in ("smoke", "tests")}
    run = Run(arguments(["--output", str(tmp_path / "out"), "--only", "tests"]))
    for _ in range(2):  # once: the second finds it built
        assert run.go(stages, ticks.now + 100.0)
    found = saved(tmp_path / "out")["stages"]
    assert {name: entry["status"] for name, entry in found.items()} == dict.fromkeys(
        ("machine", "build", "tests"), "passed"
    )


def test_an_interrupted_stage_leaves_what_it_has(tmp_path: Path) -> None:
    def interrupted(run: Run, seconds: float, entry: Entry) -> None:
        entry["found"] = 3
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dry(tmp_path).go({"machine": Stage(interrupted, 9, 0, dry=True)}, time.monotonic() + 60)
    found = saved(tmp_path / "out")["stages"]["machine"]
    assert (found["status"], found["found"]) == ("interrupted", 3)


def test_only_and_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They keep what the last run of this commit did, and do what is asked for or did not pass."""
    monkeypatch.setattr(jobs, "run", lambda of, *_, **__: dict.fromkeys((j.name for j in of), 0))
    monkeypatch.setattr(Job, "log", lambda job, characters: "null")
    monkeypatch.setenv("FACENET_COMMIT", "one")
    ticks = Clock(monkeypatch)
    stages = {"machine": STAGES["machine"], "smoke": Stage(ticks.spend(1), 9, 0, dry=True)}
    assert not dry(tmp_path).go(stages | {"core": Stage(fail, 9, 0, dry=True)}, 60.0)
    done = stages | {"core": Stage(ticks.spend(3), 9, 0, dry=True)}
    assert dry(tmp_path, "--only", "core").go(done, 60.0)
    found = saved(tmp_path / "out")["stages"]
    assert (found["core"]["seconds"], "earlier" in found["core"]) == (3, False)
    assert (found["smoke"]["status"], found["smoke"]["earlier"]) == ("passed", True)
    capsys.readouterr()
    assert dry(tmp_path, "--resume").go(done, 60.0)
    assert "[smoke] passed earlier\n[core] passed earlier\n" in capsys.readouterr().out
    monkeypatch.setenv("FACENET_COMMIT", "another")
    assert dry(tmp_path, "--resume").go(done, 60.0)
    assert "earlier" not in capsys.readouterr().out


def test_options_and_stages() -> None:
    assert list(STAGES) == ["machine", "build", "smoke", "core", "tests", "sanitizers", "rest"]
    asked = arguments(["--minutes", "2", "--only", "core", "--only", "tests", "--quick"])
    assert (asked.minutes, asked.only, asked.quick) == (2.0, ["core", "tests"], True)
    assert all((ROOT / "tests" / name).is_file() for name in FILES)


def test_results_are_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out" / "results.json"
    Results({"gpu": "one"}).save(path, [])

    def no_space(*arguments: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(OSError, match="no space"):
        Results({"gpu": "two"}).save(path, [])
    assert Results.load(path).machine == {"gpu": "one"}


# --- jobs ----------------------------------------------------------------------------------------


def outcome_of(tmp_path: Path, test: str, seconds: float = 60.0) -> Entry:
    (tmp_path / "test_some.py").write_text(test)
    job = Job("some", [str(tmp_path / "test_some.py")])
    return jobs.outcome(job, jobs.run([job], seconds)["some"])


def test_the_outcomes_of_a_job_are_counted(tmp_path: Path) -> None:
    found = outcome_of(
        tmp_path,
        "import pytest\n"
        "def test_right(record_property): record_property('bytes', 7)\n"
        "def test_wrong(): assert 1 == 2\n"
        "@pytest.mark.skip(reason='no such GPU')\n"
        "def test_skipped(): pass\n"
        "@pytest.fixture\n"
        "def broken(): raise ValueError('broken')\n"
        "def test_error(broken): pass\n",
    )
    assert found["counts"] == {"passed": 1, "failure": 1, "skipped": 1, "error": 1}
    assert found["status"] == "failed"
    assert [f["id"].split("::")[1] for f in found["failures"]] == ["test_wrong", "test_error"]
    assert "1 == 2" in found["failures"][0]["told"]
    assert found["properties"] == [{"bytes": "7"}]
    (why,) = found["skipped"]
    assert "no such GPU" in why


def test_a_lost_context_ends_a_job(tmp_path: Path) -> None:
    lost = "raise RuntimeError('CUDA error: an illegal memory access')"
    found = outcome_of(tmp_path, f"def test_first(): {lost}\ndef test_second(): pass\n")
    assert found["stopped"] == "the CUDA context is lost"
    assert (found["status"], found["counts"]) == ("failed", {"failure": 1})
    assert not limits.is_lost("CUDA out of memory")


def test_a_job_ends_with_its_time(tmp_path: Path) -> None:
    found = outcome_of(tmp_path, "def test_1(): pass\ndef test_2(): pass\n", jobs.STARTING)
    assert (found["status"], found["stopped"]) == ("stopped", "out of time")
    assert found["counts"] == {"passed": 1}


def test_a_test_that_hangs_is_ended_and_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "TEST_SECONDS", 0.5)
    hang = "import time\ndef test_1(): pass\ndef test_2(): time.sleep(600)\n"
    found = outcome_of(tmp_path, hang)
    assert found["counts"] == {"passed": 1, "failure": 1}
    (failure,) = found["failures"]
    assert failure["id"].endswith("test_2")
    assert "still running after 0.5 s" in failure["told"]
    assert "in test_2" in failure["told"]


def test_a_process_that_takes_too_long_is_ended() -> None:
    code = (
        "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "print('begun')\ntime.sleep(600)"
    )
    slow, late = (Job(name, command=[sys.executable, "-c", code]) for name in ("slow", "late"))
    begin, jobs_grace = time.monotonic(), jobs.GRACE
    jobs.GRACE = 0.5
    try:
        assert jobs.run([slow, late], 1.5) == {"slow": -signal.SIGKILL, "late": None}
    finally:
        jobs.GRACE = jobs_grace
    assert time.monotonic() - begin < 30
    assert "begun" in slow.log()
    assert jobs.outcome(slow, -signal.SIGKILL)["status"] == "stopped"
    assert jobs.outcome(late, None)["status"] == "stopped"


def test_a_job_of_which_nothing_ran_has_not_passed(tmp_path: Path) -> None:
    test = "import pytest\npytest.skip('no CUDA device', allow_module_level=True)\n"
    assert outcome_of(tmp_path, test)["status"] == "nothing ran"
    assert outcome_of(tmp_path, "import nothing_of_this_name\n")["status"] == "failed"


@pytest.mark.parametrize(
    ("log", "verdict"),
    [
        ("========= ERROR SUMMARY: 0 errors\n", "clean"),
        ("========= ERROR SUMMARY: 3 errors\n", "found"),
        ("========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n", "clean"),
        ("========= RACECHECK SUMMARY: 2 hazards displayed (2 errors, 0 warnings)\n", "found"),
        ("unrecognised option '--kernel-name'\n", "no verdict"),
    ],
)
def test_sanitizers_logs_are_read(log: str, verdict: str) -> None:
    assert sanitizers.verdict_of(log, 0) == verdict
    job = sanitizers.job("compute-sanitizer", "racecheck", "calls.py")
    job.path("log").write_text(log)
    job.path("xml").write_text("<testsuite><testcase/></testsuite>")
    assert sanitizers.outcome(job, 0)["status"] == ("passed" if verdict == "clean" else verdict)
    job.path("xml").write_text("<testsuite/>")
    assert sanitizers.outcome(job, 0)["status"] != "passed"
    assert sanitizers.without_options(job).tool[-1] == sanitizers.LIMIT


def test_a_tool_that_was_stopped_has_no_verdict() -> None:
    assert sanitizers.verdict_of("========= ERROR SUMMARY: 0 errors", None) == "no verdict"
    job = sanitizers.job("compute-sanitizer", "racecheck", "calls.py")
    assert sanitizers.outcome(job, None)["status"] == "stopped"
    assert sanitizers.outcome(job, 1)["status"] == "no verdict"
    assert sanitizers.verdict_of("========= ERROR SUMMARY: 0 errors", 1) == "failed"


def test_only_what_was_built_is_measured() -> None:
    assert [build.architecture(c) for c in ("9.0", "8.0", "12.0")] == [
        "90a-real",
        "80-real",
        "120-real",
    ]
    with pytest.raises(build.BuildError, match="imports another facenet_ext"):
        build._check({})


# --- measurements --------------------------------------------------------------------------------


def test_floors() -> None:
    case = Case(1000, 4, 10, "bfloat16")
    assert (case.row_bytes, case.input_bytes) == (20_000, 28_000)
    assert bytes_moved(peers.FORWARD, case) == 28_004
    assert bytes_moved("mined_triplet_loss", case) == 48_004
    assert bytes_moved("pairwise_squared_distance", case) == 20_000 + 4_000_000
    assert operations(case) == 20_000_000
    assert floor("mined_triplet_loss", case, {"copy": 1e9, "bfloat16": 1e12}) == 48_004e-9
    assert floor("mined_triplet_loss", case, {"copy": 1e13, "bfloat16": 1e12}) == 20e-6
    assert floor("mined_triplet_loss", case, {"float32": 1e12}) is None


def test_a_graph_is_timed_by_triton_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    captured: list[object] = []
    monkeypatch.setattr(clock, "DEVICE", "cuda")
    monkeypatch.setattr(clock, "capture", lambda call: captured.append(call) or call)
    bench = SimpleNamespace(do_bench=lambda call, **_: [3.0, 1.0, 2.0])
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(testing=bench))
    monkeypatch.setitem(sys.modules, "triton.testing", bench)
    found = clock.measure(lambda: None, "graph", 0.01)
    assert found == {
        "median": 2e-3,
        "min": 1e-3,
        "max": 3e-3,
        "rounds": 3,
        "clock": "triton do_bench",
    }
    monkeypatch.setitem(sys.modules, "triton.testing", None)
    for mode, times in (("graph", 2), ("eager", 2)):
        found = clock.measure(lambda: time.sleep(2e-3), mode, 0.01)
        assert 2e-3 < found["min"] <= found["median"] <= found["max"]
        assert (found["clock"], len(captured)) == ("torch.utils.benchmark", times)


def timed(operator: str, peer: str, mode: str, case: Case, seconds: float) -> Timing:
    of = {"n": case.n, "per_class": case.per_class, "dim": case.dim, "dtype": case.dtype}
    figures = {"median": seconds, "min": seconds, "max": seconds, "rounds": 1}
    return Timing(operator=operator, peer=peer, mode=mode, **of, **figures)


def test_targets_are_judged() -> None:
    case = cases.LARGE[0]
    step = "mined_triplet_loss"
    results = Results({"gpu": None})
    for measured in (
        timed(peers.FORWARD, peers.BOUNDED, "graph", case, 1.0e-4),
        timed(peers.FORWARD, peers.MM.name, "graph", case, 1.0e-4),
        timed(step, peers.BOUNDED, "graph", cases.PAPER, 1.0),
        timed(step, peers.BOUNDED, "graph", cases.PAPER, 70e-6),  # in place of the last
        timed(step, peers.BOUNDED, "eager", case, 70e-6),
    ):
        results.add(measured)
    assert len(results.times) == 4
    of = {(v.target.operator, v.target.case, v.target.mode): v for v in targets.judge(results)}
    verdict = of[peers.FORWARD, case, "graph"]
    assert (verdict.ratio, verdict.met, verdict.aim_met, verdict.word) == (1.0, True, False, "met")
    absolute = [
        v for v in targets.judge(results) if v.target.case == cases.PAPER and v.against == "1 s"
    ]
    assert [(v.ratio, v.word) for v in absolute] == [(70e-6, "NOT MET"), (None, "not measured")]
    assert absolute[1].as_dict()["met"] is None
    assert of[peers.FORWARD, cases.LARGE[1], "graph"].word == "not measured"


def test_memory_is_judged_by_the_bytes_of_the_inputs() -> None:
    (target,) = (t for t in targets.TARGETS if t.against == "the inputs")
    growth = target.case.input_bytes * 5 // 2
    of = {"n": 65536, "per_class": 4, "dtype": "bfloat16"}
    results = Results({"gpu": None})
    results.add(Peak(operator=target.operator, peer=target.ours, growth=growth, **of))
    (verdict,) = targets.judge(results, [target])
    assert (verdict.ratio, verdict.word) == (2.5, "met")


def test_each_device_has_targets_of_its_own() -> None:
    on_gpu = [v.target for v in targets.judge(Results({"gpu": None}))]
    on_cpu = [v.target for v in targets.judge(Results({}))]
    assert sorted(map(str, on_gpu + on_cpu)) == sorted(map(str, targets.TARGETS))
    assert {t.device for t in on_cpu} == {"cpu"}
    # The core measures what the GPU's need.
    planned = {
        (operator, case, peer.name, mode) for operator, case, peer, mode in measurements.CORE
    }
    weighed = {
        (operator, case, peer.name, mode) for operator, case, peer, mode in measurements.PEAKS
    }
    for t in on_gpu:
        assert (t.operator, t.case, t.ours, t.mode) in (
            planned if t.quantity == "time" else weighed
        )
        if isinstance(t.against, peers.Peer):
            assert (t.operator, t.case, t.against.name, t.against_mode) in planned


def test_the_rest_is_measured_on_cpu_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "DEVICE", "cpu")
    monkeypatch.setattr(measurements, "SECONDS", 1e-4)
    found: list[tuple[str, dict[str, Any]]] = []
    rows = [row for row in measurements.REST if row[2] not in measurements.OTHERS[1:]]
    for row in rows:
        measurements.measure(lambda *figures: found.append(figures), row)
    assert len(found) == len(rows) == len(set(rows)) > 70
    assert all(kind == "time" and Timing(**figures).median > 0 for kind, figures in found)
    measurements.test_kernels(cases.PAPER, lambda *figures: found.append(figures))
    assert found[-1] == ("kernels", {str(cases.PAPER): []})


@pytest.mark.parametrize(
    ("peer", "text", "raised"),
    [
        (peers.SORT, "No module named 'a_peer'", pytest.skip.Exception),
        (distances.OURS, "out of memory", RuntimeError),
        (peers.SORT, "CUDA error: an illegal memory access was encountered", RuntimeError),
    ],
)
def test_only_anothers_failure_is_no_failure(
    peer: peers.Peer, text: str, raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*row: object) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(measurements, "prepare", broken)
    with pytest.raises(BaseException, match=text) as caught:
        measurements.measure(pytest.fail, ("mined_triplet_loss", Case(32, 4), peer, "eager"))
    assert caught.type is raised


# --- the command ---------------------------------------------------------------------------------


def test_without_a_gpu_it_says_so_and_writes_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(["--output", str(tmp_path / "out"), "--minutes", "2"]) == 1
    assert "torch sees no CUDA device" in capsys.readouterr().out
    found = saved(tmp_path / "out")
    assert {name: entry["status"] for name, entry in found["stages"].items()} == {
        "machine": "failed",
        **dict.fromkeys(list(STAGES)[1:], "left out"),
    }
    assert found["machine"]["packages"]["torch"]
    assert all(target["met"] is None for target in found["targets"])


def test_a_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole command on CPU tensors, without the peers that a machine may lack."""
    for peer in ("sentence_transformers", "pytorch_metric_learning"):
        (tmp_path / f"{peer}.py").write_text("raise ModuleNotFoundError('not here')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    output = tmp_path / "out"
    assert (
        main(["--device", "cpu", "--output", str(output), "--only", "smoke", "--only", "core"]) == 0
    )
    assert {path.name for path in output.iterdir()} == {"dry-run.json", "logs.txt"}
    assert "test session starts" in (output / "logs.txt").read_text()
    found = saved(output)
    counts = {
        name: entry["jobs"][name]["counts"]
        for name, entry in found["stages"].items()
        if "jobs" in entry
    }
    assert counts["smoke"] == {"passed": 160}
    skips = {name: count.pop("skipped") for name, count in counts.items() if "skipped" in count}
    assert skips == {"core": 2}
    assert set(counts) == {"smoke", "core"}
    assert all(set(count) == {"passed"} for count in counts.values())
    assert all(timing["median"] > 0 for timing in found["times"])
    assert {timing["peer"] for timing in found["times"]} == {
        peers.BOUNDED,
        *(p.name for p in (peers.OURS, peers.MM, peers.SORT)),
        distances.CDIST.name,
    }
    assert set(found["ceilings"]) == {"copy", "bfloat16", "float32"}
    assert len(found["peaks"]) == 2
    results = Results.load(output / "dry-run.json")
    text = table.text(results, targets.judge(results))
    assert text in capsys.readouterr().out
    assert "TFLOP/s" in text
    assert "N=64, D=8, 4 per class" in text
    assert max(map(len, text.splitlines())) <= table.WIDTH


def test_it_imports_without_what_a_gpu_machine_may_lack() -> None:
    lacking = ("rich", "matplotlib", "pytest_benchmark", "hypothesis", "triton")
    lacking += ("pytorch_metric_learning", "sentence_transformers", "pytest_timeout", "xdist")
    code = (
        f"import sys\nfor name in {lacking}: sys.modules[name] = None\n"
        "import benchmarks.gpu.check_operators\nfrom benchmarks.gpu import __main__, measurements\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
