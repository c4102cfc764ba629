"""HEIC, the format of many phones' photos, which Pillow reads with a plugin."""

from __future__ import annotations

import contextlib
from importlib import import_module

from PIL import Image

__all__ = ["NEEDS_PLUGIN", "lacks_plugin"]

NEEDS_PLUGIN = "Pillow reads HEIC with a plugin: pip install pillow-heif"
_MARKS = (b"ftypheic", b"ftypheix", b"ftypmif1")

with contextlib.suppress(ImportError):  # with the plugin installed, Pillow opens HEIC from here on
    import_module("pillow_heif").register_heif_opener()


def lacks_plugin(content: bytes) -> bool:
    """Return whether a file is HEIC, whatever its name, and Pillow has no plugin for it."""
    return content[4:12] in _MARKS and "HEIF" not in Image.OPEN
