"""csrc/semantics on plain numbers: what a result is, before any tile or thread."""

import bisect
import itertools
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facenet_ext import _info

NONE = -1
numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
candidates = st.lists(st.tuples(st.integers(0, 5).map(float), st.integers(0, 9)), min_size=1)


def winner(beats, candidates):
    best = (math.nan, NONE)
    for d, index in candidates:
        if beats(d, index, *best):
            best = (d, index)
    return best


@given(candidates)
def test_closer_is_the_minimum_and_ties_go_to_the_lowest_index(candidates):
    assert winner(_info.closer, candidates) == min(candidates)


@given(candidates)
def test_farther_is_the_maximum_and_ties_go_to_the_lowest_index(candidates):
    assert winner(_info.farther, candidates) == min(candidates, key=lambda c: (-c[0], c[1]))


@given(st.lists(st.tuples(st.integers(0, 3).map(float), st.integers(0, 9)), max_size=4))
def test_the_order_of_meeting_does_not_show(candidates):
    orders = itertools.permutations(candidates)
    assert len({winner(_info.closer, order) for order in orders} - {(math.nan, NONE)}) <= 1


@pytest.mark.parametrize("beats", [_info.closer, _info.farther])
def test_nan_beats_nothing_and_anything_beats_none(beats):
    assert not beats(math.nan, 0, 1.0, 1)
    assert not beats(math.nan, 0, 0.0, NONE)
    assert beats(math.inf, 3, math.inf, NONE)
    assert not beats(1.0, 4, 1.0, 4)


@given(st.lists(numbers).map(sorted), numbers)
def test_bucket_counts_the_thresholds_strictly_below(thresholds, d):
    assert _info.successor_bucket(thresholds, d) == bisect.bisect_left(thresholds, d) - 1


def test_a_negative_at_a_threshold_is_not_beyond_it():
    assert _info.successor_bucket([1.0, 2.0, 2.0, 3.0], 2.0) == 0
    assert _info.successor_bucket([1.0, 2.0, 2.0, 3.0], 2.5) == 2
    assert _info.successor_bucket([1.0], 1.0) == -1


def test_the_margin_is_open_at_its_upper_end():
    assert _info.inside_margin(1.0, 1.49, 0.5)
    assert not _info.inside_margin(1.0, 1.5, 0.5)


KINDS = {
    0: lambda gap, margin: True,
    1: lambda gap, margin: gap <= 0,
    2: lambda gap, margin: 0 < gap <= margin,
    3: lambda gap, margin: gap > margin,
}
quarters = st.integers(0, 12).map(lambda n: n / 4)  # with many ties


@given(
    st.sampled_from(sorted(KINDS)),
    st.lists(quarters).map(sorted),
    quarters,
    st.sampled_from([-0.5, 0.0, 0.5, 1.0]),
)
def test_a_band_is_the_triplets_of_its_kind(kind, thresholds, d, margin):
    """Those with a positive hinge, and all that count, are contiguous among ascending positives."""
    gaps = [d - t for t in thresholds]
    of_kind = [k for k, gap in enumerate(gaps) if KINDS[kind](gap, margin)]
    active = [k for k in of_kind if margin - gaps[k] > 0]
    assert all(_info.is_of_kind(kind, gap, margin) == KINDS[kind](gap, margin) for gap in gaps)
    assert list(range(*_info.counted_band(kind, thresholds, d, margin))) == of_kind
    assert list(range(*_info.active_band(kind, thresholds, d, margin))) == active


@given(
    st.floats(0, 1e300) | st.floats(0, 4) | st.just(math.inf),
    st.floats(-10, 10) | st.floats(-1e-300, 1e-300) | st.sampled_from([0.0, 0.2, 1e300]),
)
def test_a_reach_is_the_first_distance_whose_gap_is_at_least_the_margin(t, margin):
    reach = _info.reach_of(t, margin)
    if math.isnan(reach):
        assert not math.inf - t >= margin
        return
    assert reach - t >= margin
    assert reach == 0 or not math.nextafter(reach, -math.inf) - t >= margin


@pytest.mark.parametrize(("v", "h", "slope"), [(-1.0, 0.0, 0.0), (0.0, 0.0, 0.0), (2.0, 2.0, 1.0)])
def test_hinge(v, h, slope):
    assert (_info.hinge(v, False), _info.hinge_slope(v, False)) == (h, slope)


@given(st.floats(-500, 500))
def test_softplus_and_its_slope(v):
    expected = max(v, 0.0) + math.log1p(math.exp(-abs(v)))
    assert _info.hinge(v, True) == pytest.approx(expected, rel=1e-12)
    assert _info.hinge_slope(v, True) == pytest.approx(
        0.5 * (1 + math.tanh(v / 2)), rel=1e-9, abs=1e-15
    )


@pytest.mark.parametrize("smooth", [False, True])
def test_hinge_passes_nan_on(smooth):
    assert math.isnan(_info.hinge(math.nan, smooth))


@pytest.mark.parametrize(
    ("d_an", "d_pn", "distance", "share"),
    [(1.0, 2.0, 1.0, 1.0), (2.0, 1.0, 1.0, 0.0), (3.0, 3.0, 3.0, 0.5), (0.0, 0.0, 0.0, 0.5)],
)
def test_anchor_swap_takes_the_smaller_distance(d_an, d_pn, distance, share):
    assert _info.swapped_distance(d_an, d_pn) == distance
    assert _info.anchor_share(d_an, d_pn) == share


@pytest.mark.parametrize(("d_an", "d_pn"), [(math.nan, 1.0), (1.0, math.nan)])
def test_anchor_swap_passes_nan_on(d_an, d_pn):
    assert math.isnan(_info.swapped_distance(d_an, d_pn))


@pytest.mark.parametrize(
    ("kind", "distance", "slope"), [(0, 9.0, 2.0), (1, 3.0, 1 / 3), (2, 4.5, 1.0)]
)
def test_distances_of_nine_squares(kind, distance, slope):
    assert _info.distance_from_squares(kind, 9.0) == distance
    assert _info.distance_slope(kind, distance) == pytest.approx(slope)


def test_the_slope_of_the_euclidean_distance_at_zero_is_zero():
    assert _info.distance_slope(1, 0.0) == 0.0


distances = st.floats(0, allow_nan=False, width=32)  # infinity too
indices = st.integers(0, 2**32 - 1)
contenders = st.tuples(distances, indices)


@given(contenders, contenders)
def test_the_smaller_key_is_the_winner(a, b):
    assert (_info.closer_key(*a) < _info.closer_key(*b)) == _info.closer(*a, *b)
    assert (_info.farther_key(*a) < _info.farther_key(*b)) == _info.farther(*a, *b)


@given(contenders)
def test_a_key_holds_distance_and_index(contender):
    for make, distance_of in (
        (_info.closer_key, _info.closer_key_distance),
        (_info.farther_key, _info.farther_key_distance),
    ):
        key = make(*contender)
        assert (distance_of(key), _info.key_index(key)) == contender
        assert key < 2**64 - 1  # what "none" is


def next_up(d):
    """The next float32."""
    return struct.unpack("f", struct.pack("I", struct.unpack("I", struct.pack("f", d))[0] + 1))[0]


@given(distances, distances, distances)
def test_the_smallest_beyond_is_the_strict_successor(d, other, t):
    for x in (d, other, t):
        assert (_info.beyond(x, t) < 2**31) == (x > t)
    if t < math.inf:
        assert _info.beyond(next_up(t), t) == 0
    if d > t and other > t:
        assert (_info.beyond(d, t) < _info.beyond(other, t)) == (d < other)
