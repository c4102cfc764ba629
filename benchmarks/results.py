"""What was measured, as data and as JSON."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.cases import Case


@dataclass(frozen=True)
class Timing:
    """Seconds of one peer on one case."""

    operator: str
    peer: str
    n: int
    per_class: int
    median: float
    min: float
    max: float
    rounds: int

    @classmethod
    def from_pytest_benchmark(cls, entry: dict[str, Any]) -> "Timing":
        """One entry of pytest-benchmark's JSON."""
        stats = entry["stats"]
        measured = {name: stats[name] for name in ("median", "min", "max", "rounds")}
        return cls(**entry["extra_info"], **measured)


@dataclass(frozen=True)
class Peak:
    """Bytes by which one peer's peak memory exceeds its inputs, on one case."""

    operator: str
    peer: str
    n: int
    per_class: int
    growth: int


@dataclass(frozen=True)
class TrainingStep:
    """Seconds of a training step, and of the loss with its gradient in it."""

    network: str
    input_size: int
    batch: int
    micro_batch: int
    seconds: float
    loss_seconds: float


@dataclass(frozen=True)
class Results:
    """Everything of one run."""

    machine: dict[str, Any]
    times: list[Timing]
    peaks: list[Peak]
    training: list[TrainingStep] = field(default_factory=list)

    def time(self, peer: str, case: Case, operator: str = "mined_triplet_loss") -> float | None:
        """The median in seconds."""
        return _only(
            t.median
            for t in self.times
            if (t.operator, t.peer, t.n, t.per_class) == (operator, peer, case.n, case.per_class)
        )

    def peak(self, peer: str, case: Case, operator: str = "mined_triplet_loss") -> float | None:
        """The growth of the peak in bytes."""
        return _only(
            float(p.growth)
            for p in self.peaks
            if (p.operator, p.peer, p.n, p.per_class) == (operator, peer, case.n, case.per_class)
        )

    def save(self, path: Path, targets: list[dict[str, Any]]) -> None:
        """Write all of it, and what came of the targets, in one step: never half a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps({**asdict(self), "targets": targets}, indent=1) + "\n")
        os.replace(part, path)

    @classmethod
    def load(cls, path: Path) -> "Results":
        """Read what :meth:`save` wrote."""
        found = json.loads(path.read_text())
        return cls(
            found["machine"],
            [Timing(**entry) for entry in found["times"]],
            [Peak(**entry) for entry in found["peaks"]],
            [TrainingStep(**entry) for entry in found.get("training", [])],
        )


def _only(values: Iterable[float]) -> float | None:
    return next(iter(values), None)
