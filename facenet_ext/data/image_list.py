"""The images under a folder: which files are images, whom they show, and what is not read."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

from PIL import Image, ImageFile
from rich.console import Console

from facenet_ext.common.errors import InputError
from facenet_ext.common.plain_warnings import reading
from facenet_ext.common.text import comparable, counted, printable
from facenet_ext.data.heic import NEEDS_PLUGIN

__all__ = [
    "ImageList",
    "entries_of",
    "is_folder",
    "is_image",
    "list_identities",
    "list_tree",
    "tell_passed_over",
    "told",
]

_TEXTS = (".csv", ".html", ".json", ".log", ".md", ".tsv", ".txt", ".xml", ".yaml", ".yml")
_TABLES = (".npy", ".npz", ".parquet")
_SIDE_FILES = frozenset(_TEXTS + _TABLES)
_OF_SYSTEMS = frozenset(("desktop.ini", "thumbs.db"))
_KINDS_TOLD = 8

Entry = Path | os.DirEntry[str]


@dataclasses.dataclass(frozen=True)
class ImageList:
    """Images in files.

    Attributes:
        root: the folder that they are under.
        ids: a name for each: the path of its file under the root.
        identities: the identity of each: the name of its folder; "" where that is not known.
        passed_over: counts, by kind, what lies beside the images and is not read.
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

    @property
    def paths(self) -> list[Path]:
        """The path of each image."""
        return [self.root / name for name in self.ids]

    @functools.cached_property
    def people(self) -> list[str]:
        """The identities in the form in which names are compared (Unicode NFC)."""
        return [comparable(name) for name in self.identities]

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of the list, and of the sizes and times of its files when this is first read."""
        hashed = hashlib.sha256()
        for name in self.ids:
            status = os.stat(self.root / name)
            line = f"{name}\n{status.st_size} {status.st_mtime_ns}\n"
            hashed.update(line.encode("utf-8", "surrogateescape"))
        return hashed.hexdigest()

    def among(self, rows: Iterable[int]) -> ImageList:
        """Return some of the images, in a given order."""
        kept = [(self.ids[row], self.identities[row]) for row in rows]
        ids, identities = ([pair[part] for pair in kept] for part in (0, 1))
        return dataclasses.replace(self, ids=ids, identities=identities)

    def divide(self, people: Collection[str]) -> tuple[ImageList, ImageList]:
        """Return the images of some people, and the images of all others.

        Args:
            people: their names, as in :attr:`people`.
        """
        parts: tuple[list[int], list[int]] = ([], [])
        for row, name in enumerate(self.people):
            parts[name not in people].append(row)
        return self.among(parts[0]), self.among(parts[1])


def list_tree(root: Path, leave_out: Path | None = None) -> ImageList:
    """List the images under a folder, however deep, in order of their paths; or an image itself.

    The function follows links to folders, but not to a folder that the link lies in.
    The identity of an image is the name of the folder it lies in, if that is not ``root`` itself.

    Args:
        root: a folder or an image.
        leave_out: a folder that is not listed, wherever it lies.

    Raises:
        InputError: there are no images, or a folder cannot be read.
    """
    if root.is_file():
        return ImageList(root.parent, [root.name], [""])
    if not root.is_dir():
        raise InputError(f"{root}: no such folder or image")
    images = _walk(root, leave_out)
    if not images.ids:
        others = f", only {told(images.passed_over)}" if images.passed_over else ""
        hint = f"; {NEEDS_PLUGIN}" if images.passed_over[".heic"] else ""
        raise InputError(f"{root}: no images found in it{others}{hint}")
    return images


def list_identities(root: Path) -> ImageList:
    """List the images of each identity in ``root/<identity>/<image>``, in order of their names.

    Images and folders that lie elsewhere are passed over and counted.

    Raises:
        InputError: the folder is missing or holds no images, or not those of two identities.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give one with a folder per identity")
    images = _walk(root, by_identity=True)
    more = f" ({told(images.passed_over)})" if images.passed_over else ""
    if not images.ids:
        hint = f"; {NEEDS_PLUGIN}" if images.passed_over[".heic"] else ""
        raise InputError(
            f"{root}: no images found{more}; put them in {root}/<identity>/<image>{hint}"
        )
    if len(set(images.people)) < 2:
        raise InputError(
            f"{root}: all {counted(len(images), 'image')} are of one identity "
            f"({images.people[0]}); telling identities apart needs at least two folders of images"
            f"{more}"
        )
    return images


