"""What is to be reached, as data: 2 threads, float32, D = 128, forward and backward, medians."""

from dataclasses import dataclass
from typing import Any, Literal

from benchmarks import margin, peers
from benchmarks.cases import Case
from benchmarks.peers import Peer
from benchmarks.results import Results

MIB = 2**20


@dataclass(frozen=True)
class Target:
    """Ours on ``case``, divided by ``against``, is at most this, and better this.

    ``against`` is a peer on the same case, ours on a smaller case (how it grows), or None: then it
    is divided by a MiB.
    """

    quantity: Literal["time", "memory"]
    case: Case
    against: Peer | Case | None
    at_most: float
    aim: float | None = None
    operator: str = "mined_triplet_loss"


TARGETS = (
    Target("time", Case(1800, 40), peers.MM, 2.5, 1.0),
    Target("time", Case(8192, 4), peers.MM, 1.0, 0.4),
    Target("time", Case(1800, 40), peers.SORT, 1 / 12, 1 / 25),
    Target("time", Case(1024, 8), peers.METRIC_LEARNING, 1 / 500),
    Target("time", Case(1024, 40), peers.METRIC_LEARNING, 1 / 500),
    Target("time", Case(64, 8), peers.METRIC_LEARNING, 1 / 15),
    Target("memory", Case(16384, 4), None, 96),
    Target("time", Case(16384, 4), Case(4096, 4), 18),
    Target("memory", Case(16384, 4), Case(4096, 4), 4.5),
    Target("time", Case(1800, 40), peers.MM, 4.0, operator=margin.OPERATOR),
    Target("memory", Case(1800, 40), None, 32, operator=margin.OPERATOR),
)


@dataclass(frozen=True)
class Verdict:
    """What came of a target; seconds or bytes, None where something was not measured."""

    target: Target
    ours: float | None
    other: float | None

    @property
    def ratio(self) -> float | None:
        if self.ours is None or not self.other:
            return None
        return self.ours / self.other

    @property
    def met(self) -> bool | None:
        return None if self.ratio is None else self.ratio <= self.target.at_most

    @property
    def aim_met(self) -> bool | None:
        if self.ratio is None or self.target.aim is None:
            return None
        return self.ratio <= self.target.aim

    def as_dict(self) -> dict[str, Any]:
        target = self.target
        return {
            "operator": target.operator,
            "quantity": target.quantity,
            "case": str(target.case),
            "against": "1 MiB" if target.against is None else str(target.against),
            "ours": self.ours,
            "other": self.other,
            "ratio": self.ratio,
            "at_most": target.at_most,
            "aim": target.aim,
            "met": self.met,
            "aim_met": self.aim_met,
        }


def judge(results: Results) -> list[Verdict]:
    """Every target against what was measured."""
    return [_judge(target, results) for target in TARGETS]


def _judge(target: Target, results: Results) -> Verdict:

    def measured(peer: str, case: Case) -> float | None:
        of = results.time if target.quantity == "time" else results.peak
        return of(peer, case, target.operator)

    ours = measured(peers.OURS.name, target.case)
    if target.against is None:
        return Verdict(target, ours, MIB)
    if isinstance(target.against, Case):
        return Verdict(target, ours, measured(peers.OURS.name, target.against))
    return Verdict(target, ours, measured(target.against.name, target.case))
