"""``facenet harmonize``: a new model whose embeddings can be compared with an old one's."""

from __future__ import annotations

from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveFloat, PositiveInt

from facenet_ext.cli.command_line import make_parser

__all__ = ["build_parser"]


def build_parser(prog: str) -> ArgumentParser:
    """Return the parser of the command's options."""
    parser = make_parser(
        prog,
        "Train a new model so that its embeddings can be compared with those of an old one: a new "
        "last layer first, then all of it, with triplets from the embeddings of both. Report how "
        "well old and new embeddings are told apart. An interrupted run goes on where it was when "
        "the same command is given again.",
        f"{prog} runs/old\n"
        f"{prog} runs/old --new runs/better --output runs/harmonic\n"
        f"{prog} runs/old --new runs/better --layer-steps 300 --steps 1000",
    )
    parser.add_argument("old", help="the old model: a run's folder, or a .ckpt file")
    parser.add_argument(
        "--new",
        type=str | None,
        default=None,
        help="the new model, trained on its own; by default one is trained as the old one was, "
        "with another seed",
    )
    parser.add_argument(
        "--data",
        type=str | None,
        default=None,
        help="images, as for train; by default the new run's",
    )
    parser.add_argument("--output", default="runs/harmonic", help="folder of the runs and report")
    parser.add_argument(
        "--layer-steps", type=PositiveInt, default=200, help="steps of the last layer alone"
    )
    parser.add_argument("--steps", type=PositiveInt, default=800, help="steps of all of it")
    parser.add_argument(
        "--lr", type=PositiveFloat | None, default=None, help="by default the new run's"
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    return parser
