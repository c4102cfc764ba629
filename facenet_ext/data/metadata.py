"""Takes damaged metadata out of an image whose pixels are whole."""

from __future__ import annotations

import struct
import zlib

__all__ = ["without_damage"]

_PNG = b"\x89PNG\r\n\x1a\n"
_SHOWN = (b"tRNS", b"eXIf")
"""Chunks of a PNG that change how it looks and can be left out: transparency, orientation."""

_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
"""Bytes of a value, by its type."""

_MOST = 2**30


def without_damage(content: bytes) -> bytes | None:
    """Return an image file's content without the metadata that may keep it from being read.

    Pillow refuses a PNG for one chunk of text that is damaged, and a TIFF for one tag whose value
    lies behind the file's end. (In other formats it tolerates what is wrong beside the pixels.)

    Args:
        content: of the file.

    Returns:
        The rest, or None where the file is of another format, or of a GiB or more.
    """
    if len(content) >= _MOST:
        return None
    if content.startswith(_PNG):
        return _bare_png(content)
    if content[:4] in (b"II*\0", b"MM\0*"):
        return _bare_tiff(content)
    return None


def _bare_png(content: bytes) -> bytes:
    """Keep the chunks with the pixels; of the others, those that change the look and are whole."""
    parts = [_PNG]
    at = len(_PNG)
    while at + 12 <= len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        kind = content[at + 4 : at + 8]
        whole = content[end - 4 : end] == zlib.crc32(content[at + 4 : end - 4]).to_bytes(4, "big")
        if kind[:1].isupper() or (kind in _SHOWN and whole):
            parts.append(content[at:end])
        at = end
    return b"".join(parts)


def _bare_tiff(content: bytes) -> bytes:
    """Hide the tags of the first picture whose value lies behind the end of the file.

    They get type 0, which does not exist, so that readers pass over them.
    """
    order = "<" if content[:2] == b"II" else ">"
    patched = bytearray(content)
    try:
        (start,) = struct.unpack_from(f"{order}L", content, 4)
        (count,) = struct.unpack_from(f"{order}H", content, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            _, kind, values, offset = struct.unpack_from(f"{order}HHLL", content, at)
            size = values * _TIFF_SIZES.get(kind, 0)
            if size > 4 and offset + size > len(content):
                patched[at + 2 : at + 4] = bytes(2)
    except struct.error:  # the file ends inside the list of tags
        pass
    return bytes(patched)
