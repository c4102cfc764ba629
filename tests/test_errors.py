"""Bad input is refused with a message that names the argument, what was expected, and what came.

Each case is one call, the exception's type, and the words that its message must contain: the
argument's name, the expectation, what came.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import RANDOM, on_cuda_kernels

from facenet_ext.functional import (
    mined_triplet_loss,
    ntxent_loss,
    pairwise_squared_distance,
    select_triplets,
    triplet_loss,
    triplet_margin_loss,
)
from facenet_ext.losses import (
    NTXentLoss,
    SupConLoss,
    TripletHardLoss,
    TripletLoss,
    TripletMarginLoss,
    TripletSemiHardLoss,
)
from facenet_ext.miners import TripletMiner

OPS = torch.ops.facenet_ext
Call = Callable[..., Any]

X, Y = torch.randn(6, 4), torch.tensor([0, 0, 1, 1, 2, 2])
C, Z = torch.randn(9, 4), torch.arange(9) // 3
# Alternatives of wording, see assert_refused.
MATRIX, VECTOR, FLOATING = "matrix|2-D", "one dimension|1-D", "float32|floating"
T = (torch.tensor([0]), torch.tensor([1]), torch.tensor([2]))

# Everything that selects: same arguments, same errors.
SELECTORS: dict[str, Call] = {
    "select_triplets": select_triplets,
    "mined_triplet_loss": mined_triplet_loss,
    "triplet_margin_loss": triplet_margin_loss,
    "TripletLoss": lambda *args, **kwargs: TripletLoss()(*args, **kwargs),
    "TripletHardLoss": lambda *args, **kwargs: TripletHardLoss()(*args, **kwargs),
    "TripletMarginLoss": lambda *args, **kwargs: TripletMarginLoss()(*args, **kwargs),
    "ntxent_loss": ntxent_loss,
    "SupConLoss": lambda *args, **kwargs: SupConLoss()(*args, **kwargs),
    "TripletMiner": lambda *args, **kwargs: TripletMiner()(*args, **kwargs),
}
BAD_INPUT: list[tuple[str, tuple[Any, ...], dict[str, Any], type[Exception], list[str]]] = [
    ("1-D embeddings", (X[0], Y), {}, ValueError, ["embeddings", MATRIX, "(4,)"]),
    ("3-D embeddings", (X[None], Y), {}, ValueError, ["embeddings", MATRIX, "(1, 6, 4)"]),
    ("too few labels", (X, Y[:5]), {}, ValueError, ["labels", "6", "5"]),
    ("2-D labels", (X, Y[None]), {}, ValueError, ["labels", VECTOR, "(1, 6)"]),
    ("integer embeddings", (X.long(), Y), {}, TypeError, ["embeddings", FLOATING, "int64"]),
    ("complex embeddings", (X + 0j, Y), {}, TypeError, ["embeddings", FLOATING, "complex64"]),
    ("float labels", (X, Y.float()), {}, TypeError, ["labels", "integer", "float32"]),
    ("a list for embeddings", (X.tolist(), Y), {}, TypeError, ["embeddings", "tensor", "list"]),
    ("a list for labels", (X, Y.tolist()), {}, TypeError, ["labels", "tensor", "list"]),
    ("no ref_labels", (X, Y), {"ref_emb": C}, ValueError, ["ref_emb", "ref_labels"]),
    ("no ref_emb", (X, Y), {"ref_labels": Z}, ValueError, ["ref_emb", "ref_labels"]),
    (
        "other columns in ref_emb",
        (X, Y),
        {"ref_emb": C[:, :3], "ref_labels": Z},
        ValueError,
        ["ref_emb", "4", "3"],
    ),
    (
        "1-D ref_emb",
        (X, Y),
        {"ref_emb": C[0], "ref_labels": Z},
        ValueError,
        ["ref_emb", MATRIX, "(4,)"],
    ),
    (
        "too many ref_labels",
        (X, Y),
        {"ref_emb": C[:8], "ref_labels": Z},
        ValueError,
        ["ref_labels", "8", "9"],
    ),
    (
        "float ref_labels",
        (X, Y),
        {"ref_emb": C, "ref_labels": Z.double()},
        TypeError,
        ["ref_labels", "integer", "float64"],
    ),
    (
        "integer ref_emb",
        (X, Y),
        {"ref_emb": C.int(), "ref_labels": Z},
        TypeError,
        ["ref_emb", FLOATING, "int32"],
    ),
]


def assert_refused(call: Callable[[], Any], exception: type[Exception], words: list[str]) -> None:
    """It raises exactly `exception`; of each word's alternatives (a|b) the message has one."""
    with pytest.raises(exception) as caught:
        call()
    assert type(caught.value) is exception
    message = str(caught.value)
    for word in words:
        assert any(alternative in message for alternative in word.split("|")), (word, message)
    assert "\n" not in message


