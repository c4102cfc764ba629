"""Finds out whose probes are: searches in a gallery, closed and open set."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facenet_ext._agreement import check_same
from facenet_ext._claims import claiming, gather_pieces
from facenet_ext._ranks import Ranks
from facenet_ext.neighbours import nearest

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

SAME_IMAGE = 1e-6
"""Squared distance up to which two embeddings count as those of an image and its copy."""

_PROBES = 4096  # so many are searched for at once
_FEWEST = 256  # the least of a process: with fewer, reading the gallery would take longer
_CHUNK = 65_536  # so many rows of the gallery are in memory at once
_MOST_NEIGHBOURS = 1024  # one search returns no more


class Identification(NamedTuple):
    """The gallery's identities that are closest to each probe, the closest first.

    Attributes:
        distances: [M, k] float32, squared Euclidean, to the identity's closest row; infinity where
            the gallery has fewer than k identities.
        identities: [M, k] int64, the identities' numbers; -1 where the distance is infinite.
        rows: [M, k] int64, each identity's closest row of the gallery; -1 where it is infinite.
    """

    distances: Tensor
    identities: Tensor
    rows: Tensor


class OpenSetPoint(NamedTuple):
    """How an open-set search does at a threshold.

    Attributes:
        threshold: squared Euclidean distance up to which a probe is taken for someone.
        identified: the share of known probes, those whose identity is in the gallery, that are
            found there at rank 1 and within the threshold (detection and identification rate).
        false_alarms: the share of unknown probes that are within the threshold of someone.
    """

    threshold: float
    identified: float
    false_alarms: float


def identify(
    gallery: NDArray[Any],
    identities: NDArray[Any],
    probes: NDArray[Any],
    k: int = 5,
    *,
    leave_out: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    group: ProcessGroup | None = None,
) -> Identification:
    r"""Find the k identities of a gallery that are closest to each probe.

    An identity is as far away as the closest of its rows,
    :math:`d(p, c) = \min_{i : c_i = c} \lVert x_p - y_i \rVert^2`. Both sides may be mapped to
    files: neither is in memory as a whole.

    Args:
        gallery: [N, D] float32.
        identities: [N] integers from 0.
        probes: [M, D] float32.
        k: identities to find for each probe, 1 to 100.
        leave_out: squared distance up to which a row of the gallery is left out of a probe's
            search: ``SAME_IMAGE`` leaves out the probe itself and its copies.
        progress: called with how many probes are done, and how many there are.
        group: the processes that divide the work; all of them call it, with the same arguments.
            None: this process alone.

    Returns:
        An :class:`Identification`.

    Raises:
        ValueError: the gallery is empty, shapes do not fit, identities are not integers, or ``k``
            is out of range.

    Example:
        >>> gallery = np.array([[0.0], [0.1], [2.0]], np.float32)
        >>> closest = identify(gallery, np.array([0, 0, 1]), np.array([[0.2]], np.float32), k=2)
        >>> closest.identities.tolist(), closest.rows.tolist()
        ([[0, 1]], [[1, 2]])
        >>> itself = identify(gallery, np.array([0, 0, 1]), gallery, k=1, leave_out=SAME_IMAGE)
        >>> itself.rows.tolist()
        [[1], [0], [1]]

    Source: FaceNet (Schroff et al., CVPR 2015), section 1; ISO/IEC 19795-1 for the terms.
    """
    ranks = Ranks.among(group)
    with ranks.together():
        if not 1 <= k <= 100:
            raise ValueError(f"k: expected 1 to 100, got {k!r}")
        # Accepts tensors and lists too, and leaves a mapped file on disk.
        gallery, identities, probes = map(np.asanyarray, (gallery, identities, probes))
        if len(gallery) == 0 or len(gallery) != len(identities):
            raise ValueError(
                f"gallery: expected rows, one for each of {len(identities)} identities, "
                f"got {len(gallery)}"
            )
        if gallery.shape[1] != probes.shape[1]:
            raise ValueError(
                f"probes: expected {gallery.shape[1]} columns as the gallery has, "
                f"got {probes.shape[1]}"
            )
        if identities.dtype.kind not in "iu":
            raise ValueError(f"identities: expected integers from 0, got {identities.dtype}")
    shapes = [gallery.shape, identities.shape, probes.shape]
    check_same(ranks, shapes=shapes, k=k, leave_out=leave_out)
    # Rows of one identity lie side by side, so that few identities are in two chunks.
    order = np.argsort(identities, kind="stable")
    sorted_identities = torch.from_numpy(np.ascontiguousarray(identities[order])).long()
    size = _PROBES
    if ranks.size > 1:
        size = min(_PROBES, max(_FEWEST, math.ceil(len(probes) / (4 * ranks.size))))
    pieces = {}
    with claiming(ranks) as claims:
        if progress is not None:
            progress(0, len(probes))
        for number, begin in claims.of(range(0, len(probes), size)):
            block = torch.from_numpy(np.array(probes[begin : begin + size], np.float32))
            pieces[number] = _identify_block(gallery, order, sorted_identities, block, k, leave_out)
            done = claims.finish(len(block))
            if progress is not None:
                progress(done, len(probes))
    nothing = torch.empty(0, k, dtype=torch.int64)
    return Identification(*gather_pieces(ranks, pieces, (nothing.float(), nothing, nothing)))


def have_other_images(gallery: NDArray[Any], identities: NDArray[Any]) -> NDArray[np.bool_]:
    """Return for each identity whether a gallery has two different images of it, not just copies.

    Args:
        gallery: [N, D] float32.
        identities: [N] integers from 0, each of them at least once.

    Returns:
        [C] bool: False where leaving out an image and its copies leaves the identity no row.

    Example:
        >>> gallery = np.array([[0.0], [0.1], [2.0], [2.0]], np.float32)
        >>> have_other_images(gallery, np.array([0, 0, 1, 1])).tolist()
        [True, False]
    """
    first = np.unique(identities, return_index=True)[1]
    several = np.zeros(len(first), bool)
    for begin in range(0, len(gallery), _CHUNK):
        rows, names = (field[begin : begin + _CHUNK] for field in (gallery, identities))
        apart = np.square(rows - gallery[first[names]]).sum(1) > SAME_IMAGE
        several[names[apart]] = True
    return several


def _identify_block(
    gallery: NDArray[Any],
    order: NDArray[Any],
    identities: Tensor,
    probes: Tensor,
    k: int,
    leave_out: float | None,
) -> Identification:
    """Search the gallery chunk by chunk, and merge the closest identities of each."""
    best: Identification | None = None
    for begin in range(0, len(order), _CHUNK):
        rows = order[begin : begin + _CHUNK]
        candidates = torch.from_numpy(np.array(gallery[np.sort(rows)], np.float32))
        place = np.argsort(np.argsort(rows))  # of each row among the sorted ones
        candidates = candidates[torch.from_numpy(place)]
        owners = identities[begin : begin + _CHUNK]
        closest = _closest_identities(probes, candidates, owners, k, leave_out)
        in_gallery = torch.from_numpy(rows)[closest.rows.clamp(min=0)]
        closest = closest._replace(rows=torch.where(closest.rows < 0, -1, in_gallery))
        if best is not None:
            both = (torch.cat(of, 1) for of in zip(best, closest, strict=True))
            closest = _first_of_each(Identification(*both), k)
        best = closest
    assert best is not None
    return best


def _closest_identities(
    probes: Tensor, candidates: Tensor, owners: Tensor, k: int, leave_out: float | None
) -> Identification:
    """Search for more and more neighbours until those of every probe are of k identities."""
    available = int(torch.unique(owners).numel())
    wanted = min(k, available)
    count = min(len(candidates), max(2 * k, 8), _MOST_NEIGHBOURS)
    while True:
        distances, rows = nearest(probes, count, ref_emb=candidates)
        names = owners[rows]
        if leave_out is not None:
            names = names.masked_fill(distances <= leave_out, -1)
        closest = _first_of_each(Identification(distances, names, rows), k)
        lacking = closest.identities[:, wanted - 1] < 0
        if count == len(candidates) or not lacking.any():
            return closest
        if count == _MOST_NEIGHBOURS:  # a few identities own all of them
            # Of these probes alone, so that no probe's result depends on what is searched beside.
            rest = _one_by_one(probes[lacking], candidates, owners, k, leave_out)
            for field, values in zip(closest, rest, strict=True):
                field[lacking] = values
            return closest
        count = min(len(candidates), 4 * count, _MOST_NEIGHBOURS)


def _one_by_one(
    probes: Tensor, candidates: Tensor, owners: Tensor, k: int, leave_out: float | None
) -> Identification:
    """Search the rows of one identity after the other."""
    parts = []
    for identity in torch.unique(owners).tolist():
        own = (owners == identity).nonzero().flatten()
        if leave_out is None:
            distances, rows = nearest(probes, 1, ref_emb=candidates[own])
        else:
            distances, rows = _nearest_beyond(probes, candidates[own], leave_out)
        parts.append((distances, torch.full_like(rows, identity), own[rows]))
    distances, names, rows = (torch.cat(field, 1) for field in zip(*parts, strict=True))
    return _first_of_each(
        Identification(distances, names.masked_fill(distances.isinf(), -1), rows), k
    )


def _nearest_beyond(probes: Tensor, candidates: Tensor, leave_out: float) -> tuple[Tensor, Tensor]:
    """Return the distance of the closest row that is not left out, infinity if none is, and it."""
    parts = []
    # By torch.cdist: more rows may have to be left out than `nearest` returns.
    for block in torch.split(probes, 64):
        d = torch.cdist(block, candidates, compute_mode="donot_use_mm_for_euclid_dist").square()
        parts.append(d.masked_fill(d <= leave_out, torch.inf).min(1, keepdim=True))
    distances, rows = (torch.cat(field) for field in zip(*parts, strict=True))
    return distances, rows


def _first_of_each(found: Identification, k: int) -> Identification:
    """Keep each probe's closest row of each of the k closest identities; -1 is not an identity."""
    order = found.distances.argsort(dim=1, stable=True)
    distances, identities, rows = (of.gather(1, order) for of in found)
    in_order, order = identities.sort(dim=1, stable=True)
    first = torch.ones_like(in_order, dtype=torch.bool)
    first[:, 1:] = in_order[:, 1:] != in_order[:, :-1]
    is_first = torch.zeros_like(first).scatter(1, order, first) & (identities >= 0)
    place = is_first.cumsum(1) - 1
    kept = is_first & (place < k)
    shape = (len(distances), k)
    out = Identification(
        torch.full(shape, torch.inf),
        torch.full(shape, -1, dtype=torch.int64),
        torch.full(shape, -1, dtype=torch.int64),
    )
    probe, column = kept.nonzero(as_tuple=True)
    to = place[probe, column]
    for field, values in zip(out, (distances, identities, rows), strict=True):
        field[probe, to] = values[probe, column].to(field.dtype)
    return out


