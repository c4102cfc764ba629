"""What is to be reached on a GPU of the H100's class, as data, and what came of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu import cases
from benchmarks.gpu.cases import Case
from benchmarks.gpu.subjects import (
    BOUNDED,
    CDIST,
    EAGER,
    GRAPH,
    METRIC_LEARNING,
    MM,
    OURS,
    SORT,
)

Record = dict[str, Any]


@dataclass(frozen=True)
class Other:
    """What ours is divided by: a peer's time on the same case."""

    operator: str
    who: str
    mode: str

    def __str__(self) -> str:
        return self.who


@dataclass(frozen=True)
class Target:
    """Ours is at most this, and better this: times `against`, or seconds where it is None.

    The quantity "memory" is the peak over the inputs, divided by the bytes of the inputs.
    """

    operator: str
    case: Case
    mode: str
    against: Other | None
    at_most: float
    aim: float | None = None
    quantity: str = "time"


PRODUCT = Other("mm", MM, GRAPH)
C16, C65, C16_40, C65_40, C65_512, C16_F32 = cases.LARGE

TARGETS = (
    Target("step", cases.PAPER, GRAPH, None, 60e-6, 40e-6),
    Target("step", cases.PAPER, BOUNDED, None, 200e-6, 120e-6),
    Target("step", cases.PAPER, GRAPH, Other("step", METRIC_LEARNING, EAGER), 1 / 1000),
    Target("step", cases.PAPER, GRAPH, Other("step", SORT, EAGER), 1 / 20),
    Target("mining", C16, GRAPH, PRODUCT, 1.2, 0.6),
    Target("mining", C65, GRAPH, PRODUCT, 1.2, 0.6),
    Target("mining", C16_40, GRAPH, PRODUCT, 2.0, 1.0),
    Target("mining", C65_40, GRAPH, PRODUCT, 2.0, 1.0),
    Target("mining", C65_512, GRAPH, PRODUCT, 2.0, 1.1),
    Target("mining", C16_F32, GRAPH, PRODUCT, 1.5, 0.8),
    *(Target("distances", case, GRAPH, PRODUCT, 1.1) for case in cases.DISTANCES),
    *(
        Target("distances", case, GRAPH, Other("distances", CDIST, GRAPH), 1.0)
        for case in cases.DISTANCES
    ),
    Target("step", cases.WEIGHED, BOUNDED, None, 3.0, quantity="memory"),
)


@dataclass(frozen=True)
class Verdict:
    """Seconds or bytes of ours and of the other; None where something was not measured."""

    target: Target
    ours: float | None
    other: float | None

    @property
    def value(self) -> float | None:
        """What is compared with the target: seconds, or a ratio."""
        if self.ours is None:
            return None
        if self.target.against is None and self.target.quantity == "time":
            return self.ours
        return self.ours / self.other if self.other else None

    @property
    def met(self) -> bool | None:
        return None if self.value is None else self.value <= self.target.at_most

    @property
    def aim_met(self) -> bool | None:
        if self.value is None or self.target.aim is None:
            return None
        return self.value <= self.target.aim

    @property
    def word(self) -> str:
        if self.met is None:
            return "not measured"
        if not self.met:
            return "NOT MET"
        return "met, the aim too" if self.aim_met else "met"

    def as_dict(self) -> Record:
        target = self.target
        against = "the inputs" if target.quantity == "memory" else target.against
        return {
            "quantity": target.quantity,
            "operator": target.operator,
            "case": str(target.case),
            "mode": target.mode,
            "against": None if against is None else str(against),
            "ours": self.ours,
            "other": self.other,
            "value": self.value,
            "at_most": target.at_most,
            "aim": target.aim,
            "met": self.met,
            "aim_met": self.aim_met,
            "verdict": self.word,
        }


def judge(measurements: Iterable[Record], targets: Iterable[Target] = TARGETS) -> list[Verdict]:
    """Every target against what was measured."""
    found = list(measurements)
    return [_judge(target, found) for target in targets]


def find(
    measurements: Iterable[Record], kind: str, operator: str, who: str, mode: str, case: Case
) -> Record | None:
    """The measurement that did not fail; the last, if it was made twice."""
    wanted = {"kind": kind, "operator": operator, "who": who, "mode": mode, **case.as_dict()}
    matching = [
        m
        for m in measurements
        if "error" not in m and all(m.get(key) == value for key, value in wanted.items())
    ]
    return matching[-1] if matching else None


def median(
    measurements: Iterable[Record], operator: str, who: str, mode: str, case: Case
) -> float | None:
    """Seconds of one call."""
    record = find(measurements, "time", operator, who, mode, case)
    return None if record is None else record["timing"]["median"]


def _judge(target: Target, measurements: list[Record]) -> Verdict:
    if target.quantity == "memory":
        record = find(measurements, "memory", target.operator, OURS, target.mode, target.case)
        if record is None:
            return Verdict(target, None, None)
        return Verdict(target, record["bytes"], record["input_bytes"])
    ours = median(measurements, target.operator, OURS, target.mode, target.case)
    other = target.against
    if other is None:
        return Verdict(target, ours, None)
    return Verdict(
        target, ours, median(measurements, other.operator, other.who, other.mode, target.case)
    )