@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize("case", BAD_INPUT, ids=lambda case: case[0])
def test_bad_tensors(case: tuple[Any, ...], selector: str) -> None:
    _, args, kwargs, exception, words = case
    assert_refused(lambda: SELECTORS[selector](*args, **kwargs), exception, words)


@pytest.mark.parametrize("function", [select_triplets, mined_triplet_loss])
def test_bad_ids(function: Call) -> None:
    bank = {"ref_emb": C, "ref_labels": Z}
    ids = {"anchor_ids": torch.arange(6), "ref_ids": torch.arange(9)}
    cases = [
        ({"anchor_ids": torch.arange(6)}, ValueError, ["anchor_ids", "ref_ids"]),
        ({"ref_ids": torch.arange(9)}, ValueError, ["anchor_ids", "ref_ids"]),
        (ids | {"anchor_ids": torch.arange(5)}, ValueError, ["anchor_ids", "6", "5"]),
        (ids | {"ref_ids": torch.arange(6)}, ValueError, ["ref_ids", "9", "6"]),
        (ids | {"ref_ids": torch.rand(9)}, TypeError, ["ref_ids", "integer", "float32"]),
    ]
    for bad, exception, words in cases:
        assert_refused(lambda bad=bad: function(X, Y, **bank, **bad), exception, words)


MINED = ["positives", "negatives", "fallback", "distance", "reduction"]
CHOICES = {
    "positives": ["all", "hardest", "easiest"],
    "negatives": ["semihard", "hardest", *RANDOM],
    "fallback": ["farthest", "drop"],
    "distance": ["sqeuclidean", "euclidean", "cosine"],
    "reduction": ["mean", "mean_nonzero", "sum", "none"],
    "triplets": ["all", "hard", "semihard", "easy"],
}
# Who takes which options; modules may refuse when they are made or when they are called.
TAKERS: dict[str, tuple[Call, list[str]]] = {
    "select_triplets": (
        lambda **options: select_triplets(X, Y, **options),
        ["positives", "negatives", "fallback", "distance"],
    ),
    "triplet_loss": (lambda **options: triplet_loss(X, T, **options), ["distance", "reduction"]),
    "mined_triplet_loss": (lambda **options: mined_triplet_loss(X, Y, **options), MINED),
    "triplet_margin_loss": (
        lambda **options: triplet_margin_loss(X, Y, **options),
        ["triplets", "distance"],
    ),
    "TripletLoss": (lambda **options: TripletLoss(**options)(X, Y), MINED),
    "TripletSemiHardLoss": (
        lambda **options: TripletSemiHardLoss(**options)(X, Y),
        ["distance", "reduction"],
    ),
    "TripletHardLoss": (
        lambda **options: TripletHardLoss(**options)(X, Y),
        ["distance", "reduction"],
    ),
    "TripletMarginLoss": (
        lambda **options: TripletMarginLoss(**options)(X, Y),
        ["triplets", "distance"],
    ),
    "TripletMiner": (
        lambda **options: TripletMiner(**options)(X, Y),
        ["positives", "negatives", "fallback", "distance"],
    ),
}


@pytest.mark.parametrize(
    ("taker", "option"), [(taker, option) for taker, (_, o) in TAKERS.items() for option in o]
)
@pytest.mark.parametrize("value", ["nonsense", "", "Mean", None, 3])
def test_an_unknown_option_lists_the_choices(taker: str, option: str, value: Any) -> None:
    words = [option, repr(value), *CHOICES[option]]
    assert_refused(lambda: TAKERS[taker][0](**{option: value}), ValueError, words)


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_margin_that_is_not_finite(taker: str, value: float) -> None:
    words = ["margin", "finite", str(value)]
    assert_refused(lambda: TAKERS[taker][0](margin=value), ValueError, words)


@pytest.mark.parametrize("taker", ["select_triplets", "mined_triplet_loss", "TripletLoss"])
@pytest.mark.parametrize(
    "cutoffs", [(0.0, 1.4), (1.4, 0.5), (0.5, 0.5), (0.5, 2.1), (math.nan, 1.4), ("0.5", 1.4)]
)
def test_cutoffs_that_leave_no_distances(taker: str, cutoffs: tuple[Any, Any]) -> None:
    options = dict(zip(("cutoff", "nonzero_loss_cutoff"), cutoffs, strict=True))
    words = [*options, "0 < cutoff < nonzero_loss_cutoff <= 2", *map(repr, cutoffs)]
    assert_refused(lambda: TAKERS[taker][0](**options), ValueError, words)


