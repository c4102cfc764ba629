"""The real pytorch-metric-learning: its trainers, testers, wrappers and miners with our losses, and
our miner with its losses.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import metric_learning
import numpy as np
import pytest
import torch
from helpers import make_batch, pair_masks
from torch import Tensor, nn
from torch.nn.functional import normalize

from facenet_ext import (
    MPerClassSampler,
    TripletHardLoss,
    TripletLoss,
    TripletMarginLoss,
    TripletMiner,
    TripletSemiHardLoss,
)
from facenet_ext._indices import as_triplets

metric_learning.skip_unless(2)
from pytorch_metric_learning import losses, miners, samplers, testers, trainers  # noqa: E402
from pytorch_metric_learning.distances import CosineSimilarity, LpDistance  # noqa: E402
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu  # noqa: E402
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator  # noqa: E402
from pytorch_metric_learning.utils.inference import CustomKNN  # noqa: E402

LOSSES: list[Callable[[], nn.Module]] = [
    TripletSemiHardLoss,
    TripletHardLoss,
    TripletMarginLoss,
    lambda: TripletLoss(distance="cosine", smooth=True, reduction="mean_nonzero"),
]
MINERS: dict[str, Callable[[], nn.Module] | None] = {
    "none": None,
    "ours": TripletMiner,
    "triplets": miners.TripletMarginMiner,
    "batch hard": miners.BatchHardMiner,
    "pairs": lambda: miners.BatchEasyHardMiner(pos_strategy="all", neg_strategy="hard"),
    "all pairs": lambda: miners.PairMarginMiner(pos_margin=0.0, neg_margin=2.0),
}
on_losses = pytest.mark.parametrize("make_loss", LOSSES)
on_miners = pytest.mark.parametrize("miner", MINERS)


class Vectors(torch.utils.data.Dataset[Any]):
    """Eight classes of four vectors in six dimensions."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(32) // 4
        self.data = torch.randn(8, 6, generator=generator)[self.labels]
        self.data = self.data + torch.randn(32, 6, generator=generator)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, ...]:
        return self.data[i], self.labels[i]


class Streams(Vectors):
    """Each vector with another view of it."""

    def __getitem__(self, i: int) -> tuple[Tensor, ...]:
        return self.data[i], self.data[i] + 0.1, self.labels[i]


@torch.no_grad()
def ranked(models: dict[str, Any], dataset: Vectors) -> float:
    """The share of all triplets whose negative is farther than their positive."""
    x = models["embedder"](models["trunk"](dataset.data))
    positive, negative = pair_masks(dataset.labels)
    a, p, n = (positive.unsqueeze(2) & negative.unsqueeze(1)).nonzero(as_tuple=True)
    d = torch.cdist(x, x)
    return float((d[a, n] > d[a, p]).float().mean())


def train(
    trainer: type, loss_funcs: dict[str, Any], miner: str = "none", **options: Any
) -> tuple[list[float], float, float]:
    """Trains a small model for 30 steps; the loss of each, and `ranked` before and after."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  # what its samplers draw from
    dataset = options.pop("dataset", Vectors())
    models = {"trunk": nn.Linear(6, 8), "embedder": nn.Linear(8, 4)} | options.pop("models", {})
    make_miner = MINERS[miner]
    history: list[float] = []
    arguments: dict[str, Any] = {
        "models": models,
        "optimizers": {
            f"{name}_optimizer": torch.optim.Adam(model.parameters(), lr=0.02)
            for name, model in models.items()
        },
        "batch_size": 16,
        "loss_funcs": loss_funcs,
        "loss_weights": dict.fromkeys(loss_funcs, 0.5),
        "mining_funcs": {} if make_miner is None else {"tuple_miner": make_miner()},
        "dataset": dataset,
        "sampler": samplers.MPerClassSampler(dataset.labels, 4, length_before_new_iter=480),
        "dataloader_num_workers": 0,
        "data_device": torch.device("cpu"),
        "end_of_iteration_hook": lambda t: history.append(float(t.losses["total_loss"].detach())),
    } | options
    before = ranked(models, dataset)
    trainer(**arguments).train()
    return history, before, ranked(models, dataset)


def assert_learns(history: list[float], before: float, after: float) -> None:
    """The loss itself may rise: a mean over what is still violated is over harder triplets."""
    assert len(history) == 30
    assert torch.tensor(history).isfinite().all()
    assert after > before


def without_faiss() -> dict[str, Any]:
    """Options of a tester; its defaults ask for faiss."""
    accuracy = AccuracyCalculator(
        include=("precision_at_1", "mean_average_precision_at_r"),
        k="max_bin_count",
        knn_func=CustomKNN(LpDistance()),
        kmeans_func=lambda *args: None,
    )
    return {
        "dataloader_num_workers": 0,
        "data_device": torch.device("cpu"),
        "accuracy_calculator": accuracy,
    }


# --- trainers and testers -------------------------------------------------------------------------


@on_losses
@on_miners
def test_metric_loss_only(make_loss: Callable[[], nn.Module], miner: str) -> None:
    assert_learns(*train(trainers.MetricLossOnly, {"metric_loss": make_loss()}, miner))


def test_our_sampler_in_their_trainer() -> None:
    sampler = MPerClassSampler(Vectors().labels, 4, batch_size=16, batches=30)
    loss_funcs = {"metric_loss": TripletSemiHardLoss()}
    assert_learns(*train(trainers.MetricLossOnly, loss_funcs, sampler=sampler))


@on_miners
def test_train_with_classifier(miner: str) -> None:
    loss_funcs = {"metric_loss": TripletSemiHardLoss(), "classifier_loss": nn.CrossEntropyLoss()}
    models = {"classifier": nn.Linear(4, 8)}
    assert_learns(*train(trainers.TrainWithClassifier, loss_funcs, miner, models=models))


@pytest.mark.parametrize("miner", ["none", "ours", "triplets"])
def test_two_streams(miner: str) -> None:
    loss_funcs = {"metric_loss": TripletSemiHardLoss()}
    assert_learns(*train(trainers.TwoStreamMetricLoss, loss_funcs, miner, dataset=Streams()))


def test_cascaded_embeddings() -> None:
    """Each loss gets a slice of the embeddings' columns."""
    loss_funcs = {"metric_loss_0": TripletSemiHardLoss(), "metric_loss_1": TripletHardLoss()}
    options = {
        "embedding_sizes": [2, 2],
        "mining_funcs": {"tuple_miner_0": TripletMiner(), "tuple_miner_1": miners.HDCMiner()},
    }
    assert_learns(*train(trainers.CascadedEmbeddings, loss_funcs, **options))


