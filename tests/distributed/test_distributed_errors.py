"""An error of one rank, or ranks that do not fit together, end every rank with the reason."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torch.distributed as dist
from processes import run
from torch import nn

from facenet_ext import (
    HarmonicTripletLoss,
    SupConLoss,
    TripletLoss,
    TripletMarginLoss,
    TripletMiner,
    TripletSemiHardLoss,
)
from facenet_ext.distributed import DistributedLoss, DistributedMiner


def message(calls: list[tuple[nn.Module, dict[str, Any]]], options: Any = None) -> str:
    """What the call of this rank, the first or, on rank 1, the second, raises."""
    loss, arguments = calls[dist.get_rank() == 1]
    module = DistributedLoss(loss, **(options or {}))
    try:
        module(**arguments)
    except (ValueError, TypeError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def call(loss: nn.Module | None = None, rows: int = 4, columns: int = 3, **rest: Any) -> Any:
    arguments = {"embeddings": torch.ones(rows, columns), "labels": torch.arange(rows) // 2}
    return loss or TripletSemiHardLoss(), {
        n: v for n, v in (arguments | rest).items() if v is not None
    }


FITS_NOT = {
    "columns": (
        call(columns=4),
        "embeddings: .* got 3 columns .* on rank 0 and 4 columns .* on rank 1",
    ),
    "dtype": (
        call(embeddings=torch.ones(4, 3).double()),
        "embeddings: .*float32 on rank 0 .*float64 on rank 1",
    ),
    "options": (
        call(TripletSemiHardLoss(0.3)),
        r"loss: .*margin=0.2.* rank 0 .*margin=0.3.* rank 1",
    ),
    "a loss": (call(SupConLoss()), "loss: .* TripletSemiHardLoss.* rank 0 and SupConLoss.* rank 1"),
    "labels": (
        call(labels=torch.arange(3)),
        "labels: expected one per row of embeddings, 4, got 3",
    ),
    "no labels": (
        call(labels=None),
        "labels: expected one per row of embeddings, or indices_tuple",
    ),
    "integers": (call(labels=torch.ones(4)), "labels: expected integers"),
    "no matrix": (call(embeddings=torch.ones(4)), "embeddings: expected a matrix"),
    "a bank": (
        call(ref_emb=torch.ones(2, 3), ref_labels=torch.arange(2)),
        "the arguments: .* got labels on rank 0 and labels, ref_emb, ref_labels on rank 1",
    ),
    "a gradient": (
        call(embeddings=torch.ones(4, 3, requires_grad=True)),
        "the gradient of embeddings: .* got not needed on rank 0 and needed on rank 1",
    ),
}


@pytest.mark.parametrize("what", FITS_NOT)
def test_every_rank_says_what_does_not_fit(what: str) -> None:
    wrong, expected = FITS_NOT[what]
    for rank, got in enumerate(run(3, message, [call(), wrong])):
        assert re.search(f"(?s){expected}", got), got
        if "expected the same" not in got:
            assert ("rank 1: " in got) == (rank != 1)


def test_unequal_rows_where_equal_ones_were_promised() -> None:
    for got in run(2, message, [call(), call(rows=6)], {"equal_rows": True}):
        assert re.search("embeddings: .* 4 rows .* rank 0 and 6 rows .* rank 1", got)


def test_error_within_the_operator_ends_every_rank() -> None:
    loss = TripletLoss(max_per_class=1)
    for got in run(2, message, [call(loss), call(loss)]):
        assert "max_per_class" in got
    triplets = torch.tensor([0]), torch.tensor([1]), torch.tensor([99])
    for got in run(
        2,
        message,
        [call(indices_tuple=tuple(t[:0] for t in triplets)), call(indices_tuple=triplets)],
    ):
        assert "triplets.negative: expected rows in [0, 8), got 99" in got


def test_one_process_without_a_group_is_the_loss_alone() -> None:
    x, y = torch.randn(6, 3), torch.arange(6) // 2
    assert torch.equal(DistributedLoss(TripletMarginLoss())(x, y), TripletMarginLoss()(x, y))
    old = torch.randn(6, 3)
    loss = HarmonicTripletLoss()
    assert torch.equal(DistributedLoss(loss)(x, y, ref_emb=old), loss(x, y, ref_emb=old))
    for got, expected in zip(
        DistributedMiner(TripletMiner())(x, y), TripletMiner()(x, y), strict=True
    ):
        assert torch.equal(got, expected)


def test_what_is_not_of_this_package_is_refused() -> None:
    class Other(TripletLoss):
        def forward(self, *arguments: Any, **named: Any) -> Any:
            return super().forward(*arguments, **named)

    for loss in (nn.Identity(), Other()):
        with pytest.raises(TypeError, match="loss: expected a loss of facenet_ext"):
            DistributedLoss(loss)
    with pytest.raises(TypeError, match="miner: expected one of facenet_ext, got Identity"):
        DistributedMiner(nn.Identity())


def test_what_cannot_come_round_in_pieces_is_refused() -> None:
    with pytest.raises(ValueError, match="expected None with negatives='random_semihard'"):
        DistributedLoss(TripletLoss(negatives="random_semihard"), chunk_rows=8)
    with pytest.raises(ValueError, match=r"chunk_rows: expected a whole number from 1, .* got 0"):
        DistributedLoss(TripletSemiHardLoss(), chunk_rows=0)


def test_triplets_are_refused_where_candidates_come_round_in_pieces() -> None:
    given = call(indices_tuple=(torch.tensor([0]),) * 3)
    for got in run(2, message, [given, given], {"chunk_rows": 4}):
        assert "indices_tuple: expected None with chunk_rows" in got


def test_options_are_shown() -> None:
    shown = str(DistributedLoss(TripletSemiHardLoss(), average=False))
    assert "average=False, equal_rows=False, chunk_rows=None" in shown
    assert "TripletSemiHardLoss(margin=0.2" in shown
