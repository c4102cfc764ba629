"""Protocols that compare templates: IJB-B's and IJB-C's, and speaker trials.

Each is found by the kind of its file. It says which images or utterances it needs embedded and how
these make templates, in ``templates``, and which templates it compares.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facenet_ext.common.errors import InputError
from facenet_ext.common.text import comparable, number_names, printable, read_text
from facenet_ext.data.pairs import connected
from facenet_ext.data.templates import (
    Problems,
    Templates,
    read_enrolment,
    read_media,
    read_subjects,
    single_items,
)
from facenet_ext.data.trials_file import TrialBlock, TrialsFile, kind_of, names_in

__all__ = ["Gallery", "Search", "Trials", "locate", "read_trials"]

_MEDIA = "_face_tid_mid.txt"
_GALLERIES, _PROBES = "_1N_gallery_*.csv", "_1N_probe_mixed.csv"


@dataclasses.dataclass(frozen=True)
class Trials:
    """Templates to verify, one pair after the other (1:1).

    Attributes:
        name: of the protocol, for a report.
        sources: the files that name what is to be embedded.
        templates: what is compared, and what it is made of.
        file: lists the trials.
        same: how many are of one identity.
        different: how many are of two.
    """

    name: str
    sources: tuple[Path, ...]
    templates: Templates
    file: TrialsFile
    same: int
    different: int

    def __len__(self) -> int:
        return self.same + self.different

    def __iter__(self) -> Iterator[TrialBlock]:
        """Yield the trials block by block; positions are of templates."""
        return iter(self.file)

    def identities(self, whose: Sequence[str] = ()) -> NDArray[np.int64]:
        """Return a number for the identity of each template.

        Args:
            whose: the identity of each item as the data has it, "" where that is not known.

        Returns:
            [K] int64: of the subjects that the protocol's files name; else of the items'
            identities, unless a trial says otherwise; else templates that trials of one identity
            connect have one number.
        """
        subjects = self.templates.subjects
        if "" not in subjects:
            return number_names(subjects)[1]
        if whose and "" not in whose:
            of_item = number_names(whose)[1][self.templates.item]
            labels = np.empty(len(subjects), np.int64)
            labels[self.templates.template] = of_item
            pure = bool((labels[self.templates.template] == of_item).all())
            equal = ((labels[one.first] == labels[one.second]) == one.same for one in self)
            if pure and all(bool(agreeing.all()) for agreeing in equal):
                return labels
        ends = [(block.first[block.same], block.second[block.same]) for block in self]
        first, second = (np.concatenate(side) for side in zip(*ends, strict=True))
        return connected(first, second, len(subjects))


class Gallery(NamedTuple):
    """The templates that probes are searched in.

    Attributes:
        name: its file's.
        templates: [G] int64, positions of templates.
    """

    name: str
    templates: NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Search:
    """Probes to search in galleries, each in turn (1:N).

    Attributes:
        name: of the protocol, for a report.
        sources: the files that name what is to be embedded.
        templates: of the galleries and of the probes, with their subjects.
        galleries: each of its own.
        probes: [P] int64, positions of templates.
    """

    name: str
    sources: tuple[Path, ...]
    templates: Templates
    galleries: list[Gallery]
    probes: NDArray[np.int64]


def read_trials(path: Path, enrol: Path | None = None) -> Trials | Search | None:
    """Read a protocol that compares templates.

    - ``ijbb_template_pair_label.txt`` of InsightFace, or ``ijbc_11_G1_G2_matches.csv`` of NIST:
      pairs of templates. Beside it lies ``ijbb_face_tid_mid.txt``, which names the images and media
      of each template. The ``.csv`` of galleries and probes there say whose the templates are.
    - ``ijbb_1N_probe_mixed.csv``: probes, to be searched in ``ijbb_1N_gallery_*.csv`` beside it.
    - VoxCeleb's lines ``1 enrol test``, and Kaldi's ``enrol test target``: pairs of utterances.

    Args:
        path: of the file.
        enrol: Kaldi's ``spk2utt``: the first name of a trial is that of a model, which several
            utterances enrol.

    Returns:
        The protocol; None where the file is of no such kind.

    Raises:
        InputError: a file is missing or wrong; the message tells the file and its lines.
    """
    kind = kind_of(path)
    if enrol is not None and kind not in ("VoxCeleb", "Kaldi"):
        raise InputError(
            f"`enrol` {enrol}: goes with `pairs` of utterances, '1|0 enrol test' or "
            f"'enrol test target|nontarget', and {path} has none"
        )
    if kind is None:
        return None
    if kind == "VoxCeleb" or kind == "Kaldi":
        return _of_utterances(path, kind, enrol)
    source = _beside(path, _MEDIA)
    templates = read_media(source)
    if kind == "probes":
        return _search(path, source, templates)
    named = [*_files(path, _GALLERIES), *_files(path, _PROBES)]
    subjects: dict[str, str] = {}
    for file in named:
        subjects |= read_subjects(file).subjects
    templates = templates.of(subjects)
    places, whose = templates.places, None
    if kind == "matches":  # it does not say which are of one identity
        places = {name: at for name, at in places.items() if templates.subjects[at]}
        whose = number_names(templates.subjects)[1]
    return _count(path, (source,), templates, TrialsFile(path, kind, places, places, whose))


def _count(path: Path, sources: tuple[Path, ...], templates: Templates, file: TrialsFile) -> Trials:
    return Trials(path.name, sources, templates, file, *file.count())


def _of_utterances(path: Path, kind: Literal["VoxCeleb", "Kaldi"], enrol: Path | None) -> Trials:
    enrolled, tested = names_in(path, kind)
    if enrol is None:
        templates = single_items(list(dict.fromkeys([*enrolled, *tested])))
        places = templates.places
        return _count(path, (path,), templates, TrialsFile(path, kind, places, places))
    models = read_enrolment(enrol)
    items = {name: at for at, name in enumerate(models.items)}
    begin = len(models.ids)
    item = np.array([items.setdefault(name, len(items)) for name in tested], np.int64)
    template = np.concatenate([models.template, begin + np.arange(len(tested))])
    item = np.concatenate([models.item, item])
    templates = Templates(
        [*models.ids, *tested], [*items], template, item, item, [""] * (begin + len(tested))
    )
    second = {name: begin + at for at, name in enumerate(tested)}
    return _count(path, (enrol, path), templates, TrialsFile(path, kind, models.places, second))


def _search(path: Path, source: Path, templates: Templates) -> Search:
    files = _files(path, _GALLERIES)
    if not files:
        raise InputError(
            f"{path}: lists probes, and there is no {_prefix(path)}{_GALLERIES} beside it to "
            "search them in"
        )
    listed = [read_subjects(file) for file in files]
    probes = read_subjects(path)
    subjects: dict[str, str] = {}
    for one in (*listed, probes):
        problems = Problems(one.path)
        for name, subject in one.subjects.items():
            if subjects.setdefault(name, subject) != subject:
                problems.add(
                    f"line {one.lines[name]} has subject {printable(subject)} for template "
                    f"{printable(name)}, another file beside it has {printable(subjects[name])}"
                )
        problems.check()
    galleries = [Gallery(one.path.name, one.places(templates)) for one in listed]
    return Search(path.name, (source,), templates.of(subjects), galleries, probes.places(templates))


def _prefix(path: Path) -> str:
    """Return how the names of a protocol's files begin, as "ijbb"."""
    return path.name.partition("_")[0]