def cumulative_matches(found: Identification, truth: Sequence[int] | Tensor) -> Tensor:
    """Return the cumulative match characteristic: the share of probes identified by each rank.

    Args:
        found: what :func:`identify` returned.
        truth: [M] integers, the identity of each probe. Probes with -1 are not in the gallery and
            do not count.

    Returns:
        [k] float64, ascending; the first is the rank-1 rate. NaN where no probe counts.

    Example:
        >>> closest = Identification(*(torch.tensor([[1, 2], [2, 1]]),) * 3)
        >>> cumulative_matches(closest, [1, 1]).tolist()
        [0.5, 1.0]

    Source: Grother, Phillips, *Models of large population recognition performance*, CVPR 2004.
    """
    true = torch.as_tensor(truth)
    known = true >= 0
    hits = found.identities[known] == true[known, None]
    return hits.double().cumsum(1).mean(0)


def open_set_rates(
    found: Identification, truth: Sequence[int] | Tensor, thresholds: Sequence[float] | Tensor
) -> list[OpenSetPoint]:
    """Return the rates of an open-set search at each threshold.

    Args:
        found: what :func:`identify` returned.
        truth: [M] integers, the identity of each probe; -1 for those not in the gallery.
        thresholds: squared Euclidean distances.

    Returns:
        An :class:`OpenSetPoint` for each threshold. ``identified`` is NaN without known probes,
        ``false_alarms`` without unknown ones.

    Example:
        >>> closest = Identification(torch.tensor([[0.1], [0.7]]), *(torch.tensor([[3], [3]]),) * 2)
        >>> open_set_rates(closest, [3, -1], [0.5])
        [OpenSetPoint(threshold=0.5, identified=1.0, false_alarms=0.0)]

    Source: Phillips, Grother, Micheals, *Evaluation methods in face recognition*, Handbook of Face
    Recognition, 2011 (detection and identification rate).
    """
    true = torch.as_tensor(truth)
    known = true >= 0
    distances = found.distances[:, 0]
    right = distances[known & (found.identities[:, 0] == true)].sort().values
    unknown = distances[~known].sort().values
    at = torch.as_tensor(thresholds, dtype=torch.float64)
    identified, alarms = (
        (torch.searchsorted(values, at.to(values.dtype), right=True).double() / among).tolist()
        for values, among in ((right, known.sum()), (unknown, (~known).sum()))
    )
    return [OpenSetPoint(*point) for point in zip(at.tolist(), identified, alarms, strict=True)]
