"""The listing of `nvdisasm -c -gi -hex`: functions, their instructions, and basic blocks."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

Frame = tuple[str, int]  # a source file's name, and a line of it


@dataclass(frozen=True)
class Control:
    """What the compiler tells the scheduler with each instruction. Of six scoreboards."""

    stall: int  # cycles until the warp's next instruction
    sets: int  # the scoreboard that waits for the result; 7: none
    frees: int  # the one that waits until the operands were read; 7: none
    waits: int  # for these, a bit for each

    @classmethod
    def of(cls, high_word: int) -> "Control":
        bits = high_word >> 41
        return cls(bits & 15, bits >> 5 & 7, bits >> 8 & 7, bits >> 11 & 63)


@dataclass(frozen=True)
class Instruction:
    text: str  # "@P0 BRA `(.L_x_3)"
    frames: tuple[Frame, ...]  # where it comes from: the innermost inlined function first
    control: Control

    @property
    def guard(self) -> str:
        """The predicate that it is executed under, "" without one."""
        found = re.match(r"@(!?U?P\w+)\s", self.text)
        return found[1] if found and found[1] not in ("PT", "UPT") else ""

    @property
    def opcode(self) -> str:
        """With its modifiers: "LDG.E.64"."""
        return re.sub(r"^@!?U?P\w+\s+", "", self.text).split()[0]

    @property
    def name(self) -> str:
        """The opcode alone: "LDG"."""
        return self.opcode.split(".")[0]


@dataclass
class Block:
    """Instructions that are executed one after the other. The last one alone may jump."""

    instructions: list[Instruction]
    successors: list[int]  # the next block first, where it can be reached


_FUNCTION = re.compile(r"\.text\.(\S+):")
_LABEL = re.compile(r"(\.L_\w+):")
_SOURCE = re.compile(r'\s*//## File "([^"]*)", line (\d+)')
_CODE = re.compile(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;.*/\* 0x[0-9a-f]{16} \*/")
_HIGH = re.compile(r"\s+/\* 0x([0-9a-f]{16}) \*/\s*$")
_TARGET = re.compile(r"`\((\.L_\w+)\)")
_ENDS = ("BRA", "EXIT", "RET", "BRX", "JMP")


def functions(listing: Iterable[str]) -> dict[str, list[Block]]:
    """The blocks of each function, by its symbol."""
    found: dict[str, list[str | Instruction]] = {}
    items: list[str | Instruction] | None = None
    frames: list[Frame] = []
    text, fresh = "", True
    for line in listing:
        if match := _FUNCTION.match(line):
            items = found.setdefault(match[1], [])
        elif line.startswith("\t.section"):
            items = None
        elif items is None:
            continue
        elif match := _LABEL.match(line):
            items.append(match[1])
        elif match := _SOURCE.match(line):
            frames = [*([] if fresh else frames), (match[1].rpartition("/")[2], int(match[2]))]
            fresh = False
        elif match := _CODE.match(line):
            text, fresh = match[1], True
        elif (match := _HIGH.match(line)) and text:
            items.append(Instruction(text, tuple(frames), Control.of(int(match[1], 16))))
            text = ""
    return {name: _blocks(items) for name, items in found.items()}


def _blocks(items: list[str | Instruction]) -> list[Block]:
    blocks: list[Block] = [Block([], [])]
    labels: dict[str, int] = {}
    for item in items:
        if isinstance(item, str):
            if blocks[-1].instructions:
                blocks.append(Block([], []))
            labels[item] = len(blocks) - 1
        else:
            blocks[-1].instructions.append(item)
            if item.name in _ENDS:
                blocks.append(Block([], []))
    if not blocks[-1].instructions:
        blocks.pop()
    for number, block in enumerate(blocks):
        last = block.instructions[-1]
        jumps = last.name in _ENDS
        # "BRA P0, there" has its condition among the operands.
        conditional = bool(last.guard or re.search(r"BRA\S*\s+!?U?P\d", last.text))
        divergent = last.opcode.startswith("BRA.DIV")  # a vote's detour, where lanes have parted
        if (not jumps or conditional or divergent) and number + 1 < len(blocks):
            block.successors.append(number + 1)
        target = _TARGET.search(last.text)
        if jumps and not divergent and target and target[1] in labels:
            block.successors.append(labels[target[1]])
    return blocks
