"""The measurements of `make gpu-check`, their floors and targets, on CPU tensors."""

from __future__ import annotations

import json
import sys
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
    build,
    cases,
    measure,
    subjects,
    table,
    targets,
    timing,
)
from benchmarks.gpu.accelerator import Host  # noqa: E402
from benchmarks.gpu.cases import Case  # noqa: E402
from benchmarks.gpu.floors import Ceilings, bytes_moved, floors, operations  # noqa: E402

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
