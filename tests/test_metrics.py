"""Claims about the verification metrics, against brute force and scikit-learn."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from torch import Tensor

from facenet_ext.metrics import auc, eer, kfold_accuracy, roc, val_far

INF = math.inf


def pair_sets(max_size: int = 40) -> st.SearchStrategy[tuple[Tensor, Tensor]]:
    """Pairs of both kinds, at distances that often tie, some of them neighbouring floats."""
    some = st.sampled_from([0.0, 0.25, 0.5, math.nextafter(0.5, 1), 0.75, 1.0, 1e-300, 4.0])
    distance = some | st.floats(0, 4)
    rows = st.lists(st.tuples(distance, st.booleans()), min_size=2, max_size=max_size)
    mixed = rows.filter(lambda drawn: len({same for _, same in drawn}) == 2)
    return mixed.map(
        lambda drawn: (
            torch.tensor([d for d, _ in drawn], dtype=torch.float64),
            torch.tensor([s for _, s in drawn]),
        )
    )


def accepted(distances: Tensor, kind: Tensor, threshold: float) -> float:
    """The share of one kind of pair that a threshold accepts, by its definition."""
    chosen = distances[kind].tolist()
    return sum(d <= threshold for d in chosen) / len(chosen)


@given(pair_sets())
def test_roc_is_the_definition_at_every_distinct_distance(pairs: tuple[Tensor, Tensor]) -> None:
    distances, same = pairs
    curve = roc(distances, same)
    thresholds = [-INF, *sorted(set(distances.tolist()))]
    assert curve.thresholds.tolist() == thresholds
    assert curve.val.tolist() == [accepted(distances, same, t) for t in thresholds]
    assert curve.far.tolist() == [accepted(distances, ~same, t) for t in thresholds]


@given(pair_sets(), st.sampled_from([1e-3, 0.01, 0.07, 0.1, 0.25, 1 / 3, 0.5, 1.0]))
def test_val_far_takes_the_largest_threshold_that_is_strict_enough(
    pairs: tuple[Tensor, Tensor], far: float
) -> None:
    distances, same = pairs
    point = val_far(distances, same, far)
    strict = [t for t in distances.tolist() if accepted(distances, ~same, t) <= far]
    n_different = int((~same).sum())
    if not strict:
        assert not point.reachable
        assert math.isnan(point.val)
        assert math.isnan(point.far)
        assert math.isnan(point.threshold)
        return
    assert point.threshold == max(strict)
    assert point.val == accepted(distances, same, point.threshold)
    assert point.far == accepted(distances, ~same, point.threshold) <= far
    assert point.reachable == (1 / n_different <= far)


@pytest.mark.parametrize("far", [0.07, 0.29, 0.57, 0.1, 0.01])
def test_val_far_loses_no_pair_to_rounding(far: float) -> None:
    distances = torch.arange(101.0)
    same = torch.zeros(101, dtype=torch.bool)
    same[0] = True
    assert val_far(distances, same, far).far == round(far * 100) / 100


def test_val_far_below_one_over_the_different_pairs_is_not_reachable() -> None:
    distances = torch.cat([torch.linspace(0.0, 1.0, 540), torch.linspace(0.9, 2.0, 540)])
    same = torch.arange(1080) < 540
    point = val_far(distances, same, 1e-3)
    assert not point.reachable
    assert point.far == 0
    assert point.threshold > 0
    assert val_far(distances, same, 1 / 540).reachable


def test_val_far_of_collapsed_embeddings_is_not_reachable() -> None:
    point = val_far(torch.zeros(2000), torch.arange(2000) < 1000, 1e-2)
    assert not point.reachable
    assert math.isnan(point.threshold)


def test_val_far_with_separated_pairs_accepts_every_same_pair() -> None:
    distances = torch.cat([torch.rand(1000), 2 + torch.rand(1000)])
    point = val_far(distances, torch.arange(2000) < 1000, 1e-3)
    assert point.reachable
    assert point.val == 1
    assert point.far == 1e-3


@given(pair_sets())
def test_auc_is_the_chance_that_a_same_pair_is_nearer(pairs: tuple[Tensor, Tensor]) -> None:
    distances, same = pairs
    near, far = distances[same][:, None], distances[~same][None]
    expected = ((near < far).double() + (near == far).double() / 2).mean().item()
    assert auc(distances, same) == pytest.approx(expected, abs=1e-12)
    by_sklearn = sklearn_metrics.roc_auc_score(same.numpy(), -distances.numpy())
    assert auc(distances, same) == pytest.approx(by_sklearn, abs=1e-12)


@given(pair_sets())
def test_eer_lies_on_the_roc(pairs: tuple[Tensor, Tensor]) -> None:
    distances, same = pairs
    result = eer(distances, same)
    curve = roc(distances, same)
    after = curve.thresholds.tolist().index(result.threshold)
    # Below the threshold false accepts are the rarer error, from it on they are not.
    assert curve.far[after] >= 1 - curve.val[after] - 1e-12
    assert curve.far[after - 1] < 1 - curve.val[after - 1] + 1e-12
    assert curve.far[after - 1] - 1e-12 <= result.rate <= curve.far[after] + 1e-12
    assert 1 - curve.val[after] - 1e-12 <= result.rate <= 1 - curve.val[after - 1] + 1e-12


@pytest.mark.parametrize(
    ("same_distances", "different_distances", "rate"),
    [([0.1, 0.2], [0.8, 0.9], 0.0), ([0.8, 0.9], [0.1, 0.2], 1.0), ([0.5], [0.5], 0.5)],
    ids=["separated", "inverted", "tied"],
)
def test_eer_of_known_cases(
    same_distances: list[float], different_distances: list[float], rate: float
) -> None:
    distances = torch.tensor(same_distances + different_distances)
    same = torch.arange(len(distances)) < len(same_distances)
    assert eer(distances, same).rate == rate


@given(pair_sets(24), st.booleans())
def test_kfold_threshold_is_the_best_of_the_other_folds(
    pairs: tuple[Tensor, Tensor], balanced: bool
) -> None:
    distances, same = (torch.cat([part, part]) for part in pairs)
    folds = torch.arange(2).repeat_interleave(len(pairs[0]))
    result = kfold_accuracy(distances, same, folds, balanced=balanced)

    def accuracy(threshold: float, rows: Tensor) -> float:
        right = (distances[rows] <= threshold) == same[rows]
        if not balanced:
            return right.double().mean().item()
        kinds = same[rows]
        return (right[kinds].double().mean() + right[~kinds].double().mean()).item() / 2

    for fold in range(2):
        threshold = result.thresholds[fold].item()
        candidates = [-INF, *distances.tolist()]
        best = max(accuracy(t, folds != fold) for t in candidates)
        assert accuracy(threshold, folds != fold) == pytest.approx(best, abs=1e-12)
        assert result.accuracies[fold].item() == pytest.approx(accuracy(threshold, folds == fold))
    assert result.mean == pytest.approx(result.accuracies.mean().item())


def test_kfold_threshold_lies_half_way_to_the_next_distance() -> None:
    distances = torch.tensor([0.0, 1.0, 2.0, 3.0] * 2)
    same = torch.tensor([True, True, False, False] * 2)
    result = kfold_accuracy(distances, same, torch.arange(8) // 4)
    assert result.thresholds.tolist() == [1.5, 1.5]
    assert result.mean == 1


def test_kfold_standard_error_is_that_of_the_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    same = torch.arange(400) % 2 == 0
    distances = torch.rand(400, generator=generator) + 0.3 * ~same
    result = kfold_accuracy(distances, same, 10)
    assert len(result.accuracies) == 10
    assert result.standard_error == pytest.approx(result.accuracies.std().item() / math.sqrt(10))


def test_balanced_accuracy_is_not_carried_by_the_more_frequent_kind() -> None:
    # Every threshold that rejects 99 of 100 different pairs rejects half of the same pairs too.
    distances = torch.cat([torch.tensor([0.1, 0.9] * 10), torch.full((1000,), 0.8)])
    same = torch.arange(1020) < 20
    assert kfold_accuracy(distances, same, 5).mean > 0.98
    assert kfold_accuracy(distances, same, 5, balanced=True).mean == pytest.approx(0.75)


METRICS = [roc, val_far, auc, eer, kfold_accuracy]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("bad", [math.nan, INF])
def test_a_distance_that_is_not_finite_raises(metric: object, bad: float) -> None:
    distances = torch.tensor([0.1, bad, 0.3, 0.4])
    with pytest.raises(ValueError, match="distances must be finite, got 1"):
        metric(distances, torch.tensor([True, False, True, False]))  # type: ignore[operator]


@pytest.mark.parametrize("metric", METRICS)
def test_one_kind_of_pair_alone_raises(metric: object) -> None:
    with pytest.raises(ValueError, match="4 same and 0 different"):
        metric(torch.rand(4), torch.ones(4, dtype=torch.bool))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("distances", "same", "error", "message"),
    [
        (torch.arange(4), torch.arange(4) < 2, TypeError, "floating point"),
        (torch.rand(4), torch.arange(4) % 2, TypeError, "same must be bool"),
        (torch.rand(4), torch.arange(3) < 2, ValueError, "one length"),
        (torch.rand(2, 2), torch.ones(2, 2, dtype=torch.bool), ValueError, "1-D"),
        (torch.rand(0), torch.zeros(0, dtype=torch.bool), ValueError, "0 same and 0 different"),
    ],
)
def test_bad_pairs_raise(
    distances: Tensor, same: Tensor, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        roc(distances, same)


@pytest.mark.parametrize("far", [0.0, -0.1, 1.5, math.nan])
def test_a_wanted_far_outside_its_range_raises(far: float) -> None:
    with pytest.raises(ValueError, match="far must be in"):
        val_far(torch.rand(4), torch.arange(4) < 2, far)


@pytest.mark.parametrize(
    ("folds", "error"),
    [
        (1, ValueError),
        (0, ValueError),
        (-2, ValueError),
        (5, ValueError),
        (torch.zeros(8, dtype=torch.int64), ValueError),
        (torch.zeros(7, dtype=torch.int64), ValueError),
        (torch.rand(8), TypeError),
    ],
)
def test_bad_folds_raise(folds: Tensor | int, error: type[Exception]) -> None:
    with pytest.raises(error, match="fold"):
        kfold_accuracy(torch.rand(8), torch.arange(8) < 4, folds)
