"""The kernels that are looked at, the cases they are predicted for, and their common path.

The path is that of a full tile, far from the anchors' own class, of squared distances, with the
farthest negative wanted, when no pair improves a bucket.
"""

from dataclasses import dataclass

from benchmarks.gpu.static.path import Mark
from benchmarks.machine import ROOT

CSRC = ROOT / "csrc"
TILE_ROWS, TILE_COLUMNS, THREADS = 128, 64, 128
CHUNK_BYTES = 128  # of a row: what a step of the main loop takes


@dataclass(frozen=True)
class Element:
    cpp: str
    bytes: int
    depth: int  # columns that a matrix instruction takes
    products: int  # matrix instructions for one product


ELEMENTS = {
    "bfloat16": Element("__nv_bfloat16", 2, 16, 1),
    "float32": Element("float", 4, 8, 3),
}


@dataclass(frozen=True)
class Kernel:
    """A search: its epilogue (of few, as classes of four have them), its file, and its marks."""

    epilogue: str
    header: str
    hot: tuple[Mark, ...] = ()
    cold: tuple[Mark, ...] = ()


KERNELS = {
    "few": Kernel("SuccessorFewEpilogue<3>", "successor_few.cuh"),
    "many": Kernel(
        "SuccessorManyEpilogue",
        "successor_many.cuh",
        (Mark("LDS|FFMA|FSETP", "successor_many.cuh", "improves |="),),
        (
            Mark("", "successor_many.cuh", "make_tables<Loop>();"),  # in few tiles
            Mark("", "successor_many.cuh", "pick(bits, c)"),  # a pair that passes
        ),
    ),
}
HOT = (
    Mark("HMMA|LDGSTS|VIADDMNMX"),
    Mark("LDG", "mma_loop.cuh", ".terms["),
    Mark("FFMA|FADD|FMNMX", "mma_loop.cuh", "-2.0f"),
    Mark("VIMNMX", "extremum.cuh", "best = kFarthest"),
)
SLOW = frozenset({"rows.cuh"})  # the order of the rows is read once: no hit in the first cache
# Where the anchors stay in shared memory they are copied with the first tile.
COLD_IF_RESIDENT = Mark("LDGSTS", "mma_loop.cuh", "copy(from")
COLD = (
    Mark("ATOM|RED|CALL|MUFU.RSQ"),
    Mark("LDG", "negatives.cuh", "class_begin[i]"),
    Mark("", "extremum.cuh", "for_each_equal("),
)


@dataclass(frozen=True)
class Case:
    """A kernel and the rows that it is given."""

    kernel: str
    element: str
    dim: int

    def __str__(self) -> str:
        return f"successor {self.kernel}, {self.element}, D = {self.dim}"

    @property
    def chunks(self) -> int:
        return -(-self.dim * ELEMENTS[self.element].bytes // CHUNK_BYTES)

    @property
    def products(self) -> int:
        """The matrix instructions of a warp for its 64 x 32 distances of a tile."""
        element = ELEMENTS[self.element]
        steps = self.chunks * CHUNK_BYTES // element.bytes // element.depth
        return 4 * 4 * steps * element.products


CASES = (
    Case("few", "bfloat16", 128),
    Case("few", "bfloat16", 512),
    Case("few", "float32", 128),
    Case("many", "bfloat16", 128),
    Case("many", "float32", 128),
)
