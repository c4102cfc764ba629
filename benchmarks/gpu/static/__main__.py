"""Predicts the hot kernels' speed, and records it: `python -m benchmarks.gpu.static`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import table
from benchmarks.gpu.static import multiprocessor, report, small
from benchmarks.gpu.static.build import Build, nvcc_version
from benchmarks.gpu.static.kernels import (
    CASES,
    COLD,
    COLD_IF_RESIDENT,
    CSRC,
    HOT,
    KERNELS,
    SLOW,
    THREADS,
    Case,
)
from benchmarks.gpu.static.path import PathError, Sources, common_path
from benchmarks.machine import ROOT


def predict(build: Build, case: Case) -> report.Prediction:
    """Follow one tile of the case, and let as many warps as fit take turns at it."""
    code = build.code(case)
    kernel = KERNELS[case.kernel]
    hot, cold = (*HOT, *kernel.hot), [*COLD, *kernel.cold]
    if code.resident:
        cold.append(COLD_IF_RESIDENT)
    steps = common_path(code.blocks, hot, cold, Sources(CSRC / "cuda"), case.chunks)
    products = sum(step.instruction.name == "HMMA" for step in steps)
    if products != case.products:
        raise PathError(f"{case}: expected {case.products} HMMA on the path, got {products}")
    blocks = multiprocessor.blocks_at_once(code.registers, THREADS, code.shared_bytes)
    return report.Prediction(
        case=str(case),
        instructions=len(steps),
        units=dict(sorted(multiprocessor.count(steps).items())),
        registers=code.registers,
        shared_bytes=code.shared_bytes,
        resident=code.resident,
        blocks=blocks,
        cycles=round(multiprocessor.cycles_per_tile(steps, blocks, SLOW), 1),
    )


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.static", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--build",
        type=Path,
        default=ROOT / "build" / "static",
        help="folder of the kernels' machine code, kept where it is newer than the sources",
    )
    parser.add_argument(
        "--output", type=Path, default=report.RESULTS, help=f"the JSON [{report.RESULTS.name}]"
    )
    options = parser.parse_args(given)
    build = Build(options.build)
    predictions = [predict(build, case) for case in CASES]
    sources = Sources(CSRC / "cuda")
    nodes = [
        small.predict(node, *build.kernel(node.file, node.symbol), sources) for node in small.NODES
    ]
    report.save(predictions, nodes, nvcc_version(), options.output)
    print(table.table(*report.table(predictions)))
    print(table.table(*report.nodes_table(nodes)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
