"""The oracle itself, against values worked out by hand.

Unless a test says otherwise the embeddings are points on a line, so that every distance can be
checked by eye.
"""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from helpers import DISTANCES, make_batch

from facenet_ext import functional, reference


def line(*points: float) -> torch.Tensor:
    return torch.tensor(points, dtype=torch.float32).unsqueeze(1)


def rows(triplets: tuple[torch.Tensor, ...]) -> list[tuple[int, ...]]:
    return [tuple(t) for t in torch.stack(triplets[:3], dim=1).tolist()]


# --- golden values -------------------------------------------------------------------------------

GOLDEN = line(0, 1, -1, 1.5), torch.tensor([0, 0, 1, 1])


@pytest.mark.parametrize(("distance", "loss"), [("euclidean", 0.625), ("sqeuclidean", 1.8125)])
def test_golden_semihard_loss(distance: str, loss: float) -> None:
    assert reference.mined_triplet_loss(*GOLDEN, 0.5, distance=distance).item() == loss


def test_without_negatives_the_loss_is_zero() -> None:
    x = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert reference.mined_triplet_loss(x, torch.tensor([0, 0]), 0.5).item() == 0.0


# --- selection rules -----------------------------------------------------------------------------

# anchor 0 at 0; its positives 1, 2 at distances 1, 3; negatives 3, 4, 5, 6 at 2, 4, 0.5, 7
STAR = line(0, 1, -3, 2, 4, 0.5, -7), torch.tensor([5, 5, 5, 9, 8, 8, 7])
STAR_ONLY_ANCHOR_0 = {
    ("all", "semihard"): [(0, 1, 3), (0, 2, 4)],
    ("hardest", "semihard"): [(0, 2, 4)],
    ("easiest", "semihard"): [(0, 1, 3)],
    ("all", "hardest"): [(0, 1, 5), (0, 2, 5)],
    ("hardest", "hardest"): [(0, 2, 5)],
    ("easiest", "hardest"): [(0, 1, 5)],
}


