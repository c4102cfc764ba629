"""``facenet embed``: images to stored embeddings, in constant memory."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from rich.console import Console

from facenet_ext.commands.command_line import make_parser, run
from facenet_ext.commands.model_options import add_model_options, load_model
from facenet_ext.recognition import embed_images, list_tree
from facenet_ext.recognition.embedding import UNREADABLE
from facenet_ext.train.errors import InputError
from facenet_ext.train.progress import Counting

__all__ = ["build_parser", "main"]


def main(argv: Sequence[str] | None = None, prog: str = "facenet embed") -> int:
    """Run the command and return its exit status."""
    return run(build_parser(prog), argv, _embed)


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


def _embed(found: Any) -> None:
    if not found.images:
        raise InputError("expected a folder or an image, got an empty name")
    images = list_tree(Path(found.images))
    model = load_model(found)
    output = Path(found.output)
    start = time.perf_counter()
    begun: list[int] = []
    with Counting("embedding", Console(stderr=True)) as bar:

        def progress(done: int, total: int) -> None:
            begun.append(done)
            bar(done, total)

        stored = embed_images(
            model.module,
            model.name,
            images,
            output,
            stop_at_unreadable=found.on_unreadable == "stop",
            batch=int(found.batch),
            progress=progress,
        )
    seconds = time.perf_counter() - start
    now = len(images) - begun[0] if begun else 0  # the others were done before
    unreadable = len(images) - len(stored)
    figures = {
        "output": str(output),
        "rows": len(stored),
        "embedding_dim": stored.embeddings.shape[1],
        "identities": len(set(stored.identities) - {""}),
        "unreadable": unreadable,
        "network": model.name.network,
        "checkpoint": model.name.checkpoint,
        "views": model.name.views,
        "images_per_second": now / seconds if now else None,
    }
    if found.json:
        print(json.dumps(figures, indent=2))
        return
    out = Console()
    rate = f", {now / seconds:,.0f} images/s" if now else ", all of it before"
    out.print(
        f"{len(stored):,} embeddings of {figures['embedding_dim']} numbers in {output}{rate}",
        soft_wrap=True,
    )
    if unreadable:
        out.print(f"{unreadable:,} images cannot be read: {output / UNREADABLE}", soft_wrap=True)
