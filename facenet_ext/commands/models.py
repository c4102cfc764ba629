"""``facenet models``: what each network costs."""

from __future__ import annotations

import json

from facenet_ext.commands.options import ModelsOptions
from facenet_ext.common.console import make_console
from facenet_ext.common.counting import Counting
from facenet_ext.models.summary import as_text, summarise


def execute(options: ModelsOptions) -> None:
    """Do what the command line says."""
    with Counting("measuring", make_console(stderr=True)) as progress:
        rows = summarise(
            options.in_channels,
            options.embedding_dim,
            batch_norm=options.batch_norm,
            own=[] if options.model is None else [options.model],
            input_size=options.input_size,
            batch=options.batch,
            repeats=options.repeats,
            progress=progress,
        )
    print(json.dumps(rows, indent=2) if options.json else as_text(rows, options.batch))
