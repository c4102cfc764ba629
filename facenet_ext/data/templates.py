"""Templates: the groups of images or of utterances that a protocol compares, as files name them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facenet_ext.common.errors import InputError
from facenet_ext.common.text import comparable, counted, csv_rows, printable, read_lines, read_text

__all__ = ["Problems", "Templates", "read_enrolment", "read_media", "read_subjects", "single_items"]

_TOLD = 5
"""Problems of a file that are told; the others are counted."""


@dataclasses.dataclass(frozen=True)
class Templates:
    """Groups of items: of the images of a person, or of the utterances of a speaker.

    Attributes:
        ids: [K] what a file calls each template.
        items: what is to be embedded, each once: the names of images or of utterances.
        template: [M] int64, the template of each membership.
        item: [M] int64, the item that belongs to it, a position in ``items``.
        media: [M] int64, the media that the item is from, as the frames of a video are of one.
        subjects: [K] who each template is of; "" where that is not known.
    """

    ids: list[str]
    items: list[str]
    template: NDArray[np.int64]
    item: NDArray[np.int64]
    media: NDArray[np.int64]
    subjects: list[str]

    @property
    def places(self) -> dict[str, int]:
        """The position of each template, by its id in the form in which names are compared."""
        return {comparable(name): at for at, name in enumerate(self.ids)}

    def of(self, subjects: dict[str, str]) -> Templates:
        """Return the same templates with their subjects, by the templates' ids."""
        whose = [subjects.get(name, "") for name in self.ids]
        return dataclasses.replace(self, subjects=whose)