@pytest.mark.parametrize("distance", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize(("rule", "expected"), STAR_ONLY_ANCHOR_0.items())
def test_rules(rule: tuple[str, str], expected: list[tuple[int, int, int]], distance: str) -> None:
    positives, negatives = rule
    t = reference.select_triplets(
        *STAR, positives=positives, negatives=negatives, distance=distance
    )
    assert [r for r in rows(t) if r[0] == 0] == expected


def test_the_selected_distances_are_returned() -> None:
    t = reference.select_triplets(*STAR, distance="euclidean")
    assert t.d_ap[:2].tolist() == [1.0, 3.0]
    assert t.d_an[:2].tolist() == [2.0, 4.0]
    assert t.d_ap.dtype == t.d_an.dtype == torch.float64


def test_semihard_is_strict() -> None:
    """A negative exactly as far as the positive does not qualify."""
    t = reference.select_triplets(line(0, 2, -2, 3), torch.tensor([0, 0, 1, 1]))
    assert rows(t)[0] == (0, 1, 3)


def test_fallback_takes_the_farthest_negative_or_drops_the_pair() -> None:
    x, y = line(0, 5, 1, -3, 2), torch.tensor([0, 0, 1, 2, 3])
    assert rows(reference.select_triplets(x, y)) == [(0, 1, 3), (1, 0, 3)]
    assert rows(reference.select_triplets(x, y, fallback="drop")) == [(1, 0, 3)]


def test_within_margin_excludes_a_negative_exactly_at_the_margin() -> None:
    x, y = line(0, 1, 3, -4), torch.tensor([0, 0, 1, 2])  # anchor 0: d_ap 1, d_an 3 and 4
    select = reference.select_triplets
    for margin, expected in [(1.0, []), (2.0, []), (2.5, [(0, 1, 2)]), (4.0, [(0, 1, 2)])]:
        t = select(x, y, margin=margin, within_margin=True, fallback="drop", distance="euclidean")
        assert [r for r in rows(t) if r[0] == 0] == expected, margin
    # The fallback is the farthest negative, not the nearest beyond the margin.
    assert rows(select(x, y, margin=1.0, within_margin=True, distance="euclidean"))[0] == (0, 1, 3)


def test_hardest_ignores_margin_and_fallback() -> None:
    for fallback in ("farthest", "drop"):
        t = reference.select_triplets(
            *STAR, negatives="hardest", margin=1e-9, within_margin=True, fallback=fallback
        )
        assert rows(t)[:2] == [(0, 1, 5), (0, 2, 5)]


def test_ties_go_to_the_lowest_index() -> None:
    # anchor 2 at 0; positives 1 and 4 at distance 1; negatives 0, 3, 5, 6 at distances 2, 2, 3, 3
    x, y = line(-2, 1, 0, 2, -1, 3, -3), torch.tensor([1, 0, 0, 1, 0, 1, 1])

    def of_anchor_2(**rule: str) -> list[tuple[int, ...]]:
        return [r for r in rows(reference.select_triplets(x, y, **rule)) if r[0] == 2]

    assert of_anchor_2() == [(2, 1, 0), (2, 4, 0)]
    assert of_anchor_2(positives="hardest") == [(2, 1, 0)]
    assert of_anchor_2(positives="easiest", negatives="hardest") == [(2, 1, 0)]
    # Farthest: anchor 0 has its positive at 9, its negatives at 3, 3, 2 and 2.
    x, y = line(0, 9, 2, 3, -3, -2), torch.tensor([0, 0, 1, 1, 1, 1])
    assert rows(reference.select_triplets(x, y))[0] == (0, 1, 3)


def test_an_anchor_without_a_positive_or_a_negative_gives_no_triplet() -> None:
    assert rows(reference.select_triplets(line(0, 1, 2), torch.tensor([0, 1, 2]))) == []
    assert rows(reference.select_triplets(line(0, 1, 2), torch.tensor([4, 4, 4]))) == []
    t = reference.select_triplets(line(0, 1, 2), torch.tensor([0, 0, 1]), fallback="farthest")
    assert [r[0] for r in rows(t)] == [0, 1]


@pytest.mark.parametrize("n", [0, 1])
def test_tiny_batches_give_no_triplets(n: int) -> None:
    t = reference.select_triplets(torch.zeros(n, 3), torch.zeros(n, dtype=torch.int64))
    assert [field.shape for field in t] == [(0,)] * 5


def test_bank_mode_excludes_nothing_without_ids() -> None:
    x, y = line(0, 5), torch.tensor([0, 1])
    c, z = line(0, 1, 3), torch.tensor([0, 0, 1])
    t = reference.select_triplets(x, y, ref_emb=c, ref_labels=z, fallback="drop")
    assert rows(t) == [(0, 0, 2), (0, 1, 2), (1, 2, 1)]


def test_ids_exclude_the_anchors_own_copy_from_its_positives() -> None:
    x, y = line(0, 5), torch.tensor([0, 1])
    c, z = line(0, 1, 3), torch.tensor([0, 0, 1])
    ids = {"anchor_ids": torch.tensor([10, 11]), "ref_ids": torch.tensor([10, 12, 11])}
    t = reference.select_triplets(x, y, ref_emb=c, ref_labels=z, fallback="drop", **ids)
    assert rows(t) == [(0, 1, 2)]


def test_labels_beyond_float_precision_stay_apart() -> None:
    big = 2**63 - 1
    y = torch.tensor([big, big, big - 1, -big, -big, -big - 1])
    t = reference.select_triplets(line(0, 1, 2, 3, 4, 5), y)
    assert [r[:2] for r in rows(t)] == [(0, 1), (1, 0), (3, 4), (4, 3)]


# --- loss ----------------------------------------------------------------------------------------

# Two triplets: d_ap - d_an = 1 - 9 = -8 and 9 - 1 = 8.
PAIR = (torch.tensor([0, 0]), torch.tensor([1, 2]), torch.tensor([2, 1]))


@pytest.mark.parametrize(
    ("reduction", "loss"),
    [("mean", 4.25), ("mean_nonzero", 8.5), ("sum", 8.5), ("none", [0.0, 8.5])],
)
def test_reductions(reduction: str, loss: float | list[float]) -> None:
    actual = reference.triplet_loss(line(0, 1, 3), PAIR, 0.5, reduction=reduction)
    assert actual.tolist() == loss


def test_smooth_is_softplus() -> None:
    actual = reference.triplet_loss(line(0, 1, 3), PAIR, 0.5, smooth=True, reduction="none")
    expected = [math.log1p(math.exp(-7.5)), math.log1p(math.exp(8.5))]
    assert actual.tolist() == pytest.approx(expected, rel=1e-14)


def test_gradient_of_one_triplet() -> None:
    """d/da |a-p|² - |a-n|² = 2(n - p), d/dp = 2(p - a), d/dn = 2(a - n)."""
    x = line(0, 1, 3).requires_grad_()
    one = torch.tensor([0]), torch.tensor([1]), torch.tensor([2])
    reference.triplet_loss(x, one, 10.0).backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [4.0, 2.0, -6.0]


@pytest.mark.parametrize(
    ("points", "loss", "gradient"),
    [  # anchor, positive, negative; the positive is closer to it, the anchor is, neither is
        ((0, 1, 3), 0.5, [-1, 2, -1]),
        ((1, 0, 3), 0.5, [2, -1, -1]),
        ((0, 2, 1), 2.5, [-0.5, 0.5, 0]),
    ],
)
def test_anchor_swap_counts_the_smaller_distance(
    points: tuple[float, ...], loss: float, gradient: list[float]
) -> None:
    x = line(*points).requires_grad_()
    one = torch.tensor([0]), torch.tensor([1]), torch.tensor([2])
    actual = reference.triplet_loss(x, one, 1.5, distance="euclidean", swap=True)
    actual.backward()
    assert x.grad is not None
    assert actual.item() == loss
    assert x.grad.flatten().tolist() == gradient


def test_the_hinge_has_no_gradient_at_zero() -> None:
    x = line(0, 1, 3).requires_grad_()
    one = torch.tensor([0]), torch.tensor([1]), torch.tensor([2])
    loss = reference.triplet_loss(x, one, 8.0, reduction="mean_nonzero")
    loss.backward()
    assert x.grad is not None
    assert loss.item() == 0.0
    assert x.grad.flatten().tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("reduction", ["mean", "mean_nonzero", "sum", "none"])
def test_no_triplets_give_zero_and_a_zero_gradient(reduction: str) -> None:
    x = torch.randn(4, 3, requires_grad=True)
    loss = reference.mined_triplet_loss(x, torch.zeros(4, dtype=torch.int64), reduction=reduction)
    assert loss.requires_grad
    assert loss.shape == ((0,) if reduction == "none" else ())
    loss.sum().backward()
    assert loss.sum().item() == 0.0
    assert x.grad is not None
    assert not x.grad.any()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("row", range(5))
@pytest.mark.parametrize("distance", DISTANCES)
def test_a_non_finite_row_makes_the_loss_nan(row: int, value: float, distance: str) -> None:
    x = torch.randn(5, 3)
    x[row, 1] = value
    loss = reference.mined_triplet_loss(x, torch.tensor([0, 0, 1, 1, 2]), distance=distance)
    assert loss.isnan()


# --- distances -----------------------------------------------------------------------------------


def test_distances_of_known_vectors() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [-6.0, -8.0], [4.0, -3.0]])
    expected = {
        "sqeuclidean": [[0, 25, 225, 50], [25, 0, 100, 25], [225, 100, 0, 125], [50, 25, 125, 0]],
        "euclidean": [25**0.5, 0, 10, 5],
        "cosine": [[0, 1, 2, 1], [1, 1, 1, 1], [2, 1, 0, 1], [1, 1, 1, 0]],
    }
    assert reference.pairwise_squared_distance(x).tolist() == expected["sqeuclidean"]
    assert reference.pairwise_distance(x, distance="euclidean")[1].tolist() == expected["euclidean"]
    actual = reference.pairwise_distance(x, distance="cosine")
    torch.testing.assert_close(actual, torch.tensor(expected["cosine"]).double())


