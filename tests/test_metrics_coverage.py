"""Claims about how often an interval has the figure of all people, in simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_expit  # type: ignore[import-untyped]
from scipy.stats import norm  # type: ignore[import-untyped]
from torch import Tensor

from facenet_ext.metrics import interval_of, resample_identities, summarize

P_TARGET, THRESHOLD = 0.05, 0.0
GENUINE, IMPOSTORS = -3.0, 3.0


class Population:
    """Log-likelihood ratios (with the sign changed) that depend on who is compared.

    A same pair of identity i is at -3 + u_i + e, a different one of i and j at 3 + v_i + v_j + e;
    u, v and e are normal, and so are the distances over all people.
    """

    def __init__(self, of_same: float, of_different: float, noise: float) -> None:
        self.effects = of_same, of_different, noise
        self.same = norm(GENUINE, math.hypot(of_same, noise))
        self.different = norm(IMPOSTORS, math.hypot(of_different * 2**0.5, noise))

    def draw(self, seed: int, identities: int, pairs: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Distances, kinds and both sides of so many same pairs each, and of all different ones."""
        generator = np.random.default_rng([seed, 1])
        of_same, of_different, noise = self.effects
        own = np.repeat(np.arange(identities), pairs)
        one, other = np.triu_indices(identities, 1)
        u, v = generator.normal(size=(2, identities)) * [[of_same], [of_different]]
        distances = np.concatenate([GENUINE + u[own], IMPOSTORS + v[one] + v[other]])
        distances += noise * generator.normal(size=len(distances))
        same = torch.arange(len(distances)) < len(own)
        first, second = (torch.from_numpy(np.append(own, side)) for side in (one, other))
        return torch.from_numpy(distances).float(), same, first, second

    def figures(self, rates: tuple[float, ...]) -> dict[str, float]:
        """The figures of all people."""
        grid = np.linspace(-15, 15, 20001)
        fmr, fnmr = self.different.cdf(grid), self.same.sf(grid)
        odds = np.linspace(-16, 16, 257)
        least = [min(p * fnmr + (1 - p) * fmr) for p in np.exp(log_expit(odds))]
        costs = np.logaddexp(0, grid), np.logaddexp(0, -grid)
        bayes = -math.log((1 - P_TARGET) / P_TARGET)
        beta = (1 - P_TARGET) / P_TARGET
        at = {f"fnmr_at_fmr_{r:g}": self.same.sf(self.different.ppf(r)) for r in rates}
        return at | {
            "fmr": self.different.cdf(THRESHOLD),
            "fnmr": self.same.sf(THRESHOLD),
            "eer": np.interp(0, fmr - fnmr, fmr),
            "eer_convex_hull": np.interp(0, fmr - fnmr, fmr),  # the DET is straight
            "min_dcf": min(fnmr + beta * fmr),
            "actual_dcf": self.same.sf(bayes) + beta * self.different.cdf(bayes),
            "min_cllr": np.trapezoid(least, odds) / (2 * math.log(2)),
            "cllr": np.trapezoid(
                costs[0] * self.same.pdf(grid) + costs[1] * self.different.pdf(grid), grid
            )
            / (2 * math.log(2)),
            "auc": norm.cdf(
                (self.different.mean() - self.same.mean())
                / math.hypot(self.same.std(), self.different.std())
            ),
        }


RATES = (0.1, 0.01)


def cover(population: Population, times: int, identities: int, pairs: int) -> dict[str, float]:
    """The share of simulations whose interval has the figure of the population."""
    truth = population.figures(RATES)
    hits = dict.fromkeys(truth, 0)
    for seed in range(times):
        summary = summarize(
            *population.draw(seed, identities, pairs),
            fmr=RATES,
            threshold=THRESHOLD,
            p_target=P_TARGET,
            log_likelihood_ratios=True,
            replicates=400,
            seed=seed,
        )
        assert truth.keys() == summary.figures.keys()
        for key, value in truth.items():
            low, high = summary.figures[key].interval
            hits[key] += low <= value <= high
    return {key: count / times for key, count in hits.items()}


