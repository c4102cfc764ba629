"""What is to be reached, as data: medians on 2 CPU threads, or on a GPU like the H100."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from benchmarks import cases, distances, margin, peers, processes
from benchmarks.cases import Case
from benchmarks.peers import Peer
from benchmarks.results import Results

MIB = 2**20


@dataclass(frozen=True)
class Target:
    """Ours on ``case``, divided by ``against``, is to be ``at_most``, and better ``aim`` at most.

    ``against`` is a peer on the same case, ours on a smaller case (how it grows), the case's
    inputs, or None: then it is divided by a MiB, or by a second.
    """

    quantity: Literal["time", "memory"]
    case: Case
    against: Peer | Case | Literal["the inputs"] | None
    at_most: float
    aim: float | None = None
    operator: str = "mined_triplet_loss"
    ours: str = peers.OURS.name
    mode: str = "eager"
    against_mode: str = "eager"
    device: str = "cpu"


_gpu = partial(Target, device="cuda", ours=peers.BOUNDED)
_of_mm = partial(_gpu, "time", operator=peers.FORWARD, mode="graph", against_mode="graph")
_of_square = partial(_of_mm, operator="pairwise_squared_distance", ours=peers.OURS.name)


def _with_kernels(
    name: str, case: Case, at_most: float, aim: float, against: Peer | Case = peers.MM, **more: Any
) -> Target:
    """A target with the kernels of one instruction set; the peer is measured beside them."""
    return Target("time", case, against, at_most, aim, mode=name, against_mode=name, **more)


# Medians with the kernels of an instruction set; a machine may lack it.
_BAND = {"operator": margin.OPERATOR}
_SMALL = {"against": peers.METRIC_LEARNING}
_FULL = {"against": Case(8192, 4)}
_KERNELS = (
    _with_kernels("avx512", Case(1800, 40), 1.0, 0.7),
    _with_kernels("avx512", Case(8192, 4), 0.22, 0.16),
    _with_kernels("avx512", Case(1800, 40), 2.0, 1.5, **_BAND),
    _with_kernels("avx512", Case(8192, 4), 0.6, 0.4, **_BAND),
    _with_kernels("avx512", Case(64, 8), 1 / 15, 1 / 25, **_SMALL),
    _with_kernels("avx512", Case(8192, 4, dtype="bfloat16"), 1.0, 0.5, **_FULL),
    _with_kernels("avx512", Case(8192, 4, dtype="float16"), 1.0, 0.5, **_FULL),
    _with_kernels("avx2", Case(1800, 40), 1.5, 1.0),
    _with_kernels("avx2", Case(8192, 4), 0.3, 0.2),
    _with_kernels("avx2", Case(1800, 40), 2.5, 1.8, **_BAND),
    _with_kernels("avx2", Case(8192, 4), 0.8, 0.5, **_BAND),
    _with_kernels("avx2", Case(64, 8), 1 / 15, 1 / 25, **_SMALL),
    _with_kernels("avx2", Case(8192, 4, dtype="bfloat16"), 1.05, 0.7, **_FULL),
    _with_kernels("avx2", Case(8192, 4, dtype="float16"), 1.05, 0.7, **_FULL),
)

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
    Target(
        "time",
        Case(8192, 4),
        peers.OURS,
        1.25,
        operator=processes.OPERATOR,
        ours=processes.SHARED.name,
    ),
    Target(
        "time",
        Case(1024, 4),
        processes.METRIC_LEARNING,
        1 / 200,
        operator=processes.OPERATOR,
        ours=processes.SHARED.name,
    ),
    *_KERNELS,
    _gpu("time", cases.PAPER, None, 60e-6, 40e-6, mode="graph"),
    _gpu("time", cases.PAPER, None, 200e-6, 120e-6),
    _gpu("time", cases.PAPER, peers.METRIC_LEARNING, 1 / 1000, mode="graph"),
    _gpu("time", cases.PAPER, peers.SORT, 1 / 20, mode="graph"),
    *(
        _of_mm(case, peers.MM, at_most, aim)
        for case, (at_most, aim) in zip(
            cases.LARGE,
            ((1.2, 0.6), (1.2, 0.6), (2.0, 1.0), (2.0, 1.0), (2.0, 1.1), (1.5, 0.8)),
            strict=True,
        )
    ),
    *(_of_square(case, peers.MM, 1.1) for case in cases.SQUARES),
    *(_of_square(case, distances.CDIST, 1.0) for case in cases.SQUARES),
    _gpu("memory", cases.LARGE[1], "the inputs", 3.0),
)


@dataclass(frozen=True)
class Verdict:
    """Whether a target is met. Figures are seconds or bytes, None where nothing was measured."""

    target: Target
    ours: float | None
    other: float | None

    @property
    def ratio(self) -> float | None:
        if self.ours is None or not self.other:
            return None
        return self.ours / self.other

    @property
    def against(self) -> str:
        if self.target.against is None:
            return "1 s" if self.target.quantity == "time" else "1 MiB"
        return str(self.target.against)

    @property
    def met(self) -> bool | None:
        return None if self.ratio is None else self.ratio <= self.target.at_most

    @property
    def aim_met(self) -> bool | None:
        if self.ratio is None or self.target.aim is None:
            return None
        return self.ratio <= self.target.aim

    @property
    def word(self) -> str:
        if self.met is None:
            return "not measured"
        if not self.met:
            return "NOT MET"
        return "met, the aim too" if self.aim_met else "met"

    def as_dict(self) -> dict[str, Any]:
        target = self.target
        return {
            "operator": target.operator,
            "quantity": target.quantity,
            "case": str(target.case),
            "mode": target.mode,
            "against": self.against,
            "ours": self.ours,
            "other": self.other,
            "ratio": self.ratio,
            "at_most": target.at_most,
            "aim": target.aim,
            "met": self.met,
            "aim_met": self.aim_met,
        }


def judge(results: Results, targets: Iterable[Target] = TARGETS) -> list[Verdict]:
    """Every target of the results' device against what was measured."""
    return [_judge(target, results) for target in targets if target.device == results.device]


def _judge(target: Target, results: Results) -> Verdict:
    case, against = target.case, target.against

    def measured(peer: str, case: Case, mode: str) -> float | None:
        if target.quantity == "memory":
            return results.peak(peer, case, target.operator)
        return results.time(peer, case, target.operator, mode)

    ours = measured(target.ours, case, target.mode)
    if against is None:
        return Verdict(target, ours, 1.0 if target.quantity == "time" else MIB)
    if against == "the inputs":
        return Verdict(target, ours, case.input_bytes)
    if isinstance(against, Case):
        return Verdict(target, ours, measured(target.ours, against, target.mode))
    return Verdict(target, ours, measured(against.name, case, target.against_mode))