def test_deep_adversarial_metric_learning() -> None:
    loss_funcs = {
        "metric_loss": TripletSemiHardLoss(),
        "synth_loss": TripletLoss(),
        "g_adv_loss": losses.TripletMarginLoss(),  # it insists on its own here
    }
    generator = nn.Linear(3 * 8, 8)
    history, *_ = train(
        trainers.DeepAdversarialMetricLearning,
        loss_funcs,
        "ours",
        models={"generator": generator},
        g_triplets_per_anchor=2,
        loss_weights=dict.fromkeys([*loss_funcs, "g_hard_loss", "g_reg_loss"], 1.0),
    )
    assert len(history) == 30
    assert torch.tensor(history).isfinite().all()


def test_a_model_so_trained_in_the_tester() -> None:
    """Training raises the precision that its tester finds."""
    dataset = Vectors()
    models = {"trunk": nn.Linear(6, 8), "embedder": nn.Linear(8, 4)}
    tester = testers.GlobalEmbeddingSpaceTester(**without_faiss())
    name = "mean_average_precision_at_r_level0"
    before = tester.test({"train": dataset}, 0, *copy.deepcopy(models).values())["train"][name]
    train(trainers.MetricLossOnly, {"metric_loss": TripletSemiHardLoss()}, models=models)
    after = tester.test({"train": dataset}, 1, *models.values())["train"][name]
    assert after > before


def test_our_miner_weighs_the_samples_of_its_sampler() -> None:
    dataset = Vectors()
    model = nn.Linear(6, 4)
    sampler = samplers.TuplesToWeightsSampler(
        model, TripletMiner(), dataset, subset_size=32, **without_faiss()
    )
    assert len(list(sampler)) == 32


# --- wrappers -------------------------------------------------------------------------------------


def named(wrapper: type, *names: str) -> type:
    """The wrapper, admitting losses of these names too, as docs/migration.md has it."""

    class Named(wrapper):  # type: ignore[misc]
        @staticmethod
        def supported_losses() -> list[str]:
            return [*wrapper.supported_losses(), *names]

    return Named


def memory_of(loss: nn.Module, miner: nn.Module | None, **options: Any) -> Any:
    memory = named(losses.CrossBatchMemory, type(loss).__name__)
    return memory(loss, embedding_size=7, memory_size=24, miner=miner, **options)


@on_losses
@on_miners
def test_cross_batch_memory(make_loss: Callable[[], nn.Module], miner: str) -> None:
    """Five batches of 10 through a memory of 24: it fills, wraps around, and each step learns.

    The loss gets the memory as ref_emb, and triplets or pairs without the items' own copies.
    """
    make_miner = MINERS[miner]
    memory = memory_of(make_loss(), make_miner and make_miner())
    for step in range(5):
        x, y = make_batch("halves", 10, 7, seed=step)
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(memory(x, y), x)
        assert gradient.isfinite().all()
        assert gradient.any()


def test_the_memory_gives_the_loss_of_all_triplets_with_it() -> None:
    """Without a miner it hands over all pairs, four tensors."""
    memory = memory_of(TripletLoss(reduction="mean"), None)
    batches = [make_batch("quads", 12, 7, torch.float64, seed=step) for step in (0, 1)]
    loss = [memory(x, y) for x, y in batches][-1]
    c, z = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
    x, y = batches[1]
    positive, negative = pair_masks(y, z, torch.arange(12, 24), torch.arange(24))
    d = torch.cdist(x, c, compute_mode="donot_use_mm_for_euclid_dist").square()
    a, p, n = (positive.unsqueeze(2) & negative.unsqueeze(1)).nonzero(as_tuple=True)
    torch.testing.assert_close(loss, (d[a, p] - d[a, n] + 0.2).relu().mean())


