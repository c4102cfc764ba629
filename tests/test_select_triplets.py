"""select_triplets selects what the oracle selects."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from helpers import (
    COLUMNS,
    DISTANCES,
    FALLBACKS,
    NEGATIVES,
    POSITIVES,
    ROWS,
    SetThreads,
    assert_same_triplets,
    assert_valid_selection,
    bank,
    make_batch,
    make_cloud,
    make_labels,
    search_tolerance,
    without_ids,
)
from tolerances import DTYPES, assert_distances_close, result_dtype

from facenet_ext import reference
from facenet_ext.functional import select_triplets

LAYOUTS = ("pairs", "quads", "uneven", "one_class", "all_different")
RULES = [
    {"positives": p, "negatives": n, "fallback": f, "within_margin": w}
    for p, n, f, w in itertools.product(POSITIVES, NEGATIVES, FALLBACKS, (False, True))
]


def name(value: Any) -> str | None:
    return "-".join(str(v) for v in value.values()) if isinstance(value, dict) else None


# --- exactly the oracle's, where arithmetic is exact ---------------------------------------------


@pytest.mark.parametrize("n", ROWS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_integers_of_every_size(n: int, layout: str) -> None:
    """Integer embeddings are full of exact ties, and float32 distances are exact."""
    x, y = make_batch(layout, n, 7, cloud="integers")
    expected = reference.select_triplets(x, y)
    actual = select_triplets(x, y)
    assert_same_triplets(actual, expected)
    assert actual.d_ap.tolist() == expected.d_ap.tolist()
    assert actual.d_an.tolist() == expected.d_an.tolist()


@pytest.mark.parametrize("rules", RULES, ids=name)
@pytest.mark.parametrize("distance", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize(("layout", "n"), [("quads", 96), ("uneven", 97), ("pairs", 49)])
def test_integers_under_every_rule(
    rules: dict[str, Any], distance: str, layout: str, n: int
) -> None:
    """With margin 2 many negatives lie exactly at the margin: they do not qualify."""
    x, y = make_batch(layout, n, 5, cloud="integers")
    rules = rules | {"distance": distance, "margin": 2.0}
    assert_same_triplets(select_triplets(x, y, **rules), reference.select_triplets(x, y, **rules))


@pytest.mark.parametrize("rules", RULES, ids=name)
def test_cosine_of_axes_and_zero_rows(rules: dict[str, Any]) -> None:
    """Signed axes: distances 0, 1 and 2, and 1 to and from a zero row."""
    x, y = make_batch("uneven", 97, 4, cloud="axes")
    rules = rules | {"distance": "cosine", "margin": 1.0}
    expected = reference.select_triplets(x, y, **rules)
    actual = select_triplets(x, y, **rules)
    assert_same_triplets(actual, expected)
    assert actual.d_ap.tolist() == expected.d_ap.tolist()
    assert actual.d_an.tolist() == expected.d_an.tolist()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [1, 3, 64, 129])
def test_integers_of_every_dtype(dtype: torch.dtype, dim: int) -> None:
    x, y = make_batch("quads", 97, dim, dtype, "integers")
    actual = select_triplets(x, y)
    assert_same_triplets(actual, reference.select_triplets(x, y))
    assert actual.d_ap.dtype == actual.d_an.dtype == result_dtype(dtype)


@pytest.mark.parametrize("per_class", [2, 4, 5, 6])
@pytest.mark.parametrize("dim", [8, 72])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_ties_that_matrix_units_find(dtype: torch.dtype, dim: int, per_class: int) -> None:
    """Products of integers are exact too: the lowest index wins, in each kernel of few thresholds
    and in that of many."""
    x = make_cloud("integers", 200, dim, dtype)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    y = (torch.arange(200) // per_class)[order]
    for negatives in ("semihard", "hardest"):
        expected = reference.select_triplets(x, y, negatives=negatives)
        assert_same_triplets(select_triplets(x, y, negatives=negatives), expected)


@pytest.mark.parametrize("rules", RULES, ids=name)
@pytest.mark.parametrize(("m", "n"), [(49, 97), (97, 48), (3, 200)])
@pytest.mark.parametrize("with_ids", [False, True])
def test_integers_against_a_bank(rules: dict[str, Any], m: int, n: int, with_ids: bool) -> None:
    x, y, candidates = bank(m, n, 5, "integers", "quads")
    rules = rules | (candidates if with_ids else without_ids(candidates)) | {"margin": 2.0}
    assert_same_triplets(select_triplets(x, y, **rules), reference.select_triplets(x, y, **rules))


@pytest.mark.parametrize(("m", "n"), [(0, 0), (0, 5), (5, 0), (1, 1), (1, 2), (2, 1)])
@pytest.mark.parametrize("positives", POSITIVES)
def test_tiny_banks(m: int, n: int, positives: str) -> None:
    x, y, candidates = bank(m, n, 3, "integers", "pairs")
    for options in (candidates, without_ids(candidates)):
        expected = reference.select_triplets(x, y, positives=positives, **options)
        assert_same_triplets(select_triplets(x, y, positives=positives, **options), expected)


@pytest.mark.parametrize("rules", RULES, ids=name)
@pytest.mark.parametrize("distance", DISTANCES)
def test_float64_is_the_oracle(rules: dict[str, Any], distance: str) -> None:
    x, y = make_batch("uneven", 97, 33, torch.float64)
    rules = rules | {"distance": distance, "margin": 0.05}
    expected = reference.select_triplets(x, y, **rules)
    actual = select_triplets(x, y, **rules)
    assert_same_triplets(actual, expected)
    assert_distances_close(actual.d_ap, expected.d_ap, x.dtype, distance)
    assert_distances_close(actual.d_an, expected.d_an, x.dtype, distance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("positives", POSITIVES)
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_all_rows_equal(positives: str, negatives: str, dtype: torch.dtype) -> None:
    """Everything ties: the lowest index wins, as positive, as negative and as fallback."""
    x, y = make_batch("quads", 49, 3, dtype, cloud="zeros")
    for fallback in FALLBACKS:
        options = {"positives": positives, "negatives": negatives, "fallback": fallback}
        expected = reference.select_triplets(x, y, **options)
        assert_same_triplets(select_triplets(x, y, **options), expected)


@pytest.mark.parametrize("n", [240, 141, 520])
def test_more_than_a_hundred_positives_per_anchor(n: int) -> None:
    x, y = make_batch("halves", n, 6, cloud="integers")
    assert_same_triplets(select_triplets(x, y), reference.select_triplets(x, y))


def test_many_tiles() -> None:
    """Larger than any tile in both directions, in self mode and against a bank."""
    x, y = make_batch("quads", 900, 6, cloud="integers")
    assert_same_triplets(select_triplets(x, y), reference.select_triplets(x, y))
    x, y, candidates = bank(130, 1500, 6, "integers", "quads")
    expected = reference.select_triplets(x, y, **candidates)
    assert_same_triplets(select_triplets(x, y, **candidates), expected)


@pytest.mark.parametrize("rules", RULES, ids=name)
def test_a_tight_cloud_far_from_the_origin_is_exact(rules: dict[str, Any]) -> None:
    """1 + k 2^-20 with small k: direct differences and their squares have no rounding at all."""
    x, y = make_batch("uneven", 97, 9, cloud="integers")
    x = 1 + x * 2.0**-20
    rules = rules | {"margin": 4 * 2.0**-40}
    expected = reference.select_triplets(x, y, **rules)
    actual = select_triplets(x, y, **rules)
    assert_same_triplets(actual, expected)
    assert actual.d_an.tolist() == expected.d_an.tolist()


# --- right up to rounding, on real-valued data ---------------------------------------------------


def check(x: torch.Tensor, y: torch.Tensor, **options: Any) -> None:
    """The selection is valid, and the distances that come with it are those of its rows."""
    t = select_triplets(x, y, **options)
    assert_valid_selection(t, x, y, **options)
    distance = options.get("distance", "sqeuclidean")
    d = reference.pairwise_distance(x, options.get("ref_emb"), distance)
    assert_distances_close(t.d_ap, d[t.anchor, t.positive], x.dtype, distance)
    assert_distances_close(t.d_an, d[t.anchor, t.negative], x.dtype, distance)


@pytest.mark.parametrize("n", ROWS)
@pytest.mark.parametrize("layout", ["quads", "uneven"])
def test_every_number_of_rows(n: int, layout: str) -> None:
    check(*make_batch(layout, n, 128))


@pytest.mark.parametrize("dim", COLUMNS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_of_columns(dim: int, dtype: torch.dtype) -> None:
    check(*make_batch("quads", 97, dim, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("cloud", ["duplicates", "offset", "far", "steps", "collapsed", "tiny"])
@pytest.mark.parametrize("dim", [65, 64])
def test_difficult_clouds(dim: int, cloud: str, distance: str, dtype: torch.dtype) -> None:
    """Duplicates across classes, a common offset, a collapsed cloud: the choice stays right.

    Rows of 64 are what matrix units take.
    """
    for layout in ("quads", "uneven"):
        check(*make_batch(layout, 97, dim, dtype, cloud), distance=distance)


@pytest.mark.parametrize("gap", [1e-4, 1e-5, 1e-6])
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("layout", [2, 3, 8])
def test_a_negative_just_beyond_a_positive(layout: int, distance: str, gap: float) -> None:
    """It is not missed for lying close: the next one is far away."""
    groups, dim = 40, 64
    anchor = torch.nn.functional.normalize(make_cloud("gaussian", groups, dim, torch.float64))
    ways = make_cloud("gaussian", groups * layout, dim, torch.float64, seed=1)
    ways = torch.nn.functional.normalize(ways).view(layout, groups, dim) * 0.25
    # An anchor's positives, and negatives a little farther out, in other directions.
    positives = [anchor + ways[k] * (1 + k / 10) for k in range(layout - 1)]
    turned = [torch.roll(ways[k], 1, dims=1) * (1 + k / 10 + gap) for k in range(layout - 1)]
    negatives = [anchor + way for way in turned]
    x = torch.cat([anchor, *positives, *negatives]).float()
    own = torch.arange(groups).repeat(layout)
    y = torch.cat([own, torch.arange(groups, groups * layout)])

    t = select_triplets(x, y, distance=distance)
    d = reference.pairwise_distance(x, x, distance)
    expected = reference.select_triplets(x.double(), y, distance=distance)
    assert torch.equal(t.anchor, expected.anchor)
    error = (d[t.anchor, t.negative] - d[t.anchor, expected.negative]).abs()
    # Where float32 cannot tell the two apart, no negative can be just beyond the positive.
    told = (d[t.anchor, expected.negative] / d[t.anchor, t.positive] - 1) > 1e-6
    assert (error[told] <= search_tolerance(x, x, distance, d)[t.anchor, t.negative][told]).all()


@pytest.mark.parametrize(
    ("size", "distance"),
    [*itertools.product((1e-18, 1e-6, 1e6, 1e18), DISTANCES), (1e-25, "cosine"), (1e25, "cosine")],
)
def test_rows_of_every_size(size: float, distance: str) -> None:
    """Their squares reach from the smallest float32 to the largest, those for the cosine beyond."""
    x, y = make_batch("quads", 97, 64)
    t = select_triplets(x * size, y, distance=distance)
    expected = select_triplets(x.double() * size, y, distance=distance)
    assert torch.equal(t.anchor, expected.anchor)
    assert (t.negative == expected.negative).double().mean() > 0.99


@pytest.mark.parametrize("rules", RULES, ids=name)
@pytest.mark.parametrize("distance", DISTANCES)
def test_every_rule(rules: dict[str, Any], distance: str) -> None:
    x, y = make_batch("uneven", 141, 19)
    check(x, y, distance=distance, margin=0.02, **rules)


@pytest.mark.parametrize("rules", RULES, ids=name)
@pytest.mark.parametrize("with_ids", [False, True])
def test_every_rule_against_a_bank(rules: dict[str, Any], with_ids: bool) -> None:
    x, y, candidates = bank(49, 141, 19, "gaussian", "uneven")
    check(x, y, margin=0.2, **rules, **(candidates if with_ids else without_ids(candidates)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("cloud", ["gaussian", "integers", "duplicates", "far", "collapsed"])
@pytest.mark.parametrize("layout", ["pairs", "quads", "uneven", "halves"])
@pytest.mark.parametrize("n", [48, 141, 333])
def test_the_whole_grid(n: int, layout: str, cloud: str, distance: str, dtype: torch.dtype) -> None:
    x, y = make_batch(layout, n, 37, dtype, cloud)
    for rules in RULES:
        check(x, y, distance=distance, margin=0.1, **rules)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cloud", ["gaussian", "far", "collapsed", "duplicates"])
def test_semihard_negatives_are_strictly_beyond_the_positive(
    cloud: str, dtype: torch.dtype
) -> None:
    x, y = make_batch("quads", 200, 129, dtype, cloud)
    t = select_triplets(x, y, fallback="drop")
    assert (t.d_an > t.d_ap).all()


def test_of_equal_negatives_the_first_is_selected() -> None:
    """Copies of a negative are at exactly its distance, wherever they stand in a tile."""
    x, y = make_batch("pairs", 66, 77)
    copies = torch.arange(66).repeat(3)  # rows 0-65, again at 66-131 and at 132-197
    t = select_triplets(x[copies], torch.cat([y, y + 100, y + 200]), negatives="hardest")
    others = t.negative % 66 != t.anchor % 66
    first = torch.where(y[t.anchor % 66] == y[t.negative % 66], 132, 66)
    assert (t.negative < first)[others].all()


# --- inputs of every kind ------------------------------------------------------------------------

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


@pytest.mark.parametrize("dtype", INTEGERS + UNSIGNED)
def test_every_integer_dtype_of_labels(dtype: torch.dtype) -> None:
    x, y = make_batch("quads", 49, 5, cloud="integers")
    expected = reference.select_triplets(x, y)
    assert_same_triplets(select_triplets(x, y.to(dtype)), expected)
    against = select_triplets(x, y.to(dtype), ref_emb=x[7:], ref_labels=y[7:])
    assert_same_triplets(against, reference.select_triplets(x, y, ref_emb=x[7:], ref_labels=y[7:]))


@pytest.mark.parametrize("offset", [-7, -(2**40), 2**40, -(2**63) + 1, 2**63 - 20])
def test_labels_of_every_size(offset: int) -> None:
    x, y = make_batch("quads", 49, 5, cloud="integers")
    assert_same_triplets(select_triplets(x, y + offset), reference.select_triplets(x, y))


@pytest.mark.parametrize("rows", [48, 132])  # few rows are counted, more are found in a table
def test_the_extreme_labels(rows: int) -> None:
    y = torch.tensor([2**63 - 1, -(2**63), 0, -1]).repeat(rows // 4)
    x = make_cloud("integers", rows, 5)
    assert_same_triplets(select_triplets(x, y), reference.select_triplets(x, y))
    bank = {"ref_emb": x[7:], "ref_labels": y[7:]}
    assert_same_triplets(select_triplets(x, y, **bank), reference.select_triplets(x, y, **bank))


def test_ids_of_every_size() -> None:
    x, y, candidates = bank(49, 97, 5, "integers", "quads")
    expected = reference.select_triplets(x, y, **candidates)
    for factor in (-1, 2**50, -(2**50)):
        scaled = {k: v * factor if k.endswith("ids") else v for k, v in candidates.items()}
        assert_same_triplets(select_triplets(x, y, **scaled), expected)


def test_non_contiguous_inputs() -> None:
    wide = make_cloud("integers", 96, 66)
    labels = make_labels("quads", 192)[::2]
    for x in (wide[:, ::2], wide.T, wide[5:50, 1:8], wide[:, :1].expand(96, 5), wide[::3]):
        y = labels[: len(x)]
        assert_same_triplets(select_triplets(x, y), reference.select_triplets(x, y))
    expected = reference.select_triplets(wide, labels, ref_emb=wide[::2], ref_labels=labels[::2])
    actual = select_triplets(wide, labels, ref_emb=wide[::2], ref_labels=labels[::2])
    assert_same_triplets(actual, expected)


def test_rows_without_columns_are_all_equal() -> None:
    x, y = torch.zeros(12, 0), make_labels("quads", 12)
    assert_same_triplets(select_triplets(x, y), reference.select_triplets(x, y))


def test_selection_carries_no_gradient_and_leaves_its_inputs_alone() -> None:
    x, y = make_batch("quads", 49, 5)
    x.requires_grad_()
    before = x.detach().clone(), y.clone()
    t = select_triplets(x, y)
    assert not t.d_ap.requires_grad
    assert not t.d_an.requires_grad
    assert torch.equal(x.detach(), before[0])
    assert torch.equal(y, before[1])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_rows_do_not_break_the_structure(value: float) -> None:
    x, y = make_batch("quads", 97, 20)
    x[::7, 3] = value
    t = select_triplets(x, y)
    assert (y[t.anchor] == y[t.positive]).all()
    assert (y[t.anchor] != y[t.negative]).all()


# --- determinism ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rules", [RULES[0], {"positives": "hardest", "negatives": "hardest"}])
def test_the_number_of_threads_does_not_change_a_bit(
    rules: dict[str, Any], dtype: torch.dtype, set_threads: SetThreads
) -> None:
    x, y = make_batch("uneven", 500, 65, dtype)
    results = []
    for threads in (1, 2, 2, 3):
        set_threads(threads)
        results.append(select_triplets(x, y, **rules))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
