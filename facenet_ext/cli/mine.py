"""``facenet mine``: triplets, and probable mistakes, of a whole training set."""

from __future__ import annotations

from jsonargparse import ArgumentParser
from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt

from facenet_ext._defaults import MINING_BLOCK, MINING_CHUNK
from facenet_ext._rule import DETERMINISTIC, DISTANCES, POSITIVES
from facenet_ext.cli.command_line import make_parser

__all__ = ["build_parser"]

_CHOICES = (
    ("positives", POSITIVES, "hardest"),
    ("negatives", DETERMINISTIC, "semihard"),
    ("distance", DISTANCES, "sqeuclidean"),
)


def build_parser(prog: str) -> ArgumentParser:
    """Return the parser of the command's options."""
    parser = make_parser(
        prog,
        "Search a whole training set for triplets, out of core, and for images that are probably "
        "under the wrong name or under two. An interrupted search goes on where it was when the "
        "same command is given again. The exit status is 1 if there are no triplets.",
        f"{prog} runs/faces-20260101-120000\n"
        f"{prog} runs/faces-20260101-120000 --data other/faces --negatives hardest\n"
        f"{prog} embeddings --positives all\n"
        f"{prog} embeddings.npy --labels labels.npy --output mined",
    )
    parser.add_argument(
        "source",
        help="a run's folder or .ckpt file to embed --data with; or embeddings, of 'facenet embed' "
        "or an .npy",
    )
    parser.add_argument(
        "--data", type=str | None, default=None, help="images, as for train; by default the run's"
    )
    parser.add_argument(
        "--labels",
        type=str | None,
        default=None,
        help="of an .npy of embeddings: .npy, [N] integers",
    )
    parser.add_argument(
        "--names",
        type=str | None,
        default=None,
        help="of an .npy of embeddings: a text file, a line each",
    )
    parser.add_argument("--output", default="mined", help="folder for what is found")
    for name, choices, default in _CHOICES:
        parser.add_argument(f"--{name}", choices=choices, default=default, help="as for train")
    parser.add_argument("--margin", type=PositiveFloat, default=0.2, help="of --within-margin")
    parser.add_argument(
        "--within-margin", action="store_true", help="semi-hard negatives inside the margin only"
    )
    parser.add_argument(
        "--suspects", type=NonNegativeInt, default=48, help="probable mistakes to report; 0 is none"
    )
    parser.add_argument("--block", type=PositiveInt, default=MINING_BLOCK, help="anchors at once")
    parser.add_argument(
        "--chunk", type=PositiveInt, default=MINING_CHUNK, help="candidates at once"
    )
    parser.add_argument("--device", default="cpu", help="where to compute: cpu, cuda")
    parser.add_argument("--json", action="store_true", help="print JSON in place of sentences")
    return parser