def test_the_memory_with_triplets_of_the_batch_on_top() -> None:
    x, y = make_batch("quads", 12, 7)
    memory = memory_of(TripletSemiHardLoss(), TripletMiner())
    assert memory(x, y, TripletMiner()(x, y)) > 0
    memory.reset_queue()
    pairs = lmu.get_all_pairs_indices(y)
    assert memory(x, y, pairs) > 0


def test_the_memory_takes_only_what_is_to_be_enqueued() -> None:
    x, y = make_batch("halves", 20, 7)
    memory = memory_of(TripletSemiHardLoss(), TripletMiner())
    enqueue = torch.arange(20) >= 10
    assert torch.equal(
        memory(x, y, enqueue_mask=enqueue),
        TripletSemiHardLoss()(
            x[:10], y[:10], TripletMiner()(x[:10], y[:10], x[10:], y[10:]), x[10:], y[10:]
        ),
    )


def test_multiple_losses() -> None:
    """Ours and theirs in one sum, by list and by name, each with its own miner."""
    x, y = make_batch("quads", 24, 7)
    ours, theirs = TripletSemiHardLoss(), losses.TripletMarginLoss()
    hard, pairs = TripletMiner(negatives="hardest"), miners.PairMarginMiner()
    expected = 0.3 * ours(x, y, pairs(x, y)) + theirs(x, y, hard(x, y))
    several = losses.MultipleLosses([ours, theirs], [pairs, hard], [0.3, 1.0])
    torch.testing.assert_close(several(x, y), expected)
    several = losses.MultipleLosses(
        {"ours": ours, "theirs": theirs},
        {"ours": pairs, "theirs": hard},
        {"ours": 0.3, "theirs": 1.0},
    )
    torch.testing.assert_close(several(x, y), expected)


@pytest.mark.parametrize("symmetric", [True, False])
def test_self_supervised_loss(symmetric: bool) -> None:
    """Each item and its view are a class; without symmetry the views are the candidates."""
    x, _ = make_batch("pairs", 12, 7)
    view = x + 0.1
    wrapper = named(losses.SelfSupervisedLoss, "TripletSemiHardLoss")
    loss = wrapper(TripletSemiHardLoss(), symmetric=symmetric)(x, view)
    y = torch.arange(12)
    expected = (
        TripletSemiHardLoss()(torch.cat([x, view]), torch.cat([y, y]))
        if symmetric
        else TripletSemiHardLoss()(x, y, ref_emb=view, ref_labels=y)
    )
    assert torch.equal(loss, expected)


# --- tuples either way ----------------------------------------------------------------------------


@on_miners
def test_pairs_become_the_triplets_that_they_become_there(miner: str) -> None:
    x, y = make_batch("uneven", 30, 7)
    make_miner = MINERS[miner]
    mined = make_miner()(x, y) if make_miner else lmu.get_all_pairs_indices(y)
    theirs, ours = lmu.convert_to_triplets(mined, y), as_triplets(mined)
    assert len(ours[0])
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_our_miner_feeds_a_loss_of_pairs() -> None:
    """ContrastiveLoss: the pairs of the triplets, each as often as it is there."""
    x, y = make_batch("quads", 24, 7)
    a, p, n = TripletMiner()(x, y)
    d = torch.cdist(normalize(x), normalize(x), compute_mode="donot_use_mm_for_euclid_dist")
    near, far = d[a, p].relu(), (1.0 - d[a, n]).relu()
    expected = near[near > 0].mean() + far[far > 0].mean()
    torch.testing.assert_close(losses.ContrastiveLoss()(x, y, (a, p, n)), expected)


@pytest.mark.parametrize(
    "make_loss",
    [
        losses.CircleLoss,
        losses.ContrastiveLoss,
        losses.GeneralizedLiftedStructureLoss,
        losses.IntraPairVarianceLoss,
        losses.LiftedStructureLoss,
        losses.MultiSimilarityLoss,
        losses.NTXentLoss,
        losses.SupConLoss,
        losses.TripletMarginLoss,
        losses.TupletMarginLoss,
    ],
)
def test_our_miner_feeds_every_loss_of_tuples(make_loss: Callable[[], Any]) -> None:
    """With the batch's own triplets, and in its memory, which takes out an item's own copy."""
    x, y = make_batch("quads", 24, 7)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(make_loss()(x, y, TripletMiner()(x, y)), x)
    assert gradient.isfinite().all()
    memory = losses.CrossBatchMemory(make_loss(), 7, memory_size=48, miner=TripletMiner())
    memory(*make_batch("quads", 24, 7, seed=1))
    assert memory(x, y).isfinite()


def test_our_cosine_miner_selects_what_their_similarity_ranks() -> None:
    x, y = make_batch("quads", 24, 7)
    mat = CosineSimilarity()(x)
    a, p, n = TripletMiner(distance="cosine", fallback="drop")(x, y)
    assert (mat[a, n] < mat[a, p]).all()  # inverted: less similar is farther
