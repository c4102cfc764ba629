"""Files that say which groups images or people are of: sex, age, camera, quality."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from facenet_ext.common.errors import InputError
from facenet_ext.common.text import comparable, csv_rows, printable, read_text
from facenet_ext.data.templates import Problems

__all__ = ["GroupsFile", "read_groups"]


class GroupsFile(NamedTuple):
    """The content of a file of groups.

    Attributes:
        path: of the file.
        lines: the number of the line of each name in the first column: of an image, or of a person.
        columns: what the other columns have for each of these names; "" where a field is empty.
    """

    path: Path
    lines: dict[str, int]
    columns: dict[str, dict[str, str]]


def read_groups(path: Path) -> GroupsFile:
    r"""Read a ``.csv`` of groups.

    Its first line names the columns. The first column names an image or a person in each line, the
    others say what that is: ``identity,sex,age``, then ``Ann,f,30-39``.

    Returns:
        The :class:`GroupsFile`, with names as :func:`facenet_ext.common.text.comparable` returns
        them.

    Raises:
        InputError: the file cannot be read, has fewer than two columns or no lines, or has wrong
            lines or a name twice; the message tells the lines.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "people.csv")
        ...     _ = path.write_text("identity,sex\nAnn,f\nBob,m\n")
        ...     read_groups(path).columns
        {'sex': {'Ann': 'f', 'Bob': 'm'}}
    """
    text = read_text(path, f"{path}: the file of groups")
    rows = csv_rows(path, text, "groups")
    header = [name.strip() for name in next(rows, (1, []))[1]]
    if len(header) < 2 or not all(header) or len({*header}) < len(header):
        raise InputError(
            f"{path}: line 1 must name two columns or more, as 'identity,sex,age', it is "
            f"{','.join(header)!r}"
        )
    lines, problems = dict[str, int](), Problems(path)
    columns: dict[str, dict[str, str]] = {name: {} for name in header[1:]}
    for line, row in rows:
        fields = [field.strip() for field in row]
        if not any(fields):
            continue
        if len(fields) != len(header) or not fields[0]:
            problems.add(
                f"line {line} must have {len(header)} fields, the first of them a name, it is "
                f"{','.join(row)!r}"
            )
            continue
        name = comparable(fields[0])
        if lines.setdefault(name, line) != line:
            problems.add(f"line {line} names {printable(name)} again, after line {lines[name]}")
            continue
        for column, field in zip(columns.values(), fields[1:], strict=True):
            column[name] = comparable(field)
    problems.check()
    if not lines:
        raise InputError(f"{path}: has no lines; expected one for each image, or for each person")
    return GroupsFile(path, lines, columns)
