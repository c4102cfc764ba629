"""The way of one tile through a kernel's blocks.

Of two ways the one counts that has more *hot* instructions, and of these the shorter one. Blocks
with *cold* ones are never entered. What is hot and cold is told by opcodes and by text of the
source line, so that neither new labels nor new line numbers change the way.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.gpu.static.listing import Block, Frame, Instruction

Edges = dict[int, list[int]]


class PathError(RuntimeError):
    """The kernel's blocks have no way as the marks describe it."""


@dataclass(frozen=True)
class Mark:
    """Instructions by opcode, by a text of their source line, or by both."""

    opcodes: str = ""  # a regular expression
    file: str = ""
    text: str = ""

    def __call__(self, instruction: Instruction, sources: "Sources") -> bool:
        if self.opcodes and not re.match(self.opcodes, instruction.opcode):
            return False
        return not self.file or not sources.lines(self).isdisjoint(instruction.frames)


class Sources:
    """The folder that the kernels' sources are in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.lines = cache(self._lines)

    def _lines(self, mark: Mark) -> frozenset[Frame]:
        (path,) = self._folder.rglob(mark.file)
        lines = enumerate(path.read_text().splitlines(), 1)
        found = frozenset((mark.file, number) for number, line in lines if mark.text in line)
        if not found:
            raise PathError(f"{mark.file}: expected a line with {mark.text!r}; mend the marks")
        return found


@dataclass(frozen=True)
class Step:
    """An instruction on the way, and whether it jumps."""

    instruction: Instruction
    jumps: bool


def common_path(
    blocks: list[Block],
    hot: Iterable[Mark],
    cold: Iterable[Mark],
    sources: Sources,
    repeats: int,
    inner: str = "HMMA",
) -> list[Step]:
    """The instructions of one tile, from the head of the tiles' loop to the same place again.

    The loop within it whose instructions are `inner` runs `repeats` times.
    """
    hot, cold = list(hot), list(cold)

    def matches(marks: list[Mark], i: Instruction) -> bool:
        return any(mark(i, sources) for mark in marks)

    # Under a predicate it is part of a hot block.
    is_cold = [any(not i.guard and matches(cold, i) for i in b.instructions) for b in blocks]
    worth = [sum(matches(hot, i) for i in b.instructions) for b in blocks]
    multiplies = {n for n, b in enumerate(blocks) if any(i.name == inner for i in b.instructions)}
    edges = {
        n: [s for s in b.successors if not is_cold[s]]
        for n, b in enumerate(blocks)
        if not is_cold[n]
    }

    def score(node: int) -> tuple[int, int]:
        return worth[node], -len(blocks[node].instructions)

    if (tile := _loop(edges, multiplies)) is None:
        raise PathError(f"expected a loop with {inner}: there is none, or all of it is cold")
    head = _head(tile, blocks)
    chunk = _loop({n: [s for s in after if s != head] for n, after in tile.items()}, multiplies)
    way = _best(tile, head, score)
    if chunk:
        chunk_head = _head(chunk, blocks)
        if chunk_head not in way:
            raise PathError(f"the loop over {inner} is not on the way of a tile")
        again = repeats - bool(multiplies & set(way))
        at = way.index(chunk_head)
        way[at:at] = _best(chunk, chunk_head, score) * again
    return [
        Step(i, i is block[-1] and after != node + 1 and i.name == "BRA")
        for node, after in zip(way, [*way[1:], way[0]], strict=True)
        for block in [blocks[node].instructions]
        for i in block
    ]


def components(edges: Edges) -> list[set[int]]:
    """Strongly connected components: Kosaraju's two searches."""
    back: Edges = {n: [] for n in edges}
    for node, after in edges.items():
        for other in after:
            back[other].append(node)
    finished = [n for root in _search(edges, edges) for n in root]
    return [set(root) for root in _search(back, reversed(finished))]


def reached(edges: Edges, root: int) -> list[int]:
    """What can be reached, in the order in which depth-first search ends."""
    return _search(edges, [root])[0]


def _search(edges: Edges, roots: Iterable[int]) -> list[list[int]]:
    """For each root what it is first to reach, in the order in which depth-first search ends."""
    seen: set[int] = set()
    found = []
    for root in roots:
        if root in seen:
            continue
        seen.add(root)
        ended = []
        work = [(root, iter(edges[root]))]
        while work:
            node, rest = work[-1]
            for other in rest:
                if other not in seen:
                    seen.add(other)
                    work.append((other, iter(edges[other])))
                    break
            else:
                ended.append(node)
                work.pop()
        found.append(ended)
    return found


def _loop(edges: Edges, nodes: set[int]) -> Edges | None:
    """The loop with most of the nodes."""
    loops = [c for c in components(edges) if c & nodes and any(c & set(edges[n]) for n in c)]
    if not loops:
        return None
    loop = max(loops, key=lambda c: len(c & nodes))
    return {n: [s for s in edges[n] if s in loop] for n in loop}


def _head(loop: Edges, blocks: list[Block]) -> int:
    """Where the loop is entered."""
    return min(s for n, b in enumerate(blocks) if n not in loop for s in b.successors if s in loop)


def _best(loop: Edges, head: int, score: Callable[[int], tuple[int, int]]) -> list[int]:
    """The best way from the head to the head again. Loops on it are left at their first end."""
    best: dict[int, tuple[int, int, list[int]]] = {}
    for node in reached(loop, head):
        # What is not in `best` yet lies behind: a loop's way back.
        ways = [(0, 0, list[int]())] if head in loop[node] else []
        ways += [best[s] for s in loop[node] if s in best]
        if ways:
            hot, length, rest = max(ways)
            worth, cost = score(node)
            best[node] = (hot + worth, length + cost, [node, *rest])
    if head not in best:
        raise PathError("expected a way from the head of a loop back to it")
    return best[head][2]
