"""The pairs of an evaluation with their distances, in a file to compare with another one's."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
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
from facenet_ext.metrics.sources import PairSource, TensorPairs

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

_FORMAT = 2
_KEY = b"facenet_ext"
_FOLDS = ((), ("fold",), ("first_fold", "second_fold"))


@dataclasses.dataclass(frozen=True)
class ScoredPairs:
    """Pairs, how far apart each is, and whose it is.

    Attributes:
        pairs: with their distances.
        fingerprint: tells these pairs from others, see :func:`fingerprint`.
        known: whether it is known whose they are.
        labels: [items] integers, the identity of each item; None where items are identities.
        accepted: [N] int8, whether accuracy takes the pair for one of one identity: 1 or 0; -1
            where it does not judge the pair. None where there is no accuracy.
        folds: [N] or [N, 2] integers, as :class:`.Pairs` has them; None where there is no accuracy.
        accuracy: the mean over folds.
        balanced: whether the two kinds of pair weigh the same in it.
        about: what was evaluated, as :data:`ABOUT` lists it, and the "folder" that it was read of.
    """

    pairs: PairSource
    fingerprint: str
    known: bool
    labels: Tensor | None = None
    accepted: Tensor | None = None
    folds: Tensor | None = None
    accuracy: float | None = None
    balanced: bool = False
    about: dict[str, Any] = dataclasses.field(default_factory=dict)


def fingerprint(names: Sequence[str], pairs: PairSource, judged: Tensor | None = None) -> str:
    """Return what tells pairs from all others: the same for the same pairs in the same order.

    Args:
        names: of the items.
        pairs: of the items; their distances do not count.
        judged: [N] bool, whether accuracy judges the pair.

    Example:
        >>> ends, same = torch.tensor([[0, 1], [1, 2]]), torch.tensor([True, False])
        >>> one = fingerprint(["a", "b", "c"], TensorPairs(torch.rand(2), same, *ends))
        >>> one == fingerprint(["a", "b", "c"], TensorPairs(torch.rand(2), same, *ends.int()))
        True
        >>> one == fingerprint(["a", "b", "d"], TensorPairs(torch.rand(2), same, *ends))
        False
    """
    columns = [hashlib.sha256() for _ in range(3)]
    for block in pairs.blocks():
        for digest, column in zip(columns, (block.first, block.second, block.same), strict=True):
            assert column is not None
            digest.update(column.astype(np.int32).tobytes())
    told = [[comparable(name) for name in names], *(digest.hexdigest() for digest in columns)]
    whole = hashlib.sha256(json.dumps(told).encode())
    if judged is not None:
        whole.update(judged.numpy().tobytes())
    return whole.hexdigest()


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
    source = TensorPairs(verification.distances, pairs.same, pairs.first, pairs.second)
    return ScoredPairs(
        source,
        fingerprint(names, source, judged),
        known=pairs.labels is not None,
        labels=pairs.labels,
        accepted=accepted.masked_fill(~judged, -1),
        folds=pairs.folds,
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
    told = fingerprint(protocol.templates.ids, scored)
    return ScoredPairs(scored, told, known=True, labels=torch.from_numpy(labels))


def write_scored(path: Path, pairs: ScoredPairs, figures: dict[str, Any]) -> None:
    """Write pairs as Parquet, whole or not at all: 4 to 7 bytes a pair.

    The columns are ``distance``, ``same``, ``first`` and ``second`` (the identities, where they are
    known), and ``accepted`` and ``fold``, or ``first_fold`` and ``second_fold`` (where there is an
    accuracy).

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
    columns += [(name, pa.int32()) for name in ("first", "second") if pairs.known]
    columns += [("accepted", pa.bool_())] * (pairs.accepted is not None)
    folds: list[Any] = []
    if pairs.folds is not None:
        folds = list(pairs.folds.reshape(len(pairs.folds), -1).T.numpy())
    fold_names = _FOLDS[len(folds)]
    columns += [(name, pa.int32()) for name in fold_names]
    schema = pa.schema(columns, {_KEY: json.dumps(told).encode()})
    packed = {
        "compression": "zstd",
        "use_dictionary": ["first", "second", *fold_names],
        "column_encoding": {"distance": "BYTE_STREAM_SPLIT"},
    }
    with replacing(path) as unfinished, pq.ParquetWriter(unfinished, schema, **packed) as writer:
        begin = 0
        for block in pairs.pairs.blocks():
            chunk: list[Any] = [block.distances, block.same]
            for end in (block.first, block.second) if pairs.known else ():
                whose = end if pairs.labels is None else pairs.labels.numpy()[end]
                chunk.append(np.asarray(whose, np.int32))
            if pairs.accepted is not None:
                accepted = pairs.accepted[begin : begin + len(block.same)].numpy()
                chunk.append(pa.array(accepted == 1, mask=accepted < 0))
            chunk += [np.asarray(of[begin : begin + len(block.same)], np.int32) for of in folds]
            writer.write_table(pa.table(chunk, schema=schema))
            begin += len(block.same)


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
    ends = (columns.get("first"), columns.get("second"))
    folds = [columns[name] for name in columns if name.endswith("fold")]
    return ScoredPairs(
        TensorPairs(columns["distance"], columns["same"], *ends),
        told["fingerprint"],
        known="first" in columns,
        accepted=columns["accepted"].to(torch.int8) if "accepted" in columns else None,
        folds=torch.stack(folds, 1).squeeze(1) if folds else None,
        accuracy=told["accuracy"],
        balanced=told["balanced"],
        about={**told["about"], "folder": str(folder)},
    )


def _tensor(column: Any) -> Tensor:
    if column.type == pa.bool_() and column.null_count:
        column = column.cast(pa.int8()).fill_null(-1)
    return torch.from_numpy(np.copy(column.to_numpy()))  # torch wants it writable
