"""Counts of all pairs against pairs that are listed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers import made_on_cpu, make_cloud, random_like
from torch import Tensor
from torch.nn.functional import normalize

from facenet_ext import _pair_ranks, metrics, pairwise_squared_distance
from facenet_ext.all_pairs import (
    distance_histogram,
    val_far_all_pairs,
    val_far_over_splits,
)
from facenet_ext.reference.distances import pairwise_distance


@made_on_cpu
def batch(
    seed: int, rows: int, dim: int = 16, identities: int = 9, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Rows on a grid, so that many distances are equal, and exact in float32."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.randint(-2, 3, (rows, dim), generator=generator)
    labels = torch.randint(0, identities, (rows,), generator=generator)
    return grid.to(dtype) / 4, labels


def listed(
    x: Tensor, labels: Tensor, y: Tensor | None, y_labels: Tensor | None, distance: str
) -> tuple[Tensor, Tensor]:
    """Every pair once: its distance, as the kernels round it, and whether it is of one label."""
    d = pairwise_distance(x, y, distance=distance).to(x.dtype)
    same = labels[:, None] == (labels if y_labels is None else y_labels)[None]
    if y is None:
        once = torch.ones_like(same).triu(1)
        return d[once], same[once]
    return d.flatten(), same.flatten()


def counted(d: Tensor, edges: Tensor) -> list[int]:
    """NumPy's histogram, with what lies outside, and without the last bin's closed end."""
    d = d.double().cpu()
    inner = np.histogram(d, np.append(edges.numpy(), np.inf))[0][:-1]
    below = int((d < edges[0]).sum())
    return [below, *inner.tolist(), len(d) - below - int(inner.sum())]


@pytest.mark.parametrize("distance", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rows", "others"), [(2, None), (49, None), (130, None), (97, 50), (1, 1)])
def test_counts_are_those_of_listed_pairs(
    distance: str, dtype: torch.dtype, rows: int, others: int | None
) -> None:
    x, labels = batch(rows, rows, dtype=dtype)
    y, y_labels = (None, None) if others is None else batch(9, others, dtype=dtype)
    d, same = listed(x, labels, y, y_labels, distance)
    for low, high, bits in (
        (0.0, math.inf, 4),
        (0.6, 5.3, 2),
        (0.0, 1e-3, 0),
        (3.0, 3.0078125, 23),
    ):
        found = distance_histogram(
            x, labels, low=low, high=high, bits=bits, distance=distance,
            ref_emb=y, ref_labels=y_labels,
        )  # fmt: skip
        assert found.same.tolist() == counted(d[same], found.edges)
        assert found.different.tolist() == counted(d[~same], found.edges)
        assert found.edges[0] <= low
        assert found.edges[-1] >= min(high, torch.finfo(dtype).max)


@pytest.mark.parametrize("others", [None, 70])
def test_cosines_are_counted_too(others: int | None) -> None:
    """Of rows, some of them zeros, whose cosine distances are exactly 0, 1 or 2."""
    x, (_, labels) = make_cloud("axes", 90, 5), batch(1, 90)
    y = y_labels = None
    if others is not None:
        y, (_, y_labels) = make_cloud("axes", others, 5, seed=1), batch(2, others)
    d, same = listed(x, labels, y, y_labels, "cosine")
    found = distance_histogram(x, labels, distance="cosine", ref_emb=y, ref_labels=y_labels)
    assert found.same.tolist() == counted(d[same], found.edges)
    assert found.different.tolist() == counted(d[~same], found.edges)


def test_edges_have_so_many_digits() -> None:
    x, labels = batch(0, 4)
    edges = distance_histogram(x, labels, low=0.9, high=4.1, bits=1).edges
    assert edges.tolist() == [0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


def test_edges_enclose_what_was_asked_for() -> None:
    """Numbers between two of the type are rounded outwards, however many digits there are."""
    x, labels = batch(0, 4)
    for bits in (0, 9):
        edges = distance_histogram(x, labels, low=1 - 1e-9, high=1 + 1e-9, bits=bits).edges
        assert edges[0] < 1 < edges[-1]
    exact = distance_histogram(x, labels, low=0.5, high=1.0, bits=3).edges
    assert (exact[0], exact[-1]) == (0.5, 1.0)


def test_what_is_no_distance_lies_beyond_all_bins() -> None:
    x = torch.tensor([[0.0], [math.nan], [math.inf], [1.0]])
    found = distance_histogram(x, torch.zeros(4, dtype=torch.int64), bits=0)
    assert found.same[-1] == 5
    assert found.same[:-1].sum() == 1


@pytest.mark.parametrize("rows", [0, 1])
def test_no_pairs_are_no_counts(rows: int) -> None:
    x, labels = batch(0, rows)
    found = distance_histogram(x, labels)
    assert found.same.sum() == found.different.sum() == 0


def test_half_precision_is_counted_as_float32() -> None:
    x, labels = batch(3, 60)
    for dtype in (torch.float16, torch.bfloat16):
        found = distance_histogram(x.to(dtype), labels)
        expected = distance_histogram(x, labels)
        assert all(map(torch.equal, found, expected))


def test_the_curve_is_that_of_listed_pairs() -> None:
    x, labels = batch(4, 80)
    d, same = listed(x, labels, None, None, "sqeuclidean")
    curve = distance_histogram(x, labels, low=0.0, high=64.0, bits=23 - 13).roc()
    for threshold, val, far in zip(*(part[::97] for part in curve), strict=True):
        assert val == (d[same] < threshold).double().mean()
        assert far == (d[~same] < threshold).double().mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("others", [None, 70])
@pytest.mark.parametrize("kind", ["ties", "fresh"])
def test_points_are_those_of_listed_pairs(
    dtype: torch.dtype, others: int | None, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facenet_ext._pair_ranks._BLOCK", 37)
    x, labels = batch(5, 110, dtype=dtype)
    y, y_labels = (None, None) if others is None else batch(6, others, dtype=dtype)
    if kind == "fresh":
        x = normalize(random_like(x, torch.randn) * 0.6 + labels[:, None].to(dtype).cos())
    d = pairwise_squared_distance(x, y)
    same = labels[:, None] == (labels if y_labels is None else y_labels)[None]
    once = torch.ones_like(same).triu(1) if y is None else torch.ones_like(same)
    fars = [1.0, 0.5, 0.07, 1e-2, 1e-3, 1e-6]
    found = val_far_all_pairs(x, labels, fars, ref_emb=y, ref_labels=y_labels)
    for point, far in zip(found, fars, strict=True):
        expected = metrics.val_far(d[once], same[once], far)
        assert str(point) == str(expected)  # NaN is not equal to itself


@made_on_cpu
def noise(rows: int, seed: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Fresh rows around a centre for each of many identities."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, rows // 4, (rows,), generator=generator)
    centres = torch.randn(rows // 4, 12, generator=generator)
    x = centres[labels] + torch.randn(rows, 12, generator=generator)
    return normalize(x).to(dtype), labels


@pytest.mark.parametrize("kind", ["self", "bank"])
def test_a_sample_tells_where_to_look(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The threshold lies in what is guessed, of fresh rows and of every rate."""
    monkeypatch.setattr(_pair_ranks, "_FEW", 100)
    guess = _pair_ranks._guess
    guessed: list[tuple[int, int]] = []

    def told(*arguments: Any) -> tuple[int, int]:
        guessed.append(guess(*arguments))
        return guessed[-1]

    monkeypatch.setattr(_pair_ranks, "_guess", told)
    bits = _pair_ranks.Format.of(torch.float32).bits_of
    for seed in range(5):
        x, labels = noise(900, seed)
        y, y_labels = noise(700, seed + 50) if kind == "bank" else (None, None)
        d = pairwise_squared_distance(x, y)
        once = torch.ones_like(d, dtype=torch.bool)
        once = once if y is not None else once.triu(1)
        same = labels[:, None] == (labels if y_labels is None else y_labels)
        fars = [1.0, 0.5, 0.05, 0.01, 2e-3, 1e-5]
        guessed.clear()
        found = val_far_all_pairs(x, labels, fars, ref_emb=y, ref_labels=y_labels)
        for point, far, (low, high) in zip(found, fars, guessed, strict=True):
            assert point == metrics.val_far(d[once], same[once], far)
            assert low <= bits(point.threshold) < high


