"""Files of trials: which template is compared with which, and whether they are of one identity.

There may be millions of trials. Such a file is read block by block, as often as they are needed,
and none of them stays in memory.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facenet_ext.common.errors import InputError
from facenet_ext.common.text import comparable, counted, printable, read_text
from facenet_ext.data.templates import Problems

__all__ = ["TrialBlock", "TrialsFile", "kind_of", "names_in"]

Kind = Literal["templates", "matches", "VoxCeleb", "Kaldi", "probes"]

_BLOCK = 1 << 20
"""Bytes of a file that are parsed at once."""

_KEPT = 2_000_000
"""Most trials of a file that stay in memory: 18 MB."""

_BOM = b"\xef\xbb\xbf"


class TrialBlock(NamedTuple):
    """Some of the trials of a file, in its order.

    Attributes:
        first: [B] int32, the position of one template of each trial.
        second: [B] int32, that of the other.
        same: [B] bool, whether they are of one identity.
    """

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    same: NDArray[np.bool_]


class _Form(NamedTuple):
    """What a line of trials is.

    Attributes:
        fields: "first", "second" and perhaps "label", in order.
        labels: what a label means.
        expected: the line, for messages.
        called: what is compared, for messages.
    """

    fields: tuple[str, ...]
    labels: dict[str, bool]
    expected: str
    called: str


_BITS = {"1": True, "0": False}
_FORMS: dict[str, _Form] = {
    "templates": _Form(("first", "second", "label"), _BITS, "template template 1|0", "template"),
    "matches": _Form(("first", "second"), {}, "template,template", "subject of template"),
    "VoxCeleb": _Form(("label", "first", "second"), _BITS, "1|0 enrol test", "utterance"),
    "Kaldi": _Form(
        ("first", "second", "label"),
        {"target": True, "nontarget": False},
        "enrol test target|nontarget",
        "utterance",
    ),
}


def kind_of(path: Path) -> Kind | None:
    """Return what kind of trials a file has, by its first line; None where it has none.

    | kind | a line | from |
    |---|---|---|
    | templates | ``template template 1|0`` | ``ijbb_template_pair_label.txt`` of InsightFace |
    | matches | ``template,template`` | ``ijbc_11_G1_G2_matches.csv`` of NIST |
    | VoxCeleb | ``1|0 enrol test`` | ``veri_test.txt`` |
    | Kaldi | ``enrol test target|nontarget`` | ``trials`` |
    | probes | columns ``TEMPLATE_ID`` and ``SUBJECT_ID`` | ``ijbb_1N_probe_mixed.csv`` |
    """
    try:
        with path.open("rb") as file:
            start = file.read(1 << 16).removeprefix(_BOM).lstrip(b"\r\n")
    except OSError:
        return None
    line = re.split(rb"[\r\n]", start, maxsplit=1)[0].decode("utf-8", "replace")
    columns = [field.strip().upper() for field in line.split(",")]
    if {"TEMPLATE_ID", "SUBJECT_ID"} <= {*columns}:
        return "probes"
    if len(columns) == 2 and all(field.isdecimal() for field in columns):
        return "matches"
    fields = _split(line, None)
    if len(columns) > 1 or len(fields) != 3:
        return None
    if fields[2] in _FORMS["Kaldi"].labels:
        return "Kaldi"
    if all(field.isdecimal() for field in fields) and fields[2] in _BITS:
        return "templates"
    return "VoxCeleb" if fields[0] in _BITS else None


@dataclasses.dataclass(frozen=True)
class TrialsFile:
    """Trials that a file lists.

    Attributes:
        path: of the file.
        kind: of its lines, as :func:`kind_of` names them.
        first: the position of each template that a line may have on its first side, by its name.
        second: the same of the second side.
        subjects: [K] int64, the number of each template's subject. "matches" need it: they do not
            say which templates are of one identity.
    """

    path: Path
    kind: Literal["templates", "matches", "VoxCeleb", "Kaldi"]
    first: dict[str, int]
    second: dict[str, int]
    subjects: NDArray[np.int64] | None = None
    _kept: list[TrialBlock] = dataclasses.field(default_factory=list, init=False, repr=False)

    def __iter__(self) -> Iterator[TrialBlock]:
        """Yield the trials, in order.

        Raises:
            InputError: the file cannot be read, or has wrong lines; the message tells the first
                ones, when all of them are known.
        """
        return iter(self._kept) if self._kept else self._read()

    def _read(self) -> Iterator[TrialBlock]:
        form = _FORMS[self.kind]
        problems = Problems(self.path)
        places = {"first": self.first, "second": self.second}
        lookups = {side: _finder(names) for side, names in places.items()}
        for line, block in _blocks(self.path):
            columns = _parse(block, form, lookups)
            if columns is None:  # a line is unusual or wrong
                columns = _parse_lines(self.path, block, line, form, lookups, problems)
            if not problems.count and len(columns["first"]):
                yield self._block(columns)
        problems.check()

    def _block(self, columns: dict[str, NDArray[np.int32]]) -> TrialBlock:
        first, second = columns["first"], columns["second"]
        if "label" in columns:
            return TrialBlock(first, second, columns["label"] == 1)
        assert self.subjects is not None
        return TrialBlock(first, second, self.subjects[first] == self.subjects[second])

    def count(self) -> tuple[int, int]:
        """Return how many trials are of one identity and of two, and check every line.

        Raises:
            InputError: see :meth:`__iter__`; or there are none of one of the two kinds.
        """
        trials = same = 0
        kept: list[TrialBlock] = []
        for block in self:
            trials += len(block.same)
            same += int(block.same.sum())
            if trials <= _KEPT:
                kept.append(block)
        if trials <= _KEPT:
            self._kept[:] = kept
        if not same or same == trials:
            raise InputError(
                f"{self.path}: has {counted(same, 'trial')} of one identity and "
                f"{counted(trials - same, 'trial')} of two; expected lines "
                f"'{_FORMS[self.kind].expected}' of both kinds"
            )
        return same, trials - same


def names_in(path: Path, kind: str) -> tuple[list[str], list[str]]:
    """Return the names on the first and on the second side of a file's trials.

    Returns:
        For each side the names, each once, in the order in which they come, as
        :func:`facenet_ext.common.text.comparable` returns them.

    Raises:
        InputError: see :meth:`TrialsFile.__iter__`.
    """
    form = _FORMS[kind]
    sides: dict[str, dict[str, int]] = {"first": {}, "second": {}}

    def numbering(names: dict[str, int]) -> Callable[[str], int]:
        return lambda name: names.setdefault(comparable(name), len(names))

    lookups = {side: numbering(names) for side, names in sides.items()}
    problems = Problems(path)
    for line, block in _blocks(path):
        if _parse(block, form, lookups) is None:
            _parse_lines(path, block, line, form, lookups, problems)
    problems.check()
    return [*sides["first"]], [*sides["second"]]


def _finder(names: dict[str, int]) -> Callable[[str], int]:
    return lambda name: names.get(comparable(name), -1)


def _blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield whole lines of a file, and the number of the first of them."""
    try:
        with path.open("rb") as file:
            line, rest = 1, file.read(len(_BOM)).removeprefix(_BOM)
            while data := file.read(_BLOCK):
                whole, end, after = (rest + data).rpartition(b"\n")
                rest = after
                if end:
                    yield line, whole + end
                    line += whole.count(b"\n") + 1
            if rest:
                yield line, rest
    except OSError as error:
        raise InputError(f"{path}: the trials cannot be read ({error.strerror})") from None


