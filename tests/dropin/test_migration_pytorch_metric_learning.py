"""docs/migration.md: pytorch-metric-learning."""

from __future__ import annotations

import math
import re

import metric_learning
import pytest
import torch
from helpers import make_batch
from migration_table import Section, number
from side_by_side import batch, compare, on_batches
from tolerances import VALUE
from torch.nn.functional import normalize

from facenet_ext import (
    MPerClassSampler,
    NTXentLoss,
    SupConLoss,
    TripletHardLoss,
    TripletLoss,
    TripletMarginLoss,
    TripletMiner,
    TripletSemiHardLoss,
    reference,
    select_triplets,
)

metric_learning.skip_unless(2)
from pytorch_metric_learning import losses, miners, samplers  # noqa: E402
from pytorch_metric_learning.distances import CosineSimilarity, LpDistance  # noqa: E402
from pytorch_metric_learning.reducers import MeanReducer, SumReducer  # noqa: E402
from pytorch_metric_learning.regularizers import LpRegularizer  # noqa: E402
from pytorch_metric_learning.utils import distributed  # noqa: E402
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu  # noqa: E402

section = Section("pytorch-metric-learning")
NAMES = {
    "losses": losses,
    "miners": miners,
    "CosineSimilarity": CosineSimilarity,
    "LpDistance": LpDistance,
    "MeanReducer": MeanReducer,
    "SumReducer": SumReducer,
}


def squared() -> LpDistance:
    return LpDistance(normalize_embeddings=False, power=2)


@on_batches
@pytest.mark.parametrize(("theirs", "ours"), section.calls())
def test_the_same_value(theirs: str, ours: str, kind: str) -> None:
    compare(theirs, ours, kind, lambda x, y: NAMES)


@section.differs("default margin")
def test_margin(theirs: str, ours: str) -> None:
    assert losses.TripletMarginLoss().margin == number(theirs)
    ours_of = {loss().margin for loss in (TripletLoss, TripletHardLoss, TripletMarginLoss)}
    assert ours_of == {number(ours)}


@section.differs("default distance")
def test_distance(theirs: str, ours: str) -> None:
    x, y = batch("gaussian")
    mined = miners.BatchHardMiner()(x, y)
    assert theirs == "Euclidean, of rows scaled to length 1"
    torch.testing.assert_close(
        losses.TripletMarginLoss()(3 * x, y, mined),
        TripletLoss(0.05, distance="euclidean", reduction="mean_nonzero")(normalize(x), y, mined),
    )
    assert ours == "squared Euclidean, of rows as they are"
    longer = TripletSemiHardLoss(0.0)(3 * x, y)
    torch.testing.assert_close(longer, 9 * TripletSemiHardLoss(0.0)(x, y))


@section.differs("default reduction")
def test_reduction(theirs: str, ours: str) -> None:
    x, y = batch("gaussian")
    mined = TripletMiner()(x, y)
    hinges = TripletLoss(0.05, reduction="none")(x, y, mined)
    assert (hinges == 0).any()
    assert theirs == "mean of the hinges above 0"
    loss = losses.TripletMarginLoss(0.05, distance=squared())(x, y, mined)
    torch.testing.assert_close(loss, hinges[hinges > 0].mean())
    assert ours == "mean of all hinges; of `TripletMarginLoss`, theirs"
    torch.testing.assert_close(TripletLoss(0.05)(x, y, mined), hinges.mean())
    torch.testing.assert_close(TripletMarginLoss(0.05)(x, y, mined), loss)


@section.differs("miner and loss")
def test_two_margins(theirs: str, ours: str) -> None:
    x, y = batch("gaussian")
    mined = miners.TripletMarginMiner(0.5, "semihard", distance=squared())(x, y)
    loss = losses.TripletMarginLoss(0.2, distance=squared(), reducer=MeanReducer())(x, y, mined)
    assert theirs == "a margin each"
    for margin in (0.2, 0.5):
        one = TripletMarginLoss(margin, triplets="semihard", reduction="mean")
        assert abs(one(x, y) - loss) > 0.01
    assert "give their miner's triplets" in ours
    torch.testing.assert_close(TripletLoss(0.2)(x, y, mined), loss)


