"""``facenet verify``: whether two images are of one person."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from facenet_ext.cli.command_line import make_parser
from facenet_ext.cli.model_options import add_model_options, add_threshold_options

__all__ = ["build_parser"]


def build_parser(prog: str) -> ArgumentParser:
    """Return the parser of the command's options."""
    parser = make_parser(
        prog,
        "Tell whether two images are of one person: 0 is the exit status if they are, 1 if they "
        "are not.",
        f"{prog} a.jpg b.jpg\n"
        f"{prog} a.jpg b.jpg --far 0.001 && echo same\n"
        f"{prog} a.jpg b.jpg --checkpoint runs/faces-20260101-120000 --threshold 1.1 --json",
    )
    parser.add_argument("first", help="an image")
    parser.add_argument("second", help="another one")
    add_model_options(parser)
    add_threshold_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON in place of sentences")
    return parser
