"""What `make gpu-check` makes of compute-sanitizer's reports."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ci  # the tool for a machine with a GPU

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "benchmarks" / "gpu").is_dir():
    pytest.skip("benchmarks/ is not here: these are installed tests", allow_module_level=True)
sys.path.append(str(ROOT))

from benchmarks.gpu import sanitizers  # noqa: E402

STREAM = "void facenet::cuda::pair_stream<facenet::cuda::MmaLoop<float>, facenet::cuda::"


def race(epilogue: str, *kinds: str) -> str:
    first, second = (f"{kind} access at {STREAM}{epilogue}>(int)+0x40" for kind in kinds)
    return (
        f"========= Error: Race reported between {first}\n=========     and {second} [4 hazards]\n"
    )


def uninitialised(kernel: str) -> str:
    return (
        "========= Uninitialized __global__ memory read of size 4 bytes\n"
        f"=========     at {kernel}+0x1b0\n=========     by thread (0,0,0) in block (0,0,0)\n"
    )


@pytest.mark.parametrize(
    ("tool", "reports", "excused", "verdict"),
    [
        ("racecheck", [race("SuccessorFewEpilogue", "Read", "Write")], 1, "clean"),
        ("racecheck", [race("HardestEpilogue", "Write", "Read")] * 2, 2, "clean"),
        ("racecheck", [race("SuccessorManyEpilogue", "Write", "Write")], 0, "found"),
        ("racecheck", [race("StoreEpilogue<float>", "Read", "Write")], 0, "found"),
        ("memcheck", [race("HardestEpilogue", "Write", "Read")], 0, "found"),
        ("initcheck", [uninitialised("void at::native::unrolled_kernel<int>(int)")], 1, "clean"),
        (
            "initcheck",
            [uninitialised("void at::native::k(int)"), uninitialised(f"{STREAM}Hardest>()")],
            1,
            "found",
        ),
    ],
)
def test_what_a_sanitizer_reports_of_others_is_excused(
    tool: str, reports: list[str], excused: int, verdict: str
) -> None:
    log = "========= COMPUTE-SANITIZER\n" + "".join(reports)
    count = len(reports)
    told = f"RACECHECK SUMMARY: {count} hazards displayed ({count} errors, 0 warnings)"
    log += f"========= {told if tool == 'racecheck' else f'ERROR SUMMARY: {count} errors'}\n"
    ours, others = sanitizers.findings(log, tool)
    assert (len(ours) + len(others), len(others)) == (count, excused)
    assert sanitizers.verdict_of(log, sanitizers.FOUND, tool) == verdict
    # What was counted and not printed may be ours.
    assert sanitizers.verdict_of(log.replace(f" {count} ", f" {count + 1} "), 0, tool) == "found"
