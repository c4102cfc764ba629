"""Identification and clustering, checked on small sets by hand and by SciPy."""

from __future__ import annotations

import math
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import cdist, pdist
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor

import facenet_ext
import facenet_ext.recognition.clustering as clustering
import facenet_ext.recognition.identification as identification
from facenet_ext.neighbours import Neighbours, nearest
from facenet_ext.recognition import (
    cluster,
    cumulative_matches,
    identify,
    open_set_rates,
    score_clusters,
)


def unit_groups(
    seed: int, groups: int, dim: int = 16, spread: float = 0.6, most: int = 8
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Rows of length 1 around some directions, in random order."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(groups), random.integers(1, most + 1, groups))
    random.shuffle(labels)
    x = random.normal(size=(groups, dim))[labels] / math.sqrt(dim)
    x += spread * random.normal(size=x.shape) / math.sqrt(dim)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x.astype(np.float32), labels


def same_partition(a: NDArray[np.int64], b: NDArray[np.int64]) -> bool:
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    return len(pairs) == len(set(a.tolist())) == len(set(b.tolist()))


# --- identification ---------------------------------------------------------------------------


def listed(
    gallery: NDArray[np.float32], names: NDArray[np.int64], probes: NDArray[np.float32]
) -> NDArray[np.float64]:
    """[M, C]: the distance of each probe to the closest row of each identity."""
    d = cdist(probes.astype(np.float64), gallery.astype(np.float64), "sqeuclidean")
    return np.stack([d[:, names == name].min(1) for name in range(names.max() + 1)], 1)


@pytest.mark.parametrize(("groups", "most", "k"), [(40, 6, 5), (3, 90, 3), (12, 1, 12), (5, 3, 9)])
@pytest.mark.parametrize("chunk", [7, 64, 65_536])
def test_identities_are_the_closest_of_all(
    groups: int, most: int, k: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identification, "_CHUNK", chunk)
    monkeypatch.setattr(identification, "_PROBES", 13)
    gallery, names = unit_groups(groups, groups, most=most)
    probes, _ = unit_groups(99, 30)
    found = identify(gallery, names, probes, k)
    d = listed(gallery, names, probes)
    order = np.argsort(d, 1, kind="stable")[:, :k]
    there = order.shape[1]
    assert found.identities[:, :there].tolist() == order.tolist()
    np.testing.assert_allclose(
        found.distances[:, :there], np.take_along_axis(d, order, 1), atol=1e-5
    )
    assert (found.identities[:, there:] == -1).all()
    assert found.distances[:, there:].isinf().all()
    rows = found.rows[:, :there].numpy()
    assert (names[rows] == order).all()
    closest = cdist(probes, gallery, "sqeuclidean")
    np.testing.assert_allclose(
        np.take_along_axis(closest, rows, 1), found.distances[:, :there], atol=1e-5
    )


def test_an_identity_with_thousands_of_rows_hides_nobody() -> None:
    gallery = np.zeros((3002, 2), np.float32)
    gallery[-2:] = [[1, 0], [2, 0]]
    names = np.array([0] * 3000 + [1, 2])
    found = identify(gallery, names, np.zeros((1, 2), np.float32), 3)
    assert found.identities.tolist() == [[0, 1, 2]]
    assert found.distances.tolist() == [[0.0, 1.0, 4.0]]
    assert found.rows.tolist() == [[0, 3000, 3001]]


@pytest.mark.parametrize("k", [1, 3, 9])
@pytest.mark.parametrize("chunk", [7, 65_536])
def test_a_probe_and_its_copies_are_left_out(
    k: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identification, "_CHUNK", chunk)
    gallery, names = unit_groups(3, 6, most=5)
    gallery = np.concatenate([gallery, gallery[:4]])
    names = np.concatenate([names, names[:3], [names[3] + 1]])  # a copy has another name
    d = cdist(gallery.astype(np.float64), gallery.astype(np.float64), "sqeuclidean")
    d[d < 1e-9] = np.inf
    listed = np.stack([d[:, names == name].min(1) for name in range(names.max() + 1)], 1)
    found = identify(gallery, names, gallery, k, leave_out=identification.SAME_IMAGE)
    order = np.argsort(listed, 1, kind="stable")[:, :k]
    expected = np.take_along_axis(listed, order, 1)
    there = order.shape[1]
    np.testing.assert_allclose(found.distances[:, :there], expected, atol=1e-5)
    order[np.isinf(expected)] = -1
    assert found.identities[:, :there].tolist() == order.tolist()
    alone = [np.isinf(listed[names == name, name]).all() for name in range(names.max() + 1)]
    others = identification.have_other_images(gallery, names)
    assert others.tolist() == [not each for each in alone]


def test_thousands_of_copies_are_left_out() -> None:
    gallery = np.zeros((3002, 2), np.float32)
    gallery[-2:] = [[1, 0], [2, 0]]
    names = np.array([0] * 3001 + [1])
    probes = np.array([[0, 0], [1, 0]], np.float32)
    found = identify(gallery, names, probes, 2, leave_out=identification.SAME_IMAGE)
    assert found.identities.tolist() == [[0, 1], [0, 1]]
    assert found.distances.tolist() == [[1.0, 4.0], [1.0, 1.0]]
    assert found.rows[0].tolist() == [3000, 3001]


def test_no_probes_are_found_nowhere_and_progress_is_told() -> None:
    gallery, names = unit_groups(0, 5)
    assert identify(gallery, names, gallery[:0], 2).identities.shape == (0, 2)
    told: list[tuple[int, int]] = []
    identify(gallery, names, gallery, 1, progress=lambda *now: told.append(now))
    assert told[0] == (0, len(gallery))
    assert told[-1] == (len(gallery), len(gallery))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k: expected 1 to 100, got 0"),
        ({"gallery": np.zeros((0, 2), np.float32)}, "gallery: expected rows"),
        ({"identities": np.zeros(3, np.int64)}, "gallery: expected rows, one for each of 3"),
        ({"probes": np.zeros((1, 5), np.float32)}, "probes: expected 2 columns"),
        ({"identities": ["a", "b"]}, "identities: expected integers from 0, got <U1"),
    ],
)
def test_a_search_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    arguments = {
        "gallery": np.zeros((2, 2), np.float32),
        "identities": np.zeros(2, np.int64),
        "probes": np.zeros((1, 2), np.float32),
    }
    with pytest.raises(ValueError, match=message):
        identify(**(arguments | change))  # type: ignore[arg-type]


