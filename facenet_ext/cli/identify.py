"""``facenet identify``: whose images are these."""

from __future__ import annotations

from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveInt

from facenet_ext.cli.command_line import make_parser
from facenet_ext.cli.model_options import add_model_options, add_threshold_options

__all__ = ["build_parser"]


def build_parser(prog: str) -> ArgumentParser:
    """Return the parser of the command's options."""
    parser = make_parser(
        prog,
        "Find the identities of a gallery that are closest to each probe; one that is farther than "
        "the threshold from all of them is unknown. A probe that is an image of the gallery itself "
        "is compared with the other images only. Where the probes lie in folders with the names of "
        "the gallery's, tells who was recognised and who was taken for another. The exit status is "
        "1 if nobody gets a name.",
        f"{prog} gallery photo.jpg\n"
        f"{prog} gallery probes --far 0.001 --output found\n"
        f"{prog} gallery_embeddings probe_embeddings --top 10 --json",
    )
    parser.add_argument("gallery", help="a folder gallery/<identity>/<image>, or embeddings of one")
    parser.add_argument("probe", help="an image, a folder of images, or embeddings")
    parser.add_argument("--top", type=PositiveInt, default=5, help="identities to name, 1 to 100")
    add_model_options(parser)
    add_threshold_options(parser)
    parser.add_argument(
        "--output",
        type=str | None,
        default=None,
        help="a folder for identified.csv, and for curves where the probes' identities are known",
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    return parser