def _parse(
    block: bytes, form: _Form, lookups: dict[str, Callable[[str], int]]
) -> dict[str, NDArray[np.int32]] | None:
    """Parse lines whose fields have one blank, tab or comma between them; None for any others."""
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.csv  # type: ignore[import-untyped]

    text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    delimiter = "," if len(form.fields) == 2 else "\t" if b"\t" in block else " "
    try:
        table = pyarrow.csv.read_csv(
            pyarrow.BufferReader(block),
            pyarrow.csv.ReadOptions(
                use_threads=False, block_size=len(block) + 1, column_names=form.fields
            ),
            pyarrow.csv.ParseOptions(delimiter=delimiter, quote_char=False),
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(form.fields, text)),
            memory_pool=pyarrow.system_memory_pool(),  # gives back what is not needed any more
        )
    except pyarrow.ArrowInvalid:
        return None
    columns = {}
    for field in form.fields:
        column: Any = table.column(field).combine_chunks()
        names = column.dictionary.to_pylist()
        if field == "label":
            codes = [int(form.labels.get(name, -1)) for name in names]
        elif any(name != name.strip() or not name for name in names):
            return None
        else:
            codes = [lookups[field](name) for name in names]
        if -1 in codes:
            return None
        columns[field] = np.array(codes, np.int32)[column.indices.to_numpy()]
    return columns


def _parse_lines(
    path: Path,
    block: bytes,
    line: int,
    form: _Form,
    lookups: dict[str, Callable[[str], int]],
    problems: Problems,
) -> dict[str, NDArray[np.int32]]:
    """Parse any lines one by one, and say what is wrong with them."""
    columns: dict[str, list[int]] = {field: [] for field in form.fields}
    try:
        text = block.decode("utf-8")
    except UnicodeDecodeError:
        text = read_text(path)  # says which line and byte it is
    delimiter = "," if len(form.fields) == 2 else None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, content in enumerate(lines, start=line):
        fields = _split(content, delimiter)
        if not any(fields):
            continue
        values = dict(zip(form.fields, fields, strict=False))
        label = values.get("label", "")
        if len(fields) != len(form.fields) or ("label" in form.fields and label not in form.labels):
            problems.add(f"line {number} must be '{form.expected}', it is {content!r}")
            continue
        for field, value in values.items():
            code = int(form.labels[value]) if field == "label" else lookups[field](value)
            if code < 0:
                problems.add(f"line {number}: there is no {form.called} {printable(value)}")
            columns[field].append(code)
    return {field: np.array(codes, np.int32) for field, codes in columns.items()}


def _split(line: str, delimiter: str | None) -> list[str]:
    """Return the fields of a line: between commas, tabs, or blanks where there are no tabs."""
    if delimiter is None and "\t" in line:
        delimiter = "\t"
    fields = line.split(delimiter)
    return [field.strip() for field in fields]