@section.differs('"semihard" negatives of a pair')
def test_semihard(theirs: str, ours: str) -> None:
    x = torch.tensor([[0.0], [1.0], [1.5], [1.75], [2.0]])
    y = torch.tensor([0, 0, 1, 1, 1])
    distance = LpDistance(normalize_embeddings=False)
    a, p, n = miners.TripletMarginMiner(1.0, "semihard", distance=distance)(x, y)
    assert n[(a == 0) & (p == 1)].tolist() == [2, 3, 4]
    assert number(theirs) == 3
    a, p, n = TripletMiner(distance="euclidean")(x, y)
    assert n[(a == 0) & (p == 1)].tolist() == [2]
    assert number(ours) == 1


@section.differs("a pair without a semi-hard negative")
def test_no_semihard_negative(theirs: str, ours: str) -> None:
    x, y = torch.tensor([[0.0], [2.0], [1.0]]), torch.tensor([0, 0, 1])
    assert theirs == "dropped"
    miner = miners.TripletMarginMiner(1.0, "semihard", distance=squared())
    assert [len(index) for index in miner(x, y)] == [0, 0, 0]
    assert "farthest" in ours
    assert TripletMiner()(x, y)[2].tolist() == [2, 2]
    assert 'fallback="drop"' in ours
    assert [len(index) for index in TripletMiner(fallback="drop")(x, y)] == [0, 0, 0]


@section.differs("`triplets_per_anchor=1`")
def test_triplets_per_anchor(theirs: str, ours: str) -> None:
    _, y = batch("gaussian")
    anchors = lmu.convert_to_triplets(None, y, t_per_anchor=1)[0]
    assert theirs == "one triplet at random for each row of a class"
    assert sorted(anchors.tolist()) == list(range(24))
    assert ours.startswith("no such option")
    with pytest.raises(TypeError, match="triplets_per_anchor"):
        TripletMarginLoss(triplets_per_anchor=1)


@section.differs("`reducer=`, `embedding_regularizer=`")
@pytest.mark.parametrize("option", ["reducer", "embedding_regularizer"])
def test_objects_as_options(theirs: str, ours: str, option: str) -> None:
    assert theirs == "objects"
    losses.TripletMarginLoss(reducer=MeanReducer(), embedding_regularizer=LpRegularizer())
    assert ours.startswith("TypeError: `reduction=`")
    with pytest.raises(TypeError, match=option):
        TripletLoss(**{option: MeanReducer()})


@section.differs("a miner's pairs in `SupConLoss`")
def test_pairs_of_a_miner(theirs: str, ours: str) -> None:
    x, y = batch("gaussian")
    pairs = miners.PairMarginMiner()(x, y)
    assert theirs == "only these pairs count"
    assert losses.SupConLoss()(x, y, pairs) != losses.SupConLoss()(x, y)
    assert ours == "ValueError: every pair counts"
    for loss in (SupConLoss(), NTXentLoss()):
        with pytest.raises(ValueError, match="every pair of the batch"):
            loss(x, y, pairs)


@section.differs("labels that are not integers")
def test_labels(theirs: str, ours: str) -> None:
    x, y = batch("gaussian")
    assert theirs == "taken"
    assert losses.TripletMarginLoss()(x, y.double()) == losses.TripletMarginLoss()(x, y)
    assert ours == "TypeError"
    with pytest.raises(TypeError, match="labels: expected integers"):
        TripletSemiHardLoss()(x, y.double())


