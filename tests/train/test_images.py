"""Claims about reading images: as a viewer shows them, whatever lies beside the pixels."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_runs import Command
from PIL import Image, ImageOps
from rich.console import Console
from torch import Tensor

from facenet_ext.common.errors import InputError
from facenet_ext.common.plain_warnings import reading, tell_warnings
from facenet_ext.common.text import counted
from facenet_ext.data.decoding import Geometry
from facenet_ext.data.image_list import ImageList
from facenet_ext.data.images import UnreadableImageError, read_image
from facenet_ext.data.listed import ListedImages
from facenet_ext.data.placement import Room, place

RNG = np.random.default_rng(0)
PICTURE = Image.fromarray(RNG.integers(0, 256, (6, 4, 3), np.uint8)).resize((32, 48))
SIZE = 24

# EXIF and TIFF tags: number, type, count, value.
Tag = tuple[int, int, int, bytes]
SHORT, LONG, ASCII, RATIONAL = 3, 4, 2, 5
ORIENTATION, RESOLUTION, UNIT, MAKE = 0x112, 0x11A, 0x128, 0x10F


def exif(*tags: Tag) -> bytes:
    """Return a block of EXIF tags, in the order of their numbers."""
    head = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(tags))
    end = 8 + 2 + 12 * len(tags) + 4
    data = b""
    for number, kind, count, value in sorted(tags):
        head += struct.pack("<HHL", number, kind, count)
        head += struct.pack("<L", end + len(data)) if len(value) > 4 else value.ljust(4, b"\0")
        data += value if len(value) > 4 else b""
    return head + b"\0\0\0\0" + data


def orientation(value: int) -> Tag:
    return (ORIENTATION, SHORT, 1, struct.pack("<H", value))


def saved(path: Path, image: Image.Image = PICTURE, **more: Any) -> Path:
    image.save(path, **more)
    return path


def pixels(path: Path, channels: int = 3) -> Tensor:
    return read_image(path, SIZE, channels)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
def test_an_image_is_turned_upright(tmp_path: Path, ending: str) -> None:
    for value in range(11):
        path = saved(tmp_path / f"{value}.{ending}", exif=exif(orientation(value)))
        with Image.open(path) as file:
            upright = ImageOps.exif_transpose(file).convert("RGB")
        expected = read_image(saved(tmp_path / "upright.png", upright), SIZE, 3)
        # A JPEG is decoded at half its size where that is enough.
        assert (pixels(path).int() - expected.int()).abs().max() <= (40 if ending == "jpg" else 0)


ODD: dict[str, tuple[Tag, ...]] = {
    "out of range": ((UNIT, LONG, 2, b"\xff" * 8),),
    "of another type": ((RESOLUTION, ASCII, 3, b"72\0"),),
    "a number for a name": ((MAKE, RATIONAL, 1, b"\xff" * 8),),
    "nothing by nothing": ((RESOLUTION, RATIONAL, 1, bytes(8)),),
    "a pointer to nowhere": ((0x8769, LONG, 1, b"\xff\xff\xff\x7f"), (0x8825, 9, 1, b"\xff" * 4)),
    "two of one": ((UNIT, SHORT, 2, b"\2\0\2\0"), (UNIT, SHORT, 1, b"\3\0")),
}


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
def test_an_odd_tag_beside_the_orientation_changes_nothing(tmp_path: Path, ending: str) -> None:
    clean = pixels(saved(tmp_path / f"clean.{ending}", exif=exif(orientation(6))))
    for name, tags in ODD.items():
        block = exif(orientation(6), *tags)
        path = tmp_path / f"odd.{ending}"
        if ending == "tif":  # saved with the same tags, or not at all: they are put in afterwards
            path = _tiff_with(path, orientation(6), *tags)
        else:
            saved(path, exif=block)
        assert torch.equal(pixels(path), clean), name


def _tiff_with(path: Path, *tags: Tag) -> Path:
    """Write a TIFF and then other tags beside its own."""
    content = bytearray(saved(path).read_bytes())
    (start,) = struct.unpack_from("<L", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    own = [content[start + 2 + 12 * at :][:12] for at in range(count)]
    added = []
    for number, kind, values, value in tags:
        place = struct.pack("<L", len(content)) if len(value) > 4 else value.ljust(4, b"\0")
        content += value if len(value) > 4 else b""
        added.append(bytearray(struct.pack("<HHL", number, kind, values) + place))
    entries = sorted(own + added, key=lambda entry: struct.unpack_from("<H", entry)[0])
    content[4:8] = struct.pack("<L", len(content))
    content += struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "block",
    [
        exif(orientation(6))[:-7],
        exif(orientation(6))[:11],
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0nothing of the kind",
        exif((ORIENTATION, ASCII, 2, b"6\0")),
        exif((ORIENTATION, RATIONAL, 1, bytes(8))),
        exif((ORIENTATION, SHORT, 0, b"")),
        exif((ORIENTATION, 99, 1, b"\6\0")),
    ],
)
def test_where_the_orientation_is_damaged_an_image_is_not_turned(
    tmp_path: Path, block: bytes
) -> None:
    for ending in ("jpg", "png", "webp"):
        expected = pixels(saved(tmp_path / f"plain.{ending}"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = pixels(saved(tmp_path / f"damaged.{ending}", exif=block))
        assert torch.equal(found, expected), ending


def _png_with(path: Path, kind: bytes, content: bytes, damaged: bool = False) -> Path:
    whole = saved(path).read_bytes()
    chunk = kind + content
    checksum = zlib.crc32(chunk) ^ damaged
    parts = (whole[:33], struct.pack(">L", len(content)), chunk, struct.pack(">L", checksum))
    path.write_bytes(b"".join(parts) + whole[33:])
    return path


def test_damaged_metadata_leaves_good_pixels_readable(tmp_path: Path) -> None:
    path = tmp_path / "damaged.png"
    expected = pixels(saved(tmp_path / "good.png"))
    turned = pixels(saved(tmp_path / "turned.png", exif=exif(orientation(6))))
    for kind, content in ((b"zTXt", b"a\0\7bbb"), (b"iCCP", b"a\0\7bbb"), (b"tEXt", b"a\0b")):
        assert torch.equal(pixels(_png_with(path, kind, content, kind == b"tEXt")), expected)
    both = _png_with(path, b"zTXt", b"a\0\7bbb").read_bytes()
    block = exif(orientation(6))[6:]
    assert torch.equal(pixels(_png_with(path, b"eXIf", block, damaged=True)), expected)
    chunk = b"eXIf" + block
    both = both[:33] + struct.pack(">L", len(block)) + chunk + _crc(chunk) + both[33:]
    path.write_bytes(both)
    assert torch.equal(pixels(path), turned), "what is whole of it counts"
    for offset in (b"\xff" * 4, struct.pack("<L", 10**6)):
        far_away = (MAKE, ASCII, 10**5, offset)
        assert torch.equal(pixels(_tiff_with(tmp_path / "damaged.tif", far_away)), expected)
    truncated = (tmp_path / "good.png").read_bytes()[:-300]
    path.write_bytes(truncated)
    with pytest.raises(UnreadableImageError, match=r"damaged\.png: .*truncated"):
        pixels(path)


def _crc(chunk: bytes) -> bytes:
    return struct.pack(">L", zlib.crc32(chunk))


def _see_through() -> tuple[Image.Image, Image.Image]:
    """Return two images that look the same, with other colours where they are transparent."""
    first = RNG.integers(0, 256, (SIZE, SIZE, 4), np.uint8)
    first[..., 3] = np.where(np.arange(SIZE) < SIZE // 2, 255, 0)
    second = first.copy()
    second[:, SIZE // 2 :, :3] = RNG.integers(0, 256, (SIZE, SIZE // 2, 3))
    return Image.fromarray(first), Image.fromarray(second)


def test_hidden_colours_are_not_seen(tmp_path: Path) -> None:
    images = _see_through()
    shown = np.array(images[0])[..., :3]
    shown[:, SIZE // 2 :] = 255
    for mode, ending, more in (
        ("RGBA", "png", {}),
        ("RGBA", "tif", {}),
        ("RGBA", "webp", {"lossless": True, "exact": True}),
        ("LA", "png", {}),
    ):
        white = Image.fromarray(shown).convert("L" if mode == "LA" else "RGB")
        white_path = saved(tmp_path / "white.png", white)
        for image in images:
            path = saved(tmp_path / f"image.{ending}", image.convert(mode), **more)
            for channels in (1, 3):
                assert torch.equal(pixels(path, channels), pixels(white_path, channels)), mode


def _first_pixel(path: Path) -> int:
    return int(read_image(path, SIZE, 1)[0, 0, 0])


def test_a_transparent_colour_is_white(tmp_path: Path) -> None:
    """Of palettes, of grey of 1, 8 and 16 bits, and of RGB."""
    grey = Image.new("L", (SIZE, SIZE), 90)
    deep = Image.fromarray(np.full((SIZE, SIZE), 90 * 257, np.uint16))
    palette = Image.new("RGB", (SIZE, SIZE), (90, 90, 90)).quantize(2)
    index = int(np.array(palette)[0, 0])
    for number, (image, transparent) in enumerate(
        (
            (grey, 90),
            (deep, 90 * 257),
            (grey.convert("1", dither=Image.Dither.NONE), 0),
            (grey.convert("RGB"), (90, 90, 90)),
            (palette, index),
            (palette, bytes([0] * (index + 1))),
        )
    ):
        path = tmp_path / f"{number}.png"
        assert _first_pixel(saved(path, image)) in (90, 0)
        assert _first_pixel(saved(path, image, transparency=transparent)) == 255, number
    half = palette.copy()
    saved(tmp_path / "half.png", half, transparency=bytes([128] * (index + 1)))
    assert _first_pixel(tmp_path / "half.png") == pytest.approx((90 * 128 + 255 * 127) / 255, abs=1)


@pytest.mark.parametrize("wide", [True, False])
def test_the_longer_side_is_cut_at_both_ends(tmp_path: Path, wide: bool) -> None:
    """As README and docs/use.md say of photos that are not square."""
    pixels = np.zeros((SIZE, 2 * SIZE), np.uint8)
    pixels[:, SIZE // 2 : 3 * SIZE // 2] = RNG.integers(1, 256, (SIZE, SIZE))
    middle = pixels[:, SIZE // 2 : 3 * SIZE // 2]
    path = tmp_path / "photo.png"
    Image.fromarray(pixels if wide else pixels.T).save(path)
    expected = torch.from_numpy(middle if wide else middle.T.copy())
    torch.testing.assert_close(read_image(path, SIZE, 1)[0], expected, rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["LAB", "CMYK", "YCbCr"])
def test_other_colour_spaces_are_read_in_colour_and_in_grey(tmp_path: Path, mode: str) -> None:
    smooth = Image.new("RGB", (SIZE, SIZE), (180, 120, 60))
    path = saved(tmp_path / "image.tif", smooth.convert(mode))
    with Image.open(path) as file:
        assert file.mode == mode
    expected = saved(tmp_path / "image.png", smooth)
    for channels in (3, 1):
        difference = pixels(path, channels).int() - pixels(expected, channels).int()
        assert difference.abs().max() <= 3


def _bomb(monkeypatch: pytest.MonkeyPatch, path: Path, share: float) -> Path:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(PICTURE.width * PICTURE.height * share))
    return saved(path)


def test_an_image_of_too_many_pixels_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _bomb(monkeypatch, tmp_path / "huge.png", 0.25)
    with pytest.raises(UnreadableImageError, match=r"huge\.png: has more than 768 pixels; make it"):
        pixels(path)


def test_warnings_name_the_file_and_not_the_code(
    command: Command, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = saved(tmp_path / "damaged [1].jpg", exif=exif(orientation(6))[:-7])
    large = _bomb(monkeypatch, tmp_path / "large.png", 0.75)
    status, out, err = command(
        *("verify", damaged, large, "--checkpoint", world / "old", "--threshold", 9)
    )
    assert status == 0
    assert "the same person" in out
    lines = [line for line in err.splitlines() if ".jpg: " in line or ".png: " in line]
    assert len(lines) == 2
    assert lines[0].startswith(f"warning: {damaged}: ")
    assert "EXIF" in lines[0]
    assert lines[1].startswith(f"warning: {large}: Image size (1536 pixels) exceeds limit")
    assert "site-packages" not in err


def test_each_file_is_warned_of_once_and_many_are_counted() -> None:
    told: list[str] = []
    registry: dict[str, int] = {}  # of what was warned of: by default nothing is repeated
    with tell_warnings(told.append):
        for _ in range(3):
            for number in range(8):
                with reading(Path(f"{number}.jpg")):
                    warnings.warn_explicit(
                        "Corrupt\nEXIF data", UserWarning, "x.py", 1, "PIL.x", registry
                    )
            warnings.warn("of no file", stacklevel=1)
    assert told == [
        "warning: of no file",
        *(f"warning: {number}.jpg: Corrupt EXIF data" for number in range(5)),
        "warning: and 3 more files, with such messages",
    ]


Decoded = Callable[[int, int], tuple[int, str]]


@pytest.fixture
def decoded(tmp_path: Path) -> Decoded:
    """Decode so many images, of which so many are damaged: how many are kept, and what is said."""

    def run(count: int, damaged: int) -> tuple[int, str]:
        good, bad = saved(tmp_path / "good.png"), tmp_path / "bad.png"
        bad.write_bytes(b"no image")
        names = [bad.name] * damaged + [good.name] * (count - damaged)
        images = ListedImages(ImageList(tmp_path, names, ["Ann"] * count))
        said = io.StringIO()
        console = Console(file=said, width=10_000)
        (placed,) = place([images], Geometry(4, 1), Room(memory=1.0), console)
        assert placed.rows.tolist() == list(range(damaged, count))
        return len(placed.values), said.getvalue()

    return run


@pytest.mark.parametrize(("count", "damaged"), [(3, 1), (20, 9), (80, 10), (1100, 11)])
def test_few_damaged_images_are_left_out(decoded: Decoded, count: int, damaged: int) -> None:
    kept, said = decoded(count, damaged)
    assert kept == count - damaged
    assert said.count("skipped, cannot be read: ") == min(damaged, 10)
    assert f"skipped {damaged} of {count:,} images that cannot be read" in said


@pytest.mark.parametrize(
    ("count", "damaged", "most"), [(1, 1, 0), (4, 2, 1), (21, 11, 10), (80, 11, 10), (1100, 12, 11)]
)
def test_too_many_damaged_images_are_all_named(
    decoded: Decoded, count: int, damaged: int, most: int
) -> None:
    told = f"{damaged} of {counted(count, 'image')} cannot be read, more than the {most} that"
    with pytest.raises(InputError, match=told) as caught:
        decoded(count, damaged)
    assert str(caught.value).count("bad.png: cannot identify image file") == min(damaged, 10)
    assert ("; and 2 more" in str(caught.value)) == (damaged == 12)
