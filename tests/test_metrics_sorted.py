"""Claims about numbers that are kept sorted in half of their memory: they are those of NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from facenet_ext.metrics import _comparisons, _sorted, summarize
from facenet_ext.metrics._comparisons import Comparisons
from facenet_ext.metrics._sorted import SortedFloats

FLOATS = st.floats(width=32, allow_nan=False)
NEAR = st.integers(0, 40).map(lambda step: 2 - 1e-4 * step)  # many in one bucket, many equal


@pytest.fixture
def any_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sorted, "_FEW", 0)


def compact(values: NDArray[np.float32], size: int = 7) -> SortedFloats:
    return SortedFloats.of(lambda: iter(np.split(values, range(size, len(values), size))))


@given(st.lists(st.one_of(FLOATS, NEAR), min_size=1), st.lists(st.one_of(FLOATS, NEAR)))
def test_they_are_found_where_numpy_finds_them(numbers: list[float], wanted: list[float]) -> None:
    values = np.array(numbers, np.float32)
    found, expected = compact(values), np.sort(values)
    assert len(found) == len(expected)
    assert np.array_equal(found[:], expected)
    assert np.array_equal(found[1:-1], expected[1:-1])
    assert np.array_equal(found[np.array([0, -1, 0])], expected[[0, -1, 0]])
    assert all(found[at] == expected[at] for at in (0, -1, len(expected) // 2))
    some = np.array([*numbers, *wanted, -np.inf, np.inf, -0.0], np.float32)
    for side in ("left", "right"):
        places = found.searchsorted(some, side)  # type: ignore[arg-type]
        assert np.array_equal(places, expected.searchsorted(some, side))  # type: ignore[call-overload]
        place = found.searchsorted(some[0], side)  # type: ignore[arg-type]
        assert np.ndim(place) == 0
        assert place == places[0]
    with pytest.raises(IndexError):
        found[len(expected)]


@pytest.mark.usefixtures("any_number")
@pytest.mark.parametrize("tied", [False, True])
def test_figures_are_the_same_to_the_last_digit(
    tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_comparisons, "CHUNK", 1000)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) // 3
    first, second = torch.triu_indices(120, 120, offset=1)
    same = labels[first] == labels[second]
    distances = torch.randn(len(same), generator=generator) + 3 * ~same
    distances = (4 * distances).round() / 4 if tied else distances
    found = []
    for wide in (distances, distances.double()):  # numbers of 64 bits are an array
        part = Comparisons.of(wide, same).same
        assert isinstance(part, SortedFloats) == (wide.dtype == torch.float32)
        summary = summarize(wide, same, first, second, labels=labels, threshold=1.0)
        found.append({key: (one.value, one.interval) for key, one in summary.figures.items()})
    assert str(found[0]) == str(found[1])  # NaN is NaN
