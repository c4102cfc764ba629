"""The time of a call: the median of many rounds, each of several calls over several inputs."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.gpu.accelerator import Accelerator, Call

ROUND = 1e-3  # seconds: below this the clock's own grain would show
MOST_CALLS = 64
MOST_ROUNDS = 100
FEWEST_ROUNDS = 5


@dataclass(frozen=True)
class Timing:
    """Seconds of one call, from `rounds` rounds of `calls` calls, over `sets` sets of inputs."""

    median: float
    least: float
    most: float
    rounds: int
    calls: int
    sets: int
    raw: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"raw": [float(f"{seconds:.5g}") for seconds in self.raw]}


def measure(calls: Sequence[Call], accelerator: Accelerator, seconds: float) -> Timing:
    """Times calls that do the same to different inputs, one after the other, over and over.

    Nothing waits for the device within a round, so that short work is not measured with the gap
    before it; a call that waits of itself is measured with its wait.
    """
    for call in calls:
        call()
    accelerator.wait()
    begin = accelerator.mark()
    for call in calls:
        call()
    end = accelerator.mark()
    accelerator.wait()
    about = max(accelerator.between(begin, end) / len(calls), 1e-7)
    per_round = min(max(math.ceil(ROUND / about), 1), MOST_CALLS)
    # Even a slow call is timed again: the first figure has what a second call no longer pays.
    rounds = min(max(int(seconds / (about * per_round)), FEWEST_ROUNDS), MOST_ROUNDS)
    if about > seconds:
        rounds = 2
    marks = []
    turn = 0
    for _ in range(rounds):
        begin = accelerator.mark()
        for _ in range(per_round):
            calls[turn % len(calls)]()
            turn += 1
        marks.append((begin, accelerator.mark()))
    accelerator.wait()
    raw = tuple(accelerator.between(begin, end) / per_round for begin, end in marks)
    return Timing(statistics.median(raw), min(raw), max(raw), rounds, per_round, len(calls), raw)


def sets_of_inputs(input_bytes: int, output_bytes: int, l2_bytes: int) -> int:
    """How many sets to rotate among: twice the L2 cache, but few, and no outputs of gigabytes."""
    wanted = min(max(math.ceil(2 * l2_bytes / max(input_bytes, 1)), 1), 8)
    return min(wanted, max(int(4e9 // max(output_bytes, 1)), 1))
