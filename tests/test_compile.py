"""The operators behave under torch.compile and in torch.library's own checks.

A compilation takes seconds: few cases here, each with forward and backward in one graph. The
"aot_eager" backend traces forward and backward as the default backend does, but generates no code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import make_batch, make_cloud

from facenet_ext import losses
from facenet_ext.functional import (
    mined_triplet_loss,
    pairwise_squared_distance,
    select_triplets,
    triplet_loss,
)
from facenet_ext.memory import CrossBatchMemory

OPS = torch.ops.facenet_ext
RULE = (None, "all", "semihard", 0.2, False, "farthest", "sqeuclidean", 0.5, 1.4)
WITHOUT_GRADIENT = (OPS.distance_histogram, OPS.nearest, OPS.pairs_within)
BAND = ("semihard", 0.5, "cosine")
T = (torch.tensor([0, 1, 5]), torch.tensor([2, 3, 6]), torch.tensor([4, 0, 1]))


def samples(dtype: torch.dtype, grad: bool) -> list[tuple[Any, tuple[Any, ...]]]:
    """(operator, arguments): self mode and bank mode of each."""
    x, y = make_batch("quads", 12, 5, dtype)
    c, z = make_batch("quads", 9, 5, dtype, seed=1)
    x.requires_grad_(grad)
    c.requires_grad_(grad)
    batch, bank = (x, y, None, None, None, None), (x, y, c, z, None, None)
    with_ids = (x, y, c, z, torch.arange(12), torch.arange(9))
    d = torch.float64 if dtype == torch.float64 else torch.float32
    drawn = (torch.tensor(3), "all", "distance_weighted", *RULE[3:])
    given = (*T, 0.2, "euclidean", False, False)
    swapped = (*given[:-1], True)
    detached = (x.detach(), c.detach())
    return [
        (OPS.pairwise_squared_distance, (x, c)),
        (OPS.pairwise_squared_distance, (x, None)),
        (OPS.select_triplets, (*batch, *RULE)),
        (OPS.select_triplets, (*with_ids, *RULE)),
        (OPS.select_triplets, (*batch, *drawn)),
        (OPS.triplet_losses, (x, None, *given)),
        (OPS.triplet_losses, (x, c, *given)),
        (OPS.triplet_losses, (x, c, *swapped)),
        (OPS.triplet_losses_backward, (torch.ones(3, dtype=d), detached[0], None, *given)),
        (OPS.triplet_losses_backward, (torch.ones(3, dtype=d), *detached, *given)),
        (OPS.triplet_losses_backward, (torch.ones(3, dtype=d), *detached, *swapped)),
        (OPS.mined_triplet_loss, (*batch, *RULE, 0, False, "mean", grad, False)),
        (OPS.mined_triplet_loss, (*bank, *RULE, 0, True, "sum", grad, grad)),
        (OPS.mined_triplet_loss, (*bank, *drawn, 0, False, "mean", grad, grad)),
        (OPS.mined_triplet_loss, (*with_ids, *RULE, 0, False, "mean_nonzero", False, grad)),
        (OPS.triplet_margin_loss, (*batch, *BAND, 0, False, "mean_nonzero", grad, False)),
        (OPS.triplet_margin_loss, (*with_ids, *BAND, 0, True, "mean", grad, grad)),
        (OPS.softmax_loss, (*batch, "supcon", 0.1, False, "mean_nonzero", grad, False)),
        (OPS.softmax_loss, (*with_ids, "ntxent", 0.07, True, "mean", grad, grad)),
        (OPS.distance_histogram, (x, y, None, None, "cosine", [0], 20, 100)),
        (OPS.distance_histogram, (x, y, c, z, "sqeuclidean", [2**29, 2**30], 14, 7)),
        (OPS.nearest, (x, None, 3, "euclidean")),
        (OPS.nearest, (x, c, 2, "cosine")),
        (OPS.pairs_within, (x, None, 1.0, "sqeuclidean", 0)),
        (OPS.pairs_within, (x, c, 0.5, "cosine", 0)),
    ]


@pytest.mark.parametrize("index", range(len(samples(torch.float32, False))))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grad", [False, True])
def test_opcheck(index: int, dtype: torch.dtype, grad: bool) -> None:
    """Schema, autograd registration, fake shapes and dtypes, and AOT dispatch."""
    operator, arguments = samples(dtype, grad)[index]
    if grad and operator in (OPS.select_triplets, *WITHOUT_GRADIENT):
        pytest.skip("opcheck cannot differentiate an operator that returns integers")
    torch.library.opcheck(operator.default, arguments)


def test_empty_inputs_pass_opcheck() -> None:
    x, y = torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64)
    torch.library.opcheck(OPS.pairwise_squared_distance.default, (x, None))
    batch = (x.requires_grad_(), y, None, None, None, None)
    torch.library.opcheck(
        OPS.mined_triplet_loss.default, (*batch, *RULE, 0, False, "mean", True, False)
    )


def compiles(function: Callable[..., torch.Tensor], *inputs: torch.Tensor, **options: Any) -> None:
    """In one graph, with the results and the gradients of eager mode, for two batch sizes."""
    compiled = torch.compile(function, fullgraph=True, **options)
    for rows in (slice(None), slice(0, len(inputs[0]) - 5)):
        results = []
        for f in (function, compiled):
            leaves = [x[rows].detach().clone().requires_grad_() for x in inputs]
            result = f(*leaves)
            result.sum().backward()
            results.append([result.detach(), *(leaf.grad for leaf in leaves)])
        for eager, other in zip(*results, strict=True):
            torch.testing.assert_close(other, eager, rtol=1e-6, atol=1e-6)


def test_mined_loss_compiles() -> None:
    x, y = make_batch("quads", 40, 7)
    compiles(lambda x: mined_triplet_loss(x, y[: len(x)]), x, backend="aot_eager")


@pytest.mark.slow
def test_a_training_step_compiles_to_code() -> None:
    """With the default backend, and a layer before the loss."""
    layer = torch.nn.Linear(7, 5)
    x, y = make_batch("quads", 40, 7)

    def step(x: torch.Tensor) -> torch.Tensor:
        embeddings = torch.nn.functional.normalize(layer(x))
        return mined_triplet_loss(embeddings, y[: len(x)])

    compiles(step, x)


def test_a_compiled_random_rule_draws_anew_in_each_call() -> None:
    """One graph draws what eager mode draws, from the default generator."""
    x, y = make_batch("quads", 40, 7)
    x.requires_grad_()
    rule = {"negatives": "random_semihard", "margin": 1.0}
    compiled = torch.compile(mined_triplet_loss, fullgraph=True, backend="aot_eager")
    results = []
    for function in (mined_triplet_loss, compiled):
        torch.manual_seed(3)
        losses = [function(x, y, **rule) for _ in range(2)]
        results.append([*losses, *torch.autograd.grad(sum(losses), x)])
    for eager, other in zip(*results, strict=True):
        torch.testing.assert_close(other, eager, rtol=1e-6, atol=1e-6)
    assert results[0][0] != results[0][1]


@pytest.mark.parametrize(
    "loss",
    [
        losses.TripletSemiHardLoss(),
        losses.TripletHardLoss(soft=True),
        losses.TripletMarginLoss(triplets="hard"),
        losses.SupConLoss(),
    ],
)
def test_modules_compile(loss: torch.nn.Module) -> None:
    x, y = make_batch("quads", 40, 7)
    c, z = make_batch("quads", 40, 7, seed=1)

    def against_bank(x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return loss(x, y[: len(x)], ref_emb=c, ref_labels=z[: len(c)])

    compiles(against_bank, x, c, backend="aot_eager")


@pytest.mark.parametrize("reduction", ["mean", "mean_nonzero", "none"])
def test_loss_of_given_triplets_compiles(reduction: str) -> None:
    def loss(x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return triplet_loss(x, T, ref_emb=c, reduction=reduction)

    inputs = make_cloud("gaussian", 20, 7), make_cloud("gaussian", 20, 7, seed=1)
    compiles(loss, *inputs, backend="aot_eager")


def test_pairwise_distance_compiles() -> None:
    inputs = make_cloud("gaussian", 20, 7), make_cloud("gaussian", 20, 7, seed=1)
    compiles(pairwise_squared_distance, *inputs, backend="aot_eager")


def test_a_mined_loss_with_anchor_swap_compiles() -> None:
    """Not fused: an unbacked size in between."""
    x, y = make_batch("quads", 40, 7)
    compiles(lambda x: mined_triplet_loss(x, y[: len(x)], swap=True), x, backend="aot_eager")


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_selection_compiles_though_its_size_depends_on_the_data(reduction: str) -> None:
    """Selecting and then taking the loss: an unbacked size in between."""
    x, y = make_batch("quads", 40, 7)

    def loss(x: torch.Tensor) -> torch.Tensor:
        t = select_triplets(x, y[: len(x)], fallback="drop")
        return triplet_loss(x, t, reduction=reduction)

    compiles(loss, x, backend="aot_eager")


def test_a_model_around_a_memory_compiles_once() -> None:
    """The memory runs between its graphs: its positions, which change, recompile nothing."""
    layer = torch.nn.Linear(7, 5)
    compiled, eager = (CrossBatchMemory(losses.TripletSemiHardLoss(0.4), 5, 50) for _ in range(2))

    def step(memory: CrossBatchMemory, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return memory(torch.nn.functional.normalize(layer(x)), y) * 2

    compiled_step = torch.compile(step, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for seed in range(12):
            x, y = make_batch("quads", 20, 7, seed=seed)
            results = []
            for function, memory in ((step, eager), (compiled_step, compiled)):
                loss = function(memory, x, y)
                results.append([loss.detach(), *torch.autograd.grad(loss, layer.parameters())])
            for expected, actual in zip(*results, strict=True):
                torch.testing.assert_close(actual, expected)
