"""The way of one warp through a whole kernel, with every loop as often as a count says.

Of two ways the one counts that has more counted instructions, and of these the shorter one. Blocks
with *cold* instructions are never entered.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from benchmarks.gpu.static.listing import Block
from benchmarks.gpu.static.path import Edges, Mark, PathError, Sources, Step, components, reached


@dataclass(frozen=True)
class Count:
    """How often a loop is repeated each time that a warp comes to it.

    The mark names instructions of the loop, `each` of them a turn. A loop that the compiler
    unrolled has several times as many, and is repeated less often. each = 0: it is not unrolled.
    """

    mark: Mark
    turns: float
    each: int = 1


@dataclass(frozen=True)
class _Way:
    counted: int = 0
    length: int = 0
    blocks: list[int] = field(default_factory=list)
    outside: list[int] = field(default_factory=list)  # those that are in no loop

    def __add__(self, other: "_Way") -> "_Way":
        return _Way(
            self.counted + other.counted,
            self.length + other.length,
            self.blocks + other.blocks,
            self.outside + other.outside,
        )

    @property
    def rank(self) -> tuple[int, int]:
        return self.counted, -self.length


class Walk:
    """Through one kernel."""

    def __init__(
        self,
        blocks: list[Block],
        counts: Iterable[Count],
        cold: Iterable[Mark],
        sources: Sources,
    ) -> None:
        # Those that name a loop itself come first: what is left over of an unrolled loop within it
        # has that one's instructions too. Those that only say what is on the way come last.
        self._blocks = blocks
        self._counts = sorted(counts, key=lambda count: (count.turns == 0, count.each > 0))
        # By block and count its instructions.
        self._has = [
            [sum(count.mark(i, sources) for i in b.instructions) for count in self._counts]
            for b in blocks
        ]
        # Without its instructions a count would let the way pass by what it stands for.
        for number, count in enumerate(self._counts):
            if not any(of_block[number] for of_block in self._has):
                raise PathError(f"expected instructions of {count.mark}; mend the marks")
        marks = list(cold)
        is_cold = [
            any(not i.guard and any(mark(i, sources) for mark in marks) for i in b.instructions)
            for b in blocks
        ]
        self._edges: Edges = {
            n: [s for s in b.successors if not is_cold[s]]
            for n, b in enumerate(blocks)
            if not is_cold[n]
        }
        # By count, the most of its instructions in one loop: what is left over after unrolled
        # turns has a loop of its own, which is passed once.
        self._most = [0] * len(self._counts)
        self._uncounted: set[int] = set()

    def steps(self) -> list[Step]:
        """From the kernel's first instruction to its end."""
        ends = {n for n in self._edges if self._blocks[n].instructions[-1].name == "EXIT"}
        self._way(self._edges, 0, ends)  # finds the unrolled loops
        way = self._way(self._edges, 0, ends)
        if way is None:
            raise PathError("expected a way from the kernel's begin to its end; mend the marks")
        if lost := self._uncounted & set(way.blocks):
            lines = [self._blocks[n].instructions[0].frames for n in sorted(lost)]
            raise PathError(f"no count tells how often these loops are repeated: {lines}")
        return [
            Step(i, i is block[-1] and after != node + 1 and i.name == "BRA")
            for node, after in zip(way.blocks, [*way.blocks[1:], -1], strict=True)
            for block in [self._blocks[node].instructions]
            for i in block
        ]

    def _way(self, edges: Edges, entry: int, ends: set[int]) -> _Way | None:
        """The best from a block to one of the ends."""
        order = reached(edges, entry)
        edges = {n: edges[n] for n in order}
        loop_of = {n: c for c in components(edges) for n in c}
        heads = {entry} | {s for n, to in edges.items() for s in to if s not in loop_of[n]}
        best: dict[int, _Way | None] = {}
        for node in order:  # those behind a loop come before it
            if node not in heads:
                continue
            loop = loop_of[node]
            ways = []
            for last in loop:
                rest = [way for s in edges[last] if s not in loop and (way := best[s])]
                rest += [_Way()] * (last in ends)
                if rest and (own := self._through(edges, loop, node, last)):
                    ways.append(own + max(rest, key=lambda way: way.rank))
            best[node] = max(ways, key=lambda way: way.rank, default=None)
        return best[entry]

    def _through(self, edges: Edges, loop: set[int], head: int, last: int) -> _Way | None:
        """Through a loop, or a block that is in none, to the block that it is left from."""
        backs = {n for n in loop if head in edges[n]}
        if not backs:
            counted, length = sum(self._has[head]), len(self._blocks[head].instructions)
            return _Way(counted, length, [head], [head])
        inner = {n: [s for s in edges[n] if s in loop and s != head] for n in loop}
        turn, way = self._way(inner, head, backs), self._way(inner, head, {last})
        if turn is None or way is None:
            return None
        for _ in range(self._turns(head, turn, way)):
            way = turn + way
        return _Way(way.counted, way.length, way.blocks)

    def _turns(self, head: int, turn: _Way, last: _Way) -> int:
        """How often a loop is repeated before its last turn."""
        for number, count in enumerate(self._counts):
            of_turn, of_last = (sum(self._has[n][number] for n in w.outside) for w in (turn, last))
            if of_turn == 0:
                continue
            if count.each == 0:
                return max(round(count.turns - bool(of_last)), 0)
            self._most[number] = max(self._most[number], of_turn)
            if of_turn < self._most[number]:
                return 0
            return max(round((count.turns * count.each - of_last) / of_turn), 0)
        self._uncounted.add(head)
        return 0
