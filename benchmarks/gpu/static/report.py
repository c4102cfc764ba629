"""What is predicted of each case, as data, as JSON and as a table."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.gpu.static import small
from benchmarks.machine import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "cuda_predicted.json"
PAIRS_OF_A_THREAD = 64
COLUMNS = [
    "kernel",
    "instructions of a warp",
    "of a pair",
    "registers",
    "blocks at once",
    "cycles",
    "instructions in a cycle",
]

NODE_COLUMNS = [
    "node",
    "instructions of a warp",
    "registers",
    "blocks at once",
    "cycles",
    "µs",
]


@dataclass(frozen=True)
class Prediction:
    """Of one tile of 128 x 64 pairs; cycles are those of a multiprocessor."""

    case: str
    instructions: int  # of a warp
    units: dict[str, int]
    registers: int
    shared_bytes: int  # of a block
    resident: bool  # the anchors stay in shared memory
    blocks: int  # at once on a multiprocessor
    cycles: float

    @property
    def rate(self) -> float:
        """Instructions that a scheduler issues in a cycle."""
        return self.instructions / self.cycles


def recorded(path: Path = RESULTS) -> list[Prediction]:
    """The predictions of the last recorded run."""
    return [Prediction(**entry) for entry in json.loads(path.read_text())["predictions"]]


def recorded_by() -> str:
    """The compiler of the last recorded run."""
    return str(json.loads(RESULTS.read_text())["nvcc"])


def recorded_nodes(path: Path = RESULTS) -> list[small.Prediction]:
    """Those of a small batch."""
    return [small.Prediction(**entry) for entry in json.loads(path.read_text())["small batch"]]


def save(
    predictions: list[Prediction],
    nodes: list[small.Prediction],
    nvcc: str,
    path: Path = RESULTS,
) -> None:
    content = {
        "nvcc": nvcc,
        "predictions": [asdict(p) for p in predictions],
        "small batch": [asdict(p) for p in nodes],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def table(predictions: list[Prediction]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows. A thread has 64 pairs of a tile, and a block a warp for each scheduler."""
    rows = [
        [
            p.case,
            f"{p.instructions:,}",
            f"{p.instructions / PAIRS_OF_A_THREAD:.1f}",
            str(p.registers),
            str(p.blocks),
            f"{p.cycles:,.0f}",
            f"{p.rate:.2f}",
        ]
        for p in predictions
    ]
    return COLUMNS, rows


def nodes_table(nodes: list[small.Prediction]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a small batch, with the sum."""
    rows = [
        [
            p.node,
            f"{p.instructions:,}",
            str(p.registers),
            str(p.blocks),
            f"{p.cycles:,}",
            f"{p.microseconds:.1f}",
        ]
        for p in nodes
    ]
    return NODE_COLUMNS, [*rows, ["all", "", "", "", "", f"{small.total(nodes):.1f}"]]
