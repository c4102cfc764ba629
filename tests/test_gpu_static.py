"""The kernels' speed, predicted from their machine code: `python -m benchmarks.gpu.static`.

What it predicts of the kernels is in test_cuda_binaries.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gpu.static import multiprocessor
from benchmarks.gpu.static.listing import Control, Instruction, functions
from benchmarks.gpu.static.path import Mark, PathError, Sources, Step, common_path
from benchmarks.gpu.static.whole import Count, Walk

SOURCE = """\
for each tile
  for each chunk
    multiply
  if slow
    atomic
  if wanted
    look
"""


def listing(*lines: str) -> list[str]:
    """As nvdisasm writes it: "3 FADD R1, R2, R3" is an instruction of line 3, "L0:" a label."""
    written = ['\t.section\t.text.kernel,"ax",@progbits', ".text.kernel:"]
    for number, line in enumerate(lines):
        if line.endswith(":"):
            written.append(f".L_x_{line[1:]}")
            continue
        at, _, text = line.partition(" ")
        written += [
            f'\t//## File "/a/inner.cuh", line 9 inlined at "/a/kernel.cu", line {at}',
            f'\t//## File "/a/kernel.cu", line {at}',
            f"        /*{16 * number:04x}*/   {text} ;   /* 0x0000000000000000 */",
            "            /* 0x000fe20000000000 */",
        ]
    return [*written, '\t.section\t.nv.info,""', "\t.text.not.code:"]


KERNEL = (
    "1 S2R R0, SR_TID.X",
    "L0:",  # a tile
    "1 IADD3 R1, R1, 0x1, RZ",
    "L1:",  # a chunk
    "3 LDSM.16.M88.4 R4, [R8]",
    "3 HMMA.16816.F32.BF16 R12, R4, R8, R12",
    "2 @P0 BRA `(.L_x_1)",
    "4 @!P1 BRA `(.L_x_2)",
    "5 ATOMG.E.MIN.64 PT, RZ, [R2], R4",
    "5 @P4 BRA `(.L_x_1)",  # a way that is never gone
    "L2:",
    "6 @!P2 BRA `(.L_x_3)",
    "7 FADD R1, R1, R2",
    "7 @P5 ATOMS.MAX RZ, [R2], R4",
    "7 FADD R1, R1, R2",
    "L3:",
    "1 VOTE.ANY R1, PT, P1",
    "1 BRA.DIV UR4, `(.L_x_4)",
    "1 @P3 BRA `(.L_x_0)",
    "1 EXIT",
    "L4:",
    "1 BRA `(.L_x_3)",
)
COLD = [Mark("ATOM")]
LOOK = [Mark("FADD", "kernel.cu", "look")]


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    (tmp_path / "kernel.cu").write_text(SOURCE)
    return Sources(tmp_path)


def opcodes(
    kernel: tuple[str, ...], sources: Sources, hot: list[Mark], repeats: int = 1
) -> list[str]:
    (blocks,) = functions(listing(*kernel)).values()
    return [s.instruction.name for s in common_path(blocks, hot, COLD, sources, repeats)]


def test_the_listing() -> None:
    blocks = functions(listing(*KERNEL))["kernel"]
    assert [len(b.instructions) for b in blocks] == [1, 1, 3, 1, 2, 1, 3, 2, 1, 1, 1]
    assert [b.successors for b in blocks] == [
        [1], [2], [3, 2], [4, 5], [5, 2], [6, 7], [7], [8], [9, 1], [], [7],
    ]  # fmt: skip
    multiply = blocks[2].instructions[1]
    assert (multiply.opcode, multiply.name) == ("HMMA.16816.F32.BF16", "HMMA")
    assert multiply.frames == (("inner.cuh", 9), ("kernel.cu", 3))
    assert [i.guard for i in blocks[6].instructions] == ["", "P5", ""]


def test_the_control_word() -> None:
    # A load that sets scoreboard 2, frees 1 and waits for 0 and 3, with a stall of 4.
    word = (4 | 2 << 5 | 1 << 8 | 0b001001 << 11) << 41
    assert Control.of(word | 0x1FFFFFFFFFF) == Control(4, 2, 1, 0b001001)


def test_the_way_of_a_tile(sources: Sources) -> None:
    tile = ["IADD3", "LDSM", "HMMA", "BRA", "BRA", "BRA", "VOTE", "BRA", "BRA"]
    assert opcodes(KERNEL, sources, []) == tile
    assert opcodes(KERNEL, sources, [], 3) == tile[:1] + 3 * tile[1:4] + tile[4:]
    # What is hot is on the way though it is the longer one, an atomic under a predicate included.
    assert opcodes(KERNEL, sources, LOOK) == [*tile[:6], "FADD", "ATOMS", "FADD", *tile[6:]]


def moved(line: str) -> str:
    if line.endswith(":"):
        return f"L9{line[1:]}"
    number, _, text = line.replace(".L_x_", ".L_x_9").partition(" ")
    return f"{int(number) + 2} {text}"


def test_the_way_does_not_depend_on_labels_and_lines(sources: Sources, tmp_path: Path) -> None:
    expected = opcodes(KERNEL, sources, LOOK, 2)
    (tmp_path / "kernel.cu").write_text("// two\n// lines\n" + SOURCE)
    assert opcodes(tuple(map(moved, KERNEL)), Sources(tmp_path), LOOK, 2) == expected


def test_jumps(sources: Sources) -> None:
    (blocks,) = functions(listing(*KERNEL)).values()
    steps = common_path(blocks, [], COLD, sources, 2)
    jumps = [s.instruction.text[:4].strip() for s in steps if s.jumps]
    assert jumps == ["@P0", "@!P1", "@!P2", "@P3"]


def test_marks_that_find_nothing(sources: Sources) -> None:
    with pytest.raises(PathError, match="'sleep'; mend the marks"):
        opcodes(KERNEL, sources, [Mark("", "kernel.cu", "sleep")])
    (blocks,) = functions(listing(*KERNEL)).values()
    with pytest.raises(PathError, match="all of it is cold"):
        common_path(blocks, [], [Mark("HMMA")], sources, 1)


WHOLE = (
    "1 S2R R0, SR_TID.X",
    "L0:",
    "1 IADD3 R1, R1, 0x1, RZ",
    "L1:",  # unrolled: two turns of the source's loop
    "3 LDS R4, [R8]",
    "3 LDS R5, [R9]",
    "2 @P0 BRA `(.L_x_1)",
    "L2:",  # what is left
    "3 LDS R4, [R8]",
    "2 @P1 BRA `(.L_x_2)",
    "1 @P2 BRA `(.L_x_0)",
    "1 EXIT",
)
EACH_TILE = Count(Mark("IADD3", "kernel.cu", "tile"), 3, 0)


def walk(counts: list[Count], sources: Sources, kernel: tuple[str, ...] = WHOLE) -> list[str]:
    (blocks,) = functions(listing(*kernel)).values()
    return [s.instruction.name for s in Walk(blocks, counts, [], sources).steps()]


def test_the_way_through_a_whole_kernel(sources: Sources) -> None:
    chunks = Count(Mark("LDS", "kernel.cu", "multiply"), 6)
    tile = ["IADD3", *3 * ["LDS", "LDS", "BRA"], "LDS", "BRA", "BRA"]
    assert walk([EACH_TILE, chunks], sources) == ["S2R", *3 * tile, "EXIT"]
    # What is left over of the unrolled chunks is in the tiles' loop, and does not count the tiles.
    straight = tuple(line for line in WHOLE if "L_x_2" not in line)
    tile = ["IADD3", *3 * ["LDS", "LDS", "BRA"], "LDS", "BRA"]
    assert walk([chunks, EACH_TILE], sources, straight) == ["S2R", *3 * tile, "EXIT"]
    with pytest.raises(PathError, match="no count tells how often"):
        walk([EACH_TILE], sources)
    # The line is there, but no such instruction of it: it would be left out of the way.
    with pytest.raises(PathError, match=r"expected instructions of .*LD.*mend the marks"):
        walk([EACH_TILE, chunks, Count(Mark("LD$", "kernel.cu", "multiply"), 0, 0)], sources)


def step(text: str, stall: int = 1, sets: int = 7, waits: int = 0, jumps: bool = False) -> Step:
    return Step(Instruction(text, (), Control(stall, sets, 7, waits)), jumps)


@pytest.mark.parametrize(
    ("steps", "one", "two"),
    [
        # Stalls of one warp leave room for another; a unit that is busy does not.
        ([step("MOV R1, R2", stall=10)], 10, 5),
        ([step("HMMA R1, R2")], 6, 6),
        # Until the load is there, 45 cycles later. Two warps wait at the same time.
        ([step("LDG.E R1", sets=0), step("MOV R1, R2", waits=1)], 46, 23),
        ([step("BRA `(.L_x_1)", stall=5, jumps=True)], 17, 8.5),
    ],
)
def test_cycles(steps: list[Step], one: float, two: float) -> None:
    for warps, expected in ((1, one), (2, two)):
        cycles = multiprocessor.cycles_per_tile(steps, warps, frozenset(), tiles=400)
        assert cycles == pytest.approx(expected, rel=0.02)


def test_cycles_of_blocks() -> None:
    # Two warps of a block: the one that is early waits for the other at the barrier.
    wait = step("BAR.SYNC.DEFER_BLOCKING 0x0")
    late = [step("MOV R1, R2", stall=15)] * 10 + [wait, step("EXIT")]
    early = [step("MOV R1, R2"), wait, step("EXIT")]
    ways = [(late, {}), (early, {})]
    one = multiprocessor.cycles_of_blocks(ways, 1, 1)
    assert 150 + multiprocessor.BARRIER <= one < 160 + multiprocessor.BARRIER
    # Blocks at once share the scheduler, others follow.
    assert multiprocessor.cycles_of_blocks(ways, 2, 2) < 1.2 * one
    assert multiprocessor.cycles_of_blocks(ways, 1, 3) > 2.8 * one
    # What the second cache has to move takes its time.
    load = [step("LDG.E R1"), step("EXIT")]
    moved = multiprocessor.Transfer(cycles=1000, latency=10)
    assert multiprocessor.cycles_of_blocks([(load, {0: moved})] * 3, 1, 1) < 20
    waits = [step("LDG.E R1", sets=0), step("MOV R1, R2", waits=1)]
    assert 2010 < multiprocessor.cycles_of_blocks([(waits, {0: moved})] * 3, 1, 1) < 2030


def test_blocks_at_once() -> None:
    # (65,536 registers) / (128 threads of 200); 228 KiB, of which each block has 1 KiB more.
    assert multiprocessor.blocks_at_once(198, 128, 0) == 2
    assert multiprocessor.blocks_at_once(168, 128, 0) == 3
    assert multiprocessor.blocks_at_once(169, 128, 0) == 2
    assert multiprocessor.blocks_at_once(32, 128, 113 * 1024) == 2
    assert multiprocessor.blocks_at_once(32, 128, 113 * 1024 + 1) == 1
    assert multiprocessor.blocks_at_once(16, 128, 0) == 16