@pytest.mark.parametrize("distance", DISTANCES)
def test_gradients_are_finite_at_equal_rows_and_at_zero_rows(distance: str) -> None:
    x = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0], [0.0, 0.0]], requires_grad=True)
    d = reference.pairwise_distance(x, distance=distance)
    (gradient,) = torch.autograd.grad(d[0, 1] + d[2, 3], x)
    assert gradient.tolist() == [[0.0, 0.0]] * 4
    if distance == "cosine":
        (gradient,) = torch.autograd.grad(
            reference.pairwise_distance(x, distance=distance).sum(), x
        )
        assert gradient[2:].tolist() == [[0.0, 0.0]] * 2


@pytest.mark.parametrize("distance", DISTANCES)
def test_gradcheck(distance: str) -> None:
    x, y = make_batch("pairs", 6, 3, torch.float64)
    t = reference.select_triplets(x, y)
    x.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: reference.triplet_loss(x, t, 0.7, distance=distance), (x,)
    )


# --- the same names and signatures as the fast functions -----------------------------------------


@pytest.mark.parametrize(
    "name",
    ["pairwise_squared_distance", "select_triplets", "triplet_loss", "mined_triplet_loss"],
)
def test_signature_is_that_of_functional(name: str) -> None:
    def parameters(module: object) -> list[tuple[str, object, object]]:
        signature = inspect.signature(getattr(module, name))
        return [(p.name, p.default, p.kind) for p in signature.parameters.values()]

    assert sorted(parameters(reference), key=str) == sorted(parameters(functional), key=str)


def test_a_class_beyond_the_bound_is_refused() -> None:
    x, y = torch.randn(5, 2), torch.tensor([0, 0, 0, 1, 1])
    assert reference.mined_triplet_loss(x, y, max_per_class=3).isfinite()
    with pytest.raises(ValueError, match="max_per_class: 2, but a class has 3 rows"):
        reference.mined_triplet_loss(x, y, max_per_class=2)
