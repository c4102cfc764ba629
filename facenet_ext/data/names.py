"""Names of data: the endings of archives, formats, and the name of some data in those of runs."""

from __future__ import annotations

import os
import unicodedata
from typing import Literal

__all__ = ["ARCHIVES", "Format", "data_name"]

ARCHIVES = (".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar", ".zip")
"""The endings of the archives that ``--data`` takes."""

Format = Literal["shards", "rec", "parquet", "folder"]
"""The formats in which a set can be written."""

_LONGEST_NAME = 50
"""Most characters of a data's name: they take up to 200 of the 255 bytes of a file's name."""


def data_name(data: str) -> str:
    """Return the name of some data, for the names of runs, without characters special to shells.

    Args:
        data: what ``--data`` says: "digits", or a path, of which the last part counts.

    Example:
        >>> data_name("faces/lfw.v2.tar.gz"), data_name("my photos/"), data_name("/")
        ('lfw.v2', 'my_photos', 'data')
    """
    path = os.path.abspath(os.path.expanduser(data))  # absolute, as '.' and '..' are no names
    name = unicodedata.normalize("NFC", os.path.basename(path))
    if not os.path.isdir(path):
        for ending in (*ARCHIVES, ".npz"):
            name = name.removesuffix(ending)
    plain = "".join(c if c in "-._" or unicodedata.category(c)[0] in "LMN" else "_" for c in name)
    return plain.strip("-._")[:_LONGEST_NAME] or "data"
