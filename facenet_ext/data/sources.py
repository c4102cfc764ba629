"""Finds the folders of images that ``--data`` means, and unpacks archives."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from facenet_ext.common.errors import InputError
from facenet_ext.data.names import ARCHIVES, data_name

__all__ = ["Source", "cache_folder", "find"]


@dataclasses.dataclass(frozen=True)
class Source:
    """The folders that a ``--data`` argument stands for.

    Attributes:
        train: holds a folder per identity.
        val: the same, of identities to verify on; None where they must be split off ``train``.
        pairs: pairs over ``val``, or None for all pairs.
    """

    train: Path
    val: Path | None
    pairs: Path | None


def find(data: str) -> Source:
    """Find the folders behind a ``--data`` argument, unpacking an archive into the cache.

    Args:
        data: a folder ``<identity>/<image>``; or one with such folders ``train/`` and ``val/`` and
            perhaps ``pairs.txt``; or an archive of either.

    Returns:
        A :class:`Source`.

    Raises:
        InputError: there is no such folder or archive, or the archive is damaged or unsafe.
    """
    root = Path(data).expanduser()
    if root.is_file():
        root = _unpacked(root)
    if not root.is_dir():
        raise InputError(
            f"`data` {data}: no such folder or archive; give 'digits', a folder "
            f"root/<identity>/<image>, or an archive of one ({', '.join(ARCHIVES)})"
        )
    if (root / "train").is_dir() and (root / "val").is_dir():
        pairs = root / "pairs.txt"
        return Source(root / "train", root / "val", pairs if pairs.is_file() else None)
    return Source(root, None, None)


def _unpacked(archive: Path) -> Path:
    """Return the folder of an unpacked archive; unpack it unless that was done before."""
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


def _extract_tar(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as file:
        file.extractall(target, filter="data")  # refuses paths and links that lead outside


def _extract_zip(archive: Path, target: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        file.extractall(target)  # drops drive letters and '..' from the names


def cache_folder() -> Path:
    """Return the folder for what can be made again: ``$XDG_CACHE_HOME/facenet_ext``."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "facenet_ext"