def found_as(
    identities: list[list[int]], distances: list[list[float]]
) -> identification.Identification:
    named = torch.tensor(identities)
    return identification.Identification(torch.tensor(distances), named, named)


def test_the_cumulative_match_characteristic() -> None:
    found = found_as([[1, 2, 3], [2, 1, 3], [3, 2, 1], [1, 2, 3]], [[0.1, 0.2, 0.3]] * 4)
    assert cumulative_matches(found, [1, 1, 1, -1]).tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert cumulative_matches(found, [9, 9, 9, 9]).tolist() == [0, 0, 0]
    assert cumulative_matches(found, [-1] * 4).isnan().all()


def test_open_set_rates() -> None:
    found = found_as([[1], [2], [1], [3]], [[0.125], [0.5], [0.25], [0.75]])
    truth = torch.tensor([1, 2, -1, -1])
    thresholds = [0.0, 0.125, 0.25, 0.5, 1.0]
    rates = [tuple(point) for point in open_set_rates(found, truth, thresholds)]
    assert rates == [(0, 0, 0), (0.125, 0.5, 0), (0.25, 0.5, 0.5), (0.5, 1, 0.5), (1, 1, 1)]
    wrong = found_as([[2]], [[0.1]])
    assert open_set_rates(wrong, [1], [0.5])[0].identified == 0.0
    assert math.isnan(open_set_rates(wrong, [1], [0.5])[0].false_alarms)


# --- clusters ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0, 1.4, 1.9, 4.0])
@pytest.mark.parametrize("method", ["average", "single"])
def test_clusters_are_those_of_scipy(seed: int, threshold: float, method: str) -> None:
    x, _ = unit_groups(seed, 25, dim=5 + seed, spread=0.3 + 0.1 * seed)
    distances = pdist(x.astype(np.float64), "sqeuclidean")
    expected = fcluster(linkage(distances, method), threshold + 1e-7, "distance")
    found = cluster(x, threshold, method)
    assert same_partition(found.labels, expected)
    assert found.sizes.tolist() == sorted(np.bincount(expected)[1:].tolist(), reverse=True)
    assert found.sizes.tolist() == np.bincount(found.labels).tolist()