@pytest.mark.ci
def test_an_interval_of_95_percent_has_the_figure_of_all_people_as_often() -> None:
    covered = cover(Population(0.6, 0.4, 1.8), times=200, identities=150, pairs=8)
    # 2,600 intervals of 13 figures, of which 200 simulations are independent.
    assert 0.93 <= np.mean(list(covered.values())) <= 0.97, covered
    assert min(covered.values()) >= 0.9, covered


@pytest.mark.slow
@pytest.mark.parametrize(
    "effects", [(0.3, 0.1, 2.0), (0.8, 0.4, 1.8)], ids=["pairs matter", "people matter"]
)
def test_every_figure_is_covered(effects: tuple[float, float, float]) -> None:
    covered = cover(Population(*effects), times=1000, identities=300, pairs=10)
    assert all(0.93 <= share <= 0.97 for share in covered.values()), covered


@pytest.mark.ci
def test_intervals_of_pairs_would_be_too_narrow() -> None:
    """Where people differ, drawing pairs anew says too much; drawing people does not."""
    population = Population(1.2, 0.8, 1.5)
    truth = population.figures(())
    people, alone = dict.fromkeys(("fmr", "fnmr"), 0), dict.fromkeys(("fmr", "fnmr"), 0)
    for seed in range(200):
        distances, same, first, second = population.draw(seed, 120, 8)
        drawn = resample_identities(
            distances, same, first, second, at=(THRESHOLD,), replicates=300, seed=seed
        )
        generator = np.random.default_rng([seed, 2])
        of_people = dict(zip(("fmr", "fnmr"), drawn.at_threshold(THRESHOLD), strict=True))
        for key, kind in (("fmr", ~same), ("fnmr", same)):
            wrong = (distances[kind] <= THRESHOLD) == (key == "fmr")
            rate, count = wrong.double().mean().item(), len(wrong)
            # Pairs drawn with replacement have a binomial number of errors.
            of_pairs = np.append(rate, generator.binomial(count, rate, 300) / count)
            for hits, rows in ((people, of_people[key]), (alone, of_pairs)):
                low, high = interval_of(rows)
                hits[key] += low <= truth[key] <= high
    assert min(people.values()) >= 0.9 * 200, people
    assert alone["fmr"] <= 0.5 * 200, alone
    assert alone["fnmr"] <= 0.88 * 200, alone


def test_where_nobody_differs_from_others_intervals_are_those_of_pairs() -> None:
    """Pairs that share a person count at both ends, which alone would be twice their variance."""
    population = Population(0.0, 0.0, 2.0)
    widths = []
    for seed in range(20):
        drawn = resample_identities(*population.draw(seed, 100, 4), at=(THRESHOLD,), seed=seed)
        of_different, of_same = drawn.at_threshold(THRESHOLD)
        for rows, count in ((of_different, 4950), (of_same, 400)):
            widths.append(rows[1:].std() / math.sqrt(rows[0] * (1 - rows[0]) / count))
    assert np.mean(widths[::2]) == pytest.approx(1, abs=0.05)
    assert np.mean(widths[1::2]) == pytest.approx(1, abs=0.05)


def test_a_search_is_of_one_identity() -> None:
    """Without a second side a comparison counts once for its identity, FPIR as FNIR."""
    population = Population(0.0, 0.0, 2.0)
    distances, same, first, _ = population.draw(0, 60, 10)
    drawn = resample_identities(distances, same, torch.arange(len(first)), at=(THRESHOLD,))
    fmr, _ = drawn.at_threshold(THRESHOLD)
    binomial = math.sqrt(fmr[0] * (1 - fmr[0]) / int((~same).sum()))
    assert fmr[1:].std() == pytest.approx(binomial, rel=0.1)
