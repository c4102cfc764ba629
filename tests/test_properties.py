"""Properties that hold for every batch, looked for by hypothesis.

Embeddings are small integers: float32 distances are exact and ties are frequent, so that the
properties hold exactly.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
import torch
from helpers import (
    DISTANCES,
    FALLBACKS,
    NEGATIVES,
    POSITIVES,
    assert_same_triplets,
    made_on_cpu,
    pair_masks,
)

from facenet_ext import reference
from facenet_ext.functional import mined_triplet_loss, select_triplets, triplet_loss
from facenet_ext.losses import TripletLoss
from facenet_ext.memory import CrossBatchMemory

pytest.importorskip("hypothesis")

from hypothesis import assume, given
from hypothesis import strategies as st

Batch = tuple[torch.Tensor, torch.Tensor]


@st.composite
@made_on_cpu
def batches(draw: st.DrawFn, max_rows: int = 40, dim: int | None = None) -> Batch:
    """Integer embeddings [n, dim] and labels [n]: few or many classes, near or spread out."""
    n = draw(st.integers(0, max_rows))
    dim = draw(st.integers(1, 20)) if dim is None else dim
    spread, classes = draw(st.integers(1, 9)), draw(st.integers(1, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    x = torch.randint(-spread, spread + 1, (n, dim), generator=generator).float()
    return x, torch.randint(0, classes, (n,), generator=generator)


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "positives": draw(st.sampled_from(POSITIVES)),
        "negatives": draw(st.sampled_from(NEGATIVES)),
        "fallback": draw(st.sampled_from(FALLBACKS)),
        "within_margin": draw(st.booleans()),
        "margin": float(draw(st.integers(0, 20))),
        "distance": draw(st.sampled_from(("sqeuclidean", "euclidean"))),
    }


@given(batches(), rules())
def test_the_oracle_selects_the_same(batch: Batch, options: dict[str, Any]) -> None:
    assert_same_triplets(
        select_triplets(*batch, **options), reference.select_triplets(*batch, **options)
    )


@given(batches(), batches(dim=1), rules(), st.data())
def test_the_oracle_selects_the_same_from_a_bank(
    batch: Batch, bank: Batch, options: dict[str, Any], data: st.DataObject
) -> None:
    x, y = batch
    c, z = bank
    c = c.expand(-1, x.shape[1])
    options = options | {"ref_emb": c, "ref_labels": z}
    if data.draw(st.booleans()):
        options |= {"anchor_ids": torch.arange(len(x)) % 7, "ref_ids": torch.arange(len(c)) % 11}
    expected = reference.select_triplets(x, y, **options)
    assert_same_triplets(select_triplets(x, y, **options), expected)


@given(batches())
def test_semihard_selects_the_nearest_negative_strictly_beyond_the_positive(batch: Batch) -> None:
    """Checked against the definition itself, for every negative of every pair."""
    x, y = batch
    d = (x.unsqueeze(0) - x.unsqueeze(1)).square().sum(-1)
    _, is_negative = pair_masks(y)
    t = select_triplets(x, y, fallback="drop")
    assert torch.equal(t.d_ap, d[t.anchor, t.positive])
    assert torch.equal(t.d_an, d[t.anchor, t.negative])
    assert (t.d_an > t.d_ap).all()
    beyond = is_negative[t.anchor] & (d[t.anchor] > t.d_ap.unsqueeze(1))
    assert not (beyond & (d[t.anchor] < t.d_an.unsqueeze(1))).any()


@given(batches(), rules())
def test_every_usable_anchor_has_its_triplets(batch: Batch, options: dict[str, Any]) -> None:
    """With the farthest as fallback nothing is left out: as many triplets as pairs or anchors."""
    x, y = batch
    is_positive, is_negative = pair_masks(y)
    usable = is_positive & is_negative.any(1, keepdim=True)
    t = select_triplets(x, y, **(options | {"fallback": "farthest"}))
    pairs = usable if options["positives"] == "all" else usable.any(1)
    assert len(t.anchor) == int(pairs.sum())
    dropped = select_triplets(x, y, **(options | {"fallback": "drop"}))
    assert len(dropped.anchor) <= len(t.anchor)


@given(batches(), rules(), st.randoms(use_true_random=False))
def test_permuting_the_rows_permutes_the_triplets(
    batch: Batch, options: dict[str, Any], random: Any
) -> None:
    """Ties may be decided for another row, but at the same distances."""
    x, y = batch
    order = torch.tensor(random.sample(range(len(x)), len(x)), dtype=torch.int64)
    t, s = select_triplets(x, y, **options), select_triplets(x[order], y[order], **options)
    if options["positives"] == "all":
        key = t.anchor * len(x) + t.positive
        permuted = (order[s.anchor] * len(x) + order[s.positive]).argsort()
        assert torch.equal(key, (order[s.anchor] * len(x) + order[s.positive])[permuted])
    else:
        permuted = order[s.anchor].argsort()
        assert torch.equal(t.anchor, order[s.anchor][permuted])
    assert torch.equal(t.d_ap, s.d_ap[permuted])
    assert torch.equal(t.d_an, s.d_an[permuted])


@given(batches(), rules(), st.integers(-50, 50))
def test_a_common_offset_changes_nothing(
    batch: Batch, options: dict[str, Any], offset: int
) -> None:
    x, y = batch
    shifted = x + offset * torch.arange(1, x.shape[1] + 1)
    t, s = select_triplets(x, y, **options), select_triplets(shifted, y, **options)
    assert all(torch.equal(a, b) for a, b in zip(t, s, strict=True))


@given(batches(), rules(), st.integers(-8, 8))
def test_a_power_of_two_scales_the_distances(
    batch: Batch, options: dict[str, Any], power: int
) -> None:
    x, y = batch
    factor = 2.0**power
    of_distance = factor**2 if options["distance"] == "sqeuclidean" else factor
    t = select_triplets(x, y, **options)
    s = select_triplets(x * factor, y, **(options | {"margin": options["margin"] * of_distance}))
    assert_same_triplets(s, t)
    assert torch.equal(t.d_ap * of_distance, s.d_ap)
    assert torch.equal(t.d_an * of_distance, s.d_an)


@given(batches(), rules())
def test_only_the_equality_of_labels_counts(batch: Batch, options: dict[str, Any]) -> None:
    x, y = batch
    renamed = (y * 7919 - 2**62) ^ 5
    assert_same_triplets(select_triplets(x, renamed, **options), select_triplets(x, y, **options))


@given(batches(), rules(), st.sampled_from(DISTANCES))
def test_a_batch_is_its_own_bank_when_ids_are_given(
    batch: Batch, options: dict[str, Any], distance: str
) -> None:
    x, y = batch
    ids = torch.arange(len(x))
    options = options | {"distance": distance}
    bank = {"ref_emb": x, "ref_labels": y, "anchor_ids": ids, "ref_ids": ids}
    t, s = select_triplets(x, y, **options), select_triplets(x, y, **options, **bank)
    if distance == "cosine":  # rounding may decide ties differently
        assert torch.equal(t.anchor, s.anchor)
        torch.testing.assert_close(t.d_an, s.d_an, rtol=1e-5, atol=1e-6)
    else:
        assert all(torch.equal(a, b) for a, b in zip(t, s, strict=True))


@given(batches(dim=3), batches(dim=3), st.sampled_from(NEGATIVES), st.integers(0, 40))
def test_a_bank_may_come_in_chunks(batch: Batch, bank: Batch, negatives: str, cut: int) -> None:
    """The nearest negative of a bank is the nearer of those of its two chunks."""
    x, y = batch
    c, z = bank
    options: dict[str, Any] = {"negatives": negatives, "fallback": "drop"}

    def nearest(chunk: torch.Tensor) -> dict[tuple[int, int], float]:
        """d_an of each pair; every chunk of negatives has the positives, the batch, before it."""
        other = ~torch.isin(z[chunk], y)
        t = select_triplets(
            x,
            y,
            ref_emb=torch.cat([x, c[chunk][other]]),
            ref_labels=torch.cat([y, z[chunk][other]]),
            **options,
        )
        pairs = zip(t.anchor.tolist(), t.positive.tolist(), strict=True)
        return dict(zip(pairs, t.d_an.tolist(), strict=True))

    rows = torch.arange(len(c))
    first, second, whole = nearest(rows[:cut]), nearest(rows[cut:]), nearest(rows)
    infinity = float("inf")
    merged = {
        pair: min(first.get(pair, infinity), second.get(pair, infinity))
        for pair in first.keys() | second.keys()
    }
    assert merged == whole


@given(batches(), rules(), st.booleans())
def test_the_mined_loss_is_the_loss_of_the_selection(
    batch: Batch, options: dict[str, Any], smooth: bool
) -> None:
    x, y = batch
    margin, distance = options["margin"], options["distance"]
    t = select_triplets(x, y, **options)
    keywords: dict[str, Any] = {"smooth": smooth, "distance": distance, "reduction": "none"}
    apart = triplet_loss(x, t, margin, **keywords)
    del options["margin"], options["distance"]
    mined = mined_triplet_loss(x, y, margin, **options, **keywords)
    assert torch.equal(mined, apart)


@given(batches(), st.sampled_from(("sqeuclidean", "euclidean")))
def test_the_gradient_sums_to_zero_over_the_rows(batch: Batch, distance: str) -> None:
    """The loss does not change when all rows move together."""
    x, y = batch
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(mined_triplet_loss(x, y, 5.0, distance=distance), x)
    assert (gradient.sum(0).abs() <= 1e-5 * gradient.abs().sum(0)).all()


@given(batches(), st.integers(0, 20), st.integers(1, 20))
def test_the_loss_grows_with_the_margin(batch: Batch, margin: int, more: int) -> None:
    x, y = batch
    assume(len(select_triplets(x, y).anchor) > 0)
    small, large = mined_triplet_loss(x, y, margin), mined_triplet_loss(x, y, margin + more)
    assert 0 <= small <= large
    assert large <= (small + more) * (1 + 1e-6)
    assert mined_triplet_loss(x, y, margin, reduction="mean_nonzero") >= small


# --- a memory is a list of the last rows ---------------------------------------------------------

# Of each step: the rows of the batch, and which of them are enqueued.
STEPS = st.lists(
    st.tuples(st.integers(0, 15), st.sampled_from(("all", "none", "some"))), max_size=8
)


@made_on_cpu
def draw_items(n: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Embeddings, labels, ids and a mask."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(n, 3, generator=generator, dtype=torch.float64),
        torch.randint(0, 4, (n,), generator=generator),
        torch.randint(0, 30, (n,), generator=generator),
        torch.randint(0, 2, (n,), generator=generator).bool(),
    )


def oracle_of_memory(batch: Batch, ids: torch.Tensor, rows: deque[Any]) -> torch.Tensor:
    c, z, ref_ids = ([row[k] for row in rows] for k in range(3))
    return reference.mined_triplet_loss(
        *batch,
        ref_emb=torch.tensor(c, dtype=torch.float64).reshape(len(c), 3),
        ref_labels=torch.tensor(z, dtype=torch.int64),
        anchor_ids=ids,
        ref_ids=torch.tensor(ref_ids, dtype=torch.int64),
    )


@given(st.integers(1, 20), STEPS, st.booleans(), st.booleans(), st.integers(0, 2**32))
def test_a_memory_is_a_list_of_the_last_rows(
    size: int, steps: list[tuple[int, str]], with_ids: bool, anchors: bool, seed: int
) -> None:
    """Batches of any size, smaller and larger than it, and wrapping around."""
    memory = CrossBatchMemory(TripletLoss(), 3, size, dtype=torch.float64)
    rows: deque[tuple[list[float], int, int]] = deque(maxlen=size)
    serial = 0
    for k, (n, which) in enumerate(steps):
        x, y, ids, mask = draw_items(n, seed + k)
        given_ids = ids if with_ids else None
        enqueue = {"all": True, "none": False}.get(which, mask)
        mask = mask if which == "some" else torch.full_like(mask, which == "all")
        if not with_ids:  # every row is an item of its own
            ids = torch.arange(serial, serial + n)
            serial += n
        new = zip(x[mask].tolist(), y[mask].tolist(), ids[mask].tolist(), strict=True)
        rows.extend(new)
        if anchors:
            loss = memory(x, y, ids=given_ids, enqueue=enqueue)
            torch.testing.assert_close(loss, oracle_of_memory((x, y), ids, rows))
        else:
            memory.enqueue(x[mask], y[mask], ids=None if given_ids is None else ids[mask])
        stored = memory.embeddings[: len(memory)].tolist()
        labels = memory.labels[: len(memory)].tolist()
        assert sorted(zip(stored, labels, strict=True)) == sorted(row[:2] for row in rows)
        if with_ids:
            assert sorted(memory.ids[: len(memory)].tolist()) == sorted(row[2] for row in rows)
