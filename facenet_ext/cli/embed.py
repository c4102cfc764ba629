"""``facenet embed``: images to stored embeddings, in constant memory."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from facenet_ext.cli.command_line import make_parser
from facenet_ext.cli.model_options import add_model_options

__all__ = ["build_parser"]


def build_parser(prog: str) -> ArgumentParser:
    """Return the parser of the command's options."""
    parser = make_parser(
        prog,
        "Embed all images under a folder into another folder: embeddings.npy, ids.txt, "
        "identities.txt (the folder of each image) and store.json (the model). An interrupted run "
        "goes on where it was when the same command is given again.",
        f"{prog} faces --output gallery\n"
        f"{prog} faces --checkpoint runs/faces-20260101-120000 --views one --json",
    )
    parser.add_argument("images", help="a folder of images, of any depth, or one image")
    parser.add_argument("--output", default="embeddings", help="the folder to write")
    parser.add_argument(
        "--on-unreadable",
        choices=("skip", "stop"),
        default="skip",
        help="what to do about images that cannot be read; skipped ones are listed",
    )
    add_model_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON in place of sentences")
    return parser
