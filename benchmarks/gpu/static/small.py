"""A small batch in a CUDA graph: its nodes, how often their loops are repeated, and its time.

N = 1,800 rows of D = 128 columns in classes of P = 40, float32, squared distances, semi-hard
negatives with the farthest as fallback. Every pair of a class is taken to have a negative of its
own, which is the most that can be. A node takes

    1.3 us + cycles of a multiprocessor / 1.6 GHz,

with the cycles of as many blocks as one of 132 multiprocessors has to run. Left out is the time
until instructions are in their cache.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.gpu.static import multiprocessor
from benchmarks.gpu.static.listing import Block
from benchmarks.gpu.static.multiprocessor import Transfer
from benchmarks.gpu.static.path import Mark, Sources, Step
from benchmarks.gpu.static.whole import Count, Walk

N, P, D = 1800, 40, 128
PROCESSORS = 132
GIGAHERTZ = 1.6
# Assumed: from the end of a kernel to the first instruction of the next one in a graph.
NODE_MICROSECONDS = 1.3

# Assumed of the second cache: cycles until a load has its value, and the bytes that a
# multiprocessor gets in a cycle while all ask for some.
LATENCY = 263
BYTES = 32
SECTOR = 32  # bytes: the least that is moved


@dataclass(frozen=True)
class Node:
    """A kernel of the call."""

    name: str
    file: str
    symbol: str
    blocks: int
    threads: int
    shared_bytes: int  # about, of a block
    counts: tuple[Count, ...]
    cold: tuple[Mark, ...] = ()
    near: tuple[tuple[Mark, float], ...] = ()  # loads of which a share find the first cache
    one: tuple[Mark, ...] = ()  # loads of all lanes from about the same place
    sectors: tuple[tuple[Mark, float], ...] = ()  # loads from places apart: how many of 32 bytes
    # Of a scheduler's warps of a block: how many, and what they never come to.
    roles: tuple[tuple[int, tuple[Mark, ...]], ...] = ()


def up(a: float, b: float) -> int:
    """a / b, rounded up."""
    return int(-(-a // b))


@dataclass(frozen=True)
class _Marks:
    """Of one source file."""

    file: str

    def __call__(self, text: str, opcodes: str = "") -> Mark:
        return Mark(opcodes, self.file, text)


_prepare, _small, _edges = _Marks("prepare.cu"), _Marks("search_small.cu"), _Marks("edges.cu")
_rows, _selection = _Marks("rows.cuh"), _Marks("selection.cuh")
_search = _Marks("anchor_search.cuh")
_loss, _sums = _Marks("anchor_loss.cuh"), _Marks("loss_sums.cuh")
_pushes, _row_edges = _Marks("push_table.cuh"), _Marks("row_edges.cuh")

COLD = (
    _rows("__half", "LDG"),
    _rows("__nv_bfloat16", "LDG"),
    _rows("i < there ?", "LDG"),
    Mark("CALL|MUFU.RSQ|MUFU.EX2|MUFU.LG2"),
)
ANCHORS = 14  # of a block of select_small
CELLS = up(N, 3)  # of the rows that a group pushes: see PushCell
QUADS = up(N, 4 * 32)  # of the distances that a lane of it looks at: two at a time
ROWS = up(N, PROCESSORS)  # that gather_edges has for a multiprocessor
# Edges of a row that a warp adds: a quarter of those to its class, of its own to negatives and of
# those to it.
EDGES = 3 * (P - 1) / 4

# Of select_small's warps, by how many groups they measure.
_LEFT = _small("add_square(shared.anchors[unit", "FFMA")
_NOT_1_OR_2 = (_small("measure<kAnchors, 1>", "FFMA"), _small("measure<kAnchors, 2>", "FFMA"))
_NOT_3 = (*_NOT_1_OR_2, _small("measure<kAnchors, 3>", "FFMA"))
_NOT_4 = (*_NOT_1_OR_2, _small("measure<kAnchors, kMost>", "FFMA"))

NODES = (
    Node(
        "count_rows",
        "prepare",
        "count_rowsIf",
        up(N, 8),
        256,
        0,
        (
            Count(_prepare("const int64_t other = labels[j]", "LDG"), N / 64),
            Count(_prepare("squares = fma(x[v], x[v]", "FFMA"), 1, 0),
            Count(_prepare("interleaved_unit(position, unit", "STG"), 1, 0),
            Count(_prepare("write_slots(table", "STG"), 0, 0),
        ),
        cold=(
            _prepare("LabelCount among", "LDG"),
            _prepare("scaled = fma", "FFMA"),
            _prepare("from[unit]", "LDG"),
        ),
        # A row is loaded a second time, to be copied.
        near=(
            (_prepare("const int64_t other"), 1.0),
            (_rows("static_cast<const float*>(rows"), 1.0),
        ),
    ),
    Node(
        "select_small",
        "search_small",
        f"select_smallILi{ANCHORS}E",
        up(N, ANCHORS),
        512,
        168_000,
        (
            Count(_small("batch.layout.pitch] = squares", "STS"), 1, 0),
            Count(_small("const float4 y = anchors[a];", "LDS"), D / 4 - 2, ANCHORS),
            Count(_small("add_square(shared.anchors[unit", "FFMA"), D / 4, 4),
            Count(_small("shared.anchors[k] = unit", "STS"), up(ANCHORS * D / 4, 512), 0),
            Count(_small("shared.pushes[k] = {};", "STS"), up(CELLS, 512), 0),
            Count(_small("distances[begin + k] = NAN", "STS"), up(P, 32)),
            Count(_small("distances[c] = NAN", "STS"), up(-N % (4 * 32), 32)),
            Count(_selection("less[v] += other.x[n] < d", "FSET"), P, 2),
            Count(_selection("ranks[k] = rank", "STS"), up(P, 64), 0),
            Count(_small("search.buckets[k] = {", "STS"), 2, 0),
            Count(_small("keys[k] = closer_key(", "STS"), up(P, 32)),
            Count(_small("shared.rows[c + n", "STS"), up(N, 2048), 4),
            Count(_search("lower<kLarge, kQuads>(base"), QUADS // 2, 0),
            Count(_search("lower<kLarge, 1>(base"), 0, 0),
            Count(_selection("winning_bucket[k] =", "STS"), up(P, 32)),
            Count(_selection("winning_bucket[rank]", "LDS"), up(P, 32)),
            Count(_loss("slopes[k] = slope;", "ST"), up(P, 32)),
            Count(_loss("sum[v] += slope", "FADD"), P, 2),
            Count(_loss("put(offset + k, k, push)"), up(P, 64), 0),
            Count(_loss("slope != T(0) ? slope", "STG"), up(P, 32)),
            Count(_pushes("own += edges_of(", "LDS"), up(CELLS, 512), 0),
            Count(_pushes("to.cells[int64_t(c)", "STG"), up(CELLS, 512), 0),
            Count(_pushes("+ __popc(pushers(", "STG"), up(P, 32), 0),
            Count(_sums("own = load_relaxed", "LDG"), 1, 0),
            # These are no loops of their own: they are on the way.
            Count(_small("unfit_row = batch.unfit", "LDG"), 0, 0),
            Count(_search("at[v].lower_row"), 0, 0),
            Count(_search("at[v].lower_closest"), 0, 0),
            Count(_search("at[v].threshold(half - 1)", "LDS"), 0, 0),
        ),
        cold=(
            _small("// of large classes", "LDS"),
            _small("unfit_row |= of_bank", "LDG"),
            # One warp beside those that place edges, and done before them.
            _small("losses.sums.nonzero[blockIdx.x] =", "STG"),
            _selection("rank += d_ap[m] ==", "LDS"),
            _search("far = fmaxf(far, distances[c])", "LDS"),
            _search("if (distances[c] == far)", "LDS"),
        ),
        one=(Mark("LDG", "kernel_arguments.h", "order[position]"),),
        # 56 times 32 candidates are 3 or 4 for a warp. The 8 that are left have 4 warps' threads.
        roles=(
            (1, _NOT_3),
            (1, (*_NOT_3, _LEFT)),
            (2, (*_NOT_4, _LEFT)),
        ),
    ),
    Node(
        "gather_edges",
        "edges",
        "gather_edgesIf",
        PROCESSORS * ROWS,
        128,
        20_000,
        (
            Count(_row_edges("cells_of[2] = {cells[a]", "LDG"), 1, 0),
            Count(_row_edges("edges[before + n] = {b", "STS"), 3, 0),
            Count(_edges("raw[u] = *reinterpret", "LDG"), up(EDGES, 8), 0),
            Count(_edges("const uint32_t all = __ballot", "VOTE"), 1, 0),
            Count(_edges("total += sums[w]", "LDS"), 1, 0),
            # Lanes have edges of all kinds. The longest of the ways to their addresses counts.
            Count(_row_edges("weight = s.positive + all.slots"), 0, 0),
            Count(_row_edges("next = s.slots.offset[anchor + (class", "LDG"), 0, 0),
            Count(_row_edges("edge.other = *row", "LDG"), 0, 0),
            Count(_row_edges("edge.weight = *weight", "LDG"), 0, 0),
            Count(_row_edges("edge.weight += *second", "LDG"), 0, 0),
            Count(_edges("waiting[before] =", "STS"), 0, 0),
            Count(_edges("waiting[there + lane()] =", "STS"), 0, 0),
        ),
        cold=(
            _edges("g.partial[", "LDG"),
            _edges("inverse_norm == T(0) ?"),
            _edges("sum.add(g.rows", "VOTE"),
            _edges("load_typed(reinterpret_cast<const X*>(data", "LDG"),
            _edges("add_typed<__half>", "LDG"),
            _edges("add_typed<__nv_b", "LDG"),
        ),
        # A third of the edges are to the class, which 7 blocks at once have in common. The last
        # turn is filled up with the last row once more.
        near=(
            (_edges("raw[u] = *reinterpret", "LDG"), 1 - EDGES / up(EDGES, 8) / 8 * (1 - 2 / 7)),
        ),
        # What lies together is shared by the four warps of a block, which have every fourth edge.
        sectors=(
            (_row_edges("edge.other = *row", "LDG"), (5 + 5 + P) / 4),
            (_row_edges("edge.weight = *weight", "LDG"), (5 + 5 + P) / 4),
            (_row_edges("edge.weight += *second", "LDG"), P / 4),
        ),
    ),
)


@dataclass(frozen=True)
class Prediction:
    """Of one node; cycles are those of a multiprocessor for all its blocks."""

    node: str
    instructions: int  # of a warp
    registers: int
    blocks: int  # at once on a multiprocessor
    cycles: int

    @property
    def microseconds(self) -> float:
        return NODE_MICROSECONDS + self.cycles / GIGAHERTZ / 1e3


def total(predictions: Iterable[Prediction]) -> float:
    """Microseconds of the whole call."""
    return sum(p.microseconds for p in predictions)


def predict(node: Node, code: list[Block], registers: int, sources: Sources) -> Prediction:
    """Follow the warps of a block, and let as many blocks as fit take turns."""
    ways = []
    for warps, never in node.roles or ((up(node.threads, 128), ()),):
        steps = Walk(code, node.counts, (*COLD, *node.cold, *never), sources).steps()
        ways += [(steps, _transfers(node, steps, sources))] * warps
    of_one = up(node.blocks, PROCESSORS)
    fit = multiprocessor.blocks_at_once(registers, node.threads, node.shared_bytes)
    at_once = min(fit, of_one)
    cycles = multiprocessor.cycles_of_blocks(ways, at_once, of_one)
    return Prediction(node.name, len(ways[0][0]), registers, at_once, cycles)


def _transfers(node: Node, steps: list[Step], sources: Sources) -> dict[int, Transfer]:
    """The loads from the second cache, by the place of the step."""
    found = {}
    met = Counter[Mark]()
    for place, step in enumerate(steps):
        i = step.instruction
        if i.name != "LDG":
            continue
        share = 0.0
        for mark, of_it in node.near:
            if mark(i, sources):
                met[mark] += 1
                share, number = of_it, met[mark]
        if share and int(number * share) > int((number - 1) * share):
            continue
        size = 32 * (16 if ".128" in i.opcode else 8 if ".64" in i.opcode else 4)
        if any(mark(i, sources) for mark in node.one):
            size = SECTOR
        for mark, sectors in node.sectors:
            if mark(i, sources):
                size = round(sectors * SECTOR)
        found[place] = Transfer(multiprocessor.SCHEDULERS * size // BYTES, LATENCY)
    return found
