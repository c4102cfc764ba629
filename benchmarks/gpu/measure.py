"""The measurements, most valuable first: `python -m benchmarks.gpu.measure core|rest SECONDS`.

Each is tried on its own; what failed is recorded with its error beside what was measured.
"""

import argparse
import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from benchmarks.gpu import cases, processes, records, subjects, timing
from benchmarks.gpu.accelerator import Accelerator, Cuda
from benchmarks.gpu.cases import Case
from benchmarks.gpu.floors import Ceilings, floors
from benchmarks.gpu.stages import Entry, StageFailure
from benchmarks.gpu.subjects import GRAPH, OURS, Subject

Write = Callable[..., None]
Plan = Sequence[tuple[Case, Sequence[Subject]]]

SECONDS = 0.3  # for each measurement
FLOORED = ("step", "mining", "distances")

CORE: Plan = (
    (cases.PAPER, (*subjects.OURS_STEP, *subjects.PRODUCTS, *subjects.PEERS_STEP)),
    *((case, (*subjects.OURS_MINING, *subjects.PRODUCTS)) for case in cases.LARGE),
    *(
        (case, (*subjects.OURS_DISTANCES, *subjects.PRODUCTS, *subjects.CDISTS))
        for case in cases.DISTANCES
    ),
)
REST: Plan = (
    (cases.PAPER_BF16, (*subjects.OURS_STEP, *subjects.PRODUCTS)),
    *((case, subjects.OURS_STEP[:2]) for case in cases.LARGE),
    *(
        (case, (*subjects.OURS_STEP[:2], *subjects.OURS_MINING[:1], *subjects.PRODUCTS[:1]))
        for case in (*cases.SWEEP, *cases.WIDTHS)
    ),
    (Case(1024, 128, 8, "float32"), (*subjects.OURS_STEP, *subjects.PEERS_STEP)),
    (Case(8192, 128, 4, "float32"), (*subjects.OURS_STEP, *subjects.PEERS_STEP[:1])),
    *(
        (case, subjects.OURS_SELECTION)
        for case in (cases.PAPER, cases.LARGE[0], cases.LARGE[1], cases.LARGE[5])
    ),
)


class OutOfTime(Exception):  # noqa: N818
    """The seconds are used up."""


class Measurements:
    """Runs a plan on a device, and writes a record of each measurement as it is made."""

    def __init__(
        self, accelerator: Accelerator, write: Write, seconds: float, each: float = SECONDS
    ) -> None:
        self.accelerator = accelerator
        self.write = write
        self.deadline = time.monotonic() + seconds
        self.each = each
        self.ceilings = Ceilings(rates={})
        self.failed = 0

    def attempt(self, kind: str, what: dict[str, Any], make: Callable[[], dict[str, Any]]) -> None:
        """Writes what `make` finds, or its error. An error that ends the CUDA context is raised."""
        if time.monotonic() > self.deadline:
            raise OutOfTime
        try:
            found = make()
        except Exception as error:
            text = records.error_text(error)
            # A peer that is not installed, or refuses the dtype, is no failure of ours.
            self.failed += what.get("who", OURS) == OURS
            self.write(kind, **what, error=text)
            del error
            self._clean(quietly=True)
            if records.is_fatal(text):
                raise
            return
        self.write(kind, **what, **found)
        self._clean()

    def _clean(self, quietly: bool = False) -> None:
        gc.collect()
        try:
            self.accelerator.free()
        except Exception:
            if not quietly:
                raise

    # --- ceilings ---------------------------------------------------------------------------

    def measure_ceilings(self, side: int = 8192, copied: int = 2**31) -> None:
        """The copy bandwidth, and the rate of a large product in each precision."""
        device = self.accelerator.device

        def bandwidth() -> dict[str, Any]:
            source = torch.empty(copied, dtype=torch.uint8, device=device).random_()
            target = torch.empty_like(source)
            found = timing.measure([lambda: target.copy_(source)], self.accelerator, self.each)
            self.ceilings.bandwidth = 2 * copied / found.median
            return {"bytes_a_second": self.ceilings.bandwidth, "timing": found.as_dict()}

        def rate(dtype: str) -> dict[str, Any]:
            a, b = (
                torch.randn(side, side, device=device).to(getattr(torch, dtype)) for _ in range(2)
            )
            found = timing.measure([lambda: torch.mm(a, b)], self.accelerator, self.each)
            assert self.ceilings.rates is not None
            self.ceilings.rates[dtype] = 2 * side**3 / found.median
            return {
                "operations_a_second": self.ceilings.rates[dtype],
                "timing": found.as_dict(),
            }

        self.attempt("ceiling", {"what": "copy"}, bandwidth)
        for dtype in ("bfloat16", "float32"):
            self.attempt("ceiling", {"what": f"mm {dtype}", "side": side}, lambda d=dtype: rate(d))

    # --- times ------------------------------------------------------------------------------

    def measure_plan(self, plan: Plan) -> None:
        for case, of in plan:
            for subject in of:
                self.measure_subject(case, subject)

    def measure_subject(self, case: Case, subject: Subject) -> None:
        what = {
            "operator": subject.operator,
            "who": subject.who,
            "mode": subject.mode,
            **case.as_dict(),
        }

        def make() -> dict[str, Any]:
            found = self.time(case, subject)
            told = {"timing": found.as_dict()}
            if subject.operator in FLOORED and subject.who == OURS:
                floor = floors(subject.operator, case, self.ceilings)
                told["floors"] = floor
                if "floor" in floor:
                    told["fraction"] = floor["floor"] / found.median
            return told

        self.attempt("time", what, make)

    def time(self, case: Case, subject: Subject) -> timing.Timing:
        """Times a subject on a case, over as many sets of inputs as the cache asks for."""
        sets = timing.sets_of_inputs(
            case.input_bytes, subject.output_bytes(case), self.accelerator.l2_bytes
        )
        of = subject.build(case, self.accelerator)
        gc.freeze()  # collecting what imports made would take longer than measuring
        calls = [of(*case.batch(self.accelerator.device, seed)) for seed in range(sets)]
        if subject.mode == GRAPH:
            calls = [self.accelerator.capture(call) for call in calls]
        return timing.measure(calls, self.accelerator, self.each)

    # --- memory, kernels --------------------------------------------------------------------

    def measure_memory(self, case: Case) -> None:
        """The peak of a step over its inputs."""
        for subject in subjects.OURS_STEP[1:]:

            def make(subject: Subject = subject) -> dict[str, Any]:
                call = subject.build(case, self.accelerator)(*case.batch(self.accelerator.device))
                return {"bytes": self.accelerator.peak(call), "input_bytes": case.input_bytes}

            what = {"operator": "step", "who": OURS, "mode": subject.mode, **case.as_dict()}
            self.attempt("memory", what, make)

    def measure_kernels(self, case: Case) -> None:
        """The kernels of one step, each with its time on the device."""

        def make() -> dict[str, Any]:
            subject = subjects.OURS_STEP[1]
            call = subject.build(case, self.accelerator)(*case.batch(self.accelerator.device))
            kernels = self.accelerator.kernels(call)
            return {"kernels": kernels, "seconds": sum(kernel["seconds"] for kernel in kernels)}

        self.attempt("kernels", {"operator": "step", **case.as_dict()}, make)


