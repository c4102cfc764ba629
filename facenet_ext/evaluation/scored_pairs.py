"""The pairs of an evaluation with their distances, in a file to compare with another one's."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray
from torch import Tensor

from facenet_ext._files import replacing
from facenet_ext.common.errors import InputError, one_line
from facenet_ext.common.text import comparable
from facenet_ext.embedding.folders import EVALUATION, PAIRS
from facenet_ext.evaluation.trial_scores import TrialScores
from facenet_ext.evaluation.trials import Trials
from facenet_ext.evaluation.verification import Verification

__all__ = [
    "ABOUT",
    "ScoredPairs",
    "fingerprint",
    "pairs_of_trials",
    "pairs_of_verification",
    "read_scored",
    "write_scored",
]

ABOUT = (
    *("run", "network", "views", "checkpoint", "trained"),
    *("protocol", "data", "date", "command", "warnings"),
)
"""What is kept of an evaluation's figures, for a report."""

_FORMAT = 1
_KEY = b"facenet_ext"
_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class ScoredPairs:
    """Pairs, how far apart each is, and whose it is.

    Attributes:
        distances: [N] float32, the squared Euclidean distance of each.
        same: [N] bool, whether it is of one identity.
        fingerprint: tells these pairs from others, see :func:`fingerprint`.
        first: [N] integers, the identity of one side, or with ``labels`` its place there; None
            where that is not known.
        second: [N] integers, that of the other side.
        labels: [items] integers, the identity of each item.
        accepted: [N] int8, whether accuracy takes the pair for one of one identity: 1 or 0; -1
            where it does not judge the pair. None where there is no accuracy.
        accuracy: the mean over folds.
        balanced: whether the two kinds of pair weigh the same in it.
        about: what was evaluated, as :data:`ABOUT` lists it, and the "folder" that it was read of.
    """

    distances: Tensor
    same: Tensor
    fingerprint: str
    first: Tensor | None = None
    second: Tensor | None = None
    labels: Tensor | None = None
    accepted: Tensor | None = None
    accuracy: float | None = None
    balanced: bool = False
    about: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def ends(self) -> tuple[Tensor, Tensor] | None:
        """The identities of both sides of each pair; None where they are not known."""
        if self.first is None or self.second is None:
            return None
        return self.first, self.second


def fingerprint(
    names: Sequence[str], first: Tensor, second: Tensor, same: Tensor, judged: Tensor | None = None
) -> str:
    """Return what tells pairs from all others: the same for the same pairs in the same order.

    Args:
        names: of the items.
        first: [N] integers, one item of each pair.
        second: [N] integers, the other item.
        same: [N] bool, whether they are of one identity.
        judged: [N] bool, whether accuracy judges the pair.

    Example:
        >>> ends, same = torch.tensor([[0, 1], [1, 2]]), torch.tensor([True, False])
        >>> one = fingerprint(["a", "b", "c"], *ends, same)
        >>> one == fingerprint(["a", "b", "c"], *ends.int(), same)
        True
        >>> one == fingerprint(["a", "b", "d"], *ends, same)
        False
    """
    digest = hashlib.sha256(json.dumps([comparable(name) for name in names]).encode())
    for some in _chunks(len(same)):
        for column in (first, second, same, judged):
            if column is not None:
                digest.update(column[some].to(torch.int32).numpy().tobytes())
    return digest.hexdigest()


def pairs_of_verification(verification: Verification, names: Sequence[str]) -> ScoredPairs:
    """Return the pairs of a verification.

    Args:
        verification: of the pairs.
        names: of the items that they are of.
    """
    pairs, accuracy = verification.pairs, verification.accuracy
    folds = pairs.folds.reshape(len(pairs.same), -1)
    judged = (folds == folds[:, :1]).all(1)
    place = torch.searchsorted(torch.unique(folds), folds[:, 0].contiguous())
    accepted = (verification.distances <= accuracy.thresholds[place]).to(torch.int8)
    known = pairs.labels is not None
    return ScoredPairs(
        verification.distances,
        pairs.same,
        fingerprint(names, pairs.first, pairs.second, pairs.same, judged),
        first=pairs.first if known else None,
        second=pairs.second if known else None,
        labels=pairs.labels,
        accepted=accepted.masked_fill(~judged, -1),
        accuracy=accuracy.mean,
        balanced=pairs.balanced,
    )


