"""Random rules draw each negative as often as they should, whatever computes it."""

from __future__ import annotations

import pytest
import torch
from helpers import (
    RANDOM,
    UNIFORM,
    SetThreads,
    assert_frequencies,
    assert_same_triplets,
    made_on_cpu,
    seeded,
    unit_batch,
    with_seed,
)
from torch import Tensor

from facenet_ext.functional import mined_triplet_loss, select_triplets

# --- how often -----------------------------------------------------------------------------------


QUALIFYING = 10


@made_on_cpu
def crowd(anchors: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Anchors at 0 that share two positives at 1, ten negatives that qualify, ten that do not."""
    places = torch.cat([torch.ones(2), torch.full((10,), 1.5), torch.full((10,), 9.0)])
    order = torch.randperm(22, generator=torch.Generator().manual_seed(3))
    ref_labels = torch.cat([torch.zeros(2), torch.arange(1, 21)])[order].long()
    return (
        torch.zeros(anchors, 1),
        torch.zeros(anchors, dtype=torch.int64),
        places[order].unsqueeze(1),
        ref_labels,
    )


def draws_of_a_crowd(seed: int, negatives: str, anchors: int = 3000) -> Tensor:
    """[anchors, 2]: which of the ten, for either positive."""
    x, y, c, z = crowd(anchors)
    t = select_triplets(
        x, y, negatives=negatives, margin=2.0, ref_emb=c, ref_labels=z, generator=seeded(seed)
    )
    assert len(t.anchor) == 2 * anchors
    number = (c.flatten() == 1.5).cumsum(0) - 1
    return number[t.negative].reshape(anchors, 2).cpu()


def assert_independent(a: Tensor, b: Tensor) -> None:
    """All pairs of draws are as frequent, and two are the same no more often than they should be.

    The latter alone notices that a pair of positives shares an order of their negatives.
    """
    table = torch.bincount(a * QUALIFYING + b, minlength=QUALIFYING**2)
    assert_frequencies(table, torch.ones(QUALIFYING**2))
    same = (a == b).long()
    assert_frequencies(torch.bincount(same), torch.tensor([QUALIFYING - 1.0, 1.0]))


@pytest.mark.parametrize("negatives", UNIFORM)
def test_every_negative_that_qualifies_is_drawn_as_often(negatives: str) -> None:
    drawn = draws_of_a_crowd(0, negatives)
    assert_frequencies(torch.bincount(drawn.flatten()), torch.ones(QUALIFYING))


@pytest.mark.parametrize("between", ["positives", "anchors", "seeds"])
def test_draws_are_independent(between: str) -> None:
    """Between two positives of an anchor, two anchors that lie together, two seeds."""
    drawn = draws_of_a_crowd(1, "random_violating")
    a, b = {
        "positives": lambda: (drawn[:, 0], drawn[:, 1]),
        "anchors": lambda: (drawn[:-1, 0], drawn[1:, 0]),
        "seeds": lambda: (drawn[:, 0], draws_of_a_crowd(2, "random_violating")[:, 0]),
    }[between]()
    assert_independent(a, b)


def test_seeds_that_follow_each_other_draw_independently() -> None:
    x = torch.tensor([0.0, 1.0, *[1.5] * QUALIFYING]).unsqueeze(1)
    y = torch.tensor([0, 0, *range(1, QUALIFYING + 1)])
    drawn = torch.stack(
        [with_seed(s, x, y, "random_violating", 2.0).negative[0] for s in range(2000)]
    )
    drawn = drawn.cpu() - 2
    assert_frequencies(torch.bincount(drawn), torch.ones(QUALIFYING))
    assert_independent(drawn[:-1], drawn[1:])


@pytest.mark.parametrize("dim", [3, 16])
def test_weights_are_those_of_pytorch_metric_learning(
    monkeypatch: pytest.MonkeyPatch, dim: int
) -> None:
    """Its miner computes weights [anchors, candidates] and draws from them: we draw as often."""
    miners = pytest.importorskip("pytorch_metric_learning.miners")
    loss_and_miner_utils = pytest.importorskip("pytorch_metric_learning.utils.loss_and_miner_utils")
    taken: list[Tensor] = []
    monkeypatch.setattr(
        loss_and_miner_utils,
        "get_random_triplet_indices",
        lambda labels, ref_labels, weights: taken.append(weights) or (labels,) * 3,
    )
    x, y = unit_batch("halves", 24, dim, torch.float64)
    x[3] = 0.7 * x[0] + 0.3 * x[3]  # nearer than the cutoff to some
    x = torch.nn.functional.normalize(x, dim=1)
    miners.DistanceWeightedMiner()(x, y)
    (weights,) = taken
    counts = torch.zeros(24, 24)
    for seed in range(200):
        t = with_seed(seed, x, y, "distance_weighted")
        counts += torch.bincount(t.anchor * 24 + t.negative, minlength=24 * 24).reshape(24, 24)
    some = weights.sum(1) > 0
    assert some.sum() > 12
    assert not counts[~some].any()
    assert_frequencies(counts[some].cpu(), weights[some].cpu())


# --- what a draw depends on ----------------------------------------------------------------------


@pytest.mark.parametrize("negatives", RANDOM)
def test_the_same_generator_state_the_same_triplets(negatives: str) -> None:
    x, y = unit_batch("quads", 97, 8)
    generator = seeded(5)
    first, second = (
        select_triplets(x, y, negatives=negatives, generator=generator) for _ in range(2)
    )
    again = select_triplets(x, y, negatives=negatives, generator=seeded(5))
    assert_same_triplets(again, first)
    assert first.negative.tolist() != second.negative.tolist()


@pytest.mark.parametrize("negatives", RANDOM)
def test_the_default_generator_is_drawn_from_once_per_call(negatives: str) -> None:
    x, y = unit_batch("quads", 97, 8)
    results = []
    for _ in range(2):
        torch.manual_seed(11)
        first = select_triplets(x, y, negatives=negatives)
        loss = mined_triplet_loss(x, y, negatives=negatives)
        results.append((first.negative.tolist(), float(loss)))
    assert results[0] == results[1]
    torch.manual_seed(11)
    for _ in range(2):
        torch.randint(2**63 - 1, ())
    after = torch.rand(3)
    torch.manual_seed(11)
    select_triplets(x, y, negatives=negatives)
    mined_triplet_loss(x, y, negatives=negatives)
    assert torch.rand(3).tolist() == after.tolist()


def test_other_rules_leave_the_generator_alone() -> None:
    x, y = unit_batch("quads", 97, 8)
    generator = seeded(1)
    before = generator.get_state()
    select_triplets(x, y, generator=generator)
    mined_triplet_loss(x, y, generator=generator)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("negatives", RANDOM)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_number_of_threads_draws_the_same(
    set_threads: SetThreads, negatives: str, dtype: torch.dtype
) -> None:
    x, y = unit_batch("uneven", 700, 24, dtype)
    results = []
    for threads in (1, 2, 4):
        set_threads(threads)
        t = select_triplets(x, y, negatives=negatives, margin=0.4, generator=seeded())
        loss = mined_triplet_loss(x, y, 0.4, negatives=negatives, generator=seeded())
        results.append([tensor.tolist() for tensor in (*t, loss)])
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("negatives", RANDOM)
def test_the_values_of_labels_do_not_show(negatives: str) -> None:
    """Rows are sorted by label inside: in another order, with other tiles."""
    x, y = unit_batch("quads", 200, 16)
    expected = select_triplets(x, y, negatives=negatives, margin=0.4, generator=seeded())
    other = (y * 7919 + 13) % 104729
    actual = select_triplets(x, other, negatives=negatives, margin=0.4, generator=seeded())
    assert_same_triplets(actual, expected)
    assert actual.d_an.tolist() == expected.d_an.tolist()


@pytest.mark.parametrize("negatives", RANDOM)
def test_a_bank_of_the_same_rows_draws_the_same(negatives: str) -> None:
    x, y = unit_batch("quads", 130, 16)
    ids = torch.arange(130)
    copies = {"ref_emb": x, "ref_labels": y, "anchor_ids": ids, "ref_ids": ids}
    expected = select_triplets(x, y, negatives=negatives, margin=0.4, generator=seeded())
    actual = select_triplets(x, y, negatives=negatives, margin=0.4, generator=seeded(), **copies)
    assert_same_triplets(actual, expected)


@pytest.mark.parametrize("negatives", RANDOM)
def test_candidates_may_come_in_chunks(negatives: str) -> None:
    """With more candidates behind them a pair keeps its negative, or takes a new one."""
    x, y = unit_batch("quads", 200, 16)
    fewer = {"ref_emb": x[:120], "ref_labels": y[:120]}
    more = {"ref_emb": x, "ref_labels": y}
    of_pair = [
        {(int(a), int(p)): int(n) for a, p, n in zip(*t[:3], strict=True)}
        for t in (
            select_triplets(x, y, negatives=negatives, margin=0.4, generator=seeded(), **chunk)
            for chunk in (fewer, more)
        )
    ]
    assert of_pair[0].keys() <= of_pair[1].keys()
    kept = [of_pair[1][pair] == n for pair, n in of_pair[0].items()]
    assert 0.3 < sum(kept) / len(kept) < 0.9
    for pair, n in of_pair[0].items():
        assert of_pair[1][pair] == n or of_pair[1][pair] >= 120
