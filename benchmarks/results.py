"""What was measured, as data and as JSON."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.cases import DIMENSIONS, Case


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """What was measured. Measurements of the same thing are equal, whatever their figures."""

    operator: str
    peer: str
    n: int
    per_class: int
    dim: int = DIMENSIONS
    dtype: str = "float32"
    mode: str = "eager"

    @property
    def case(self) -> Case:
        return Case(self.n, self.per_class, self.dim, self.dtype)


@dataclass(frozen=True, kw_only=True)
class Timing(_Measured):
    """Seconds of one peer on one case."""

    median: float = field(compare=False)
    min: float = field(compare=False)
    max: float = field(compare=False)
    rounds: int = field(compare=False)
    clock: str = field(default="pytest-benchmark", compare=False)

    @classmethod
    def from_pytest_benchmark(cls, entry: dict[str, Any]) -> "Timing":
        """One entry of pytest-benchmark's JSON."""
        stats = entry["stats"]
        measured = {name: stats[name] for name in ("median", "min", "max", "rounds")}
        return cls(**entry["extra_info"], **measured)


@dataclass(frozen=True, kw_only=True)
class Peak(_Measured):
    """Bytes by which one peer's peak memory exceeds its inputs, on one case."""

    growth: int = field(compare=False)


@dataclass(frozen=True)
class TrainingStep:
    """Seconds of a training step, and of the loss with its gradient in it."""

    network: str
    input_size: int
    batch: int
    micro_batch: int
    seconds: float
    loss_seconds: float


@dataclass
class Results:
    """Everything of one run. Only a GPU has ceilings, kernels and stages."""

    machine: dict[str, Any]
    times: list[Timing] = field(default_factory=list)
    peaks: list[Peak] = field(default_factory=list)
    training: list[TrainingStep] = field(default_factory=list)
    ceilings: dict[str, float] = field(default_factory=dict)  # bytes or operations a second
    kernels: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # of a step, by case
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def device(self) -> str:
        """Whose targets these results are compared with: "cpu" or "cuda"."""
        return "cuda" if "gpu" in self.machine else "cpu"

    def time(
        self, peer: str, case: Case, operator: str = "mined_triplet_loss", mode: str = "eager"
    ) -> float | None:
        """The median in seconds."""
        wanted = (operator, peer, case, mode)
        return _only(t.median for t in self.times if (t.operator, t.peer, t.case, t.mode) == wanted)

    def peak(self, peer: str, case: Case, operator: str = "mined_triplet_loss") -> float | None:
        """The growth of the peak in bytes."""
        wanted = (operator, peer, case)
        return _only(float(p.growth) for p in self.peaks if (p.operator, p.peer, p.case) == wanted)

    def add(self, measured: Timing | Peak) -> None:
        """Add a measurement; it replaces an earlier one of the same thing."""
        of: list[Any] = self.times if isinstance(measured, Timing) else self.peaks
        of[:] = [*(other for other in of if other != measured), measured]

    def save(self, path: Path, targets: list[dict[str, Any]]) -> None:
        """Write the results and the verdicts on the targets in one step: never half a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps({**asdict(self), "targets": targets}, indent=1) + "\n")
        os.replace(part, path)

    @classmethod
    def load(cls, path: Path) -> "Results":
        """Read what :meth:`save` wrote."""
        content = json.loads(path.read_text())
        del content["targets"]  # made from the rest
        for name, kind in (("times", Timing), ("peaks", Peak), ("training", TrainingStep)):
            content[name] = [kind(**entry) for entry in content.get(name, [])]
        return cls(**content)


def _only(values: Iterable[float]) -> float | None:
    return next(iter(values), None)
