"""``facenet verify``: whether two images are of one person."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from rich.console import Console

from facenet_ext.commands.command_line import make_parser, run
from facenet_ext.commands.model_options import (
    add_model_options,
    add_threshold_options,
    choose_threshold,
    load_model,
)
from facenet_ext.train.errors import InputError
from facenet_ext.train.images import UnreadableImageError, read_image

__all__ = ["build_parser", "main"]


def main(argv: Sequence[str] | None = None, prog: str = "facenet verify") -> int:
    """Run the command and return its exit status."""
    return run(build_parser(prog), argv, _verify)


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


def _verify(found: Any) -> int:
    paths = [Path(found.first), Path(found.second)]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: no such image")
    model = load_model(found)
    threshold, far, points = choose_threshold(found, model.name)
    options = model.module.options.data
    try:
        images = [read_image(path, options.image_size, options.channels) for path in paths]
    except UnreadableImageError as error:
        raise InputError(f"{error}; give an image") from None
    forward = model.module if found.views == "all" else model.module.embed_once
    with torch.no_grad():
        first, second = forward(torch.stack(images).to(model.module.device)).double().cpu()
    distance = (first - second).square().sum().item()
    if not math.isfinite(distance):
        raise InputError(f"{model.path}: embeds images as NaN or infinity; train it again")
    same = distance <= threshold
    if found.json:
        figures = {
            "same": same,
            "distance": distance,
            "threshold": threshold,
            "far_at_evaluation": far,
            "evaluation": None if points is None else str(points.source),
        }
        print(json.dumps(figures, indent=2))
    else:
        console = Console()
        verdict = "[green]the same person[/]" if same else "[red]two people[/]"
        sign = "≤" if same else ">"
        console.print(f"{verdict}: distance {distance:.4f} {sign} threshold {threshold:.4f}")
        if far is not None and points is not None:
            console.print(
                f"At evaluation {far:.2%} of pairs of two people were as close as the threshold "
                f"({points.source}).",
                soft_wrap=True,
                markup=False,
                highlight=False,
            )
    return 0 if same else 1
