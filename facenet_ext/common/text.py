"""Reads text files that people wrote; compares, numbers, counts and prints names."""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facenet_ext.common.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PLURALS = {"person": "people", "identity": "identities", "process": "processes"}

# UTF-32's mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def read_text(path: Path, called: str | None = None) -> str:
    r"""Read a text file that a person wrote.

    Args:
        path: a file in UTF-8, with or without a byte-order mark, with line ends of any system.
        called: how messages begin, by default with the path.

    Returns:
        Its text, with ``\n`` at each line's end.

    Raises:
        InputError: the file cannot be read, or is not text in UTF-8; the message says which.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "pairs.txt")
        ...     _ = path.write_bytes("10\t300\r\n".encode("utf-8-sig"))
        ...     read_text(path)
        '10\t300\n'
    """
    called = f"{path}:" if called is None else called
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{called} cannot be read ({error.strerror})") from None
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            raise InputError(f"{called} is in {encoding}; save it as UTF-8")
    if b"\0" in content:
        raise InputError(
            f"{called} holds zero bytes, so it is in UTF-16 or no text; save it as UTF-8"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{called} is not in UTF-8: line {line} has the byte "
            f"0x{content[error.start]:02x}; save it as UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path, called: str | None = None) -> list[str]:
    """Read the lines of a text file that a person wrote; see :func:`read_text`."""
    lines = read_text(path, called).split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def csv_rows(path: Path, text: str, of: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a .csv, each with the number of its line.

    Args:
        path: of the file, for messages.
        text: its content.
        of: what it should have, for messages.

    Raises:
        InputError: it is no .csv.
    """
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise InputError(f"{path}: not a .csv file of {of} ({error})") from None


def comparable(name: str) -> str:
    """Return a name in Unicode's form NFC, in which names that look the same are equal.

    An é is one character, or an e and an accent. File systems use either, people type the first.

    Args:
        name: of a person, or of a file.

    Example:
        >>> comparable("Jose\u0301") == comparable("Jos\u00e9")
        True
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def number_names(names: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the distinct names in order, and for each name its place among them.

    Names are the same if :func:`comparable` makes them equal; of several
    spellings of a name the first is returned.

    Example:
        >>> number_names(["Zoe\u0308", "Ann", "Zo\u00eb"])[1]
        array([1, 0, 1])
    """
    import numpy as np  # here, as --help would wait for it

    spelt: dict[str, str] = {}
    compared = [comparable(name) for name in names]
    for form, name in zip(compared, names, strict=True):
        spelt.setdefault(form, name)
    order = sorted(spelt)
    place = {form: at for at, form in enumerate(order)}
    return [spelt[form] for form in order], np.array([place[form] for form in compared], np.int64)


def counted(count: int, one: str) -> str:
    """Return a count and what it counts, in the plural unless the count is 1.

    Args:
        count: how many.
        one: the singular. Its first noun becomes a plural; a file's ending, as ".heic", does not.

    Example:
        >>> counted(2000, "image"), counted(1, "pair of images"), counted(0, "pair of images")
        ('2,000 images', '1 pair of images', '0 pairs of images')
        >>> counted(2, "person"), counted(3, "file without ending"), counted(2, ".heic")
        ('2 people', '3 files without ending', '2 .heic')
    """
    if count == 1 or one.startswith("."):
        return f"{count:,} {one}"
    plural = re.sub(
        r"(person|identity|process|\w)(?= (?:in|of|under|with|without) |$)",
        lambda noun: _PLURALS.get(noun[0], f"{noun[0]}s"),
        one,
        count=1,
    )
    return f"{count:,} {plural}"


def bytes_in_words(count: int) -> str:
    """Return a number of bytes in the largest unit that makes it 1 or more.

    Example:
        >>> bytes_in_words(512), bytes_in_words(5 * 2**20), bytes_in_words(int(1000.25 * 2**20))
        ('512 bytes', '5 MiB', '1,000.2 MiB')
    """
    size, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        del units[0]
    return f"{f'{size:,.1f}'.removesuffix('.0')} {units[0]}"


def printable(name: object) -> str:
    r"""Return a name with escapes for what cannot be printed in a line of UTF-8.

    Example:
        >>> print(printable("caf\udce9\n.png"))
        caf\udce9\n.png
    """
    text = str(name).encode("utf-8", "backslashreplace").decode("utf-8")
    return text.replace("\n", "\\n").replace("\r", "\\r")