@pytest.mark.parametrize("function", [select_triplets, mined_triplet_loss])
@pytest.mark.parametrize("negatives", ["semihard", "random_semihard"])
def test_a_generator_that_is_none(function: Call, negatives: str) -> None:
    assert_refused(
        lambda: function(X, Y, negatives=negatives, generator=7),
        TypeError,
        ["generator", "torch.Generator", "int"],
    )


@pytest.mark.parametrize(
    ("seed", "negatives", "words"),
    [
        (None, "random_violating", ["seed", "one", "random_violating"]),
        (torch.tensor(1), "semihard", ["seed", "none", "semihard"]),
        (torch.tensor([1, 2]), "distance_weighted", ["seed", "one int64", "2"]),
        (torch.tensor(1.0), "distance_weighted", ["seed", "one int64"]),
    ],
)
def test_the_operator_refuses_a_wrong_seed(seed: Any, negatives: str, words: list[str]) -> None:
    rule = ("all", negatives, 0.2, False, "drop", "sqeuclidean", 0.5, 1.4)
    arguments = (X, Y, None, None, None, None, seed, *rule)
    assert_refused(lambda: OPS.select_triplets(*arguments), RuntimeError, words)


def test_bad_rows_of_pairwise() -> None:
    cases: list[tuple[tuple[Any, ...], type[Exception], list[str]]] = [
        ((X[0],), ValueError, ["x", MATRIX, "(4,)"]),
        ((X, C[None]), ValueError, ["y", MATRIX, "(1, 9, 4)"]),
        ((X, C[:, :3]), ValueError, ["y", "4", "3"]),
        ((X.int(),), TypeError, ["x", FLOATING, "int32"]),
        ((X, C.long()), TypeError, ["y", FLOATING, "int64"]),
        ((X, C.tolist()), TypeError, ["y", "tensor", "list"]),
    ]
    for args, exception, words in cases:
        assert_refused(lambda args=args: pairwise_squared_distance(*args), exception, words)


def test_bad_triplets() -> None:
    a, p, n = T
    cases: list[tuple[Any, type[Exception], list[str]]] = [
        ((a, p), ValueError, ["triplets", "3|anchor", "2"]),
        ((a, p, n.repeat(2)), ValueError, ["negative", "1", "2"]),
        ((a, p, n[None]), ValueError, ["negative", VECTOR, "(1, 1)"]),
        ((a, p.float(), n), TypeError, ["positive", "integer", "float32"]),
    ]
    for triplets, exception, words in cases:
        assert_refused(lambda t=triplets: triplet_loss(X, t), exception, words)
    for embeddings, exception, words in [
        (X[0], ValueError, ["embeddings", MATRIX, "(4,)"]),
        (X.int(), TypeError, ["embeddings", FLOATING, "int32"]),
    ]:
        assert_refused(lambda e=embeddings: triplet_loss(e, T), exception, words)
    assert_refused(lambda: triplet_loss(X, T, ref_emb=C[:, :3]), ValueError, ["ref_emb", "4", "3"])


@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("index", [-1, 6, 2**40, -(2**40)])
def test_an_index_out_of_range_is_refused_and_reads_nothing(position: int, index: int) -> None:
    triplets = list(T)
    triplets[position] = torch.tensor([index])
    with pytest.raises(ValueError, match=r"expected rows in \[0, 6\)"):
        triplet_loss(X, triplets)


@pytest.mark.parametrize(
    "make",
    [TripletLoss, TripletSemiHardLoss, TripletHardLoss, TripletMarginLoss, SupConLoss, NTXentLoss],
)
def test_a_loss_needs_labels_or_an_indices_tuple(make: Call) -> None:
    assert_refused(lambda: make()(X), ValueError, ["labels", "indices_tuple"])


@pytest.mark.parametrize("bound", [0, -1, 2.5, True, "4"])
@pytest.mark.parametrize("taker", [TripletLoss, TripletHardLoss, TripletSemiHardLoss, None])
def test_a_bound_on_the_classes_that_is_no_number_of_rows(taker: Any, bound: Any) -> None:
    def call() -> Any:
        if taker is None:
            return mined_triplet_loss(X, Y, max_per_class=bound)
        return taker(max_per_class=bound)

    assert_refused(call, ValueError, ["max_per_class", "whole number", repr(bound)])


def test_a_module_hands_the_bound_on() -> None:
    assert "max_per_class=2" in repr(TripletSemiHardLoss(max_per_class=2))
    loss = TripletSemiHardLoss(max_per_class=1)
    if on_cuda_kernels():
        assert math.isnan(loss(X, Y).item())
    else:
        assert_refused(lambda: loss(X, Y), RuntimeError, ["max_per_class", "1", "2"])
