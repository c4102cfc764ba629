"""What data is called: the endings of archives, and the name that a run on some data bears."""

from __future__ import annotations

import os
import unicodedata

__all__ = ["ARCHIVES", "data_name"]

ARCHIVES = (".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar", ".zip")
"""The endings of the archives that ``--data`` takes."""

_LONGEST_NAME = 50
"""Characters of the data's name in a run's: 200 bytes at most, of the 255 of a file system."""


def data_name(data: str) -> str:
    """Return the name of some data, which runs on it bear, without what shells mind.

    Args:
        data: what ``--data`` says: "digits", or a path, of which the last part counts.

    Example:
        >>> data_name("faces/lfw.v2.tar.gz"), data_name("my photos/"), data_name("/")
        ('lfw.v2', 'my_photos', 'data')
    """
    path = os.path.abspath(os.path.expanduser(data))  # resolved, '.' and '..' have names
    name = unicodedata.normalize("NFC", os.path.basename(path))
    if not os.path.isdir(path):
        for ending in (*ARCHIVES, ".npz"):
            name = name.removesuffix(ending)
    plain = "".join(c if c in "-._" or unicodedata.category(c)[0] in "LMN" else "_" for c in name)
    return plain.strip("-._")[:_LONGEST_NAME] or "data"