@pytest.mark.parametrize(("dtype", "passes"), [(torch.float32, 1), (torch.float64, 3)])
def test_a_good_guess_saves_passes(
    dtype: torch.dtype, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several rates at once: float32 is found in one pass, without a guess it takes two."""
    x, labels = noise(700, 4, dtype)
    fars = [0.2, 0.05, 0.01]
    steps: list[int] = []
    without = val_far_all_pairs(x, labels, fars, progress=lambda done, _: steps.append(done))
    assert len(steps) == passes + 1  # all pairs are one block
    monkeypatch.setattr(_pair_ranks, "_FEW", 100)
    bits = _pair_ranks.Format.of(dtype).bits_of
    guesses = iter([(bits(p.threshold * 0.99), bits(p.threshold * 1.01)) for p in without])
    monkeypatch.setattr(_pair_ranks, "_guess", lambda *_: next(guesses))
    steps.clear()
    found = val_far_all_pairs(x, labels, fars, progress=lambda done, _: steps.append(done))
    assert len(steps) == passes
    assert found == without


@pytest.mark.parametrize("guess", ["below", "beyond", "narrow"])
def test_a_wrong_guess_costs_passes_and_nothing_else(
    guess: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pair_ranks, "_FEW", 50)
    x, labels = noise(400, 3)
    fars = [1.0, 0.5, 0.1, 0.03, 0.01, 1e-3, 1e-4, 0.011, 0.0101, 0.2]
    d = pairwise_squared_distance(x)
    once = torch.ones_like(d, dtype=torch.bool).triu(1)
    same = labels[:, None] == labels
    expected = [metrics.val_far(d[once], same[once], far) for far in fars]
    bits = _pair_ranks.Format.of(torch.float32).bits_of
    wrong = {
        "below": (bits(1e-20), bits(1e-19)),
        "beyond": (bits(100.0), bits(120.0)),
        "narrow": (bits(1.0), bits(1.0) + 1),
    }[guess]
    monkeypatch.setattr(_pair_ranks, "_guess", lambda *_: wrong)
    assert str(val_far_all_pairs(x, labels, fars)) == str(tuple(expected))


def test_equal_distances_enter_together_or_not_at_all() -> None:
    x = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    labels = torch.tensor([0, 1, 2, 2])
    point, half = val_far_all_pairs(x, labels, [0.3, 0.4])
    assert (point.reachable, math.isnan(point.val)) == (False, True)
    assert (half.val, half.far, half.threshold) == (1.0, 0.4, 1.0)


def test_progress_reaches_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facenet_ext._pair_ranks._BLOCK", 20)
    x, labels = batch(7, 50)
    steps: list[tuple[int, int]] = []
    val_far_all_pairs(x, labels, [0.1], progress=lambda done, of: steps.append((done, of)))
    assert steps[5] == (1225, 1225)
    assert all(of == 1225 for _, of in steps)


def test_splits_share_no_identity() -> None:
    x, labels = batch(8, 300, identities=40)
    found = val_far_over_splits(x, labels, 0.05, splits=4)
    values = torch.tensor([p.val for p in found.points], dtype=torch.float64)
    assert len(values) == 4
    assert found.mean == pytest.approx(values.mean().item())
    assert found.standard_error == pytest.approx(values.std().item() / 2)
    assert found == val_far_over_splits(x, labels, 0.05, splits=4)
    assert found != val_far_over_splits(x, labels, 0.05, splits=4, seed=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 24}, "bits: expected 0 to 23, got 24"),
        ({"bits": True}, "bits: expected 0 to 23, got True"),
        ({"bits": 23}, "bits: expected at most 4194304 bins, got 2139095040"),
        ({"low": -1.0}, "low and high: expected 0 <= low < high, got -1.0 and inf"),
        ({"low": 2.0, "high": 2.0}, "low and high: expected 0 <= low < high"),
        ({"low": math.nan}, "low and high: expected 0 <= low < high"),
        ({"distance": "l1"}, "distance: expected one of"),
        ({"ref_emb": torch.zeros(2, 16)}, "ref_labels: expected one per row of ref_emb"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    x, labels = batch(0, 8)
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        distance_histogram(x, labels, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("labels", "far", "message"),
    [
        ([0, 1, 2], [0.1], "got 0 same and 3 different"),
        ([0, 0, 0], [0.1], "got 3 same and 0 different"),
        ([0, 0, 1], [0.0], r"far must be in \(0, 1\], got 0.0"),
    ],
)
def test_points_that_cannot_be_are_refused(
    labels: list[int], far: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        val_far_all_pairs(torch.rand(3, 2), torch.tensor(labels), far)
    broken = torch.tensor([[0.0], [math.nan], [1.0]])
    with pytest.raises(ValueError, match="distances must be finite, got 2 NaN or infinite"):
        val_far_all_pairs(broken, torch.tensor([0, 0, 1]), [0.5])
    with pytest.raises(ValueError, match=r"splits: expected 2 to 3 \(identities\), got 1"):
        val_far_over_splits(torch.rand(3, 2), torch.arange(3), splits=1)


@pytest.mark.parametrize(
    ("low", "shift", "bins", "message"),
    [
        ([-1], 14, 9, "low: expected the bits of a distance, got -1"),
        ([2**31], 14, 9, "low: expected the bits of a distance, got 2147483648"),
        ([], 14, 9, "low: expected 1 to 16 windows, got 0"),
        (list(range(17)), 0, 1, "low: expected 1 to 16 windows, got 17"),
        ([0, 143], 4, 9, "low: expected windows in order and apart, got 143 after 0"),
        ([7, 0], 0, 1, "low: expected windows in order and apart, got 0 after 7"),
        ([0], 31, 9, "shift: expected 0 to 30, got 31"),
        ([0], -1, 9, "shift: expected 0 to 30, got -1"),
        ([0], 14, 0, "bins: expected 1 to 4194304, got 0"),
        ([0], 14, 2**62, "bins: expected 1 to 4194304"),
    ],
)
def test_the_operator_checks_for_itself(
    low: list[int], shift: int, bins: int, message: str
) -> None:
    operator = torch.ops.facenet_ext.distance_histogram
    with pytest.raises(RuntimeError, match=message):
        operator(*batch(0, 5), None, None, "sqeuclidean", low, shift, bins)


@pytest.mark.parametrize("others", [None, 1, 133])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("many", [False, True], ids=["few columns", "many columns"])
def test_windows_and_the_gaps_between_them(
    others: int | None, dtype: torch.dtype, many: bool
) -> None:
    """Against the columns that NumPy finds, of distances that are not finite too."""
    x, labels = batch(11, 150, dtype=dtype)
    x = x + random_like(x, torch.rand) / 8
    x[3, 0], x[70, 2], x[71, 2] = math.nan, math.inf, 1e30 if dtype == torch.float32 else 1e300
    y, y_labels = (None, None) if others is None else batch(12, others, dtype=dtype)
    d = pairwise_squared_distance(x, y).cpu()
    same = (labels[:, None] == (labels if y_labels is None else y_labels)[None]).cpu()
    once = torch.ones_like(same).triu(1) if y is None else torch.ones_like(same)
    bits = _pair_ranks.Format.of(dtype).bits_of
    mantissa = 23 if dtype == torch.float32 else 52
    for windows in (
        [0.0],
        [1.0],
        [0.25, 1.0],
        [0.5, 1.0, 2.0, 16.0],
        [2.0**k for k in range(-4, 4)],
    ):
        bins = 8 if len(windows) > 4 else 5
        shift = mantissa - 3
        if many:  # the same edges and others between them
            bins, shift = bins << 15, shift - 15
        low = [bits(value) for value in windows]
        found = torch.ops.facenet_ext.distance_histogram(
            x, labels, y, y_labels, "sqeuclidean", low, shift, bins
        )
        ends = [_pair_ranks.Format.of(dtype).values_of(
            torch.tensor([at + (k << shift) for k in range(bins + 1)])) for at in low]  # fmt: skip
        edges = torch.cat(ends).to(dtype)
        for kind, chosen in enumerate((same & once, ~same & once)):
            values = d[chosen]
            finite = values[values.isfinite()]
            columns = torch.searchsorted(edges, finite, right=True)
            expected = columns.bincount(minlength=len(edges) + 1).tolist()
            assert found[kind].tolist() == [*expected, len(values) - len(finite)]
