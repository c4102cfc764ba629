"""Warps that share a scheduler: the cycles that a tile takes.

A warp issues in order. It waits for the stall counts and scoreboards that the compiler wrote, for a
unit that is busy, and for its turn. Latencies and rates are about those that others published or
measured for sm_90, and loads find the first cache. None was fitted to these kernels.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.gpu.static.path import Step

REGISTERS = 65536
SHARED_BYTES = 228 * 1024
RESERVED_BYTES = 1024  # of shared memory, for each block
BLOCK_BYTES = SHARED_BYTES - RESERVED_BYTES  # the most that a block may have
MOST_WARPS = 64
SCHEDULERS = 4

TAKEN = 12  # cycles until a warp goes on behind a jump
BARRIER = 20
NEVER = 1 << 60
# Cycles by which a unit's work may lie ahead of the instruction that is issued.
QUEUES = {"memory": 16, "second cache": NEVER}

# By the first that matches the opcode: the unit, its cycles for a warp, and the result's latency.
UNITS: list[tuple[str, str, int, int]] = [
    (r"HMMA", "tensor", 6, 33),
    (r"LDSM", "memory", 8, 33),
    (r"LDGSTS", "memory", 8, 30),
    (r"LDS\S*\.128", "memory", 8, 29),
    (r"LDS", "memory", 4, 29),
    (r"LDG|LD\b", "memory", 4, 45),
    (r"REDUX", "special", 8, 30),
    (r"ATOM|RED", "memory", 4, 300),
    (r"STS|STG|ST\b", "memory", 4, 20),
    (r"SHFL", "memory", 4, 25),
    (r"MUFU|F2F|F2I|I2F|F2FP|FLO|POPC|BREV", "special", 8, 30),
    (r"IMAD\.MOV", "fma", 1, 5),
    (r"IMAD", "fma", 2, 5),
    (r"FFMA|FMUL|FADD|HFMA2|HADD2", "fma", 1, 5),
    (r"BRA|BSSY|BSYNC|EXIT|WARPSYNC|BREAK|CALL|RET|YIELD", "control", 0, 5),
    (r"BAR|LDGDEPBAR|DEPBAR|MEMBAR|NOP", "control", 0, 5),
    (r"VOTE", "control", 0, 12),
    (r"LDC|S2R|S2UR", "control", 0, 30),
    (r"U[A-Z]|R2UR", "uniform", 0, 12),
    (r".", "alu", 2, 5),
]


@dataclass(frozen=True)
class Issue:
    """One instruction as the scheduler sees it."""

    unit: str
    cycles: int
    latency: int
    pause: int  # until the warp's next instruction
    sets: int
    frees: int
    waits: tuple[int, ...]
    barrier: bool


@dataclass(frozen=True)
class Transfer:
    """What a load asks of the second cache."""

    cycles: int
    latency: int


@dataclass
class Warp:
    block: int
    trace: list[Issue]
    turns: int = -1  # it begins again behind its last instruction: so often, or always
    at: int = 0
    ready: int = 0
    boards: list[int] = field(default_factory=lambda: [0] * 6)


def unit_of(opcode: str) -> tuple[str, int, int]:
    return next(rest for pattern, *rest in UNITS if re.match(pattern, opcode))  # type: ignore[return-value]


def count(steps: list[Step]) -> Counter[str]:
    """Instructions of a warp, by unit."""
    return Counter(unit_of(step.instruction.opcode)[0] for step in steps)


def blocks_at_once(registers: int, threads: int, shared_bytes: int) -> int:
    """How many blocks share a multiprocessor. Registers come in portions of 8 a thread."""
    warps = threads // 32
    of_registers = REGISTERS // ((registers + 7) // 8 * 8 * 32) // warps
    of_memory = SHARED_BYTES // (shared_bytes + RESERVED_BYTES)
    return min(of_registers, of_memory, MOST_WARPS // warps)


def cycles_per_tile(steps: list[Step], warps: int, slow: frozenset[str], tiles: int = 12) -> float:
    """Cycles of a multiprocessor for a tile of a block of as many warps as schedulers.

    Each scheduler has `warps` of them, one of each block. Global loads of the files in `slow` take
    twice as long as others.
    """
    trace = [_issue(step, slow) for step in steps]
    length = len(trace)
    all_warps = [Warp(w, trace, at=length * w // warps) for w in range(warps)]
    return _cycles(all_warps, tiles * length * warps) / (tiles * warps)


def cycles_of_blocks(
    ways: Sequence[tuple[list[Step], Mapping[int, Transfer]]], at_once: int, blocks: int
) -> int:
    """Cycles of a multiprocessor for blocks of which so many are there at once.

    Each has as many warps on a scheduler as there are ways, and they wait for each other at
    barriers. Beside the steps of a way its loads from the second cache, by their places. Where a
    warp ends, that of the next block begins.
    """
    traces = [
        [_issue(step, frozenset(), transfers.get(n)) for n, step in enumerate(steps)]
        for steps, transfers in ways
    ]
    warps = [
        Warp(slot, trace, turns=len(range(slot, blocks, at_once)))
        for slot in range(at_once)
        for trace in traces
    ]
    return _cycles(warps, blocks * sum(map(len, traces)))


def _cycles(warps: list[Warp], left: int) -> int:
    """Until so many instructions are issued."""
    busy = Counter[str]()
    waiting: dict[int, list[Warp]] = {w.block: [] for w in warps}
    of_block = Counter(w.block for w in warps)
    now, last = 0, warps[0]
    while left:
        earliest = None
        for warp in [last, *(w for w in warps if w is not last)]:
            issue = warp.trace[warp.at]
            ready = max(warp.ready, *(warp.boards[b] for b in issue.waits), 0)
            if issue.cycles:
                ready = max(ready, busy[issue.unit] - QUEUES.get(issue.unit, 0))
            if ready <= now:
                break
            earliest = ready if earliest is None else min(earliest, ready)
        else:
            assert earliest is not None
            now = earliest
            continue
        start = now
        if issue.cycles:
            start = max(now, busy[issue.unit])
            busy[issue.unit] = start + issue.cycles
        if issue.sets < 6:
            warp.boards[issue.sets] = max(warp.boards[issue.sets], start + issue.latency)
        if issue.frees < 6:
            read = start + (12 if issue.unit == "memory" else 6)
            warp.boards[issue.frees] = max(warp.boards[issue.frees], read)
        warp.ready = now + issue.pause
        warp.at += 1
        if warp.at == len(warp.trace):
            warp.at = 0
            warp.turns -= 1
            warp.ready = warp.ready if warp.turns else NEVER
        if issue.barrier:
            together = waiting[warp.block]
            together.append(warp)
            warp.ready = NEVER
            if len(together) == of_block[warp.block]:
                for other in together:
                    other.ready = now + issue.pause
                together.clear()
        last = warp
        now += 1
        left -= 1
    return now


def _issue(step: Step, slow: frozenset[str], transfer: Transfer | None = None) -> Issue:
    instruction, control = step.instruction, step.instruction.control
    unit, cycles, latency = unit_of(instruction.opcode)
    if instruction.name == "LDG" and instruction.frames and instruction.frames[0][0] in slow:
        latency *= 2
    if transfer:
        unit, cycles, latency = "second cache", transfer.cycles, transfer.latency
    pause = max(1, control.stall) + (TAKEN if step.jumps else 0)
    barrier = instruction.name == "BAR"
    pause += BARRIER if barrier else 0
    waits = tuple(b for b in range(6) if control.waits >> b & 1)
    return Issue(unit, cycles, latency, pause, control.sets, control.frees, waits, barrier)
