"""Decodes an image, from the bytes of its file."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from facenet_ext.common.errors import InputError
from facenet_ext.common.plain_warnings import reading
from facenet_ext.data.heic import NEEDS_PLUGIN, lacks_plugin
from facenet_ext.data.image_set import Readable
from facenet_ext.data.metadata import without_damage

try:
    import simplejpeg  # type: ignore[import-untyped]
except ImportError:  # Pillow takes its place
    simplejpeg = None

__all__ = ["UnreadableImageError", "decode", "read_image", "read_row"]

_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/"
"""What begins the parts of a JPEG that may say how it is turned."""


class UnreadableImageError(Exception):
    """A file that is no image, or a damaged one; the message names it."""


def read_image(
    path: Path,
    size: int,
    channels: int,
    change: Callable[[Image.Image], Image.Image] | None = None,
) -> Tensor:
    """Read an image file and scale it to a square, cutting the longer side at both ends.

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
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise OSError("not a file")  # a device may have no end
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"{path}: {error}") from None
    return _as_tensor(decode(content, path, size, channels, change))


def read_row(
    images: Readable,
    row: int,
    size: int,
    channels: int,
    change: Callable[[Image.Image], Image.Image] | None = None,
) -> Tensor:
    """Read an image of a set: as :func:`read_image` reads a file."""
    return _as_tensor(decode_row(images, row, size, channels, change))


def decode_row(
    images: Readable,
    row: int,
    size: int,
    channels: int,
    change: Callable[[Image.Image], Image.Image] | None = None,
) -> NDArray[np.uint8]:
    """Read an image of a set: as :func:`decode` decodes a file."""
    name = _Name(images, row)
    try:
        content = images.read(row)
    except InputError as error:
        raise UnreadableImageError(str(error)) from None
    except OSError as error:
        raise UnreadableImageError(f"{name}: {error}") from None
    return decode(content, name, size, channels, change)


class _Name(NamedTuple):
    """What messages call an image of a set; to make it up takes as long as a tenth of decoding."""

    images: Readable
    row: int

    def __str__(self) -> str:
        return str(self.images.root / self.images.name(self.row))


def decode(
    content: bytes,
    name: object,
    size: int,
    channels: int,
    change: Callable[[Image.Image], Image.Image] | None = None,
) -> NDArray[np.uint8]:
    """Decode an image and scale it to a square, cutting the longer side at both ends.

    JPEG is decoded by simplejpeg where that is installed, else by Pillow as all other formats are.
    Both take the same integers from libjpeg-turbo, so the pixels are the same.

    Args:
        content: of the image's file.
        name: what messages call it, as text.
        size: height and width to scale to, pixels.
        channels: 1 for grey, 3 for colour.
        change: what is done to the image before it is scaled.

    Returns:
        [size, size, channels] uint8.

    Raises:
        UnreadableImageError: it cannot be decoded.
    """
    with reading(name):
        try:
            picture = _read(content, None if change else size)
        except Image.DecompressionBombError:
            most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
            raise UnreadableImageError(
                f"{name}: has more than {most:,} pixels; make it smaller"
            ) from None
        except Exception as error:  # errors of many kinds: Pillow does not translate them
            picture = _read_without_damage(content, name, error)
        try:
            mode = "L" if channels == 1 else "RGB"
            if isinstance(picture, np.ndarray):
                shape = (size, size) if channels == 1 else (size, size, channels)
                if picture.shape == shape and change is None:
                    return picture.reshape(size, size, channels)
                picture = Image.fromarray(picture)
            picture = picture.convert(mode)
            if change is not None:
                picture = change(picture)
            square = ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC)
            return np.array(square).reshape(size, size, channels)
        except Exception as error:  # errors of many kinds here too
            raise UnreadableImageError(f"{name}: {error}") from None


def _as_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _read(content: bytes, size: int | None) -> Image.Image | NDArray[np.uint8]:
    """Return an image as a viewer shows it: upright and opaque, grey or RGB of 8 bits.

    Args:
        content: of the file.
        size: a JPEG may be decoded at a smaller scale, if both sides keep this many pixels or more.
    """
    pixels = _read_jpeg(content, size)
    return _read_by_pillow(content, size) if pixels is None else pixels


def _read_jpeg(content: bytes, size: int | None) -> Image.Image | NDArray[np.uint8] | None:
    """Decode a JPEG by simplejpeg; None for what Pillow has to read, or to refuse."""
    if simplejpeg is None or content[:3] != b"\xff\xd8\xff":
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours not in ("Gray", "YCbCr", "RGB") or _is_bomb(width, height):
            return None
        # As Pillow does: see `draft`.
        scale = 1 if size is None else min(width // size, height // size)
        scale = next(s for s in (8, 4, 2, 1) if s <= max(1, scale))
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            content,
            "GRAY" if colours == "Gray" else "RGB",
            min_height=-(-height // scale),
            min_width=-(-width // scale),
        )
    except ValueError:  # it is damaged; Pillow may be content with it
        return None
    if colours == "Gray":
        pixels = pixels[..., 0]
    if _EXIF not in content and _XMP not in content:
        return pixels
    with Image.open(io.BytesIO(content)) as file:  # reads no pixels
        turn = _turn(file)
    return pixels if turn is None else Image.fromarray(pixels).transpose(turn)


def _is_bomb(width: int, height: int) -> bool:
    return Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS


def _read_by_pillow(content: bytes, size: int | None) -> Image.Image:
    try:
        file = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        raise ValueError("cannot identify image file") from None
    with file:
        if size is not None:
            file.draft(None, (size, size))
        if file.format == "TIFF":  # load() turns a TIFF by itself, but reads all other tags too
            _turn(file, alone=True)
        file.load()
        turn = _turn(file)
        image = _opaque(_in_bytes(file if turn is None else file.transpose(turn)))
        # Pillow converts RGB to all other modes, but LAB, for example, not to grey.
        return image.copy() if image.mode == "L" else image.convert("RGB")


def _read_without_damage(content: bytes, name: object, error: Exception) -> Image.Image:
    """Read an image that Pillow refused with ``error``, without its damaged metadata."""
    try:
        repaired = without_damage(content)
        if repaired is not None:
            return _read_by_pillow(repaired, None)
    except Exception:  # again: so the pixels are damaged, and the first error stands
        pass
    why = NEEDS_PLUGIN if lacks_plugin(content) else error
    raise UnreadableImageError(f"{name}: {why}") from None


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