def core(run: Measurements, quick: bool) -> None:
    run.measure_plan(CORE[:2] if quick else CORE)
    run.measure_memory(cases.WEIGHED)
    for case in (cases.PAPER, cases.LARGE[0]):
        run.measure_kernels(case)


def rest(run: Measurements, quick: bool) -> None:
    run.measure_plan(REST[:2] if quick else REST)
    for case in (cases.PAPER_BF16, cases.LARGE[1], cases.LARGE[4], cases.LARGE[5]):
        run.measure_kernels(case)
    run.measure_memory(cases.LARGE[3])


def stage(seconds: float, entry: Entry, which: str, quick: bool, watch: Callable[[], None]) -> None:
    """Runs core or rest in a process of its own; `watch` looks at what it has found so far."""
    command = processes.python("benchmarks.gpu.measure", which, max(seconds - 15.0, 5.0))
    command += ["--quick"] if quick else []
    name = f"benchmarks_{which}"
    try:
        code = processes.run(command, name=name, seconds=seconds, watch=watch)
    finally:
        found = records.read(processes.record_path(name))
        entry["measured"] = sum("error" not in r for r in found if r["kind"] in MEASURED)
        entry["errors"] = [
            {key: r.get(key) for key in ("kind", "operator", "who", "mode", "n", "dtype", "error")}
            for r in found
            if "error" in r
        ]
    if code:
        raise StageFailure(f"exit status {code}: {processes.tail(name, 600)}")


MEASURED = ("ceiling", "time", "memory", "kernels")


def collected() -> Iterator[dict[str, Any]]:
    """Every measurement of this run so far."""
    for which in ("core", "rest"):
        for record in records.read(processes.record_path(f"benchmarks_{which}")):
            if record["kind"] in MEASURED:
                yield record


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.measure", allow_abbrev=False)
    parser.add_argument("which", choices=["core", "rest"])
    parser.add_argument("seconds", type=float)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    run = Measurements(Cuda(), records.write, arguments.seconds)
    try:
        run.measure_ceilings()
        {"core": core, "rest": rest}[arguments.which](run, arguments.quick)
    except OutOfTime:
        records.write("note", text="out of time: the measurements that come next were left out")
    if run.failed:
        sys.exit(f"{run.failed} measurements of ours failed")


if __name__ == "__main__":
    main()
