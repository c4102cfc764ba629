"""W processes give what one process gives with the whole batch: values, gradients, triplets."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from helpers import FALLBACKS, KINDS, NEGATIVES, POSITIVES, RANDOM, REDUCTIONS
from processes import run
from torch import Tensor, nn

from facenet_ext import losses
from facenet_ext._ranks import Ranks
from facenet_ext._rule import DISTANCES
from facenet_ext.distributed import DistributedLoss, DistributedMiner
from facenet_ext.miners import TripletMiner

Batch = dict[str, Tensor]

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6}


def make_batch(rows: int, dtype: torch.dtype, bank: int = 0, *, ties: bool = False) -> Batch:
    """Rows of six labels, the last of them of one row alone; duplicates and ties if asked for."""
    g = torch.Generator().manual_seed(rows + bank)

    def side(count: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(count, 5, generator=g, dtype=torch.float64)
        if ties:
            x = x.mul(1.5).round()
            x = x[torch.arange(count) % max(count // 2, 1)]
        labels = torch.randint(5, (count,), generator=g)
        labels[-1] = 5
        return (x + 0.25).to(dtype), labels

    batch = dict(zip(("embeddings", "labels"), side(rows), strict=True))
    if bank:
        batch |= zip(("ref_emb", "ref_labels"), side(bank), strict=True)
        batch["anchor_ids"] = torch.randint(9, (rows,), generator=g)
        batch["ref_ids"] = torch.randint(9, (bank,), generator=g)
    return batch


def share(batch: Batch, rank: int, rows: list[int], bank: list[int]) -> Batch:
    """A rank's rows of a batch."""

    def of(name: str, value: Tensor) -> Tensor:
        sizes = bank if name.startswith("ref") else rows
        return value.split(sizes)[rank].clone()

    return {name: of(name, value) for name, value in batch.items()}


