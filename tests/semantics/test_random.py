"""csrc/semantics/random.h: draws, intervals, weights and races on plain numbers."""

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facenet_ext import _info
from facenet_ext.reference.draws import draws

words = st.integers(0, 2**32 - 1)
weights = st.floats(-3000, 3000, width=32)
EPS = 2.0**-23


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**31), st.integers(0, 2**31))
def test_a_draw_is_the_oracles(seed, anchor, positive):
    expected = draws(seed, anchor, positive, 4).tolist()
    assert [_info.draw(seed % 2**64, anchor, positive, n) for n in range(4)] == expected


def test_no_two_negatives_of_a_pair_draw_the_same():
    drawn = draws(7, 3, 5, 1 << 20)
    assert len(drawn.unique()) == 1 << 20
    assert int(drawn.min()) >= 0
    assert int(drawn.max()) < 2**32


@pytest.mark.parametrize("bit", range(32))
def test_every_bit_of_a_row_reaches_half_the_bits_of_a_draw(bit):
    """Of the negative's row and of the positive's: 32 x 500 coins each."""
    for of in ("positive", "negative"):
        flipped = 0
        for row in range(500):
            other = row ^ 1 << bit
            pair = (5, row, 5, other) if of == "negative" else (row, 5, other, 5)
            a, b = _info.draw(1, 2, *pair[:2]), _info.draw(1, 2, *pair[2:])
            flipped += (a ^ b).bit_count()
        assert abs(flipped / 16000 - 0.5) < 0.02  # five standard deviations


def test_intervals():
    assert _info.qualifying(True, 1.0, 0.5) == (1.0, 1.5)
    assert _info.qualifying(False, 1.0, 0.5) == (-math.inf, 1.5)


def test_the_logarithm_is_right_to_two_units_of_the_last_place():
    generator = numpy.random.default_rng(0)
    spread = numpy.exp(generator.uniform(-80, 80, 40000))
    around_one = generator.uniform(0.6, 1.4, 40000)
    for x in numpy.concatenate([spread, around_one]).astype(numpy.float32).tolist():
        exact = math.log(x)
        assert abs(_info.natural_log(x) - exact) <= 2 * EPS * abs(exact), x
    assert _info.natural_log(1.0) == 0
    assert _info.natural_log(0.0) < -80


@given(st.floats(0.01, 1.99), st.floats(0.1, 1.0), st.integers(1, 4096))
def test_log_weight_is_the_papers(d, cutoff, dim):
    clamped = max(d, cutoff)
    terms = (2 - dim) * math.log(clamped), (3 - dim) / 2 * math.log(1 - clamped**2 / 4)
    # Near 2 a rounding of d shows in 1 - d^2/4.
    error = 8 * EPS * (sum(map(abs, terms)) + abs(dim - 3) / (1 - clamped**2 / 4))
    assert abs(_info.log_weight(d, cutoff, dim) - sum(terms)) <= error


@given(weights, words)
def test_a_score_is_log_w_minus_log_e(weight, draw):
    exact = weight - math.log(-math.log1p(-(draw + 0.5) / 2**32))
    # Draws above 1 - 2**-24 round to 1, whose logarithm stands for all of theirs.
    error = 6 * EPS * (abs(weight) + 23) + (2.0 if draw >= 2**32 - 2**12 else 0.0)
    assert abs(_info.race_score(weight, draw) - exact) <= error


@given(weights, words)
def test_the_bound_is_above_the_score_and_close_where_it_matters(weight, draw):
    score, bound = _info.race_score(weight, draw), _info.score_bound(weight, draw)
    assert bound >= score
    if 2**8 <= draw < 2**30:
        assert bound - score < 0.3 + 1e-5 * abs(weight)


def test_a_negative_that_does_not_take_part_is_ahead_of_none():
    assert not _info.score_bound(-math.inf, 0) > -math.inf


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=2))
def test_priorities_descend_with_the_score(scores):
    ordered = sorted((s + 0.0 for s in scores), reverse=True)  # -0.0 + 0.0 is 0.0
    priorities = [_info.score_priority(s) for s in ordered]
    assert [_info.priority_score(p) for p in priorities] == ordered
    assert priorities == sorted(priorities)
    assert priorities[-1] < 2**32 - 1
    assert _info.priority_score(2**32 - 1) == -math.inf
