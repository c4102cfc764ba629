"""The images under a folder, as a list that names their files and whose they are."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections import Counter
from pathlib import Path

from facenet_ext.common.errors import InputError
from facenet_ext.data.listing import entries_of, is_folder, is_image, told

__all__ = ["ImageList", "list_tree"]


@dataclasses.dataclass(frozen=True)
class ImageList:
    """Images to embed.

    Attributes:
        root: the folder that they are under.
        ids: a name for each: the path of its file under the root.
        identities: whose each is; "" where that is not known.
        passed_over: counts what lies beside them and is not read, by kind.
    """

    root: Path
    ids: list[str]
    identities: list[str]
    passed_over: Counter[str] = dataclasses.field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.ids)

    def path(self, row: int) -> Path:
        """Return the path of an image."""
        return self.root / self.ids[row]

    @functools.cached_property
    def fingerprint(self) -> str:
        """A name for the list and for the files, as they were when this was first asked for."""
        hashed = hashlib.sha256()
        for name in self.ids:
            status = os.stat(self.root / name)
            line = f"{name}\n{status.st_size} {status.st_mtime_ns}\n"
            hashed.update(line.encode("utf-8", "surrogateescape"))
        return hashed.hexdigest()


def list_tree(root: Path, leave_out: Path | None = None) -> ImageList:
    """List the images under a folder, however deep, in order of their paths; or an image itself.

    Links to folders are followed, but not to one that they lie in. A folder may be left out.
    The identity of an image is the name of the folder it lies in, if that is not ``root`` itself.

    What is no image is counted.

    Raises:
        InputError: there are none, or a folder cannot be read.
    """
    if root.is_file():
        return ImageList(root.parent, [root.name], [""])
    if not root.is_dir():
        raise InputError(f"{root}: no such folder or image")
    images = ImageList(root, [], [])
    try:
        _list_folder(images, "", "", () if leave_out is None else (leave_out.resolve(),))
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from None
    if not images.ids:
        others = f", only {told(images.passed_over)}" if images.passed_over else ""
        raise InputError(f"{root}: no images found in it{others}")
    return images


def _list_folder(images: ImageList, name: str, identity: str, above: tuple[Path, ...]) -> None:
    """Add the images of a folder, which has that name under the root, to a list."""
    folder = images.root / name
    if (real := folder.resolve()) in above:
        return
    for entry in entries_of(folder):
        if is_folder(entry):
            if not entry.name.startswith("."):
                _list_folder(images, f"{name}{entry.name}/", entry.name, (*above, real))
        elif is_image(entry, images.passed_over):
            images.ids.append(name + entry.name)
            images.identities.append(identity)