def value_and_gradients(loss: nn.Module, batch: Batch, seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    inputs = [batch[name].requires_grad_() for name in ("embeddings", "ref_emb") if name in batch]
    value = loss(**batch)
    weights = torch.arange(1, value.numel() + 1, dtype=value.dtype)
    (value.flatten() @ weights).backward()
    gradients = dict(zip(("embeddings", "ref_emb"), (x.grad for x in inputs), strict=False))
    return {"value": value.detach()} | {n: g for n, g in gradients.items() if g is not None}


def compute(cases: list[tuple[nn.Module, Batch, list[int], list[int]]], options: Any) -> Any:
    rank = Ranks.of().rank
    return [
        value_and_gradients(
            DistributedLoss(loss, **options), share(batch, rank, *sizes), 7 + 1000 * rank
        )
        for loss, batch, *sizes in cases
    ]


def assert_same_as_one_process(
    cases: list[tuple[nn.Module, Batch, list[int], list[int]]], **options: Any
) -> None:
    world_size = len(cases[0][2])
    results = run(world_size, compute, cases, options)
    for at, (loss, batch, rows, bank) in enumerate(cases):
        whole = {name: value.clone() for name, value in batch.items()}
        expected = value_and_gradients(loss, whole, 7)
        tolerance = TOLERANCE[batch["embeddings"].dtype]
        of_ranks = [result[at] for result in results]
        for got in of_ranks:
            assert torch.equal(got["value"], of_ranks[0]["value"]), loss
        torch.testing.assert_close(
            of_ranks[0]["value"], expected["value"], rtol=tolerance, atol=0, msg=f"{loss} {rows}"
        )
        for name in expected.keys() - {"value"}:
            gradient = torch.cat([got[name] for got in of_ranks])
            gradient /= world_size if options.get("average", True) else 1
            largest = expected[name].abs().max().item()
            torch.testing.assert_close(
                gradient,
                expected[name],
                rtol=0,
                atol=tolerance * largest,
                msg=f"{loss} {rows} {bank}",
            )


def every_rule() -> list[nn.Module]:
    rules = [
        losses.TripletLoss(0.5, positives=p, negatives=n, fallback=f, distance=d, within_margin=w)
        for p, n, f, d, w in itertools.product(
            POSITIVES, NEGATIVES, FALLBACKS, DISTANCES, (False, True)
        )
    ]
    rules += [
        losses.TripletLoss(0.5, positives=p, negatives=n, distance=d)
        for p, n, d in itertools.product(POSITIVES, RANDOM, DISTANCES)
    ]
    return rules


def every_loss() -> list[nn.Module]:
    """Every class, reduction and option; every rule is elsewhere."""
    options = [{}, {"smooth": True}, {"swap": True}]
    made: list[nn.Module] = [
        losses.TripletLoss(0.5, reduction=r, negatives=n, **o)
        for r, n, o in itertools.product(REDUCTIONS, ("semihard", "random_violating"), options)
    ]
    made += [
        losses.TripletMarginLoss(0.5, triplets=k, reduction=r, smooth=s)
        for k, r, s in itertools.product(KINDS, REDUCTIONS[:3], (False, True))
    ]
    made += [
        kind(reduction=r)
        for kind, r in itertools.product((losses.SupConLoss, losses.NTXentLoss), REDUCTIONS[:3])
    ]
    return [*made, losses.TripletSemiHardLoss(), losses.TripletHardLoss(soft=True)]


@pytest.mark.parametrize("ties", [False, True])
def test_every_rule(ties: bool) -> None:
    batch = make_batch(29, torch.float64, ties=ties)
    assert_same_as_one_process([(rule, batch, [9, 0, 20], []) for rule in every_rule()])


@pytest.mark.parametrize("rows", [[14, 15], [1, 0, 28], [7, 7, 7, 8]])
def test_every_loss(rows: list[int]) -> None:
    batch = make_batch(29, torch.float64)
    assert_same_as_one_process([(loss, batch, rows, []) for loss in every_loss()])


def test_every_loss_with_a_bank_and_ids() -> None:
    batch = make_batch(29, torch.float64, bank=41, ties=True)
    assert_same_as_one_process(
        [(loss, batch, [9, 0, 20], [0, 40, 1]) for loss in every_loss() + every_rule()[::5]]
    )


@pytest.mark.parametrize("rows", [[100, 100], [3, 197]])
def test_float32(rows: list[int]) -> None:
    batch = make_batch(200, torch.float32)
    batch["embeddings"] = nn.functional.normalize(batch["embeddings"])
    assert_same_as_one_process([(loss, batch, rows, []) for loss in every_loss()])


def test_harmonic_embeddings() -> None:
    batch = make_batch(29, torch.float64, bank=23)
    del batch["anchor_ids"], batch["ref_ids"]
    cases = [
        losses.HarmonicTripletLoss(0.5, reduction=r, negatives=n)
        for r, n in itertools.product(REDUCTIONS, ("semihard", "random_violating"))
    ]
    assert_same_as_one_process([(loss, batch, [9, 0, 20], [3, 4, 16]) for loss in cases])


def test_gradients_that_are_added_up() -> None:
    batch = make_batch(29, torch.float64, bank=41)
    cases = [(loss, batch, [9, 20], [1, 40]) for loss in every_loss()[::3]]
    assert_same_as_one_process(cases, average=False)


@pytest.mark.parametrize("chunk_rows", [None, 4])
def test_one_label_on_one_rank_alone_and_batches_without_triplets(chunk_rows: int | None) -> None:
    x = make_batch(12, torch.float64)["embeddings"]
    several = [
        torch.tensor([0] * 6 + [1] * 6),
        torch.zeros(12, dtype=torch.int64),
        torch.arange(12),
    ]
    cases = [
        (loss, {"embeddings": x, "labels": labels}, [6, 6], [])
        for loss, labels in itertools.product(in_pieces(every_loss())[::4], several)
    ]
    assert_same_as_one_process(cases, chunk_rows=chunk_rows)


def mine(batch: Batch, rows: list[int], bank: list[int]) -> Any:
    rank = Ranks.of().rank
    torch.manual_seed(7 + 1000 * rank)
    mine = share(batch, rank, rows, bank)
    selected = []
    for rule in NEGATIVES + RANDOM:
        miner = DistributedMiner(TripletMiner(0.5, negatives=rule))
        triplets = miner(**mine)
        of_batch = {n: t for n, t in mine.items() if n in ("embeddings", "ref_emb")}
        loss = DistributedLoss(losses.TripletLoss(0.5))(**of_batch, indices_tuple=triplets)
        selected.append((*triplets, loss))
    return selected


@pytest.mark.parametrize("bank", [[], [20, 0, 21]])
def test_mined_triplets_and_their_loss(bank: list[int]) -> None:
    batch = make_batch(29, torch.float64, bank=sum(bank), ties=True)
    results = run(3, mine, batch, [9, 0, 20], bank)
    torch.manual_seed(7)
    for at, rule in enumerate(NEGATIVES + RANDOM):
        expected = TripletMiner(0.5, negatives=rule)(**batch)
        *got, losses_of_ranks = zip(*(result[at] for result in results), strict=True)
        for parts, whole in zip(got, expected, strict=True):
            assert torch.equal(torch.cat(parts), whole), rule
        of_batch = {n: t for n, t in batch.items() if n in ("embeddings", "ref_emb")}
        loss = losses.TripletLoss(0.5)(**of_batch, indices_tuple=expected)
        for value in losses_of_ranks:
            torch.testing.assert_close(value, loss, rtol=1e-12, atol=0)


def in_pieces(cases: list[nn.Module]) -> list[nn.Module]:
    """Those that can be computed where the candidates come round in pieces."""
    return [case for case in cases if getattr(case, "negatives", "") not in RANDOM]


@pytest.mark.parametrize(
    ("chunk_rows", "ties", "first"), [(1, False, 0), (7, True, 1), (12, True, 2), (1000, False, 0)]
)
def test_every_rule_in_pieces(chunk_rows: int, ties: bool, first: int) -> None:
    batch = make_batch(29, torch.float64, ties=ties)
    cases = in_pieces(every_rule())[first :: 9 if chunk_rows == 1 else 4]
    assert_same_as_one_process(
        [(rule, batch, [9, 0, 20], []) for rule in cases], chunk_rows=chunk_rows
    )


@pytest.mark.parametrize("rows", [[14, 15], [1, 0, 28], [7, 7, 7, 8]])
def test_every_loss_in_pieces(rows: list[int]) -> None:
    batch = make_batch(29, torch.float64)
    cases = in_pieces(every_loss())[len(rows) - 2 :: 3]
    assert_same_as_one_process([(loss, batch, rows, []) for loss in cases], chunk_rows=9)


def test_pieces_of_whole_classes_on_each_rank() -> None:
    batch = make_batch(29, torch.float64, ties=True)
    batch["labels"] = torch.arange(29) // 4
    cases = in_pieces(every_loss()[::2] + every_rule()[::9])
    assert_same_as_one_process([(loss, batch, [12, 0, 17], []) for loss in cases], chunk_rows=9)


def test_pieces_of_a_bank_and_of_old_embeddings() -> None:
    batch = make_batch(29, torch.float64, bank=41, ties=True)
    cases = in_pieces(every_loss()[1::3] + every_rule()[::9])
    sizes = [9, 0, 20], [0, 40, 1]
    assert_same_as_one_process([(loss, batch, *sizes) for loss in cases], chunk_rows=9)
    del batch["anchor_ids"], batch["ref_ids"]
    harmonic = [losses.HarmonicTripletLoss(0.5, reduction=r) for r in REDUCTIONS]
    assert_same_as_one_process([(loss, batch, *sizes) for loss in harmonic], chunk_rows=9)


def test_float32_in_pieces() -> None:
    batch = make_batch(200, torch.float32)
    batch["embeddings"] = nn.functional.normalize(batch["embeddings"])
    cases = in_pieces(every_loss())
    assert_same_as_one_process([(loss, batch, [3, 197], []) for loss in cases], chunk_rows=64)


@pytest.mark.parametrize("chunk_rows", [None, 2])
@pytest.mark.parametrize(
    "labels",
    [[1, 1, 1, 1, 1], [2, 2, 1, 1, 1], [2, 1, 1, 1, 1], [1, 1, 1, 2, 3], [2, 2, 2, 2, 2]],
    ids=lambda labels: "".join(map(str, labels)),
)
def test_a_bank_of_one_label(labels: list[int], chunk_rows: int | None) -> None:
    """Whether there is any negative is decided for the batch, and not on each rank."""
    batch = make_batch(5, torch.float64, bank=6)
    batch["labels"] = torch.tensor(labels)
    batch["ref_labels"] = torch.ones(6, dtype=torch.int64)
    cases = [
        kind(reduction=r)
        for kind, r in itertools.product((losses.SupConLoss, losses.NTXentLoss), REDUCTIONS[:3])
    ]
    for with_ids in (True, False):
        if not with_ids:
            del batch["anchor_ids"], batch["ref_ids"]
        for rows in ([2, 3], [0, 5]):
            sizes = rows, [5, 1]
            assert_same_as_one_process(
                [(loss, batch, *sizes) for loss in cases], chunk_rows=chunk_rows
            )


def without_gradients(batch: Batch, rows: list[int], bank: list[int]) -> list[Tensor]:
    mine = share(batch, Ranks.of().rank, rows, bank)
    found = []
    for loss in (losses.TripletLoss(), losses.TripletMarginLoss(), losses.SupConLoss()):
        module = DistributedLoss(loss, chunk_rows=9)
        with torch.no_grad():
            found.append(module(**mine))
        anchors = mine["embeddings"].clone().requires_grad_()
        value = module(**mine | {"embeddings": anchors})
        value.backward()
        assert anchors.grad is not None
        found += [value.detach(), anchors.grad]
    return found


def test_pieces_of_a_bank_without_gradients() -> None:
    batch = make_batch(29, torch.float64, bank=41)
    of_ranks = run(2, without_gradients, batch, [9, 20], [40, 1])
    for at, loss in enumerate(
        (losses.TripletLoss(), losses.TripletMarginLoss(), losses.SupConLoss())
    ):
        anchors = batch["embeddings"].clone().requires_grad_()
        expected = loss(**batch | {"embeddings": anchors})
        expected.backward()
        alone, value, gradient = zip(
            *(found[3 * at : 3 * at + 3] for found in of_ranks), strict=True
        )
        for got in alone + value:
            torch.testing.assert_close(got, expected.detach(), rtol=1e-12, atol=0)
        torch.testing.assert_close(torch.cat(gradient) / 2, anchors.grad, rtol=1e-10, atol=1e-12)
