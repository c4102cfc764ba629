"""The share of active triplets that training logs is that of the loss beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from facenet_ext import reference
from facenet_ext.embedding.options import LossOptions, ModelOptions, Options
from facenet_ext.train.harmonic import HarmonicModule
from facenet_ext.train.module import EmbeddingModule

LABELS = torch.arange(24) // 4
FEATURES = torch.nn.functional.normalize(
    torch.randn(24, 6, generator=torch.Generator().manual_seed(1)), dim=1
)
MODEL = ModelOptions(model="mlp", embedding_dim=4, width=8, stages=(1,), dropout=0.0)


def options(members: int = 1, **loss: Any) -> Options:
    return Options(model=replace(MODEL, members=members), loss=LossOptions(**loss))


def logged(module: EmbeddingModule) -> float:
    """What a step logs; in evaluation mode, so that embeddings are the same each time."""
    module.eval()
    torch.manual_seed(5)
    module.training_step((FEATURES, LABELS), 0)
    return module.history["active"][-1]


def active(embeddings: Tensor, labels: Tensor = LABELS, **rule: Any) -> Tensor:
    found = reference.select_triplets(embeddings, labels, **rule)
    return found.d_ap - found.d_an + 0.2 > 0


def test_a_committee_counts_the_triplets_of_each_members_loss() -> None:
    module = EmbeddingModule(options(members=2), (6,), steps=1)
    share = logged(module)
    joined = module.network(FEATURES)
    parts = torch.cat([active(part) for part in module.network.parts(joined)])
    assert share == pytest.approx(parts.double().mean().item())
    assert share != pytest.approx(active(joined).double().mean().item())


def test_another_loss_shows_the_share_of_the_triplets_too() -> None:
    module = EmbeddingModule(options(loss="supcon"), (6,), steps=1)
    share = logged(module)
    expected = active(module.network(FEATURES)).double().mean().item()
    assert share == pytest.approx(expected)
    assert 0 < share < 1


def test_a_harmonic_loss_counts_the_triplets_of_both_models() -> None:
    old, start = (EmbeddingModule(options(), (6,), steps=1) for _ in range(2))
    torch.nn.init.normal_(old.network.embedding.weight)
    module = HarmonicModule(options(), (6,), steps=1, old=old, start=start, layer_only=False)
    share = logged(module)
    new = module.network(FEATURES)
    union = torch.cat([new, old.network(FEATURES)])
    expected = active(union, torch.cat([LABELS, LABELS]))
    assert share == pytest.approx(expected.double().mean().item())
    assert share != pytest.approx(active(new).double().mean().item())


def test_a_random_rule_counts_the_triplets_that_the_loss_drew() -> None:
    module = EmbeddingModule(options(negative_rule="distance_weighted"), (6,), steps=1)
    share = logged(module)
    embeddings = module.network(FEATURES)
    torch.manual_seed(5)
    first, second = (active(embeddings, negatives="distance_weighted") for _ in range(2))
    assert share == pytest.approx(first.double().mean().item())
    assert share != pytest.approx(second.double().mean().item())
