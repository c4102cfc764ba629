"""Claims about two evaluations compared: how they differ, and how sure that is."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import norm  # type: ignore[import-untyped]
from test_metrics_coverage import GENUINE, IMPOSTORS, Population
from torch import Tensor

from facenet_ext.common.errors import InputError
from facenet_ext.data.pairs import Pairs, all_pairs, identity_folds
from facenet_ext.evaluation.comparison import Comparison, compare
from facenet_ext.evaluation.scored_pairs import (
    ABOUT,
    ScoredPairs,
    pairs_of_verification,
    read_scored,
    write_scored,
)
from facenet_ext.evaluation.verification import Verification
from facenet_ext.metrics import kfold_accuracy, val_far
from facenet_ext.metrics.folds import replicate_choices
from facenet_ext.metrics.sources import TensorPairs

FIGURES = dict.fromkeys(ABOUT, "") | {"protocol": "all pairs", "warnings": []}


def scored(pairs: Pairs, distances: Tensor, name: str = "a") -> ScoredPairs:
    """What an evaluation keeps of pairs at these distances."""
    accuracy = kfold_accuracy(distances, pairs.same, pairs.folds, balanced=pairs.balanced)
    point = val_far(distances, pairs.same, 0.1)
    found = Verification(pairs, distances, (point, point), accuracy, 0, 0, accuracy)
    kept = pairs_of_verification(found, [str(at) for at in range(len(pairs.labels))])
    return dataclasses.replace(kept, about=FIGURES | {"folder": f"runs/{name}"})


def people(count: int = 40, each: int = 4, seed: int = 0) -> tuple[Pairs, Tensor]:
    """All pairs of some images, and distances that depend on who is compared."""
    generator = torch.Generator().manual_seed(seed)
    pairs = all_pairs(torch.arange(count * each) // each)
    effect = 0.3 * torch.randn(count, generator=generator)
    distances = torch.randn(len(pairs.same), generator=generator) + 2.5 * ~pairs.same
    assert pairs.labels is not None
    return pairs, distances + sum(effect[pairs.labels[end]] for end in (pairs.first, pairs.second))


def noisy(distances: Tensor, spread: float, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return distances + spread * torch.randn(len(distances), generator=generator)


def differences(comparison: Comparison) -> dict[str, float]:
    return {figure.key: figure.difference.value for figure in comparison.figures}


def test_nothing_differs_between_a_run_and_itself() -> None:
    one = scored(*people())
    found = compare(one, one)
    assert set(differences(found)) == {
        *("accuracy", "fnmr_at_fmr_0.1", "fnmr_at_fmr_0.01", "fnmr_at_fmr_0.001"),
        *("fnmr_at_fmr_0.0001", "eer", "auc", "min_dcf", "min_cllr"),
    }
    assert set(differences(found).values()) == {0.0}
    assert {figure.better for figure in found.figures} == {None}
    assert {figure.b_better for figure in found.figures} == {0.5}
    assert found.verdict == (
        "Cannot tell which is better: FNMR at FMR 0.01 is the same, and in every resample too."
    )
    assert found.as_dict()["figures"]["eer"]["interval"] == [None, None]


def test_a_clearly_better_one_is_found_and_swapped_they_mirror() -> None:
    pairs, distances = people()
    better, worse = scored(pairs, distances), scored(pairs, noisy(distances, 1.0))
    found, swapped = compare(worse, better), compare(better, worse)
    assert (found.decisive.key, found.decisive.better) == ("fnmr_at_fmr_0.01", "B")
    for figure, mirrored in zip(found.figures, swapped.figures, strict=True):
        assert (figure.better, mirrored.better) == ("B", "A"), figure
        assert figure.b_better > 0.97
        assert mirrored.b_better == pytest.approx(1 - figure.b_better)
        assert (mirrored.a, mirrored.b) == (figure.b, figure.a)
        assert mirrored.difference.value == -figure.difference.value
        low, high = figure.difference.interval
        assert mirrored.difference.interval == pytest.approx((-high, -low), abs=1e-9)
        assert (figure.difference.value > 0) == figure.larger_is_better
    value, (low, high), _ = found.decisive.difference
    assert found.verdict == (
        f"B is better: its FNMR at FMR 0.01 is {-100 * value:.2f} points lower "
        f"({-100 * high:.2f} to {-100 * low:.2f}), and is lower in 100.0% of resamples."
    )
    assert swapped.verdict == found.verdict.replace("B is", "A is")


def test_what_cannot_be_told_says_how_far_it_may_be() -> None:
    pairs, distances = people()
    a, b = (scored(pairs, noisy(distances, 0.3, seed)) for seed in (1, 2))
    found = compare(a, b)
    assert found.decisive.better is None
    low, high = found.decisive.difference.interval
    told = f"with other people it might be {-100 * low:.2f} lower or {100 * high:.2f} higher."
    assert found.verdict.endswith(told)


def test_the_difference_is_surer_than_two_intervals_are_apart() -> None:
    """The same people are drawn for both: what makes them hard counts for neither."""
    pairs, distances = people()
    one, other = scored(pairs, distances), scored(pairs, noisy(distances, 0.3))
    found = compare(one, other)
    low, high = found.decisive.difference.interval
    assert found.replicates is not None
    spread = [float(np.std(of.fnmr_at_fmr(0.01)[1:])) for of in found.replicates]
    assert high - low < 0.7 * 2 * 1.96 * math.hypot(*spread)


def test_the_verdict_is_by_a_rate_that_enough_errors_tell_of() -> None:
    pairs, distances = people(count=100)
    far, near = scored(pairs, distances), scored(pairs, distances + 3 * ~pairs.same)
    assert compare(far, far).decisive.key == "fnmr_at_fmr_0.001"
    assert compare(far, near).decisive.key == compare(near, far).decisive.key == "eer"
    asked = compare(near, far, fmr=0.05)
    assert asked.decisive.name == "FNMR at FMR 0.05"
    assert asked.decisive.remark == "fewer than 30 errors"
    with pytest.raises(InputError, match="`fmr` 1e-09: not reachable with this many pairs"):
        compare(far, near, fmr=1e-9)


def test_without_identities_there_is_no_interval() -> None:
    pairs, distances = people()
    nameless = [
        dataclasses.replace(scored(pairs, one), known=False, labels=None)
        for one in (distances, noisy(distances, 1.0))
    ]
    found = compare(*nameless)
    assert found.decisive.difference.value > 0
    assert {figure.better for figure in found.figures} == {None}
    assert "does not say whose the pairs are" in found.verdict
    assert found.as_dict()["figures"]["eer"]["b_better"] is None


def test_accuracy_is_that_of_the_folds_and_drawn_by_people() -> None:
    pairs, distances = people()
    one = scored(pairs, distances)
    assert one.accepted is not None
    judged = one.accepted >= 0
    right = (one.accepted == 1) == pairs.same
    shares = []
    for fold in range(int(pairs.folds.max()) + 1):
        inside = judged & (pairs.folds[:, 0] == fold)
        shares += [
            right[inside & kind].double().mean().item() for kind in (pairs.same, ~pairs.same)
        ]
    assert np.mean(shares) == pytest.approx(one.accuracy)
    # Drawn one by one, a pair of the same two identities as often as these are drawn.
    found = compare(one, scored(pairs, noisy(distances, 1.0)), replicates=2000)
    assert pairs.labels is not None
    whose = [pairs.labels[end] for end in (pairs.first, pairs.second)]
    other = scored(pairs, noisy(distances, 1.0)).accepted
    assert other is not None
    lost = ((other == 1) == pairs.same).double() - right.double()
    rows = []
    for seed in range(1000):
        drawn = np.random.default_rng(seed).integers(40, size=40)
        weight = torch.from_numpy(np.bincount(drawn, minlength=40)).double()
        ends = weight[whose[0]], weight[whose[1]]
        of_kind = ((pairs.same & judged, ends[0]), (~pairs.same & judged, ends[0] * ends[1]))
        rows.append(np.mean([float((of * lost)[k].sum() / of[k].sum()) for k, of in of_kind]))
    low, high = next(f for f in found.figures if f.key == "accuracy").difference.interval
    assert (high - low) / (2 * 1.96) == pytest.approx(np.std(rows), rel=0.15)


def test_what_is_kept_reads_back_as_it_was(tmp_path: Path) -> None:
    pairs, distances = people()
    one = scored(pairs, distances)
    write_scored(tmp_path / "pairs.parquet", one, FIGURES)
    found = read_scored(tmp_path)
    assert pairs.labels is not None
    assert one.accepted is not None
    assert isinstance(found.pairs, TensorPairs)
    assert found.pairs.first is not None
    assert found.accepted is not None
    assert torch.equal(found.pairs.distances, distances)
    assert torch.equal(found.pairs.same, pairs.same)
    assert torch.equal(found.pairs.first.long(), pairs.labels[pairs.first])
    assert torch.equal(found.accepted, one.accepted)
    assert found.folds is not None
    assert torch.equal(found.folds.long(), pairs.folds)
    assert (one.accepted == -1).any(), "pairs between two folds are not judged"
    assert (found.fingerprint, found.accuracy, found.balanced) == (
        *(one.fingerprint, one.accuracy),
        True,
    )
    assert found.about == FIGURES | {"folder": str(tmp_path)}
    assert compare(one, found).verdict == compare(one, one).verdict
    size = (tmp_path / "pairs.parquet").stat().st_size
    assert size < 4 * len(distances) + 5000, "less than the distances alone"


def test_other_pairs_are_refused() -> None:
    pairs, distances = people()
    one = scored(pairs, distances)
    by_file = dataclasses.replace(one, about=one.about | {"folder": "b", "protocol": "pairs.txt"})
    told = "runs/a was evaluated by all pairs, b by pairs.txt; evaluate both with the same --data"
    with pytest.raises(InputError, match=told):
        compare(one, by_file)
    fewer = pairs.among(range(100))
    with pytest.raises(InputError, match=r"on other images or pairs \(12,720 and 4,950\)"):
        compare(one, scored(fewer, distances[: len(fewer.same)]))
    moved = dataclasses.replace(pairs, same=pairs.same.roll(1))
    with pytest.raises(InputError, match="on other images or pairs"):
        compare(one, scored(moved, distances))


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "is damaged, or no file"), (b"PAR1 nothing PAR1", "is damaged, or no file")],
)
def test_a_damaged_file_is_named(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.parquet").write_bytes(content)
    with pytest.raises(InputError, match=rf"pairs\.parquet: {told}"):
        read_scored(tmp_path)


class Two:
    """Two systems: the second has its same pairs nearer.

    How hard a person is, and a pair, is to some degree the same for both: the correlations.
    """

    def __init__(self, nearer: float, of_people: float, of_pairs: float) -> None:
        self.effects, self.correlations = (0.6, 0.4, 1.8), (of_people, of_pairs)
        self.systems = Population(*self.effects), Population(*self.effects)
        self.systems[1].same = norm(GENUINE - nearer, self.systems[0].same.std())

    def draw(self, seed: int, identities: int, pairs: int) -> tuple[ScoredPairs, ScoredPairs]:
        generator = np.random.default_rng([seed, 2])

        def normal(correlation: float, count: int) -> NDArray[np.float64]:
            common, own = generator.normal(size=(1, count)), generator.normal(size=(2, count))
            both: NDArray[np.float64] = correlation**0.5 * common + (1 - correlation) ** 0.5 * own
            return both

        own = np.repeat(np.arange(identities), pairs)
        one, other = np.triu_indices(identities, 1)
        u, v = (normal(self.correlations[0], identities) * of for of in self.effects[:2])
        noise = normal(self.correlations[1], len(own) + len(one)) * self.effects[2]
        same = torch.arange(len(noise[0])) < len(own)
        ends = [torch.from_numpy(np.append(own, side)) for side in (one, other)]
        labels = torch.arange(identities)
        listed = Pairs(*ends, same, identity_folds(labels, *ends), True, labels)
        found = []
        for at, system in enumerate(self.systems):
            means = np.append(
                system.same.mean() + u[at][own], IMPOSTORS + v[at][one] + v[at][other]
            )
            found.append(scored(listed, torch.from_numpy(means + noise[at]).float()))
        return found[0], found[1]

    def differences(self) -> dict[str, float]:
        """Of the figures of all people."""
        grid = np.linspace(-15, 15, 20001)
        figures = []
        for system in self.systems:
            errors = system.different.cdf(grid) + system.same.sf(grid)
            figures.append(system.figures((0.1, 0.01)) | {"accuracy": 1 - errors.min() / 2})
        return {key: figures[1][key] - figures[0][key] for key in figures[0]}


@pytest.mark.ci
def test_accuracy_varies_by_the_thresholds_that_are_chosen() -> None:
    """By as much as it is off what the best threshold of all people gives."""
    two = Two(0.4, 0.7, 0.7)
    grid = np.linspace(-15, 15, 20001)
    best = [grid[(of.different.cdf(grid) + of.same.sf(grid)).argmin()] for of in two.systems]
    changes, replicated = [], []
    for seed in range(120):
        both = two.draw(seed, 150, 8)
        change = []
        for one, threshold in zip(both, best, strict=True):
            assert one.accepted is not None
            assert isinstance(one.pairs, TensorPairs)
            judged = one.pairs[one.accepted >= 0]
            right = ((judged.distances <= threshold) == judged.same).double()
            at_best = (right[judged.same].mean() + right[~judged.same].mean()).item() / 2
            assert one.accuracy is not None
            change.append(one.accuracy - at_best)
        changes.append(change)
        if seed % 6:
            continue
        rows = []
        for one in both:
            assert one.folds is not None
            assert isinstance(one.pairs, TensorPairs)
            rows.append(
                replicate_choices(one.pairs, one.labels, one.folds, 0.5, replicates=200, seed=seed)
            )
        replicated.append([*(of.mean() for of in rows), (rows[1] - rows[0]).std()])
    *means, spread = np.mean(replicated, 0)
    assert means == pytest.approx(np.mean(changes, 0), rel=0.5)  # twice the noise of 120 means
    assert spread == pytest.approx(np.diff(changes).std(), rel=0.2)


def test_thresholds_of_one_fold_are_chosen_on_what_they_judge() -> None:
    pairs, distances = people(count=10)
    assert pairs.labels is not None
    source = TensorPairs(distances, pairs.same, pairs.first, pairs.second)
    folds = torch.zeros(len(distances), dtype=torch.int64)
    change = replicate_choices(source, pairs.labels, folds, 0.5, replicates=50, seed=0)
    assert change.min() >= 0, "the best of the very pairs is never worse"
    assert change.max() > 0


def test_pairs_between_two_folds_choose_no_threshold_of_these() -> None:
    pairs, distances = people(count=20)
    folds = pairs.folds % 2
    between = (folds[:, 0] != folds[:, 1]).nonzero()[:, 0]
    others = distances.clone()
    others[between] = distances[between.roll(1)]  # the curve of all pairs stays as it is
    found = []
    for of in (distances, others):
        source = TensorPairs(of, pairs.same, pairs.first, pairs.second)
        found.append(replicate_choices(source, pairs.labels, folds, 0.5, replicates=50, seed=0))
    assert np.array_equal(*found)
    assert found[0].std() > 0


def cover(population: Two, times: int, identities: int, pairs: int) -> dict[str, float]:
    """The share of simulations whose interval has the true difference."""
    truth = population.differences()
    names = ("accuracy", "fnmr_at_fmr_0.1", "fnmr_at_fmr_0.01", "eer", "auc", "min_cllr")
    hits = dict.fromkeys(names, 0)
    for seed in range(times):
        found = compare(*population.draw(seed, identities, pairs), replicates=400, seed=seed)
        for figure in found.figures:
            if figure.key in hits:
                low, high = figure.difference.interval
                hits[figure.key] += low <= truth[figure.key] <= high
    return {key: count / times for key, count in hits.items()}


@pytest.mark.slow
@pytest.mark.parametrize("nearer", [0.0, 0.4], ids=["as good", "better"])
@pytest.mark.parametrize(
    "correlations", [(0.7, 0.0), (0.0, 0.7), (0.7, 0.7)], ids=["people", "pairs", "both"]
)
def test_the_interval_has_the_true_difference(
    nearer: float, correlations: tuple[float, float]
) -> None:
    covered = cover(Two(nearer, *correlations), times=600, identities=150, pairs=8)
    assert 0.93 <= np.mean(list(covered.values())) <= 0.97, covered
    assert all(0.92 <= share <= 0.98 for share in covered.values()), covered
