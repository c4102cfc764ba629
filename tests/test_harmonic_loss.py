"""Claims about the harmonic triplet loss: triplets of old and new embeddings alike."""

import pytest
import torch
from torch.nn.functional import normalize

from facenet_ext import HarmonicTripletLoss, mined_triplet_loss
from facenet_ext.reference import mined_triplet_loss as oracle


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    new, old = normalize(torch.randn(2, 24, 8, dtype=torch.float64), dim=2)
    return new, old, torch.arange(24) // 4


@pytest.mark.parametrize("negatives", ["semihard", "hardest"])
def test_it_is_the_loss_of_the_union(negatives: str) -> None:
    new, old, labels = batch()
    loss = HarmonicTripletLoss(0.3, negatives=negatives)(new, labels, ref_emb=old)
    expected = oracle(torch.cat([new, old]), torch.cat([labels, labels]), 0.3, negatives=negatives)
    torch.testing.assert_close(loss, expected)


def test_the_old_embeddings_get_no_gradient_and_the_new_that_of_the_union() -> None:
    new, old, labels = batch()
    new.requires_grad_()
    old.requires_grad_()
    HarmonicTripletLoss()(new, labels, ref_emb=old).backward()
    assert old.grad is None
    union = torch.cat([new.detach(), old.detach()]).requires_grad_()
    mined_triplet_loss(union, torch.cat([labels, labels])).backward()
    torch.testing.assert_close(new.grad, union.grad[:24])
    assert new.grad.abs().sum() > 0


def test_old_labels_may_be_others() -> None:
    new, old, labels = batch()
    loss = HarmonicTripletLoss()(new, labels, ref_emb=old[:10], ref_labels=labels[:10] + 100)
    expected = mined_triplet_loss(
        torch.cat([new, old[:10]]), torch.cat([labels, labels[:10] + 100])
    )
    torch.testing.assert_close(loss, expected)


def test_given_triplets_index_the_union() -> None:
    old, new = torch.tensor([[0.0], [4.0]]), torch.tensor([[1.0], [3.0]])
    triplets = torch.tensor([0]), torch.tensor([2]), torch.tensor([3])  # new 0, old 0, old 1
    loss = HarmonicTripletLoss(margin=10.0)(new, indices_tuple=triplets, ref_emb=old)
    assert loss.item() == pytest.approx(1 - 9 + 10)


def test_aligning_pulls_new_embeddings_to_the_old_space() -> None:
    torch.manual_seed(0)
    labels = torch.arange(48) // 4
    centres = normalize(torch.randn(12, 16))[labels]
    old = normalize(centres + 0.1 * torch.randn(48, 16))
    rotated = (
        normalize(centres + 0.1 * torch.randn(48, 16)) @ torch.linalg.qr(torch.randn(16, 16))[0]
    )
    layer = torch.nn.Linear(16, 16, bias=False)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
    loss = HarmonicTripletLoss(0.3)

    def rank1() -> float:
        nearest = torch.cdist(normalize(layer(rotated)), old).argmin(1)
        return (labels[nearest] == labels).float().mean().item()

    assert rank1() < 0.4
    for _ in range(150):
        optimizer.zero_grad()
        loss(normalize(layer(rotated)), labels, ref_emb=old).backward()
        optimizer.step()
    assert rank1() > 0.95


def test_bad_calls_are_named() -> None:
    new, old, labels = batch()
    loss = HarmonicTripletLoss()
    with pytest.raises(ValueError, match="ref_emb: expected the old model's embeddings, got None"):
        loss(new, labels)
    with pytest.raises(ValueError, match="ref_emb: expected 8 columns"):
        loss(new, labels, ref_emb=old[:, :5])
    with pytest.raises(ValueError, match="ref_labels: expected one per row of ref_emb, 3, got 24"):
        loss(new, labels, ref_emb=old[:3])
    with pytest.raises(ValueError, match="labels"):
        loss(new, ref_emb=old)
