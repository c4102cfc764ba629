"""``facenet verify``: whether two images are of one person."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from rich.text import Text

from facenet_ext.commands.options import VerifyOptions
from facenet_ext.commands.trained_model import choose_threshold, cut_faces, load_model
from facenet_ext.commands.warnings import Warnings
from facenet_ext.common.console import make_console
from facenet_ext.common.errors import InputError
from facenet_ext.data.image_list import ImageList, list_tree
from facenet_ext.data.images import UnreadableImageError, read_image
from facenet_ext.embedding.suitability import warn_of_cut, warn_of_images


def execute(options: VerifyOptions) -> int:
    """Do what the command line says."""
    paths = [Path(options.first), Path(options.second)]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: no such image")
    warnings = Warnings(make_console(stderr=True))
    model = load_model(options, warnings)
    threshold, far, points = choose_threshold(options, model.name, warnings)
    data = model.module.options.data
    paths = [cut_faces(options, list_tree(path), model, warnings).path(0) for path in paths]
    both = ImageList(Path(), list(map(str, paths)), ["", ""])
    warnings.add(*warn_of_cut(model.module.provenance.cut, both))
    try:
        images = [read_image(path, data.image_size, data.channels) for path in paths]
    except UnreadableImageError as error:
        raise InputError(f"{error}; give an image") from None
    warnings.add(*warn_of_images(model.module, ImageList(Path(), list(map(str, paths)), ["", ""])))
    first, second = model.module.embed(torch.stack(images), options.views).double()
    distance = (first - second).square().sum().item()
    same = distance <= threshold
    warnings.tell()
    if options.json:
        figures = {
            "same": same,
            "distance": distance,
            "threshold": threshold,
            "far_at_evaluation": far,
            "evaluation": None if points is None else str(points.source),
            "warnings": warnings.texts,
        }
        print(json.dumps(figures, indent=2))
    else:
        console = make_console()
        verdict = Text("the same person", "green") if same else Text("two people", "red")
        sign = "≤" if same else ">"
        console.print(
            verdict + f": distance {distance:.4f} {sign} threshold {threshold:.4f}", soft_wrap=True
        )
        if far is not None and points is not None:
            console.print(
                f"At evaluation {far:.2%} of pairs of two people were as close as the threshold "
                f"({points.source}).",
                soft_wrap=True,
            )
    return 0 if same else 1