def _walk(root: Path, leave_out: Path | None = None, by_identity: bool = False) -> ImageList:
    """List the images in a folder and in its folders; with ``by_identity`` those one level down."""
    images = ImageList(root, [], [])

    def visit(name: str, identity: str, above: tuple[Path, ...]) -> None:
        """Add the images of the folder with that name under the root, but not of one above."""
        if (real := (root / name).resolve()) in above:
            return
        for entry in entries_of(root / name):
            if is_folder(entry):
                if entry.name.startswith("."):
                    continue
                if by_identity and identity:
                    images.passed_over["folder in an identity's folder"] += 1
                else:
                    visit(f"{name}{entry.name}/", entry.name, (*above, real))
            elif is_image(entry, images.passed_over):
                if by_identity and not identity:
                    images.passed_over["image in no identity's folder"] += 1
                else:
                    images.ids.append(name + entry.name)
                    images.identities.append(identity)

    try:
        visit("", "", () if leave_out is None else (leave_out.resolve(),))
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from None
    return images


def entries_of(folder: Path) -> list[os.DirEntry[str]]:
    """Return what a folder holds, in order of the names."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def is_folder(entry: Entry) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def is_image(entry: Entry, passed_over: Counter[str]) -> bool:
    """Whether a file is an image that Pillow reads.

    The ending decides. Where there is none, or Pillow does not know it, the content does.

    Args:
        entry: a file, or anything else but a folder.
        passed_over: counts by kind what is no image. Hidden files, and texts and tables, which
            often lie beside images, are not counted.

    Example:
        >>> passed_over = Counter()
        >>> is_image(Path("/dev/null"), passed_over), told(passed_over)
        (False, '1 special file')
    """
    ending = os.path.splitext(entry.name)[1].lower().rstrip(".")
    if entry.name.startswith(".") or entry.name.lower() in _OF_SYSTEMS or ending in _SIDE_FILES:
        return False
    try:
        is_file = entry.is_file()
        is_link = entry.is_symlink()
    except OSError:  # a link to itself, or a name that is too long for any file
        is_file, is_link = False, True
    if is_file and (ending in _endings(len(Image.EXTENSION)) or _has_known_content(entry)):
        return True
    if not is_file:
        passed_over["dangling link" if is_link else "special file"] += 1
    else:
        passed_over[printable(ending) or "file without ending"] += 1
    return False


def tell_passed_over(images: ImageList, console: Console) -> None:
    """Print how much lies beside images and is not read.

    Example:
        >>> from facenet_ext.common.console import make_console
        >>> images = ImageList(Path("faces"), [], [], Counter({".heic": 2}))
        >>> tell_passed_over(images, make_console())
        passed over in faces: 2 .heic
    """
    if images.passed_over:
        line = f"passed over in {printable(images.root)}: {told(images.passed_over)}"
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def told(passed_over: Counter[str]) -> str:
    """Return the counts in words, the highest first.

    Example:
        >>> told(Counter({".heic": 2, "dangling link": 1, "folder in an identity's folder": 3}))
        "3 folders in an identity's folder, 2 .heic, 1 dangling link"
    """
    kinds = passed_over.most_common(_KINDS_TOLD)
    rest = passed_over.total() - sum(count for _, count in kinds)
    return ", ".join(counted(count, kind) for kind, count in kinds) + (
        f", {rest:,} of other kinds" if rest else ""
    )


def _reads_pixels(name: str) -> bool:
    """Whether Pillow reads the pixels of a format: some it can only recognise."""
    opener = Image.OPEN.get("JPEG" if name == "MPO" else name)  # an MPO is opened as a JPEG
    if opener is None or name == "MPEG":
        return False
    return not (isinstance(opener[0], type) and issubclass(opener[0], ImageFile.StubImageFile))


@functools.cache
def _endings(known: int) -> frozenset[str]:
    """Return the endings of images; again only when ``known`` of them are more, by a plugin."""
    return frozenset(e for e, name in Image.registered_extensions().items() if _reads_pixels(name))


@functools.cache
def _marked_formats(known: int) -> tuple[str, ...]:
    """Return the formats whose files begin with a mark: any bytes may pass for one of the others.

    ``known`` is how many formats Pillow opens. A plugin may add some, and then they are looked up
    again.
    """
    Image.init()
    return tuple(name for name in Image.ID if Image.OPEN[name][1] and _reads_pixels(name))


def _has_known_content(entry: Entry) -> bool:
    try:
        path = Path(entry)
        with reading(path), Image.open(path, formats=_marked_formats(len(Image.OPEN))):
            return True
    except (
        Image.DecompressionBombError
    ):  # it is an image, and reading it will say that it is too large
        return True
    except Exception:  # errors of many kinds: the file may be anything
        return False
