"""Random rules select what the oracle draws, and each negative as often as it should."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers import (
    COLUMNS,
    DISTANCES,
    POSITIVES,
    RANDOM,
    ROWS,
    UNIFORM,
    assert_frequencies,
    assert_loss_and_gradients,
    assert_same_triplets,
    bank,
    make_batch,
    make_cloud,
    make_labels,
    seeded,
    unit_batch,
    with_seed,
    without_ids,
)
from tolerances import DTYPES, assert_distances_close, result_dtype
from torch import Tensor

from facenet_ext import reference
from facenet_ext.functional import (
    Triplets,
    mined_triplet_loss,
    select_triplets,
    triplet_loss,
)
from facenet_ext.losses import TripletLoss
from facenet_ext.miners import TripletMiner
from facenet_ext.reference.draws import RANDOM_RULES, RandomOptions, draws


def assert_drawn_as_by_the_oracle(actual: Triplets, expected: Triplets, **bank: Any) -> None:
    assert_same_triplets(actual, expected)
    assert actual.d_ap.tolist() == expected.d_ap.tolist()
    assert actual.d_an.tolist() == expected.d_an.tolist()


# --- the oracle's draws, where arithmetic is exact -----------------------------------------------


@pytest.mark.parametrize("negatives", UNIFORM)
@pytest.mark.parametrize("positives", POSITIVES)
@pytest.mark.parametrize("distance", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize(("layout", "n"), [("quads", 96), ("uneven", 97), ("pairs", 49)])
def test_integers_under_every_random_rule(
    negatives: str, positives: str, distance: str, layout: str, n: int
) -> None:
    """With margin 4 many negatives lie exactly at the margin: they do not qualify."""
    x, y = make_batch(layout, n, 5, cloud="integers")
    rule = {"negatives": negatives, "positives": positives, "distance": distance, "margin": 4.0}
    actual = select_triplets(x, y, generator=seeded(), **rule)
    assert_same_triplets(actual, reference.select_triplets(x, y, generator=seeded(), **rule))
    assert len(actual.anchor) > 0


@pytest.mark.parametrize("negatives", RANDOM)
@pytest.mark.parametrize("positives", POSITIVES)
def test_cosine_of_axes_and_zero_rows(negatives: str, positives: str) -> None:
    x, y = make_batch("uneven", 97, 4, cloud="axes")
    rule = {"negatives": negatives, "positives": positives, "distance": "cosine", "margin": 1.5}
    rule["nonzero_loss_cutoff"] = 1.5  # rows at right angles are at 1.41
    expected = reference.select_triplets(x, y, generator=seeded(), **rule)
    actual = select_triplets(x, y, generator=seeded(), **rule)
    assert_drawn_as_by_the_oracle(actual, expected)
    assert len(actual.anchor) > 0


@pytest.mark.parametrize("n", ROWS)
@pytest.mark.parametrize("negatives", RANDOM)
def test_batches_of_every_size(negatives: str, n: int) -> None:
    """Rows at cosine distance 0, 1 or 2 of each other: weights too are exactly equal."""
    x, y = make_batch("quads", n, 4, cloud="axes")
    rule = {"negatives": negatives, "distance": "cosine", "margin": 1.5, "nonzero_loss_cutoff": 1.5}
    expected = reference.select_triplets(x, y, generator=seeded(n), **rule)
    assert_drawn_as_by_the_oracle(select_triplets(x, y, generator=seeded(n), **rule), expected)


@pytest.mark.parametrize("negatives", UNIFORM)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [1, 3, 64, 129])
def test_integers_of_every_dtype(negatives: str, dtype: torch.dtype, dim: int) -> None:
    x, y = make_batch("quads", 97, dim, dtype, "integers")
    rule = {"negatives": negatives, "margin": 10.0}
    actual = select_triplets(x, y, generator=seeded(), **rule)
    assert_same_triplets(actual, reference.select_triplets(x, y, generator=seeded(), **rule))
    assert actual.d_ap.dtype == actual.d_an.dtype == result_dtype(dtype)
    assert len(actual.anchor) > 0


@pytest.mark.parametrize("negatives", UNIFORM)
@pytest.mark.parametrize(("m", "n"), [(49, 97), (97, 48), (3, 200), (0, 5), (5, 0), (1, 2)])
@pytest.mark.parametrize("with_ids", [False, True])
def test_integers_against_a_bank(negatives: str, m: int, n: int, with_ids: bool) -> None:
    x, y, references = bank(m, n, 5, "integers", "quads")
    rule = {"negatives": negatives, "margin": 4.0}
    rule |= references if with_ids else without_ids(references)
    expected = reference.select_triplets(x, y, generator=seeded(), **rule)
    assert_same_triplets(select_triplets(x, y, generator=seeded(), **rule), expected)


@pytest.mark.parametrize("negatives", UNIFORM)
@pytest.mark.parametrize("distance", DISTANCES)
def test_float64_is_the_oracle(negatives: str, distance: str) -> None:
    x, y = make_batch("uneven", 97, 33, torch.float64)
    rule = {"negatives": negatives, "distance": distance, "margin": 0.05}
    expected = reference.select_triplets(x, y, generator=seeded(), **rule)
    actual = select_triplets(x, y, generator=seeded(), **rule)
    assert_same_triplets(actual, expected)
    assert_distances_close(actual.d_an, expected.d_an, x.dtype, distance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distance", DISTANCES)
def test_weighted_draws_are_the_oracles(dtype: torch.dtype, distance: str) -> None:
    assert_weighted_draws("uneven", 97, 16, dtype, distance)


@pytest.mark.parametrize("dim", COLUMNS)
def test_weighted_draws_in_every_number_of_columns(dim: int) -> None:
    assert_weighted_draws("quads", 97, dim, torch.float32, "euclidean")


def assert_weighted_draws(layout: str, n: int, dim: int, dtype: torch.dtype, distance: str) -> None:
    """Scores are float32: of two that are as close as its rounding, either may be drawn."""
    x, y = unit_batch(layout, n, dim, dtype)
    rule = {"negatives": "distance_weighted", "distance": distance, "nonzero_loss_cutoff": 1.5}
    expected = reference.select_triplets(x, y, generator=seeded(), **rule)
    actual = select_triplets(x, y, generator=seeded(), **rule)
    assert actual.anchor.tolist() == expected.anchor.tolist()
    assert actual.positive.tolist() == expected.positive.tolist()
    assert len(actual.anchor) > n // 2
    differ = (actual.negative != expected.negative).nonzero().flatten().tolist()
    assert len(differ) <= len(actual.anchor) // 500
    d = reference.pairwise_distance(x, distance=distance)
    seed = int(torch.randint(2**63 - 1, (), generator=seeded(), device="cpu"))
    options = RandomOptions(0.2, distance, dim, 0.5, 1.5)
    for t in differ:
        a, p = int(actual.anchor[t]), int(actual.positive[t])
        words = draws(seed, a, p, n).to(d.device)
        score = RANDOM_RULES["distance_weighted"](d[a], float(d[a, p]), words, options)
        apart = score[actual.negative[t]] - score[expected.negative[t]]
        assert apart < 1e-6 * dim + 1e-5


# --- who qualifies -------------------------------------------------------------------------------


def on_a_line(*places: float) -> Tensor:
    return torch.tensor(places, dtype=torch.float32).unsqueeze(1)


# An anchor at 0, its positive at 1, and negatives at 0.5, 1, 2, 2.5, 3 and 9.
LINE = on_a_line(0, 1, 0.5, 1, 2, 2.5, 3, 9), torch.tensor([0, 0, 1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize(
    ("negatives", "qualify"),
    [("random_semihard", {4, 5}), ("random_violating", {2, 3, 4, 5})],
)
def test_the_interval_is_open_and_all_of_it_is_drawn_from(
    negatives: str, qualify: set[int]
) -> None:
    drawn = set()
    for seed in range(100):
        t = select_triplets(
            *LINE, negatives=negatives, margin=2.0, distance="euclidean", generator=seeded(seed)
        )
        drawn |= {int(n) for a, n in zip(t.anchor, t.negative, strict=True) if a == 0}
    assert drawn == qualify


def test_weights_take_negatives_from_the_cutoff_on_and_below_the_other() -> None:
    """In three dimensions log q(d) is log d: at 0.25 and 0.5 the weights are equal, at 1 half."""
    x = torch.zeros(7, 3)
    x[:, 0] = torch.tensor([0, 0.1, 0.25, 0.5, 1.0, 1.4, 1.7])
    counts = torch.zeros(7)
    for seed in range(600):
        t = with_seed(seed, x, torch.tensor([0, 0, 1, 2, 3, 4, 5]), "distance_weighted")
        counts[t.negative[t.anchor == 0]] += 1
    # The last-but-one lies at float32's 1.4 exactly, which is not below it.
    assert_frequencies(counts.cpu(), torch.tensor([0, 0, 2.0, 2.0, 1.0, 0, 0]))


@pytest.mark.parametrize("negatives", RANDOM)
def test_where_nobody_qualifies_the_pair_is_left_out(negatives: str) -> None:
    x, y = on_a_line(0, 1, 50, 90), torch.tensor([0, 0, 1, 2])
    for fallback in ("farthest", "drop"):
        t = select_triplets(x, y, negatives=negatives, fallback=fallback, margin=0.5)
        assert t.anchor.tolist() == []
    loss = mined_triplet_loss(x.requires_grad_(), y, negatives=negatives)
    loss.backward()
    assert loss == 0
    assert not x.grad.any()


@pytest.mark.parametrize("negatives", RANDOM)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_rows_that_are_not_finite(negatives: str, value: float) -> None:
    """Nobody draws them, they draw nobody, and the loss says so."""
    x, y = make_batch("quads", 97, 4, cloud="axes")
    x[[5, 60], 1] = value
    rule = {"negatives": negatives, "margin": 2.0, "nonzero_loss_cutoff": 2.0}
    expected = reference.select_triplets(x, y, generator=seeded(), **rule)
    assert_same_triplets(select_triplets(x, y, generator=seeded(), **rule), expected)
    assert mined_triplet_loss(x, y, **rule).isnan()


# --- the loss, and what is built on it -----------------------------------------------------------


@pytest.mark.parametrize("negatives", RANDOM)
@pytest.mark.parametrize("positives", POSITIVES)
def test_the_mined_loss_is_the_loss_of_the_same_draws(negatives: str, positives: str) -> None:
    x, y = unit_batch("uneven", 97, 16)
    rule = {"negatives": negatives, "positives": positives}
    t = select_triplets(x, y, margin=0.4, generator=seeded(), **rule)
    each = mined_triplet_loss(x, y, 0.4, reduction="none", generator=seeded(), **rule)
    assert each.tolist() == triplet_loss(x, t, 0.4, reduction="none").tolist()


@pytest.mark.parametrize("negatives", RANDOM)
@pytest.mark.parametrize("reduction", ["mean", "mean_nonzero", "sum"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradient_is_that_of_the_draws(
    negatives: str, reduction: str, dtype: torch.dtype
) -> None:
    x, y = unit_batch("uneven", 97, 16, dtype)
    rule = {"negatives": negatives, "distance": "euclidean"}
    t = select_triplets(x, y, margin=0.4, generator=seeded(), **rule)

    def loss(x: Tensor) -> Tensor:
        return mined_triplet_loss(x, y, 0.4, reduction=reduction, generator=seeded(), **rule)

    assert_loss_and_gradients(loss, t, 0.4, x, reduction=reduction, distance="euclidean")


@pytest.mark.parametrize("negatives", RANDOM)
def test_the_gradient_against_a_bank(negatives: str) -> None:
    x, y = unit_batch("quads", 49, 16)
    c, z = unit_batch("quads", 97, 16)
    t = select_triplets(
        x, y, negatives=negatives, margin=0.4, ref_emb=c, ref_labels=z, generator=seeded()
    )
    assert len(t.anchor) > 0

    def loss(x: Tensor, c: Tensor) -> Tensor:
        return mined_triplet_loss(
            x, y, 0.4, negatives=negatives, ref_emb=c, ref_labels=z, generator=seeded()
        )

    assert_loss_and_gradients(loss, t, 0.4, x, c)


@pytest.mark.parametrize("negatives", RANDOM)
def test_a_bound_on_the_classes_changes_nothing(negatives: str) -> None:
    x, y = unit_batch("quads", 97, 16)
    losses = [
        mined_triplet_loss(x, y, negatives=negatives, generator=seeded(), max_per_class=bound)
        for bound in (None, 4, 9)
    ]
    assert losses[0] > 0
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.parametrize("negatives", RANDOM)
def test_modules_draw_from_the_default_generator(negatives: str) -> None:
    x, y = unit_batch("quads", 97, 8)
    options: dict[str, Any] = {"negatives": negatives, "margin": 0.4, "cutoff": 0.3}
    loss, miner = TripletLoss(**options), copy.deepcopy(TripletMiner(**options))
    torch.manual_seed(4)
    expected = select_triplets(x, y, **options)
    torch.manual_seed(4)
    assert_same_triplets(miner(x, y), expected)
    torch.manual_seed(4)
    torch.testing.assert_close(loss(x, y), triplet_loss(x, expected, 0.4))


@pytest.mark.ci
def test_every_label_layout_and_class_size() -> None:
    """Classes of one, of 70 and of all."""
    for layout in ("one_class", "all_different", "uneven", "halves"):
        x, y = make_cloud("integers", 240, 3), make_labels(layout, 240)
        for positives in POSITIVES:
            rule = {"negatives": "random_semihard", "positives": positives, "margin": 3.0}
            expected = reference.select_triplets(x, y, generator=seeded(), **rule)
            assert_same_triplets(select_triplets(x, y, generator=seeded(), **rule), expected)