@section.differs("rows at a common offset")
def test_offset(theirs: str, ours: str) -> None:
    """The offset that `page` names; differences survive it, the Gram matrix does not."""
    x, y = make_batch("quads", 64, 8)
    x = x + 1e4
    exact = reference.triplet_loss(x, select_triplets(x, y), 0.2)
    mined = TripletMiner()(x, y)
    loss = losses.TripletMarginLoss(0.2, distance=squared(), reducer=MeanReducer())(x, y, mined)
    assert theirs == "no correct digit"
    assert abs(loss - exact) > 0.5 * exact
    assert ours == "as without the offset"
    assert math.isclose(TripletSemiHardLoss()(x, y), exact, rel_tol=10 * VALUE[torch.float32])


@section.differs("type of the loss")
def test_type_of_the_loss(theirs: str, ours: str) -> None:
    x, y = batch("gaussian")
    mined = TripletMiner()(x.half(), y)
    assert str(losses.TripletMarginLoss()(x.half(), y, mined).dtype) == f"torch.{theirs}"
    assert str(TripletSemiHardLoss()(x.half(), y).dtype) == f"torch.{ours}"


@section.differs("`CrossBatchMemory`, `SelfSupervisedLoss`")
def test_wrappers_know_names(theirs: str, ours: str) -> None:
    """The page's example names it: test_migration_page.py runs that."""
    loss = TripletSemiHardLoss()
    assert re.search("a name they know", theirs)
    assert re.search("`TripletMarginLoss` is one, others have to be named", ours)
    losses.CrossBatchMemory(TripletMarginLoss(), embedding_size=7)
    losses.SelfSupervisedLoss(TripletMarginLoss())
    for wrap in (
        lambda: losses.CrossBatchMemory(loss, embedding_size=7),
        lambda: losses.SelfSupervisedLoss(loss),
    ):
        with pytest.raises(Exception, match="not supported for TripletSemiHardLoss"):
            wrap()


@section.differs("`DistributedLossWrapper`")
def test_distributed_wrappers(theirs: str, ours: str) -> None:
    assert re.search("subclasses of their own", theirs)
    assert ours == "TypeError"
    with pytest.raises(TypeError, match="must extend"):
        distributed.DistributedLossWrapper(TripletSemiHardLoss())
    with pytest.raises(TypeError, match="must extend"):
        distributed.DistributedMinerWrapper(TripletMiner())


@section.differs("third argument of `MPerClassSampler")
def test_third_argument_of_the_sampler(theirs: str, ours: str) -> None:
    labels = torch.arange(200) // 5
    assert theirs == "rows of a batch"
    assert samplers.MPerClassSampler(labels, 4, 32).batch_size == 32
    assert ours == "classes of a batch; rows are `batch_size=32`"
    assert MPerClassSampler(labels, 4, 32).classes == 32
    assert MPerClassSampler(labels, 4, batch_size=32).classes == 8


@section.differs("length of `MPerClassSampler")
def test_length_of_the_sampler(theirs: str, ours: str) -> None:
    labels = torch.arange(200) // 5
    sampler = samplers.MPerClassSampler(labels, 4, batch_size=32)
    assert theirs == f"{len(sampler):,} rows, or `length_before_new_iter`"
    assert ours == "as many batches as show each image once, or `batches`"
    assert len(MPerClassSampler(labels, 4, batch_size=32)) == round(200 / 32)
    assert len(MPerClassSampler(labels, 4, batch_size=32, batches=3)) == 3


@section.differs("a class of one image")
def test_a_class_of_one_image(theirs: str, ours: str) -> None:
    labels = torch.tensor([0, 0, 1, 1, 2])
    assert theirs == "drawn, with copies"
    assert 4 in list(samplers.MPerClassSampler(labels, 2, batch_size=4))
    assert ours == "not drawn, or with `min_images=1`"
    drawn = [
        list(MPerClassSampler(labels, 2, batch_size=4, batches=50, min_images=n)) for n in (2, 1)
    ]
    assert [any(4 in batch for batch in batches) for batches in drawn] == [False, True]


def test_every_row_is_tested() -> None:
    assert section.untested() == []
