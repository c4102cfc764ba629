"""Decodes images once, into one uint8 tensor from which batches are cut."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from rich.console import Console
from rich.progress import track
from torch import Tensor

from facenet_ext.common.errors import InputError
from facenet_ext.common.plain_warnings import reading, tell_warnings
from facenet_ext.common.text import counted, printable
from facenet_ext.data.heic import NEEDS_PLUGIN, lacks_plugin
from facenet_ext.data.metadata import without_damage

__all__ = ["UnreadableImageError", "decode", "read_image"]

_NAMED = 10
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
        InputError: more than ten images are unreadable and more than one percent of them, or half
            of them are; the message names the first ten.
    """
    images = _allocate(len(paths), channels, size, memory)

    def read(position: int) -> str | None:
        try:
            images[position] = read_image(paths[position], size, channels)
        except UnreadableImageError as error:
            return str(error)
        return None

    def tell(line: str) -> None:
        console.print(line, soft_wrap=True, markup=False, highlight=False)

    with (
        tell_warnings(tell),
        ThreadPoolExecutor(os.cpu_count()) as pool,  # Pillow decodes outside Python's lock
    ):
        progress = track(
            pool.map(read, range(len(paths))),
            "decoding images",
            total=len(paths),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        errors = dict(enumerate(progress))
    unreadable = {position: error for position, error in errors.items() if error is not None}
    if not unreadable:
        return images, list(range(len(paths)))
    named = [printable(error) for error in list(unreadable.values())[:_NAMED]]
    most = _most_unreadable(len(paths))
    if len(unreadable) > most:
        more = len(unreadable) - len(named)
        raise InputError(
            f"{len(unreadable):,} of {counted(len(paths), 'image')} cannot be read, more than the "
            f"{most} that may be left out; repair or remove them: {'; '.join(named)}"
            + (f"; and {more} more" if more else "")
        )
    for error in named:
        tell(f"skipped, cannot be read: {error}")
    tell(f"skipped {len(unreadable):,} of {counted(len(paths), 'image')} that cannot be read")
    kept = [position for position in range(len(paths)) if position not in unreadable]
    return images[kept], kept


def _most_unreadable(count: int) -> int:
    """Return how many of ``count`` images may be left out: ten or one percent, but not half."""
    return min(max(10, count // 100), (count - 1) // 2)


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
    with reading(path):
        try:
            picture = _read(path, None if change else size)
        except Image.DecompressionBombError:
            most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
            raise UnreadableImageError(
                f"{path}: has more than {most:,} pixels; make it smaller"
            ) from None
        except Exception as error:  # errors of many kinds: Pillow does not translate them
            picture = _read_without_damage(path, error)
        try:
            picture = picture.convert("L" if channels == 1 else "RGB")
            if change is not None:
                picture = change(picture)
            square = ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC)
            pixels = np.array(square).reshape(size, size, channels)
        except Exception as error:  # errors of many kinds here too
            raise UnreadableImageError(f"{path}: {error}") from None
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _read(source: Path | io.BytesIO, size: int | None) -> Image.Image:
    """Return an image as a viewer shows it: upright and opaque, grey or RGB of 8 bits.

    Args:
        source: the file, or its content.
        size: a JPEG may be decoded at a smaller scale, if both sides keep this many pixels or more.
    """
    with Image.open(source) as file:
        if size is not None:
            file.draft(None, (size, size))
        if file.format == "TIFF":  # load() turns a TIFF by itself, but reads all other tags too
            _turn(file, alone=True)
        file.load()
        turn = _turn(file)
        image = _opaque(_in_bytes(file if turn is None else file.transpose(turn)))
        # Pillow converts RGB to all other modes, but LAB, for example, not to grey.
        return image.copy() if image.mode == "L" else image.convert("RGB")


def _read_without_damage(path: Path, error: Exception) -> Image.Image:
    """Read an image that Pillow refused with ``error``, without its damaged metadata."""
    try:
        content = without_damage(path)
        if content is not None:
            return _read(io.BytesIO(content), None)
    except Exception:  # again: so the pixels are damaged, and the first error stands
        pass
    raise UnreadableImageError(f"{path}: {NEEDS_PLUGIN if lacks_plugin(path) else error}") from None


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image upright, by the value of its EXIF tag for the orientation."""


def _turn(file: Image.Image, alone: bool = False) -> Image.Transpose | None:
    """Return what makes an image upright, by its EXIF tag; None where it is, or nothing is known.

    No other tag counts, however damaged it is.

    Args:
        file: an image.
        alone: forget all other tags.
    """
    try:
        exif = file.getexif()
        if alone:
            for tag in set(exif) - {ExifTags.Base.Orientation}:
                del exif[tag]
        return _TURNS.get(exif.get(ExifTags.Base.Orientation, 1))
    except Exception:  # errors of many kinds: the metadata may hold anything
        return None


def _opaque(image: Image.Image) -> Image.Image:
    """Lay an image on white where it is transparent: the colours hidden there are arbitrary."""
    if not image.has_transparency_data:
        return image
    picture = image.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture)


def _in_bytes(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits: Pillow's own conversion cuts off what is above 255."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, whose white is not known")
    if not image.mode.startswith("I"):
        return image
    pixels = np.asarray(image).astype(np.int64)
    if pixels.min(initial=0) < 0 or pixels.max(initial=0) > 65_535:
        raise ValueError("its pixels have more than 16 bits")
    grey = (pixels >> 8).astype(np.uint8)
    grey[pixels == image.info.get("transparency")] = 255
    return Image.fromarray(grey)


def _allocate(count: int, channels: int, size: int, memory: float) -> Tensor:
    """Return room for the images, in memory or in a file that is gone with the process."""
    shape = (count, channels, size, size)
    if np.prod(shape, dtype=np.float64) <= memory * 2**30:
        return torch.empty(shape, dtype=torch.uint8)
    with tempfile.TemporaryFile() as file:  # the mapping keeps the unnamed file alive
        return torch.from_numpy(np.memmap(file, dtype=np.uint8, mode="w+", shape=shape))
