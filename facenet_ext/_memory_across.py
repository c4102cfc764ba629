"""A step with a memory that the processes of a group share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from facenet_ext import _validation as check
from facenet_ext._across import Across
from facenet_ext._gathering import Side
from facenet_ext._ranks import Ranks
from facenet_ext._selection import select
from facenet_ext._whole_batch import Exchange

if TYPE_CHECKING:
    from facenet_ext.memory import CrossBatchMemory

__all__ = ["loss_across"]


def loss_across(
    memory: CrossBatchMemory,
    ranks: Ranks,
    embeddings: Tensor,
    labels: Tensor,
    ids: Tensor | None,
    enqueue: bool | Tensor,
    anchors: bool,
) -> Tensor:
    """Enqueues the rows of all ranks; with ``anchors``, returns the loss of all of them."""
    masked = isinstance(enqueue, Tensor)
    miner: Any = memory.miner
    loss: Any = memory.loss
    rule: Any = getattr(miner or loss, "rule", None)
    exchange = Exchange(
        Across(ranks, average=True),
        memory._agreement,
        {
            "the memory": memory,
            "ids": "none" if ids is None else "given",
            "enqueue": "booleans" if masked else enqueue,
        },
        rule.negatives if rule is not None and anchors else "",
    )

    def sides() -> list[Side]:
        integers = [memory._check(embeddings, labels)]
        mask = memory._mask(enqueue, embeddings)
        if ids is not None:
            integers.append(check.check_integers("ids", ids, "embeddings", embeddings))
        if mask is not None:
            integers.append(mask.long())
        return [Side("embeddings", embeddings.detach(), tuple(integers))]

    received = exchange.receive(sides)
    of_all = received.gathered[0]
    all_labels, *rest = of_all.integers
    mask = rest.pop().bool() if masked else None
    all_ids = memory._ids_of(of_all.rows, rest[0] if rest else None, mask)
    new: Any = slice(None if enqueue else 0) if mask is None else mask.nonzero().squeeze(1)
    put_back = memory._write(of_all.rows[new], all_labels[new], all_ids[new])
    if not anchors:
        return embeddings
    try:
        rows = received.rows(0)
        candidates = memory._stored()
        batch, stored = check.check_pair("embeddings", embeddings, "the memory", candidates[0])
        own = check.Batch(
            batch, all_labels[rows], stored, candidates[1], all_ids[rows], candidates[2]
        )
        own = exchange.placed(own, rows, received.seed)
        result: Tensor
        if miner is None:
            result = loss._of_batch(own)
            return result
        triplets = select(own, rule)[:3]
        result = loss._of_triplets(own.emb, triplets, own.ref_emb, exchange.across)
        return result
    except BaseException:
        put_back()
        raise
