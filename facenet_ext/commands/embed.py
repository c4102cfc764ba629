"""``facenet embed``: images to stored embeddings, in constant memory."""

from __future__ import annotations

import json
import time
from pathlib import Path

from facenet_ext.commands.options import EmbedOptions
from facenet_ext.commands.trained_model import cut_faces, load_model
from facenet_ext.commands.warnings import Warnings
from facenet_ext.common.console import make_console
from facenet_ext.common.counting import Counting
from facenet_ext.common.errors import InputError
from facenet_ext.common.launch import is_first
from facenet_ext.common.processes import everyone
from facenet_ext.common.text import comparable, counted
from facenet_ext.data.image_list import tell_passed_over
from facenet_ext.data.listing import list_images
from facenet_ext.embedding.suitability import warn_of_cut, warn_of_images
from facenet_ext.recognition import embed_images
from facenet_ext.recognition.embedding import UNREADABLE


def execute(options: EmbedOptions) -> None:
    """Do what the command line says."""
    if not options.images:
        raise InputError("expected a folder or an image, got an empty name")
    images = list_images(options.images)
    console = make_console(stderr=True)
    warnings = Warnings(console)
    model = load_model(options, warnings)
    images = cut_faces(options, images, model, warnings)
    tell_passed_over(images, console)
    warnings.add(*warn_of_cut(model.module.provenance.cut, images))
    output = Path(options.output)
    start = time.perf_counter()
    with Counting("embedding", console) as bar:
        stored = embed_images(
            model.module,
            model.name,
            images,
            output,
            stop_at_unreadable=options.on_unreadable == "stop",
            batch=options.batch,
            progress=bar,
            group=everyone(),
        )
    if not is_first():
        return
    seconds = time.perf_counter() - start
    warnings.add(*warn_of_images(model.module, images))
    now = len(images) - bar.begun if bar.begun is not None else 0  # the others were done before
    unreadable = len(images) - len(stored)
    figures = {
        "output": str(output),
        "rows": len(stored),
        "embedding_dim": stored.embeddings.shape[1],
        "identities": len(set(map(comparable, stored.identities)) - {""}),
        "unreadable": unreadable,
        "network": model.name.network,
        "checkpoint": model.name.checkpoint,
        "views": model.name.views,
        "images_per_second": now / seconds if now else None,
        "warnings": warnings.texts,
    }
    warnings.tell()
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    out = make_console()
    rate = f", {now / seconds:,.0f} images/s" if now else ", all of it before"
    rows = f"{counted(len(stored), 'embedding')} of {figures['embedding_dim']} numbers"
    out.print(f"{rows} in {output}{rate}", soft_wrap=True)
    if unreadable:
        told = f"{counted(unreadable, 'image')} cannot be read: {output / UNREADABLE}"
        out.print(told, soft_wrap=True)
