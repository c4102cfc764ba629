"""CrossBatchMemory beside pytorch-metric-learning's, and with its losses and miners."""

from __future__ import annotations

import pytest
import torch
from helpers import loss_and_gradient, make_batches
from torch import nn

from facenet_ext.losses import TripletHardLoss, TripletLoss, TripletMarginLoss
from facenet_ext.memory import CrossBatchMemory
from facenet_ext.miners import TripletMiner

pytest.importorskip("pytorch_metric_learning")

from pytorch_metric_learning import distances, losses, miners

DIM = 7


def squared_margin_loss() -> nn.Module:
    squared = distances.LpDistance(normalize_embeddings=False, power=2)
    return losses.TripletMarginLoss(margin=0.4, distance=squared)


def batch_hard_miner() -> nn.Module:
    squared = distances.LpDistance(normalize_embeddings=False, power=2)
    return miners.BatchHardMiner(distance=squared)


@pytest.mark.parametrize(
    "miner",
    [
        miners.BatchHardMiner,
        miners.BatchEasyHardMiner,
        miners.DistanceWeightedMiner,
        miners.MultiSimilarityMiner,
        miners.TripletMarginMiner,
    ],
)
def test_their_miners_meet_earlier_batches_only(miner: type[nn.Module]) -> None:
    """Several cannot search among no rows, and are not asked to."""
    memory = CrossBatchMemory(TripletLoss(), DIM, 50, miner())
    (x, y), (later, later_y) = make_batches(20, 20, classes=5, dim=DIM)
    x.requires_grad_()
    loss = memory(x, y)
    assert loss == 0
    loss.backward()
    assert x.grad is not None
    assert not x.grad.any()
    assert len(memory) == 20
    assert memory(later.requires_grad_(), later_y).requires_grad
    poisoned = CrossBatchMemory(TripletLoss(), DIM, 50, miner())
    assert not torch.isfinite(poisoned(torch.full_like(x, torch.inf), y))


@pytest.mark.parametrize("size", [20, 31, 200])
@pytest.mark.parametrize("kind", ["all", "hardest"])
def test_it_is_pytorch_metric_learnings_cross_batch_memory(kind: str, size: int) -> None:
    """Over all triplets, and with batch hard mining."""
    miner = batch_hard_miner() if kind == "hardest" else None
    theirs = losses.CrossBatchMemory(squared_margin_loss(), DIM, size, miner)
    hard = TripletHardLoss(0.4, reduction="mean_nonzero")
    ours = CrossBatchMemory(hard if miner else TripletMarginLoss(0.4), DIM, size)
    for x, y in make_batches(20, 9, 20, 15, 20, classes=9, dim=DIM):
        expected = loss_and_gradient(lambda x, y=y: theirs(x, y), x)
        torch.testing.assert_close(loss_and_gradient(lambda x, y=y: ours(x, y), x), expected)


def test_their_enqueue_mask_is_a_call_of_enqueue() -> None:
    """Rows of the mask are stored and no anchors: a second network's, as in MoCo."""
    theirs = losses.CrossBatchMemory(squared_margin_loss(), DIM, 50, batch_hard_miner())
    ours = CrossBatchMemory(TripletHardLoss(0.4, reduction="mean_nonzero"), DIM, 50)
    for x, y in make_batches(40, 40, 40, dim=DIM):
        mask = torch.arange(40) < 20
        expected = theirs(x, y, enqueue_mask=mask)
        ours.enqueue(x[mask], y[mask])
        torch.testing.assert_close(ours(x[~mask], y[~mask], enqueue=False), expected)


def test_a_loss_without_ids_meets_earlier_batches_only() -> None:
    batches = make_batches(20, 30, 20, 20, dim=DIM)
    loss = squared_margin_loss()
    memory = CrossBatchMemory(loss, DIM, 45)
    assert memory(*batches[0]) == 0
    for k, (x, y) in enumerate(batches[1:], start=1):
        c, z = (torch.cat(parts)[-45:] for parts in zip(*batches[:k], strict=True))
        expected = loss_and_gradient(
            lambda x, y=y, c=c, z=z: loss(x, y, ref_emb=c, ref_labels=z), x
        )
        torch.testing.assert_close(loss_and_gradient(lambda x, y=y: memory(x, y), x), expected)


def test_a_loss_without_ids_takes_our_miners_triplets() -> None:
    """Then the miner sees to the copies, and the batch meets itself too."""
    theirs = CrossBatchMemory(squared_margin_loss(), DIM, 45, TripletMiner())
    ours = CrossBatchMemory(TripletLoss(0.4, reduction="mean_nonzero"), DIM, 45)
    for x, y in make_batches(20, 30, 20, dim=DIM):
        expected = loss_and_gradient(lambda x, y=y: theirs(x, y), x)
        torch.testing.assert_close(loss_and_gradient(lambda x, y=y: ours(x, y), x), expected)


def test_ids_are_refused_where_nothing_takes_them() -> None:
    ((x, y),) = make_batches(20, dim=DIM)
    memory = CrossBatchMemory(squared_margin_loss(), DIM, 45)
    with pytest.raises(ValueError, match=r"^ids: expected None, as the loss takes no anchor_ids"):
        memory(x, y, ids=torch.arange(20))
    assert len(memory) == 0


def test_a_batch_and_a_memory_of_two_dtypes_reach_any_loss_in_one() -> None:
    memory = CrossBatchMemory(squared_margin_loss(), DIM, 45, dtype=torch.float32)
    for x, y in make_batches(20, 30, 20, dtype=torch.bfloat16, dim=DIM):
        loss = memory(x.requires_grad_(), y)
        loss.backward()
    assert loss.dtype == torch.float32
    assert x.grad is not None
    assert x.grad.any()
