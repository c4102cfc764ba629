"""``facenet models``: what each network costs."""

from __future__ import annotations

from jsonargparse import ArgumentParser
from jsonargparse.typing import NonNegativeInt, PositiveInt

from facenet_ext.cli.command_line import make_parser

__all__ = ["build_parser"]


def build_parser(prog: str) -> ArgumentParser:
    """Return the parser of the command's options."""
    parser = make_parser(
        prog,
        "Print what each network costs: parameters, multiply-adds, size, and milliseconds per "
        "image on this machine.",
        f"""
        {prog}
        {prog} --batch-norm --in-channels 1 --batch 32
        {prog} --repeats 0 --json
        """.replace("        ", ""),
    )
    parser.add_argument("--in-channels", type=PositiveInt, default=3, help="1 grey, 3 colour")
    parser.add_argument("--embedding-dim", type=PositiveInt, default=128, help="of an embedding")
    parser.add_argument(
        "--batch-norm", action="store_true", help="batch normalisation in the paper's networks"
    )
    parser.add_argument("--batch", type=PositiveInt, default=8, help="images timed at once")
    parser.add_argument(
        "--repeats", type=NonNegativeInt, default=5, help="times to measure; 0 measures no time"
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    return parser
