"""Unpacks archives into the cache, within bounds."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from facenet_ext.common.errors import InputError
from facenet_ext.common.text import printable
from facenet_ext.data.names import ARCHIVES, data_name

__all__ = ["cache_folder", "in_cache", "unpacked"]

_MOST_TIMES = 50
_FREE = 2**30
"""An archive of images hardly shrinks: beyond a GiB, what unpacks to 50 times its size is none."""


def cache_folder() -> Path:
    """Return the folder for what can be made again: ``$XDG_CACHE_HOME/facenet_ext``."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "facenet_ext"


def in_cache(kind: str, about: str) -> Path:
    """Return the path in the cache of what was made of something.

    Args:
        kind: the folder of the cache.
        about: what it was made of and how. Its hash is the path's name.
    """
    name = hashlib.sha256(about.encode("utf-8", "surrogateescape")).hexdigest()[:24]
    return cache_folder() / kind / name


def unpacked(archive: Path) -> Path:
    """Return the folder of an unpacked archive; unpack it unless that was done before.

    Raises:
        InputError: it is no archive, or a damaged or unsafe one.
    """
    if not archive.name.endswith(ARCHIVES):
        raise InputError(f"`data` {archive}: not a folder nor an archive ({', '.join(ARCHIVES)})")
    status = archive.stat()
    version = f"{archive.resolve()} {status.st_size} {status.st_mtime_ns}"
    stem = data_name(str(archive))
    target = cache_folder() / f"{stem}-{hashlib.sha256(version.encode()).hexdigest()[:16]}"
    if not target.is_dir():
        extract = _extract_zip if archive.suffix == ".zip" else _extract_tar
        _extract_whole(extract, archive, target)
    inside = [entry for entry in target.iterdir() if not entry.name.startswith(".")]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else target


def _extract_whole(extract: Callable[[Path, Path], None], archive: Path, target: Path) -> None:
    """Extract beside the target and rename, so that the target is never half extracted."""
    unfinished = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=target.parent, prefix=".unpacking-"))
        extract(archive, unfinished)
        unfinished.rename(target)
    except Exception as error:  # each format has errors of its own: damaged, encrypted, unsafe
        raise InputError(f"`data` {archive}: cannot be unpacked ({error})") from None
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)


class _Bound:
    """Counts what an archive unpacks to, and refuses more than an archive of images has.

    Args:
        archive: its file.
        target: the folder that it is unpacked to.
    """

    def __init__(self, archive: Path, target: Path) -> None:
        self.most = max(_FREE, _MOST_TIMES * archive.stat().st_size)
        self.room = shutil.disk_usage(target).free
        self.total = 0

    def add(self, name: str, size: int) -> None:
        """Count a member.

        Raises:
            ValueError: it is too much.
        """
        self.total += size
        if self.total > self.most:
            raise ValueError(
                f"with {printable(name)} it has {self.total:,} bytes, far more than its file could "
                "hold of images"
            )
        if self.total > self.room:
            raise ValueError(f"it needs more than the {self.room:,} bytes that the disk has free")


def _extract_tar(archive: Path, target: Path) -> None:
    bound = _Bound(archive, target)

    def checked(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
        bound.add(member.name, member.size)
        return tarfile.data_filter(member, folder)  # refuses what leads outside

    with tarfile.open(archive) as file:
        file.extractall(target, filter=checked)


def _extract_zip(archive: Path, target: Path) -> None:
    bound = _Bound(archive, target)
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():  # no more is unpacked of each than it says here
            bound.add(member.filename, member.file_size)
        file.extractall(target)  # drops drive letters and '..' from the names
