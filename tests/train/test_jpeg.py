"""Claims about decoding by simplejpeg: the pixels are Pillow's, picture by picture."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from facenet_ext.data import images
from facenet_ext.data.images import UnreadableImageError, decode

pytest.importorskip("simplejpeg")

RNG = np.random.default_rng(0)
BOUND = 0
"""Largest difference of a pixel: both decoders are libjpeg-turbo, with the same options."""

SIZES = [(112, 112), (96, 96), (250, 250), (113, 77), (61, 200), (24, 24), (9, 8), (640, 481)]


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Something smooth with some noise on it, as photos have."""
    coarse = RNG.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(smooth) + RNG.normal(0, 5, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert(mode)


def jpeg(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def orientation(value: int) -> bytes:
    block = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHLHH", 1, 0x112, 3, 1, value, 0)
    return block + bytes(4)


def xmp(value: int) -> bytes:
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="r"><rdf:Description '
        b'tiff:Orientation="%d"/></rdf:RDF></x:xmpmeta>' % value
    )


def pictures() -> Iterator[tuple[str, bytes]]:
    for width, height in SIZES:
        for mode in ("RGB", "L", "CMYK"):
            image = picture(width, height, mode)
            name = f"{width}x{height} {mode}"
            yield name, jpeg(image, quality=90)
            yield f"{name} progressive", jpeg(image, quality=60, progressive=True)
    image = picture(112, 96)
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        for quality in (5, 50, 100):
            content = jpeg(image, quality=quality, subsampling=subsampling)
            yield f"{subsampling} at {quality}", content
    yield "RGB without a transform", jpeg(image, quality=80, keep_rgb=True)
    yield "restart markers", jpeg(image, restart_marker_blocks=2)
    yield "a comment", jpeg(image, comment=b"Exif\0\0 http://ns.adobe.com/xap/1.0/")
    yield "a profile", jpeg(image, icc_profile=bytes(70_000))
    yield "bytes behind the end", jpeg(image) + bytes(100)
    yield "saturated", jpeg(Image.merge("RGB", [*picture(96, 96, "RGB").point(_hard).split()]))
    for value in range(1, 9):
        yield f"turned by {value}", jpeg(image, exif=orientation(value))
        yield f"turned by {value} in XMP", jpeg(image, xmp=xmp(value))
    yield "damaged EXIF", jpeg(image, exif=orientation(6)[:-7])
    for ending, mode in (("PNG", "RGBA"), ("PNG", "I;16"), ("PNG", "P"), ("WEBP", "RGB")):
        file = io.BytesIO()
        other = image.convert("L").convert("I;16") if mode == "I;16" else image.convert(mode)
        other.save(file, ending)
        yield f"{ending} {mode}", file.getvalue()


def _hard(value: int) -> int:
    return 255 if value > 127 else 0


PICTURES = dict(pictures())


def pixels(content: bytes, size: int, channels: int, *, by_pillow: bool) -> NDArray[Any]:
    with pytest.MonkeyPatch.context() as patch:
        if by_pillow:
            patch.setattr(images, "simplejpeg", None)
        return decode(content, "picture", size, channels).astype(int)


@pytest.mark.parametrize("name", PICTURES)
def test_the_pixels_are_those_of_pillow(name: str) -> None:
    for channels in (1, 3):
        for size in (8, 24, 96, 112):
            ours, pillow = (
                pixels(PICTURES[name], size, channels, by_pillow=by_pillow)
                for by_pillow in (False, True)
            )
            assert ours.shape == (size, size, channels)
            assert np.abs(ours - pillow).max() <= BOUND, (channels, size)


def test_a_jpeg_is_decoded_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """So what the other tests compare are two decoders."""

    def fail(*_: Any) -> None:
        pytest.fail("decoded by Pillow")

    monkeypatch.setattr(images, "_read_by_pillow", fail)
    for name in ("112x112 RGB", "112x112 L", "turned by 6", "turned by 6 in XMP"):
        decode(PICTURES[name], name, 112, 3)


def test_a_worsened_image_is_not_scaled_before(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for by_pillow in (False, True):
        if by_pillow:
            monkeypatch.setattr(images, "simplejpeg", None)

        def blur(image: Image.Image) -> Image.Image:
            seen.append(image.size)
            return image.filter(ImageFilter.BoxBlur(2))

        seen.append(decode(PICTURES["250x250 RGB"], "picture", 24, 3, blur).tobytes())
    assert seen[:2] == seen[2:]
    assert seen[0] == (250, 250)


def outcome(content: bytes, *, by_pillow: bool) -> bytes | str:
    try:
        return pixels(content, 24, 3, by_pillow=by_pillow).astype(np.uint8).tobytes()
    except UnreadableImageError as error:
        return str(error)


def test_damaged_files_are_judged_by_pillow() -> None:
    """A cut or changed file gives Pillow's pixels or Pillow's error, but for damaged headers."""
    content = PICTURES["96x96 RGB"]
    start = content.index(b"\xff\xda")
    judged = []
    for cut in range(0, len(content), 97):
        judged.append([outcome(content[:cut], by_pillow=by_pillow) for by_pillow in (True, False)])
    for at in RNG.integers(start, len(content), 200):
        changed = bytearray(content)
        changed[at] ^= 1 << int(RNG.integers(8))
        judged.append([outcome(bytes(changed), by_pillow=by_pillow) for by_pillow in (True, False)])
    assert any(isinstance(expected, str) for expected, _ in judged)
    for expected, got in judged:
        assert got == expected


def test_a_damaged_header_is_an_image_or_an_error_in_a_line() -> None:
    content = PICTURES["96x96 RGB"]
    start = content.index(b"\xff\xda") + 14
    for at in RNG.integers(0, start, 400):
        changed = bytearray(content)
        changed[at] = int(RNG.integers(256))
        got = outcome(bytes(changed), by_pillow=False)
        assert isinstance(got, bytes) or (got.startswith("picture: ") and "\n" not in got)