def pairs_of_trials(
    protocol: Trials, scored: TrialScores, labels: NDArray[np.int64]
) -> ScoredPairs:
    """Return the pairs of trials.

    Args:
        protocol: the trials.
        scored: their distances.
        labels: [K] the identity of each template.
    """
    numbers = (scored.distances, scored.first, scored.second, scored.same)
    distances, first, second, same = map(torch.from_numpy, numbers)
    return ScoredPairs(
        distances,
        same,
        fingerprint(protocol.templates.ids, first, second, same),
        first=first,
        second=second,
        labels=torch.from_numpy(labels),
    )


def write_scored(path: Path, pairs: ScoredPairs, figures: dict[str, Any]) -> None:
    """Write pairs as Parquet, whole or not at all: 4 to 7 bytes a pair.

    The columns are ``distance``, ``same``, ``first`` and ``second`` (the identities, where they are
    known), and ``accepted`` (where there is an accuracy).

    Args:
        path: of the file.
        pairs: to write.
        figures: of the evaluation; what the pairs' ``about`` has when they are read is among them.
    """
    told = {
        "format": _FORMAT,
        "fingerprint": pairs.fingerprint,
        "accuracy": pairs.accuracy,
        "balanced": pairs.balanced,
        "about": {key: figures[key] for key in ABOUT},
    }
    columns = [("distance", pa.float32()), ("same", pa.bool_())]
    columns += [(name, pa.int32()) for name in ("first", "second") if pairs.ends is not None]
    columns += [("accepted", pa.bool_())] * (pairs.accepted is not None)
    schema = pa.schema(columns, {_KEY: json.dumps(told).encode()})
    packed = {
        "compression": "zstd",
        "use_dictionary": ["first", "second"],
        "column_encoding": {"distance": "BYTE_STREAM_SPLIT"},
    }
    with replacing(path) as unfinished, pq.ParquetWriter(unfinished, schema, **packed) as writer:
        for some in _chunks(len(pairs.same)):
            chunk = [pairs.distances[some].numpy(), pairs.same[some].numpy()]
            for end in pairs.ends or ():
                whose = end[some] if pairs.labels is None else pairs.labels[end[some].long()]
                chunk.append(whose.to(torch.int32).numpy())
            if pairs.accepted is not None:
                accepted = pairs.accepted[some].numpy()
                chunk.append(pa.array(accepted == 1, mask=accepted < 0))
            writer.write_table(pa.table(chunk, schema=schema))


def read_scored(folder: Path) -> ScoredPairs:
    """Read the pairs that an evaluation kept.

    Args:
        folder: of a run, or that the evaluation wrote to.

    Raises:
        InputError: there are none, or the file is no such file.
    """
    places = (folder / PAIRS, folder / EVALUATION / PAIRS)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such folder; expected a run's, or one that 'facenet evaluate' wrote"
            )
        raise InputError(
            f"{folder}: has no pairs of an evaluation ({EVALUATION}/{PAIRS} is missing); make them "
            "with 'facenet evaluate'"
        )
    try:
        table = pq.read_table(path)
        told = json.loads(table.schema.metadata[_KEY])
        columns = {name: _tensor(table[name]) for name in table.column_names}
        known = told["format"] == _FORMAT
    except (OSError, pa.ArrowException, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: is damaged, or no file of an evaluation's pairs ({one_line(error)}); run "
            "'facenet evaluate' again"
        ) from None
    if not known:
        raise InputError(
            f"{path}: is in format {told['format']}, and this version reads {_FORMAT}; run "
            "'facenet evaluate' again"
        )
    return ScoredPairs(
        columns["distance"],
        columns["same"],
        told["fingerprint"],
        first=columns.get("first"),
        second=columns.get("second"),
        accepted=columns["accepted"].to(torch.int8) if "accepted" in columns else None,
        accuracy=told["accuracy"],
        balanced=told["balanced"],
        about={**told["about"], "folder": str(folder)},
    )


def _tensor(column: Any) -> Tensor:
    if column.type == pa.bool_() and column.null_count:
        column = column.cast(pa.int8()).fill_null(-1)
    return torch.from_numpy(np.copy(column.to_numpy()))  # torch wants it writable


def _chunks(count: int) -> Iterator[slice]:
    return (slice(begin, begin + _CHUNK) for begin in range(0, count, _CHUNK))
