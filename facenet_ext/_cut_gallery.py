"""The closest rows of a gallery that is cut over processes: each keeps its own rows.

The ranks send each other their probes, some thousand at a time. Each rank finds the k closest of
its own rows to every probe, and sends them to the rank whose probe it is. That rank takes the k
closest of all, by (distance, index). One process would find the same list, as no distance depends
on what else is in the gallery.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from facenet_ext import ops
from facenet_ext._agreement import check_same
from facenet_ext._ranks import Ranks

__all__ = ["nearest_in_cut_gallery"]

_PROBES = 4096
"""Of each rank at once: with 64 ranks and 128 dimensions 128 MiB in float32."""

_NONE = torch.iinfo(torch.int64).max
"""The index of a place in a list that no candidate has."""


def nearest_in_cut_gallery(
    ranks: Ranks, embeddings: Tensor, k: int, ref_emb: Tensor | None, distance: str
) -> tuple[Tensor, Tensor]:
    """Find the k closest rows of all ranks for each row of this one.

    Args:
        ranks: the processes.
        embeddings: ``[M_r, D]``, this rank's probes.
        k: neighbours of each.
        ref_emb: ``[N_r, D]``, this rank's rows of the gallery; None: the probes themselves, and
            none is its own neighbour.
        distance: see :func:`facenet_ext.neighbours.nearest`.

    Returns:
        ``[M_r, k]`` distances and indices, places in the gallery of all ranks in their order.

    Raises:
        ValueError: on every rank; arguments that differ, too few candidates, NaN.
    """
    dim, dtype = embeddings.shape[1], embeddings.dtype
    own_rows = ref_emb is None
    check_same(ranks, dim=dim, dtype=dtype, k=k, distance=distance, without_ref_emb=own_rows)
    rows = embeddings if ref_emb is None else ref_emb
    sizes = torch.tensor([len(embeddings), len(rows)], device=ranks.device)
    probes, gallery = ranks.all_gather(sizes).T.tolist()
    candidates = sum(gallery) - own_rows
    if k > candidates and sum(probes):
        raise ValueError(f"k: expected at most the {max(candidates, 0)} candidates, got {k}")
    offset = sum(gallery[: ranks.rank])
    others = None  # the closest of the rank's own rows to each of them, without the row itself
    if own_rows and len(rows) > 1:
        others = ops.nearest(rows, None, min(k, len(rows) - 1), distance)
    most = min(k, len(rows))
    parts = []
    for begin in range(0, max(probes), _PROBES):
        count = min(_PROBES, max(probes) - begin)
        own = embeddings[begin : begin + count]
        visiting = torch.zeros(count, dim, dtype=dtype, device=ranks.device)
        visiting[: len(own)] = own
        # As bytes: not every backend knows every type.
        visitors = ranks.all_gather(visiting.view(torch.uint8)).view(dtype).to(rows.device)
        lists = _lists(ranks.size, count, k, rows)
        for rank, theirs in enumerate(visitors):
            count_there = min(count, probes[rank] - begin)
            if own_rows and rank == ranks.rank:
                if others is not None:
                    _fill(lists, rank, [field[begin : begin + count] for field in others], offset)
            elif most and count_there > 0:
                _fill(lists, rank, ops.nearest(theirs[:count_there], rows, most, distance), offset)
        of_ranks = [ranks.all_to_all(field.to(ranks.device)) for field in lists]
        parts.append([field[: len(own)] for field in _first(k, *of_ranks)])
    distances, indices = (
        torch.cat([none[0, :0], *fields]).to(embeddings.device)
        for none, *fields in zip(_lists(1, 0, k, rows), *parts, strict=True)
    )
    missing = (indices[:, -1] == _NONE).nonzero()
    error = None
    if len(missing):
        error = ValueError(
            "embeddings, ref_emb: expected numbers, got NaN among the distances of row "
            f"{int(missing[0])}"
        )
    ranks.raise_anywhere(error)
    return distances, indices


def _lists(ranks: int, count: int, k: int, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Empty lists for the probes of each rank: distances and indices, ``[ranks, count, k]``."""
    dtype = torch.float64 if rows.dtype == torch.float64 else torch.float32
    distances = torch.full((ranks, count, k), torch.inf, dtype=dtype, device=rows.device)
    return distances, torch.full_like(distances, _NONE, dtype=torch.int64)


def _fill(lists: tuple[Tensor, Tensor], rank: int, closest: Sequence[Tensor], offset: int) -> None:
    """Enter what was found for the probes of a rank."""
    distances, indices = closest
    count, k = indices.shape
    lists[0][rank, :count, :k] = distances
    lists[1][rank, :count, :k] = torch.where(indices < 0, _NONE, indices + offset)


def _first(k: int, distances: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """The k closest of each probe, from the lists of all ranks, ``[ranks, count, k]``."""
    distances, indices = (field.movedim(0, 1).flatten(1) for field in (distances, indices))
    # A place without a candidate comes after all others, also those at infinity.
    by_index = indices.argsort(dim=1, stable=True)
    distances, indices = (field.gather(1, by_index) for field in (distances, indices))
    by_distance = distances.argsort(dim=1, stable=True)[:, :k]
    return distances.gather(1, by_distance), indices.gather(1, by_distance)
