"""``facenet cluster``: which images belong to one person."""

from __future__ import annotations

from jsonargparse import ArgumentParser
from jsonargparse.typing import NonNegativeInt, PositiveInt

from facenet_ext.cli.command_line import make_parser
from facenet_ext.cli.model_options import add_model_options, add_threshold_options

__all__ = ["build_parser"]


def build_parser(prog: str) -> ArgumentParser:
    """Return the parser of the command's options."""
    parser = make_parser(
        prog,
        "Group images by who is on them: agglomerative clustering, up to the threshold, without a "
        "matrix of all distances. The exit status is 1 if no two images belong together.",
        f"{prog} photos --output people\n{prog} embeddings --images photos --far 0.001 --json",
    )
    parser.add_argument("source", help="a folder of images, of any depth, or embeddings of one")
    parser.add_argument("--output", default="clusters", help="folder for what is found")
    parser.add_argument(
        "--images",
        type=str | None,
        default=None,
        help="the folder that stored embeddings are of, for the contact sheets",
    )
    parser.add_argument(
        "--linkage",
        choices=("average", "single"),
        default="average",
        help="distance of two clusters: the mean of all pairs, or the closest pair",
    )
    parser.add_argument(
        "--sheets", type=NonNegativeInt, default=50, help="contact sheets, of the largest clusters"
    )
    parser.add_argument(
        "--sheet-images", type=PositiveInt, default=48, help="images of a contact sheet at most"
    )
    add_model_options(parser)
    add_threshold_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    return parser
