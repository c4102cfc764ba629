"""The images under a folder: which files are images, whom they show, and what is not read."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from PIL import Image, ImageFile
from rich.console import Console

from facenet_ext.common.errors import InputError
from facenet_ext.common.plain_warnings import reading
from facenet_ext.common.text import comparable, counted, printable
from facenet_ext.data.heic import NEEDS_PLUGIN
from facenet_ext.data.image_set import ImageSet

__all__ = [
    "ImageList",
    "entries_of",
    "images_under",
    "is_folder",
    "is_image",
    "is_image_name",
    "list_identities",
    "list_tree",
    "no_images",
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
    """Images in files, or in a set of another kind.

    Attributes:
        root: the folder that they are under, or what the set was opened from.
        ids: a name for each: the path of its file under the root.
        identities: the identity of each: the name of its folder; "" where that is not known.
        passed_over: counts, by kind, what lies beside the images and is not read.
        images: the set that holds the images, where they are no files of their own.
        rows: the row of each in that set.
    """

    root: Path
    ids: list[str]
    identities: list[str]
    passed_over: Counter[str] = dataclasses.field(default_factory=Counter)
    images: ImageSet | None = None
    rows: list[int] = dataclasses.field(default_factory=list)

    @classmethod
    def of_set(cls, images: ImageSet) -> ImageList:
        """Return the list of all images of a set."""
        # A file's name finds it, and stays as it is; from elsewhere names may hold line breaks.
        plain = str if images.kind == "folder" else printable
        names = [plain(images.name(row)) for row in range(len(images))]
        if len(set(names)) < len(names):  # in Parquet, for example: a name stands for one image
            names = [f"{name}.{row}" for row, name in enumerate(names)]
        identities = [plain(name) for name in images.identities]
        whose = [identities[label] for label in images.labels.tolist()]
        passed_over = Counter[str](getattr(images, "passed_over", {}))
        return cls(images.root, names, whose, passed_over, images, [*range(len(names))])

    def read(self, row: int) -> bytes:
        """Return the content of an image's file.

        Raises:
            OSError: the file cannot be read.
            InputError: the image of a set cannot be.
        """
        if self.images is not None:
            return self.images.read(self.rows[row])
        path = self.path(row)
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise OSError("not a file")  # a device may have no end
        return path.read_bytes()

    def name(self, row: int) -> str:
        """Return the name of an image under the root."""
        return self.ids[row]

    def __len__(self) -> int:
        return len(self.ids)

    def path(self, row: int) -> Path:
        """Return the path of an image; of one in a set, what messages call it."""
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
        if self.images is not None:
            hashed.update(f"{self.images.fingerprint} {self.rows}".encode())
            return hashed.hexdigest()
        for name in self.ids:
            status = os.stat(self.root / name)
            line = f"{name}\n{status.st_size} {status.st_mtime_ns}\n"
            hashed.update(line.encode("utf-8", "surrogateescape"))
        return hashed.hexdigest()

    def among(self, rows: Iterable[int]) -> ImageList:
        """Return some of the images, in a given order."""
        chosen = list(rows)
        ids = [self.ids[row] for row in chosen]
        identities = [self.identities[row] for row in chosen]
        places = [self.rows[row] for row in chosen] if self.rows else []
        return dataclasses.replace(self, ids=ids, identities=identities, rows=places)

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
    if not images.ids:
        raise no_images(root, images.passed_over)
    more = f" ({told(images.passed_over)})" if images.passed_over else ""
    if len(set(images.people)) < 2:
        raise InputError(
            f"{root}: all {counted(len(images), 'image')} are of one identity "
            f"({images.people[0]}); telling identities apart needs at least two folders of images"
            f"{more}"
        )
    return images


def no_images(root: Path, passed_over: Counter[str]) -> InputError:
    """Return the error about a folder without images ``<identity>/<image>``."""
    more = f" ({told(passed_over)})" if passed_over else ""
    hint = f"; {NEEDS_PLUGIN}" if passed_over[".heic"] else ""
    return InputError(f"{root}: no images found{more}; put them in {root}/<identity>/<image>{hint}")


def _walk(root: Path, leave_out: Path | None = None, by_identity: bool = False) -> ImageList:
    """List the images in a folder and in its folders; with ``by_identity`` those one level down."""
    images = ImageList(root, [], [])
    for folder, identity, entry in images_under(root, images.passed_over, leave_out, by_identity):
        images.ids.append(folder + entry.name)
        images.identities.append(identity)
    return images


def images_under(
    root: Path,
    passed_over: Counter[str],
    leave_out: Path | None = None,
    by_identity: bool = False,
) -> Iterator[tuple[str, str, os.DirEntry[str]]]:
    """Yield the images in a folder and in its folders, in order of their paths.

    Args:
        root: the folder.
        passed_over: counts by kind what is no image.
        leave_out: a folder that is not listed, wherever it lies.
        by_identity: yield images ``<identity>/<image>`` only, and count the others.

    Yields:
        The path of its folder under the root, empty or with a slash at its end; its identity, the
        name of that folder; the image.

    Raises:
        InputError: a folder cannot be read.
    """

    def visit(
        name: str, identity: str, above: tuple[Path, ...]
    ) -> Iterator[tuple[str, str, os.DirEntry[str]]]:
        """Yield the images of the folder with that name under the root, but not of one above."""
        if (real := (root / name).resolve()) in above:
            return
        for entry in entries_of(root / name):
            if is_folder(entry):
                if entry.name.startswith("."):
                    continue
                if by_identity and identity:
                    passed_over["folder in an identity's folder"] += 1
                else:
                    yield from visit(f"{name}{entry.name}/", entry.name, (*above, real))
            elif is_image(entry, passed_over):
                if by_identity and not identity:
                    passed_over["image in no identity's folder"] += 1
                else:
                    yield name, identity, entry

    try:
        yield from visit("", "", () if leave_out is None else (leave_out.resolve(),))
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from None


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
    if _is_side_file(entry.name, ending):
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


def is_image_name(name: str, passed_over: Counter[str]) -> bool:
    """Whether a file in an archive is an image, by its ending; see :func:`is_image`.

    Example:
        >>> passed_over = Counter()
        >>> [is_image_name(name, passed_over) for name in ("a/b.JPG", "a/b.json", "a/b.mp3")]
        [True, False, False]
        >>> told(passed_over)
        '1 .mp3'
    """
    base = name.rpartition("/")[2]
    ending = os.path.splitext(base)[1].lower().rstrip(".")
    if _is_side_file(base, ending):
        return False
    if ending in _endings(len(Image.EXTENSION)):
        return True
    passed_over[printable(ending) or "file without ending"] += 1
    return False


def _is_side_file(name: str, ending: str) -> bool:
    return name.startswith(".") or name.lower() in _OF_SYSTEMS or ending in _SIDE_FILES


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