def test_rows_need_no_length_of_one() -> None:
    random = np.random.default_rng(3)
    x = random.normal(size=(60, 3)) * 5 + 100
    expected = fcluster(linkage(pdist(x, "sqeuclidean"), "average"), 30.0, "distance")
    assert same_partition(cluster(x, 30.0).labels, expected)


@pytest.mark.parametrize("method", ["average", "single"])
def test_equal_rows_and_rings_of_equal_distances_end(method: str) -> None:
    equal = cluster(np.ones((50, 3)), 0.0, method)
    assert equal.labels.tolist() == [0] * 50
    assert equal.sizes.tolist() == [50]
    corners = np.eye(7)  # every distance is 2
    assert cluster(corners, 1.9, method).sizes.tolist() == [1] * 7
    assert cluster(corners, 2.1, method).sizes.tolist() == [7]
    assert cluster(np.zeros((1, 2)), 1.0, method).labels.tolist() == [0]
    assert cluster(np.zeros((0, 2)), 1.0, method).labels.tolist() == []


def copied(kind: str, count: int) -> NDArray[np.float32]:
    """Rows of which some, half or all are equal."""
    different, _ = unit_groups(5, count, dim=8, most=1)
    few = np.random.default_rng(0).permutation(np.repeat(different[:7], count // 7, axis=0))
    half = np.concatenate([few[: count // 2], different[: count // 2]])
    return {"all": np.repeat(different[:1], count, axis=0), "half": half, "groups": few}[kind]


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows in each search."""
    seen: list[int] = []

    def counted(rows: Tensor, *arguments: Any, **options: Any) -> Neighbours:
        seen.append(len(rows))
        return nearest(rows, *arguments, **options)

    monkeypatch.setattr(clustering, "nearest", counted)
    return seen


@pytest.mark.parametrize("kind", ["all", "half", "groups"])
@pytest.mark.parametrize("method", ["average", "single"])
def test_copies_are_searched_for_once_and_weigh_what_they_are(
    kind: str, method: str, searches: list[int]
) -> None:
    x = copied(kind, 210)
    z = linkage(pdist(x.astype(np.float64), "sqeuclidean"), method)
    heights = np.unique(z[:, 2].round(9))
    for threshold in (0.0, *((heights[1:] + heights[:-1]) / 2)[::9]):
        searches.clear()
        found = cluster(x, threshold, method)
        assert same_partition(found.labels, fcluster(z, threshold + 1e-7, "distance"))
        assert len(searches) <= 20
        assert max(searches, default=0) <= len(np.unique(x, axis=0))


def outcomes(x: NDArray[np.float64], threshold: float) -> set[frozenset[frozenset[int]]]:
    """All that merging a closest pair, then another, can end in: where some are equally close."""
    distances, ends, seen = cdist(x, x, "sqeuclidean"), set(), set()

    def go_on(groups: frozenset[frozenset[int]]) -> None:
        if groups in seen:
            return
        seen.add(groups)
        pairs = [(distances[np.ix_([*a], [*b])].mean(), a, b) for a, b in combinations(groups, 2)]
        least = min((pair[0] for pair in pairs), default=math.inf)
        if least > threshold:
            ends.add(groups)
            return
        for d, a, b in pairs:
            if d <= least + 1e-9:
                go_on(groups - {a, b} | {a | b})

    go_on(frozenset(frozenset([row]) for row in range(len(x))))
    return ends


@pytest.mark.parametrize(
    "x",
    [
        np.arange(7.0)[:, None],
        np.array([[0.0], [0], [1], [2], [2], [3]]),
        np.array([[0.0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]),
        np.eye(6),
    ],
)
@pytest.mark.parametrize("threshold", [0.5, 1.0, 1.5, 2.0, 2.5, 5.0])
def test_ties_end_as_one_merge_at_a_time_may(x: NDArray[np.float64], threshold: float) -> None:
    possible = outcomes(x, threshold)
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(x))
        labels = cluster(x[order], threshold).labels
        groups = (order[labels == label].tolist() for label in range(labels.max() + 1))
        assert frozenset(map(frozenset, groups)) in possible


@pytest.mark.parametrize(
    "x",
    [
        np.arange(400.0)[:, None],
        np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), 2).reshape(-1, 2),
        np.eye(400),
    ],
    ids=["line", "lattice", "all equally far"],
)
def test_ties_are_merged_in_bulk(x: NDArray[np.float64], searches: list[int]) -> None:
    first = cluster(x, 6.0)
    assert len(searches) <= 12
    assert cluster(x, 6.0).labels.tolist() == first.labels.tolist()
    order = np.random.default_rng(0).permutation(len(x))
    searches.clear()
    cluster(x[order], 6.0)
    assert len(searches) <= 12


def test_tensors_and_lists_are_taken_as_arrays_are() -> None:
    rows = torch.tensor([[0.0], [0.1], [2.0]])
    assert cluster(rows, 0.5).labels.tolist() == [0, 0, 1]  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got NaN or infinity in row 1"):
        cluster(torch.tensor([[0.0], [math.nan]]), 0.5)  # type: ignore[arg-type]
    for kind in (torch.tensor, list):
        found = identify(rows, kind([0, 0, 1]), rows[2:], k=1)  # type: ignore[arg-type]
        assert found.identities.tolist() == [[1]]


def test_the_largest_cluster_is_the_first() -> None:
    x = np.array([[0.0], [9.0], [9.1], [5.0], [9.2], [5.1]])
    assert cluster(x, 0.1).labels.tolist() == [2, 0, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((3, 2)), 1.0, "ward"), "linkage: expected one of average, single, got 'ward'"),
        ((np.ones((3, 2)), -1.0), "threshold: expected a number from 0, got -1.0"),
        ((np.ones((3, 2)), math.nan), "threshold: expected a number from 0, got nan"),
        ((np.array([[0.0], [math.nan]]), 1.0), "embeddings: expected numbers, got NaN .* in row 1"),
        ((np.full((3, 2), math.inf), 1.0, "single"), "embeddings: expected numbers.* in row 0"),
        ((np.ones(3), 1.0), r"embeddings: expected a matrix \[N, D\], got shape \(3,\)"),
    ],
)
def test_clusters_that_cannot_be_are_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cluster(*arguments)  # type: ignore[arg-type]


def listed_scores(labels: list[int], identities: list[int]) -> list[float]:
    """By the definitions, pair by pair and row by row."""
    a, b = torch.tensor(labels), torch.tensor(identities)
    together, same = a[:, None] == a, b[:, None] == b
    both = together & same
    n = len(labels)

    def share(part: Tensor, whole: Tensor) -> float:
        return float((part.sum() - n) / (whole.sum() - n)) if whole.sum() > n else 1.0

    def f(p: float, r: float) -> float:
        return 2 * p * r / (p + r) if p + r else 0.0

    pairs = share(both, together), share(both, same)
    rows = [float((both.sum(1) / whole.sum(1)).mean()) for whole in (together, same)]
    nmi = normalized_mutual_info_score(identities, labels)
    return [*pairs, f(*pairs), *rows, f(*rows), nmi]


@pytest.mark.parametrize("seed", range(6))
def test_scores_are_those_of_listed_pairs(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels, identities = (random.integers(0, k, 40).tolist() for k in (2 + seed, 9 - seed))
    assert list(score_clusters(labels, identities)) == pytest.approx(
        listed_scores(labels, identities), abs=1e-6
    )


def test_scores_of_singletons_and_of_the_truth() -> None:
    assert score_clusters([0, 1, 2], [0, 1, 2]) == (1.0,) * 7
    alone = score_clusters([0, 1, 2], ["a", "a", "b"])
    assert alone.pair_precision == 1.0
    assert alone.pair_recall == alone.pair_f == 0.0


def test_nothing_has_torchs_limit_of_2_to_the_24() -> None:
    """Quantiles and draws of torch refuse more values than float32 can count."""
    package = Path(facenet_ext.__file__).parent
    limited = re.compile(
        r"torch\.(nan)?quantile\(|(?<!np)\.quantile\(|torch\.multinomial\(|\.multinomial\("
    )
    found = [path for path in package.rglob("*.py") if limited.search(path.read_text("utf-8"))]
    assert not found
