"""``facenet identify``: whose images are these."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facenet_ext.commands.identification_report import Identified, as_dict, rate, show, write
from facenet_ext.commands.options import IdentifyOptions
from facenet_ext.commands.trained_model import choose_threshold, embed_or_read
from facenet_ext.commands.warnings import Warnings
from facenet_ext.common.console import make_console
from facenet_ext.common.counting import Counting
from facenet_ext.common.errors import InputError, refusing
from facenet_ext.common.launch import is_first
from facenet_ext.common.processes import everyone
from facenet_ext.common.text import comparable, number_names
from facenet_ext.recognition import Identification, StoredEmbeddings, check_one_model, identify
from facenet_ext.recognition.identification import SAME_IMAGE, have_other_images

_BLOCK = 16_384
"""Probes at once."""


def execute(options: IdentifyOptions) -> int:
    """Do what the command line says."""
    console = make_console(stderr=True)
    if not 1 <= options.top <= 100:
        raise InputError(f"--top {options.top}: expected 1 to 100")
    warnings = Warnings(console)
    sources = embed_or_read(options, warnings, options.gallery, options.probe)
    gallery, probes = (source.stored for source in sources)
    gallery.check_named(options.gallery)
    check_one_model(gallery=gallery, probe=probes)
    threshold, far, _ = choose_threshold(options, gallery.model, warnings)
    people, names = number_names(gallery.identities)
    top = min(options.top, max(1, len(people)))
    called = f"{options.gallery}, {options.probe}: "  # stored embeddings may hold anything
    with refusing(called), Counting("identifying", console) as progress:
        result, itself = _search(gallery, names, probes, top, progress)
    if not is_first():
        return 0
    named = result.distances[:, 0] <= threshold
    rates = None
    if probes.named:
        truth = _truth(gallery, names, people, probes, itself)
        rates = rate(result, named, truth, threshold)
    identified = Identified(result, named, itself, gallery, probes, people, threshold, far, rates)
    output = None if options.output is None else Path(options.output)
    if output is not None:
        write(output, identified)
    warnings.tell()
    if options.json:
        print(json.dumps(as_dict(identified, output) | {"warnings": warnings.texts}, indent=2))
    else:
        show(identified, make_console(), output)
    return 0 if bool(named.any()) else 1


def _search(
    gallery: StoredEmbeddings,
    names: NDArray[np.int64],
    probes: StoredEmbeddings,
    top: int,
    progress: Counting,
) -> tuple[Identification, Tensor]:
    """Search for each probe; if it is an image of the gallery itself, among the others only.

    Returns:
        The identities, and the row of the gallery that each probe is itself, or -1.
    """
    parts, same_rows = [], []
    for begin in range(0, len(probes), _BLOCK):
        progress(begin, len(probes))
        block = probes.embeddings[begin : begin + _BLOCK]
        closest = identify(gallery.embeddings, names, block, top, group=everyone())
        same = closest.distances[:, 0] <= SAME_IMAGE
        same_rows.append(torch.where(same, closest.rows[:, 0], -1))
        if same.any():
            copies = block[same.numpy()]
            others = identify(
                gallery.embeddings, names, copies, top, leave_out=SAME_IMAGE, group=everyone()
            )
            for field, values in zip(closest, others, strict=True):
                field[same] = values
        parts.append(closest)
    joined = (torch.cat(field) for field in zip(*parts, strict=True))
    return Identification(*joined), torch.cat(same_rows)


def _truth(
    gallery: StoredEmbeddings,
    names: NDArray[np.int64],
    people: list[str],
    probes: StoredEmbeddings,
    itself: Tensor,
) -> Tensor:
    """Return the number of each probe's identity; -1 where no other image of it is there."""
    place = {comparable(name): at for at, name in enumerate(people)}
    truth = torch.tensor([place.get(comparable(name), -1) for name in probes.identities])
    several = torch.from_numpy(have_other_images(gallery.embeddings, names))
    own = (itself >= 0) & (torch.from_numpy(names)[itself] == truth)
    truth[own & ~several[truth]] = -1
    return truth
