"""``facenet bench``: what this machine does with the kernels and a network."""

from __future__ import annotations

from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveInt

from facenet_ext.cli.command_line import make_parser

__all__ = ["build_parser"]


def build_parser(prog: str) -> ArgumentParser:
    """Return the parser of the command's options."""
    parser = make_parser(
        prog,
        "Measure the kernels on this machine, each beside the matrix product of the same pairs: "
        "medians, in one run.",
        f"{prog}\n{prog} --rows 50000 --dim 256 --threads 4\n{prog} --device cuda --json",
    )
    parser.add_argument("--rows", type=PositiveInt, default=16_384, help="embeddings")
    parser.add_argument("--dim", type=PositiveInt, default=128, help="numbers of an embedding")
    parser.add_argument(
        "--batch", type=PositiveInt, default=1800, help="of the loss, 40 of each identity"
    )
    parser.add_argument("--repeats", type=PositiveInt, default=5, help="of each measurement")
    parser.add_argument("--threads", type=PositiveInt | None, default=None, help="of the CPU")
    parser.add_argument("--device", default="cpu", help="where to compute: cpu, cuda")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    return parser
