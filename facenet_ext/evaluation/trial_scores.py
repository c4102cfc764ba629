"""Pools embeddings into templates, and scores trials of them in bounded memory."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facenet_ext.common.files import writing
from facenet_ext.common.text import number_names
from facenet_ext.data.templates import Templates
from facenet_ext.data.trials_file import TrialBlock
from facenet_ext.evaluation.trials import Search
from facenet_ext.metrics._comparisons import Comparisons
from facenet_ext.metrics.sources import PairBlock
from facenet_ext.recognition import Identification, identify

__all__ = [
    "Found",
    "PooledTemplates",
    "TrialScores",
    "pool",
    "score",
    "search",
]

_ROWS = 4096
"""Embeddings that are read at once."""

_CHUNK = 1 << 16
"""Trials that are read back at once."""

_IN_MEMORY = 8 << 20
"""Bytes of trials from which on they are in a file."""

_PAIRS = 512
"""Trials at once: both of their rows of 512 numbers fit into a core's second-level cache."""


class PooledTemplates(NamedTuple):
    """An embedding for each template.

    Attributes:
        embeddings: [K, D] float32, rows of length 1.
        kept: [K] bool: False where no item of a template could be embedded; its row is 0.
    """

    embeddings: NDArray[np.float32]
    kept: NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class TrialScores:
    """How far apart the two templates of each trial are, in the order of the trials.

    Millions of trials are in a temporary file, which goes with the object: of each a record with
    the fields of a :class:`.PairBlock`. Distances are squared and Euclidean, in [0, 4].

    Attributes:
        file: has the records.
        form: of a record.
        counts: how many trials are of one identity, and how many of two.
        used: [K] bool, whether a template is in a trial.
        left_out: trials of templates that could not be embedded, which are not among these.
    """

    file: IO[bytes]
    form: np.dtype[Any]
    counts: tuple[int, int]
    used: NDArray[np.bool_]
    left_out: int

    def __len__(self) -> int:
        return sum(self.counts)

    def blocks(self) -> Iterator[PairBlock]:
        """Yield the trials."""
        for begin in range(0, len(self), _CHUNK):
            self.file.seek(begin * self.form.itemsize)
            some = np.frombuffer(self.file.read(_CHUNK * self.form.itemsize), self.form)
            yield PairBlock(*(some[field].copy() for field in PairBlock._fields))

    def sorted(self) -> Comparisons:
        """Return the distances of either kind, sorted."""
        return Comparisons.of_blocks(
            lambda: ((block.distances, block.same) for block in self.blocks()),
            self.counts,
            np.float32,
        )

    @property
    def distances(self) -> NDArray[np.float32]:
        """[T] float32, all distances."""
        return self._column("distances")

    @property
    def same(self) -> NDArray[np.bool_]:
        """[T] bool, whether each trial is of one identity."""
        return self._column("same")

    @property
    def ends(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """[T] integers each, the positions of the first and of the second templates."""
        return self._column("first"), self._column("second")

    def _column(self, field: str) -> NDArray[Any]:
        column = np.empty(len(self), self.form[field])
        begin = 0
        for block in self.blocks():
            some = getattr(block, field)
            column[begin : begin + len(some)] = some
            begin += len(some)
        return column

    @property
    def scores(self) -> NDArray[np.float32]:
        """[T] float32, the cosines: larger means more alike."""
        return np.float32(1) - self.distances / np.float32(2)


class Found(NamedTuple):
    """What a search in one gallery finds.

    Attributes:
        gallery: its name.
        candidates: the subjects that are closest to each probe, the closest first.
        truth: [P] int64, the number of each probe's subject; -1 where the gallery does not have it.
        subjects: how many the gallery has.
    """

    gallery: str
    candidates: Identification
    truth: NDArray[np.int64]
    subjects: int

    @property
    def hits(self) -> NDArray[np.bool_]:
        """[P, k] bool, whether a candidate is the probe's subject."""
        mates = np.where(self.mated, self.truth, -2)[:, None]  # -1 is no candidate
        hits: NDArray[np.bool_] = np.equal(self.candidates.identities.numpy(), mates)
        return hits

    @property
    def mated(self) -> NDArray[np.bool_]:
        """[P] bool, whether the gallery has the probe's subject."""
        return self.truth >= 0


def pool(
    embeddings: NDArray[Any], rows: NDArray[np.int64], templates: Templates
) -> PooledTemplates:
    r"""Average the embeddings of each template, media by media.

    The embeddings of a template's media :math:`m` are averaged first, then the media, so that a
    video of many frames weighs as much as a single image:

    .. math:: t = \frac{s}{\lVert s \rVert}, \quad
        s = \sum_m \frac{1}{|m|} \sum_{i \in m} x_i

    Args:
        embeddings: [N, D] float32, rows of length 1; perhaps mapped to a file.
        rows: [items] int64, the row of each item; -1 where it could not be embedded.
        templates: groups of items.

    Returns:
        The :class:`PooledTemplates`.

    Example:
        >>> x = np.eye(3, dtype=np.float32)
        >>> columns = np.array([[0, 0, 0], [0, 1, 2], [7, 7, 8]])
        >>> frames = Templates(["a"], ["1", "2", "3"], *columns, [""])
        >>> pool(x, np.arange(3), frames).embeddings.round(2)  # 1 and 2 are of one video
        array([[0.41, 0.41, 0.82]], dtype=float32)

    Source: Whitelam et al., *IARPA Janus Benchmark-B Face Dataset*, CVPRW 2017, section 4; the
    order of the averages is that of InsightFace's evaluation.
    """
    order = np.argsort(templates.template, kind="stable")
    of_row = rows[templates.item][order]
    there = of_row >= 0
    of_row = of_row[there]
    template, media = (of[order][there] for of in (templates.template, templates.media))
    # One number for each media of each template.
    groups = template * (int(media.max(initial=0)) + 1) + media
    _, group, images = np.unique(groups, return_inverse=True, return_counts=True)
    count = len(templates.ids)
    weights = 1.0 / images[group]
    pooled = np.zeros((count, embeddings.shape[1]), np.float32)
    for begin in range(0, len(of_row), _ROWS):
        part = slice(begin, begin + _ROWS)
        starts = np.flatnonzero(np.diff(template[part], prepend=-1))
        weighted = embeddings[of_row[part]] * weights[part, None]
        pooled[template[part][starts]] += np.add.reduceat(weighted, starts)
    for begin in range(0, count, _ROWS):
        some = pooled[begin : begin + _ROWS]
        lengths = np.linalg.norm(some.astype(np.float64), axis=1, keepdims=True)
        some /= np.where(lengths > 0, lengths, 1)
    return PooledTemplates(pooled, np.bincount(template, minlength=count) > 0)


def score(
    templates: PooledTemplates,
    trials: Iterable[TrialBlock],
    count: int,
    progress: Callable[[int, int], None] | None = None,
) -> TrialScores:
    r"""Measure the distances of trials, block by block.

    The distance is :math:`d = \lVert a - b \rVert^2 = 2 - 2 \cos(a, b)`, by direct differences:
    equal templates are at exactly 0. A template of length 0 is at 2 from everything. Each trial
    takes 9 bytes of a file, 13 with more than 32,768 templates; fewer than a million are in memory.

    Args:
        templates: what is compared.
        trials: positions of templates.
        count: of the trials.
        progress: called with how many trials are done, and how many there are.

    Returns:
        The :class:`TrialScores`, in the order of the trials.

    Example:
        >>> pooled = PooledTemplates(np.eye(2, dtype=np.float32), np.ones(2, bool))
        >>> block = TrialBlock(*np.array([[0, 0], [0, 1]], np.int32), np.array([True, False]))
        >>> score(pooled, [block], 2).scores.tolist()
        [1.0, 0.0]
    """
    code = np.int16 if len(templates.kept) <= 1 << 15 else np.int32
    form = np.dtype([("distances", np.float32), ("same", bool), ("first", code), ("second", code)])
    file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - it lives on
    used = np.zeros(len(templates.kept), bool)
    read = same = different = 0
    zero = np.asarray(~templates.embeddings.any(axis=1))
    zeros = bool(zero.any())
    for block in trials:
        read += len(block.same)
        block = _between(templates.kept, block)
        records = np.empty(len(block.same), form)
        distances = _squared_distances(templates.embeddings, block)
        if zeros:  # they are at 1 from rows of length 1, and at 0 from each other
            distances += zero[block.first].astype(np.float32) + zero[block.second]
        for field, values in zip(
            PairBlock._fields, (distances, block.same, block.first, block.second), strict=True
        ):
            records[field] = values
        used[block.first] = used[block.second] = True
        of_same = int(np.count_nonzero(block.same))
        same, different = same + of_same, different + len(block.same) - of_same
        with writing(Path(tempfile.gettempdir()), ""):
            file.write(records.tobytes())
        if progress is not None:
            progress(read, count)
    return TrialScores(file, form, (same, different), used, read - same - different)


def _between(kept: NDArray[np.bool_], block: TrialBlock) -> TrialBlock:
    """Return the trials whose templates are both kept."""
    there = kept[block.first] & kept[block.second]
    if there.all():
        return block
    return TrialBlock(block.first[there], block.second[there], block.same[there])


def _squared_distances(embeddings: NDArray[np.float32], block: TrialBlock) -> NDArray[np.float32]:
    """Return the distances of a block.

    NumPy, not torch: operations this short take longer on two threads than on one.
    """
    out = np.empty(len(block.same), np.float32)
    first, second = (np.empty((_PAIRS, embeddings.shape[1]), np.float32) for _ in range(2))
    for begin in range(0, len(out), _PAIRS):
        part = slice(begin, min(begin + _PAIRS, len(out)))
        a, b = (rows[: part.stop - begin] for rows in (first, second))
        np.take(embeddings, block.first[part], axis=0, out=a, mode="clip")  # without a copy
        np.take(embeddings, block.second[part], axis=0, out=b, mode="clip")
        a -= b
        np.einsum("ij,ij->i", a, a, out=out[part])
    return out


def search(templates: PooledTemplates, protocol: Search, candidates: int = 50) -> list[Found]:
    """Search for each probe in each gallery.

    Args:
        templates: of the protocol.
        protocol: says which are probes, and which are in the galleries.
        candidates: subjects to find for each probe, 1 to 100. NIST's investigation mode has 50.

    Returns:
        A :class:`Found` for each gallery, whose candidates and truth
        :func:`facenet_ext.recognition.cumulative_matches` and ``open_set_rates`` take. Templates
        that could not be embedded are in none.

    Source: Grother, Ngan, Hanaoka, *Face Recognition Vendor Test Part 2: Identification*, NISTIR
    8271, 2019.
    """
    results = []
    probes = protocol.probes[templates.kept[protocol.probes]]
    for gallery in protocol.galleries:
        rows = gallery.templates[templates.kept[gallery.templates]]
        whose = [protocol.templates.subjects[at] for at in rows]
        names, numbers = number_names(whose)
        place = {name: at for at, name in enumerate(names)}
        truth = [place.get(protocol.templates.subjects[at], -1) for at in probes]
        closest = identify(
            templates.embeddings[rows], numbers, templates.embeddings[probes], candidates
        )
        results.append(Found(gallery.name, closest, np.array(truth, np.int64), len(names)))
    return results
