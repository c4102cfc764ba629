"""Whatever Python passes: the oracle's result, or a ValueError or TypeError naming the argument.

Embeddings are small integers, so that distances are exact and results comparable, in memory of
every kind. Then arguments become something else, one or two at a time. A new function is one more
entry of FUNCTIONS, a new option one more of OPTIONS.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import DISTANCES, FALLBACKS, KINDS, NEGATIVES, POSITIVES, REDUCTIONS
from torch import Tensor
from torch.utils._pytree import tree_leaves

from facenet_ext import functional, losses, miners, neighbours, reference

pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st
from test_fuzz_operators import EXAMPLES, OF_TENSORS, put

Arguments = dict[str, Any]

RULE = ("positives", "negatives", "fallback", "within_margin", "margin", "distance")
BANK = ("ref_emb", "ref_labels", "anchor_ids", "ref_ids")
REDUCED = ("smooth", "reduction")
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "positives": st.sampled_from(POSITIVES),
    "negatives": st.sampled_from(NEGATIVES),
    "fallback": st.sampled_from(FALLBACKS),
    "distance": st.sampled_from(DISTANCES[:2]),  # the cosine is not exact
    "reduction": st.sampled_from(REDUCTIONS),
    "within_margin": st.booleans(),
    "smooth": st.booleans(),
    "swap": st.booleans(),
    "margin": st.integers(0, 9).map(float),
    "temperature": st.sampled_from((0.5, 1, 8.0)),
    "max_per_class": st.sampled_from((None, 60, 2**70)),
    "radius": st.integers(0, 9),
}


def of_module(make: Callable[..., Any], call: tuple[str, ...]) -> Callable[..., Any]:
    """A module as a function: what is not in `call` are its options."""

    def function(**arguments: Any) -> Any:
        options = {k: v for k, v in arguments.items() if k not in call}
        return make(**options)(**{k: v for k, v in arguments.items() if k in call})

    return function


def indices(triplets: Any) -> Any:
    return tuple(triplets[:3])


OF_MODULES = ("embeddings", "labels", "ref_emb", "ref_labels")
# Ours, the oracle's, and the arguments that they take.
FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[str, ...]]] = {
    "pairwise_squared_distance": (
        functional.pairwise_squared_distance,
        reference.pairwise_squared_distance,
        ("x", "y"),
    ),
    "nearest": (
        neighbours.nearest,
        reference.nearest,
        ("embeddings", "k", "ref_emb", "distance"),
    ),
    "within": (
        neighbours.within,
        reference.within,
        ("embeddings", "radius", "ref_emb", "distance"),
    ),
    "select_triplets": (
        functional.select_triplets,
        reference.select_triplets,
        ("embeddings", "labels", *RULE, *BANK),
    ),
    "mined_triplet_loss": (
        functional.mined_triplet_loss,
        reference.mined_triplet_loss,
        ("embeddings", "labels", *RULE, *BANK, *REDUCED, "swap", "max_per_class"),
    ),
    "triplet_margin_loss": (
        functional.triplet_margin_loss,
        reference.triplet_margin_loss,
        ("embeddings", "labels", "margin", "distance", *BANK, "smooth", "max_per_class"),
    ),
    "supcon_loss": (
        functional.supcon_loss,
        reference.supcon_loss,
        ("embeddings", "labels", "temperature", *BANK),
    ),
    "ntxent_loss": (
        functional.ntxent_loss,
        reference.ntxent_loss,
        ("embeddings", "labels", "temperature", *BANK),
    ),
    "triplet_loss": (
        functional.triplet_loss,
        reference.triplet_loss,
        ("embeddings", "triplets", "margin", "distance", *REDUCED, "swap", "ref_emb"),
    ),
    "TripletLoss": (
        of_module(losses.TripletLoss, OF_MODULES),
        reference.mined_triplet_loss,
        (*OF_MODULES, *RULE, *REDUCED, "swap", "max_per_class"),
    ),
    "TripletMiner": (
        of_module(miners.TripletMiner, OF_MODULES),
        lambda **arguments: indices(reference.select_triplets(**arguments)),
        (*OF_MODULES, *RULE),
    ),
}
# One more for each kind: its option has the name that triplets have elsewhere.
for kind in KINDS[1:]:
    FUNCTIONS[f"triplet_margin_loss of {kind}"] = (
        functools.partial(functional.triplet_margin_loss, triplets=kind),
        functools.partial(reference.triplet_margin_loss, triplets=kind),
        FUNCTIONS["triplet_margin_loss"][2],
    )
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.uint8)
FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@st.composite
def calls(draw: st.DrawFn, name: str) -> Arguments:
    """Valid arguments of a function: some left out, that have a default."""
    names = FUNCTIONS[name][2]
    m, d = draw(st.integers(0, 12)), draw(st.integers(0, 9))
    n = draw(st.integers(0, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))

    def matrix(rows: int) -> Tensor:
        values = torch.randint(-3, 4, (rows, d), generator=generator)
        return put(draw, values.to(draw(st.sampled_from(FLOATING))))

    def integers(rows: int, below: int) -> Tensor:
        values = torch.randint(0, max(below, 1), (rows,), generator=generator)
        return put(draw, values.to(draw(st.sampled_from(INTEGERS))))

    with_bank, with_ids = draw(st.booleans()), draw(st.booleans())
    if "triplets" in names:
        with_bank = with_bank and n > 0
    if "k" in names:  # of which there must be so many
        m, n = max(m, 2), max(n, 1)
    made: Arguments = {}
    for argument in names:
        if argument in ("embeddings", "x"):
            made[argument] = matrix(m)
        elif argument == "labels":
            made[argument] = integers(m, 4)
        elif argument == "triplets":
            count = draw(st.integers(0, 9)) if m else 0
            candidates = n if with_bank else m
            made[argument] = tuple(integers(count, rows) for rows in (m, candidates, candidates))
        elif argument in ("ref_emb", "y") and with_bank:
            made[argument] = matrix(n)
        elif argument == "ref_labels" and with_bank:
            made[argument] = integers(n, 4)
        elif argument == "anchor_ids" and with_bank and with_ids:
            made[argument] = integers(m, 6)
        elif argument == "ref_ids" and with_bank and with_ids:
            made[argument] = integers(n, 6)
        elif argument == "k":
            made[argument] = draw(st.integers(1, n if with_bank else m - 1))
        elif argument in OPTIONS and (argument == "radius" or draw(st.booleans())):
            made[argument] = draw(OPTIONS[argument])
    return made


def assert_the_oracles(name: str, arguments: Arguments, result: Any) -> None:
    if "margin" in arguments:  # which the oracle adds to tensors, as it is
        arguments = arguments | {"margin": float(arguments["margin"])}
    oracle = FUNCTIONS[name][1](**arguments)
    for actual, expected in zip(tree_leaves(result), tree_leaves(oracle), strict=True):
        assert actual.shape == expected.shape
        torch.testing.assert_close(
            actual.double(), expected.double(), rtol=1e-5, atol=1e-5, equal_nan=True
        )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_valid_arguments_give_the_oracles_result(name: str) -> None:
    @settings(max_examples=3 * EXAMPLES)
    @given(calls(name))
    def check(arguments: Arguments) -> None:
        assert_the_oracles(name, arguments, FUNCTIONS[name][0](**arguments))

    check()


# --- something else in place of an argument ------------------------------------------------------

ANYTHING = (
    *(None, True, 0, -1, 3, 2**70, 2.5, math.nan, math.inf, "", "all", "mean\0", b"all"),
    *((), [], [1, 2], (1, 2, 3), {}, {1, 2, 3}, object(), len, torch.float32, 1j),
)
TENSORS = {
    "a scalar": lambda: torch.tensor(2),
    "a scalar of float": lambda: torch.tensor(0.2),
    "three rows": lambda: torch.ones(3, 2),
    "indices": lambda: torch.tensor([0, -1, 2**40]),
    "an array": lambda: torch.ones(3, 2).numpy(),
    "a nested tensor": lambda: torch.nested.nested_tensor(
        [torch.ones(2, 2), torch.ones(3, 2)], layout=torch.jagged
    ),
    "compressed rows": lambda: torch.eye(3).to_sparse_csr(),
    "mkldnn": lambda: torch.ones(3, 2).to_mkldnn(),
    "bits": lambda: torch.ones(4, 2).to(torch.float8_e4m3fn),
}
# What an error may name besides the argument that was changed: what no longer fits it.
BESIDES = {
    "embeddings": ("labels", "anchor_ids", "ref_emb", "triplets", "k"),
    "triplets": ("anchor", "positive", "negative"),
    "ref_emb": ("ref_labels", "anchor_ids", "ref_ids", "triplets", "k"),
    "ref_labels": ("ref_emb", "labels"),
    "labels": ("ref_labels",),
    "anchor_ids": ("ref_ids",),
    "ref_ids": ("anchor_ids",),
    "x": ("y",),
}


@st.composite
def hostile_calls(draw: st.DrawFn, name: str) -> tuple[Arguments, list[str]]:
    arguments = draw(calls(name))
    changed: list[str] = []
    for _ in range(draw(st.integers(1, 2))):
        argument = draw(st.sampled_from(FUNCTIONS[name][2]))
        value = arguments.get(argument)
        if argument in changed:
            continue
        how = draw(st.sampled_from(("anything", "a tensor", "another of its kind")))
        if how == "anything":
            arguments[argument] = draw(st.sampled_from(ANYTHING))
        elif how == "a tensor":
            arguments[argument] = TENSORS[draw(st.sampled_from(sorted(TENSORS)))]()
        elif isinstance(value, Tensor):
            try:
                arguments[argument] = OF_TENSORS[draw(st.sampled_from(sorted(OF_TENSORS)))](
                    draw, value
                )
            except (RuntimeError, IndexError):
                continue  # not of what it is
        elif isinstance(value, tuple):
            part = draw(st.integers(0, 2))
            other = draw(st.sampled_from((value[part][1:], value[part] - 99, value[part] * 2.5, 3)))
            arguments[argument] = tuple(other if k == part else v for k, v in enumerate(value))
        changed.append(argument)
    return arguments, changed


@pytest.mark.parametrize("name", FUNCTIONS)
def test_anything_else_is_refused_by_name_or_right(name: str) -> None:
    @settings(max_examples=8 * EXAMPLES)
    @given(hostile_calls(name))
    def check(call: tuple[Arguments, list[str]]) -> None:
        arguments, changed = call
        message = None
        try:
            result = FUNCTIONS[name][0](**arguments)
        except (ValueError, TypeError) as error:
            message = str(error)
        if message is not None:
            names = {other for c in changed for other in (c, *BESIDES.get(c, ()))}
            assert any(re.match(rf"(\w+\.)?{n}\b", message) for n in names), message
            assert "expected" in message
        elif not any(leaf.is_meta for leaf in tree_leaves(result)):
            assert_the_oracles(name, arguments, result)

    check()
