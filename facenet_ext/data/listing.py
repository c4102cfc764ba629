"""Lists the images of a folder of any depth, or of an image set in any format."""

from __future__ import annotations

from pathlib import Path

from facenet_ext.common.errors import InputError
from facenet_ext.common.text import counted
from facenet_ext.data.image_list import ImageList, list_identities, list_tree
from facenet_ext.data.sets import open_set
from facenet_ext.data.sets.indexed import NoSuchImagesError
from facenet_ext.data.sets.opening import ENDINGS, READ_IN_PLACE, set_files
from facenet_ext.data.sets.patterns import matching
from facenet_ext.data.unpacking import unpacked

__all__ = ["list_images", "list_set"]


def list_set(data: str | Path) -> ImageList:
    """List the images of a set, each with its identity.

    Args:
        data: what :func:`facenet_ext.data.sets.open_set` opens.

    Raises:
        InputError: there are no images, or those of one identity alone.
    """
    paths = matching(str(data))
    if not paths or set_files(str(data))[0] == "folder":
        return list_identities(paths[0] if paths else Path(data))
    images = ImageList.of_set(open_set(str(data)))
    if len(set(images.people)) < 2:
        raise InputError(
            f"{images.root}: all {counted(len(images), 'image')} are of one identity; telling "
            "identities apart needs at least two"
        )
    return images


def list_images(data: str, leave_out: Path | None = None) -> ImageList:
    """List images: see :func:`facenet_ext.data.image_list.list_tree`.

    Args:
        data: a folder, of any depth; an image; or what
            :func:`facenet_ext.data.sets.open_set` opens.
        leave_out: a folder that is not listed, wherever it lies.

    Raises:
        InputError: there are no images, or they cannot be read.
    """
    root = Path(data).expanduser()
    paths = matching(data)
    if not paths or (len(paths) == 1 and root.is_file() and not data.endswith(ENDINGS)):
        return list_tree(root, leave_out)
    kind, files = set_files(data)
    if kind == "folder":
        return list_tree(files[0], leave_out)
    if kind not in READ_IN_PLACE:
        return list_tree(unpacked(files[0]))
    try:
        return ImageList.of_set(open_set(data))
    except NoSuchImagesError:
        if len(files) > 1:
            raise
        return list_tree(unpacked(files[0]), leave_out)
