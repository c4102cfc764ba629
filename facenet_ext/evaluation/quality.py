"""How well an embedding verifies images of bad quality: few pixels, strong compression."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from PIL import Image

from facenet_ext.common.errors import InputError
from facenet_ext.data.images import UnreadableImageError, read_row
from facenet_ext.data.pairs import Pairs
from facenet_ext.embedding.embedder import Embedder
from facenet_ext.evaluation.protocols import Protocol
from facenet_ext.metrics import auc, val_far

__all__ = ["JPEG_QUALITIES", "PIXELS", "QualitySlice", "measure_quality"]

JPEG_QUALITIES = (10, 20, 30, 50, 70, 90)
PIXELS = (256, 400, 900, 1_600, 6_400)
"""Pixels of an image. The paper's table begins at 1,600, but images here may have hardly more."""

_BATCH = 128


class QualitySlice(NamedTuple):
    """How pairs are verified when all their images are of one quality.

    Attributes:
        kind: "JPEG quality" or "pixels".
        value: the quality, 0 to 100, or pixels of an image.
        auc: area under the ROC curve.
        val: VAL at FAR 1e-2; None where there are too few pairs to tell.
    """

    kind: str
    value: int
    auc: float
    val: float | None


def measure_quality(
    module: Embedder,
    protocol: Protocol,
    most_images: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[QualitySlice]:
    """Verify pairs again with all images compressed, and with all images small.

    Args:
        module: embeds each image by one pass through the network.
        protocol: images and pairs. The first frame stands for a video.
        most_images: pairs are taken until they have this many images; the others are left out.
        progress: called with the slices that are done and all there are.

    Returns:
        A :class:`QualitySlice` for each quality.

    Raises:
        InputError: an image cannot be read, or too few images were asked for.

    Source: FaceNet (Schroff et al., CVPR 2015), section 5.3 and table 4.
    """
    rows, pairs = _first_pairs(protocol, most_images)
    if not (pairs.same.any() and (~pairs.same).any()):
        raise InputError(f"`quality` {most_images}: too few images for pairs of both kinds")
    slices = [("JPEG quality", quality) for quality in JPEG_QUALITIES]
    slices += [("pixels", pixels) for pixels in PIXELS]
    measured = []
    for done, (kind, value) in enumerate(slices):
        if progress is not None:
            progress(done, len(slices))
        embeddings = _embed(module, protocol, rows, _worsen(kind, value))
        distances = (embeddings[pairs.first] - embeddings[pairs.second]).square().sum(1)
        point = val_far(distances, pairs.same, 1e-2)
        val = point.val if point.reachable and math.isfinite(point.val) else None
        measured.append(QualitySlice(kind, value, auc(distances, pairs.same), val))
    return measured


def _first_pairs(protocol: Protocol, most_images: int) -> tuple[list[int], Pairs]:
    """Choose pairs, evenly over all of them, until their images are as many as allowed."""
    order = torch.randperm(
        len(protocol.pairs.same), generator=torch.Generator().manual_seed(0)
    ).tolist()
    chosen: dict[int, int] = {}
    for pair in order:
        ends = {int(protocol.pairs.first[pair]), int(protocol.pairs.second[pair])}
        if len(chosen.keys() | ends) > most_images:
            break
        for end in ends:
            chosen.setdefault(end, len(chosen))
    if not chosen:
        raise InputError(f"`quality` {most_images}: too few images for pairs of both kinds")
    items = sorted(chosen)
    return [protocol.items[item][0] for item in items], protocol.pairs.among(items)


def _worsen(kind: str, value: int) -> Callable[[Image.Image], Image.Image]:
    def compress(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=value)
        return Image.open(io.BytesIO(file.getvalue()))

    def shrink(image: Image.Image) -> Image.Image:
        share = math.sqrt(value / (image.width * image.height))
        if share >= 1:
            return image
        size = max(1, round(image.width * share)), max(1, round(image.height * share))
        return image.resize(size, Image.Resampling.BICUBIC)

    return compress if kind == "JPEG quality" else shrink


def _embed(
    module: Embedder,
    protocol: Protocol,
    rows: list[int],
    change: Callable[[Image.Image], Image.Image],
) -> torch.Tensor:
    options = module.options.data

    def read(row: int) -> torch.Tensor:
        try:
            return read_row(protocol.images, row, options.image_size, options.channels, change)
        except UnreadableImageError as error:
            raise InputError(f"{error}; repair or remove it") from None

    parts = []
    with ThreadPoolExecutor() as pool:
        for begin in range(0, len(rows), _BATCH):
            pixels = torch.stack(list(pool.map(read, rows[begin : begin + _BATCH])))
            parts.append(module.embed(pixels, "one"))
    return torch.cat(parts)
