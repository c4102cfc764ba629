"""Decodes images once, into one uint8 tensor from which batches are cut."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track
from torch import Tensor

from facenet_ext.train.errors import InputError

__all__ = ["UnreadableImageError", "decode", "read_image"]

_NAMED = 5
"""How many unreadable images are named one by one."""


def decode(
    paths: Sequence[Path], size: int, channels: int, memory: float, console: Console
) -> tuple[Tensor, list[int]]:
    """Decode images and scale them to a square, cutting the longer side at both ends.

    Unreadable images are named and left out.

    Args:
        paths: N image files.
        size: height and width to scale to, pixels.
        channels: 1 for grey, 3 for colour.
        memory: GiB that may be held in memory; a larger result lies in an unnamed file on disk.
        console: where progress and unreadable images are shown.

    Returns:
        The images, [M, channels, size, size] uint8, and their M positions in ``paths``.

    Raises:
        InputError: more than one percent of the images are unreadable.
    """
    images = _allocate(len(paths), channels, size, memory)

    def read(position: int) -> str | None:
        try:
            images[position] = read_image(paths[position], size, channels)
        except UnreadableImageError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside Python's lock
        results = pool.map(read, range(len(paths)))
        progress = track(
            results,
            "decoding images",
            total=len(paths),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        errors = dict(enumerate(progress))
    unreadable = {position: error for position, error in errors.items() if error is not None}
    if len(unreadable) * 100 > len(paths):
        raise InputError(
            f"{len(unreadable)} of {len(paths)} images cannot be read, more than one percent; "
            f"repair or remove them, first {next(iter(unreadable.values()))}"
        )
    if not unreadable:
        return images, list(range(len(paths)))
    for error in list(unreadable.values())[:_NAMED]:
        console.print(f"skipped, cannot be read: {error}", soft_wrap=True)
    console.print(f"skipped {len(unreadable)} of {len(paths)} images that cannot be read")
    kept = [position for position in range(len(paths)) if position not in unreadable]
    return images[kept], kept


class UnreadableImageError(Exception):
    """A file that is no image, or a damaged one; the message names it."""


def read_image(
    path: Path,
    size: int,
    channels: int,
    change: Callable[[Image.Image], Image.Image] | None = None,
) -> Tensor:
    """Decode an image and scale it to a square, cutting the longer side at both ends.

    Args:
        path: the file.
        size: height and width to scale to, pixels.
        channels: 1 for grey, 3 for colour.
        change: what is done to the image before it is scaled.

    Returns:
        [channels, size, size] uint8.

    Raises:
        UnreadableImageError: it cannot be decoded.
    """
    try:
        with Image.open(path) as file:
            if change is None:  # the JPEG decoder may work at a smaller scale where that is enough
                file.draft(None, (size, size))
            upright = _in_bytes(ImageOps.exif_transpose(file))
            upright = upright.convert("L" if channels == 1 else "RGB")
        if change is not None:
            upright = change(upright)
        square = ImageOps.fit(upright, (size, size), Image.Resampling.BICUBIC)
        pixels = np.array(square).reshape(size, size, channels)
    except Exception as error:  # of many kinds: Pillow lets decoders raise what they like
        raise UnreadableImageError(f"{path}: {error}") from None
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _in_bytes(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits: Pillow's own conversion cuts off what is above 255."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose white is not known")
    if not image.mode.startswith("I"):
        return image
    pixels = np.asarray(image).astype(np.int64)
    if pixels.min(initial=0) < 0 or pixels.max(initial=0) > 65_535:
        raise ValueError("its pixels have more than 16 bits")
    return Image.fromarray((pixels >> 8).astype(np.uint8))


def _allocate(count: int, channels: int, size: int, memory: float) -> Tensor:
    """Return room for the images, in memory or in a file that is gone with the process."""
    shape = (count, channels, size, size)
    if np.prod(shape, dtype=np.float64) <= memory * 2**30:
        return torch.empty(shape, dtype=torch.uint8)
    with tempfile.TemporaryFile() as file:  # the mapping keeps the unnamed file alive
        return torch.from_numpy(np.memmap(file, dtype=np.uint8, mode="w+", shape=shape))