def _files(path: Path, ending: str) -> list[Path]:
    return sorted(path.parent.glob(f"{_prefix(path)}{ending}"))


def _beside(path: Path, ending: str) -> Path:
    """Return the file with an ending beside another one: of the same protocol, or the only one."""
    files = _files(path, ending) or sorted(path.parent.glob(f"*{ending}"))
    if len(files) != 1:
        raise InputError(
            f"{path}: compares templates, and {_prefix(path)}{ending} beside it, which names their "
            f"images, is missing; expected lines 'image template media'"
        )
    return files[0]


def locate(protocol: Trials | Search, names: Sequence[str], data: object) -> NDArray[np.int64]:
    """Return where the items of a protocol are among names.

    Args:
        protocol: names the items.
        names: of images or of utterances.
        data: what has these, for messages.

    Returns:
        [items] int64. Of several equal names the first one counts.

    Raises:
        InputError: some items are not there; the message tells the first ones, and their lines.
    """
    places: dict[str, int] = {}
    for at, name in enumerate(names):
        places.setdefault(comparable(name), at)
    items = protocol.templates.items
    missing = {name for name in items if name not in places}
    messages = []
    for source in protocol.sources if missing else ():
        problems = Problems(source)
        for name, number in _lines_with(source, missing).items():
            problems.add(f"line {number} names {printable(name)}, which {data} lacks")
            missing.remove(name)
        if source == protocol.sources[-1]:
            for name in sorted(missing):  # those that stand in no field of a line
                problems.add(f"names {printable(name)}, which {data} lacks")
        messages += [problems.message] if problems.count else []
    if messages:
        raise InputError("; ".join(messages))
    return np.array([places[name] for name in items], np.int64)


def _lines_with(path: Path, names: set[str]) -> dict[str, int]:
    """Return the first line that has each name among its fields."""
    numbers: dict[str, int] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        for name in map(comparable, line.split("\t") if "\t" in line else line.split()):
            if name in names:
                numbers.setdefault(name, number)
    return numbers
