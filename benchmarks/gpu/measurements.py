"""What is measured on a GPU: `pytest benchmarks/gpu/measurements.py`, each figure a property.

The core is what targets need; the rest is curves, other widths and the kernels within a step. On a
CPU the cases are cut down: a dry run, whose figures mean nothing.
"""

import gc
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

from benchmarks import cases, distances, peers
from benchmarks.cases import Case
from benchmarks.gpu import clock
from benchmarks.gpu.limits import is_lost
from benchmarks.peers import FORWARD, Peer

SECONDS = 0.2 if clock.DEVICE == "cuda" else 0.001  # for each measurement
STEP, SELECTION, DISTANCES = "mined_triplet_loss", "select_triplets", "pairwise_squared_distance"

Row = tuple[str, Case, Peer, str]
Record = Callable[[str, dict[str, Any]], None]


def _selection() -> peers.Function:
    import facenet_ext

    return facenet_ext.select_triplets


SELECT = Peer(peers.OURS.name, "the triplets", _selection, backward=False)


def steps(case: Case) -> list[Row]:
    ours = peers.bounded(case.per_class)
    return [(STEP, case, ours, "graph"), (STEP, case, ours, "eager")]


def unbounded(case: Case, *others: Peer) -> list[Row]:
    return [(STEP, case, peer, "eager") for peer in (peers.OURS, *others)]


def forwards(case: Case, modes: tuple[str, ...] = ("graph", "eager")) -> list[Row]:
    ours = replace(peers.bounded(case.per_class), backward=False)
    product = (FORWARD, case, peers.MM, "graph")
    return [*((FORWARD, case, ours, mode) for mode in modes), product]


def squares(case: Case) -> list[Row]:
    of = (distances.OURS, peers.MM, distances.CDIST)
    return [(DISTANCES, case, peer, "graph") for peer in of]


OTHERS = (peers.SORT, peers.METRIC_LEARNING, peers.SENTENCE_TRANSFORMERS)
CORE = [
    *steps(cases.PAPER),
    *unbounded(cases.PAPER, *OTHERS),
    *(row for case in cases.LARGE for row in forwards(case)),
    *(row for case in cases.SQUARES for row in squares(case)),
]
REST = [
    *(row for case in cases.LARGE for row in steps(case)),
    *(row for case in cases.CURVES for row in (*steps(case), *forwards(case, ("graph",)))),
    *unbounded(Case(1024, 8), *OTHERS),
    *unbounded(Case(8192, 4), peers.SORT),
    *((SELECTION, case, SELECT, "eager") for case in (cases.PAPER, *cases.LARGE[:2])),
]
PEAKS = [row for case in cases.LARGE[1:4:2] for row in (steps(case)[1], *unbounded(case))]
REST = [row for row in dict.fromkeys(REST) if row not in CORE]


def named(row: Row) -> str:
    return ", ".join(map(str, row))


@pytest.fixture
def record(record_property: Callable[[str, str], None]) -> Iterator[Record]:
    yield lambda name, figures: record_property(name, json.dumps(figures))
    gc.collect()
    if clock.DEVICE == "cuda":
        torch.cuda.empty_cache()


def prepare(operator: str, case: Case, peer: Peer, mode: str) -> tuple[dict[str, Any], clock.Call]:
    """What is measured, as it will be recorded, and the call."""
    if clock.DEVICE != "cuda":
        case = Case(min(case.n, 64), min(case.per_class, 4), min(case.dim, 8), case.dtype)
    what = {"operator": operator, "peer": peer.name, "mode": mode, **asdict(case)}
    return what, peer.step(*case.batch(clock.DEVICE))


def measure(record: Record, row: Row) -> None:
    gc.freeze()  # collecting what imports made would take longer than measuring
    try:
        what, call = prepare(*row)
        figures = clock.measure(call, row[-1], SECONDS)
    except Exception as error:
        if row[2] in OTHERS and not is_lost(error):  # not installed, or short of memory
            pytest.skip(f"{type(error).__name__}: {error}"[:300])
        raise
    record("time", what | figures)


@pytest.mark.parametrize("what", ["copy", "bfloat16", "float32"])
def test_ceiling(what: str, record: Record) -> None:
    """Bytes a second of a copy, read and written; operations a second of a large product."""
    small = clock.DEVICE != "cuda"
    if what == "copy":
        size = 2**16 if small else 2**31
        source = torch.empty(size, dtype=torch.uint8, device=clock.DEVICE).random_()
        target = torch.empty_like(source)
        found = clock.measure(lambda: target.copy_(source), "eager", SECONDS)
        amount = 2 * size
    else:
        side = 64 if small else 8192
        a, b = torch.randn(2, side, side, device=clock.DEVICE).to(getattr(torch, what))
        found = clock.measure(lambda: torch.mm(a, b), "eager", SECONDS)
        amount = 2 * side**3
    record("ceilings", {what: amount / found["median"]})


@pytest.mark.parametrize("row", CORE, ids=named)
def test_core(row: Row, record: Record) -> None:
    measure(record, row)


@pytest.mark.parametrize("row", REST, ids=named)
def test_rest(row: Row, record: Record) -> None:
    measure(record, row)


@pytest.mark.parametrize("row", PEAKS, ids=named)
def test_peak(row: Row, record: Record) -> None:
    """The peak of a step over its inputs."""
    what, call = prepare(*row)
    record("peak", what | {"growth": clock.peak(call)})


@pytest.mark.parametrize("case", [cases.PAPER, *cases.LARGE], ids=str)
def test_kernels(case: Case, record: Record) -> None:
    """The kernels of one step, each with its time on the GPU."""
    _, call = prepare(*steps(case)[1])
    record("kernels", {str(case): clock.kernels(call)})
