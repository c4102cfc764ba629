"""CrossBatchMemory: the loss of a batch against the last rows of all batches.

That it is a list of these rows, whatever the sizes, is in test_properties.py.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import assert_same_state, loss_and_gradient, make_batches, make_cloud
from torch import Tensor

from facenet_ext.losses import (
    TripletHardLoss,
    TripletLoss,
    TripletSemiHardLoss,
)
from facenet_ext.memory import CrossBatchMemory
from facenet_ext.miners import TripletMiner

DIM = 7
LOSSES: dict[str, Callable[[], TripletLoss]] = {
    "semihard": lambda: TripletSemiHardLoss(margin=0.4),
    "hard": lambda: TripletHardLoss(margin=0.4, soft=True),
    "swap": lambda: TripletLoss(margin=0.4, swap=True),
    "none": lambda: TripletLoss(margin=0.4, reduction="none"),
    "cosine": lambda: TripletLoss(distance="cosine", fallback="drop", reduction="mean_nonzero"),
}


def newest(batches: list[tuple[Tensor, Tensor]], count: int) -> tuple[Tensor, Tensor]:
    """The last rows of all batches, oldest first."""
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return x[-count:], y[-count:]


# --- what it is ----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("size", [1, 5, 40, 61, 1000])
def test_the_loss_is_that_of_the_batch_against_the_last_rows(
    size: int, make: Callable[[], TripletLoss]
) -> None:
    """While it fills, where it wraps around, and where batches vary in size."""
    loss, batches = make(), make_batches(20, 20, 1, 33, 0, 20, 7, dim=DIM)
    memory = CrossBatchMemory(loss, DIM, size)
    row = 0
    for k, (x, y) in enumerate(batches):
        c, z = newest(batches[: k + 1], size)
        anchor_ids = torch.arange(row, row + len(x))
        row += len(x)
        ids = {"anchor_ids": anchor_ids, "ref_ids": torch.arange(row - len(c), row)}
        bank: dict[str, Any] = {"ref_emb": c, "ref_labels": z, **ids}
        # Sorted: a loss per triplet comes in the order of the rows.
        expected = loss_and_gradient(
            lambda x, y=y, bank=bank: loss(x, y, **bank).flatten().sort().values, x
        )
        actual = loss_and_gradient(lambda x, y=y: memory(x, y).flatten().sort().values, x)
        torch.testing.assert_close(actual, expected)
        assert len(memory) == len(c)


@pytest.mark.parametrize("miner", [TripletMiner(), TripletMiner(positives="hardest")])
def test_a_miner_selects_from_the_memory(miner: TripletMiner) -> None:
    """As the loss itself would that selects by the same rule."""
    batches = make_batches(20, 30, 20, dim=DIM)
    mined = CrossBatchMemory(TripletLoss(0.4), DIM, 35, miner)
    itself = CrossBatchMemory(TripletLoss(0.4, positives=miner.positives), DIM, 35)
    for x, y in batches:
        actual = loss_and_gradient(lambda x, y=y: mined(x, y), x)
        torch.testing.assert_close(actual, loss_and_gradient(lambda x, y=y: itself(x, y), x))


def test_the_first_batch_meets_itself() -> None:
    ((x, y),) = make_batches(30, dim=DIM)
    loss = TripletLoss(0.4)
    torch.testing.assert_close(CrossBatchMemory(loss, DIM, 100)(x, y), loss(x, y))


def test_no_gradient_reaches_the_memory() -> None:
    (x, y), (later, z) = make_batches(30, 30, dim=DIM)
    memory = CrossBatchMemory(TripletLoss(), DIM, 100)
    x.requires_grad_()
    later.requires_grad_()
    memory(x, y)
    memory(later, z).backward()
    assert x.grad is None
    assert later.grad is not None
    assert list(memory.parameters()) == []
    assert not memory.embeddings.requires_grad


@pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("miner", [None, TripletMiner()])
def test_a_backward_may_come_after_the_next_batch(
    miner: TripletMiner | None, make: Callable[[], TripletLoss]
) -> None:
    """Which has then overwritten rows that the gradient reads."""
    batches = make_batches(20, 30, 20, dim=DIM)
    together, apart = (CrossBatchMemory(make(), DIM, 35, miner) for _ in range(2))
    inputs = [x.clone().requires_grad_() for x, _ in batches]
    total = sum(together(x, y).sum() for x, (_, y) in zip(inputs, batches, strict=True))
    gradients = torch.autograd.grad(total, inputs)
    for gradient, x, (_, y) in zip(gradients, inputs, batches, strict=True):
        (expected,) = torch.autograd.grad(apart(x, y).sum(), x)
        assert torch.equal(gradient, expected)


# --- an item never meets its own copy ------------------------------------------------------------


@pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("size", [3, 10, 25, 1000])
def test_a_row_is_no_positive_of_its_own(size: int, make: Callable[[], TripletLoss]) -> None:
    """All labels differ, and rows are close: a copy would be a positive with a loss."""
    memory = CrossBatchMemory(make(), DIM, size)
    for step in range(6):
        y = torch.arange(10) + 10 * step
        assert memory(0.01 * make_cloud("gaussian", 10, DIM, seed=step), y).sum() == 0


def test_a_compiled_loss_takes_ids_as_well() -> None:
    (x, y), (later, z) = make_batches(20, 20, dim=DIM)
    compiled = torch.compile(TripletLoss(), backend="eager")
    memory, twin = (CrossBatchMemory(loss, DIM, 30) for loss in (compiled, TripletLoss()))
    for batch in ((x, y), (later, z)):
        assert torch.equal(memory(*batch), twin(*batch))


def test_copies_of_earlier_epochs_are_excluded_by_the_ids_of_items() -> None:
    x, y = 0.01 * make_cloud("gaussian", 12, DIM), torch.arange(12)
    for ids, meets in ((torch.arange(12), False), (None, True)):
        memory = CrossBatchMemory(TripletLoss(), DIM, 100)
        assert memory(x, y, ids=ids) == 0
        assert (memory(x, y, ids=ids) > 0) == meets


# --- batches of any size -------------------------------------------------------------------------


def test_of_a_batch_larger_than_the_memory_the_last_rows_stay() -> None:
    ((x, y),) = make_batches(20, dim=DIM)
    memory = CrossBatchMemory(TripletLoss(), DIM, 6)
    memory(x[:5], y[:5])
    memory(x, y)
    assert sorted(memory.embeddings.tolist()) == sorted(x[-6:].tolist())


@pytest.mark.parametrize("filled", [0, 3, 20])
def test_an_empty_batch_has_no_loss_and_changes_nothing(filled: int) -> None:
    ((x, y),) = make_batches(filled, dtype=torch.float32, dim=DIM)
    memory = CrossBatchMemory(TripletLoss(), DIM, 10)
    memory.enqueue(x, y)
    before = copy.deepcopy(memory.state_dict())
    empty = x[:0].requires_grad_()
    loss = memory(empty, y[:0])
    assert loss.item() == 0
    loss.backward()
    assert_same_state(memory.state_dict(), before)


def test_an_empty_memory_gives_no_loss() -> None:
    ((x, y),) = make_batches(20, dim=DIM)
    memory = CrossBatchMemory(TripletLoss(), DIM, 10)
    assert memory(x.requires_grad_(), y, enqueue=False).item() == 0
    assert len(memory) == 0