class Problems:
    """What is wrong with the lines of a file, told at once.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.told: list[str] = []

    def add(self, problem: str) -> None:
        """Add a problem, which begins with its line."""
        self.count += 1
        if len(self.told) < _TOLD:
            self.told.append(problem)

    @property
    def message(self) -> str:
        """The file and the first five problems."""
        more = f"; and {self.count - _TOLD:,} more" if self.count > _TOLD else ""
        return f"{self.path}: {'; '.join(self.told)}{more}"

    def check(self) -> None:
        """Raise what there is.

        Raises:
            InputError: there is a problem.
        """
        if self.count:
            raise InputError(self.message)


def single_items(names: Sequence[str]) -> Templates:
    """Return a template for each item, of that item alone."""
    each = np.arange(len(names))
    return Templates(list(names), list(names), each, each, each, [""] * len(names))


def read_media(path: Path) -> Templates:
    """Read which images and media make up each template, as IJB-B's and IJB-C's files tell it.

    Each line is ``image template media``: the path of an image, and two names, which are numbers.

    Raises:
        InputError: the file cannot be read, is empty, or has wrong lines or an image twice in one
            template; the message tells the lines.
    """
    rows, problems, seen = [], Problems(path), dict[tuple[str, str], int]()
    for number, line in enumerate(read_lines(path), start=1):
        fields = line.rsplit(None, 2)
        if not fields:
            continue
        if len(fields) != 3:
            problems.add(f"line {number} must be 'image template media', it is {line!r}")
            continue
        image, template, media = comparable(fields[0]), fields[1], fields[2]
        before = seen.setdefault((image, template), number)
        if before != number:
            problems.add(
                f"line {number} has image {printable(image)} in template {template} again, after "
                f"line {before}"
            )
        rows.append((image, template, media))
    problems.check()
    if not rows:
        raise InputError(f"{path}: is empty; expected lines 'image template media'")
    images, templates, medias = (_numbering(column) for column in zip(*rows, strict=True))
    columns = np.array([(templates[t], images[i], medias[m]) for i, t, m in rows], np.int64)
    template, item, of = columns.T
    return Templates([*templates], [*images], template, item, of, [""] * len(templates))


def _numbering(names: Sequence[str]) -> dict[str, int]:
    """Return the number of each name: from 0 on, in the order in which they come first."""
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def read_enrolment(path: Path) -> Templates:
    """Read which utterances enrol each model, as Kaldi's ``spk2utt`` tells it.

    Each line is ``model utterance utterance ...``.

    Raises:
        InputError: the file cannot be read, is empty, has a model without utterances, a model twice
            or an utterance twice in one model; the message tells the lines.
    """
    models: dict[str, tuple[int, list[str]]] = {}
    problems = Problems(path)
    for number, line in enumerate(read_lines(path), start=1):
        fields = [comparable(field) for field in line.split()]
        if not fields:
            continue
        model, *utterances = fields
        if not utterances:
            problems.add(f"line {number} must be 'model utterance utterance ...', it is {line!r}")
        elif model in models:
            problems.add(
                f"line {number} enrols model {printable(model)} again, after line "
                f"{models[model][0]}"
            )
        elif len(set(utterances)) < len(utterances):
            twice = next(name for name in utterances if utterances.count(name) > 1)
            problems.add(f"line {number} names utterance {printable(twice)} twice")
        models.setdefault(model, (number, utterances))
    problems.check()
    if not models:
        raise InputError(f"{path}: is empty; expected lines 'model utterance utterance ...'")
    items = _numbering([name for _, utterances in models.values() for name in utterances])
    members = [
        (place, items[name])
        for place, (_, utterances) in enumerate(models.values())
        for name in utterances
    ]
    template, item = np.array(members, np.int64).T
    return Templates([*models], [*items], template, item, item, [""] * len(models))


class Subjects(NamedTuple):
    """Whose templates a ``.csv`` lists.

    Attributes:
        path: of the file.
        subjects: the subject of each template, in order, by the template's id.
        lines: the first line of each template.
    """

    path: Path
    subjects: dict[str, str]
    lines: dict[str, int]

    def places(self, templates: Templates) -> NDArray[np.int64]:
        """Return the positions of the listed templates among some.

        Raises:
            InputError: some have no images there; the message tells the first ones and their lines.
        """
        places, problems = templates.places, Problems(self.path)
        for name, number in self.lines.items():
            if name not in places:
                problems.add(f"line {number} lists template {printable(name)}, which has no media")
        problems.check()
        return np.array([places[name] for name in self.subjects], np.int64)


def read_subjects(path: Path) -> Subjects:
    """Read whose templates a gallery or a list of probes has, as IJB-B's and IJB-C's ``.csv`` tell.

    The columns ``TEMPLATE_ID`` and ``SUBJECT_ID`` count. A template has a line for each image.

    Raises:
        InputError: the file cannot be read or has no such columns or no lines, a line is too short,
            or a template has two subjects; the message tells the lines.
    """
    rows = csv_rows(path, read_text(path), "templates")
    header = [name.strip().upper() for name in next(rows, (1, []))[1]]
    try:
        at, whose = header.index("TEMPLATE_ID"), header.index("SUBJECT_ID")
    except ValueError:
        raise InputError(
            f"{path}: line 1 must name columns TEMPLATE_ID and SUBJECT_ID, it is "
            f"{','.join(header)!r}"
        ) from None
    subjects, lines, problems = dict[str, str](), dict[str, int](), Problems(path)
    for number, row in rows:
        if not any(row):
            continue
        fields = [field.strip() for field in row]
        if len(fields) <= max(at, whose) or not fields[at] or not fields[whose]:
            problems.add(
                f"line {number} must have a TEMPLATE_ID and a SUBJECT_ID, it is {','.join(row)!r}"
            )
            continue
        template, subject = comparable(fields[at]), comparable(fields[whose])
        if subjects.setdefault(template, subject) != subject:
            problems.add(
                f"line {number} has subject {printable(subject)} for template "
                f"{printable(template)}, line {lines[template]} has "
                f"{printable(subjects[template])}"
            )
        lines.setdefault(template, number)
    problems.check()
    if not subjects:
        raise InputError(f"{path}: has {counted(0, 'template')}; expected a line for each image")
    return Subjects(path, subjects, lines)
