"""One memory of all ranks: the loss of one process, and the same bits on every rank."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from processes import run
from torch import Tensor, nn

from facenet_ext import CrossBatchMemory, TripletLoss, TripletMarginLoss, TripletMiner

Step = dict[str, Any]


def steps(dtype: torch.dtype) -> list[Step]:
    g = torch.Generator().manual_seed(1)
    made: list[Step] = []
    for at in range(5):
        x = torch.randn(12, 4, generator=g, dtype=torch.float64).to(dtype)
        made.append({"embeddings": x, "labels": torch.randint(4, (12,), generator=g)})
        if at == 2:
            made[-1]["enqueue"] = torch.rand(12, generator=g) > 0.5
        if at == 3:
            made[-1]["enqueue"] = False
    return made


def remember(
    make: tuple[Any, ...], batches: list[Step], with_ids: bool, sizes: list[int] | None
) -> list[Any]:
    """Each step's value and gradient, and the memory at the end, of this rank or of one process."""
    rank = dist.get_rank() if sizes else 0
    loss, miner, size = make
    memory = CrossBatchMemory(loss, 4, size, miner, group=dist.group.WORLD if sizes else None)
    results: list[Any] = []
    torch.manual_seed(3 + rank)
    for at, step in enumerate(batches):
        mine = dict(step)
        if with_ids:
            mine["ids"] = torch.arange(12) + 6 * at
        if sizes:
            mine = {
                n: v.split(sizes)[rank] if isinstance(v, Tensor) else v for n, v in mine.items()
            }
        x = mine.pop("embeddings").clone().requires_grad_()
        if at == 0:
            memory.enqueue(x.detach() + 1, mine["labels"], ids=mine.get("ids"))
        value = memory(x, **mine)
        value.backward()
        results.append((value.detach(), x.grad))
    return [results, memory.embeddings, memory.labels, memory.ids, len(memory)]


@pytest.mark.parametrize("size", [7, 64])
@pytest.mark.parametrize("with_ids", [False, True])
@pytest.mark.parametrize(
    ("loss", "miner"),
    [
        (TripletLoss(0.5), None),
        (TripletLoss(0.5, negatives="random_violating"), None),
        (TripletLoss(0.5, swap=True), None),
        (TripletMarginLoss(0.5), TripletMiner(0.5, negatives="hardest")),
    ],
)
def test_memory_of_all_ranks_is_that_of_one_process(
    loss: nn.Module, miner: nn.Module | None, with_ids: bool, size: int
) -> None:
    make = loss, miner, size
    batches = steps(torch.float64)
    expected, *memory = remember(make, batches, with_ids, None)
    results = run(3, remember, make, batches, with_ids, [5, 0, 7])
    for _, *stored in results:
        for got, whole in zip(stored, memory, strict=True):
            assert torch.equal(torch.as_tensor(got), torch.as_tensor(whole))
    for at, (value, gradient) in enumerate(expected):
        of_ranks = [result[0][at] for result in results]
        for got, _ in of_ranks:
            torch.testing.assert_close(got, value, rtol=1e-12, atol=0)
        whole = torch.cat([g for _, g in of_ranks]) / 3
        torch.testing.assert_close(
            whole, gradient, rtol=0, atol=1e-12 * gradient.abs().max().item()
        )


def keep_after_failure() -> tuple[str, int]:
    memory = CrossBatchMemory(TripletLoss(max_per_class=1), 2, 8, group=dist.group.WORLD)
    x, y = torch.randn(3, 2), torch.tensor([0, 0, 1])
    try:
        memory(x, y)
    except RuntimeError as error:
        return str(error), len(memory)
    return "", len(memory)


def test_failed_call_leaves_the_memory_as_it_was() -> None:
    for message, rows in run(2, keep_after_failure):
        assert "max_per_class" in message
        assert rows == 0


def test_other_losses_are_refused_with_a_group() -> None:
    with pytest.raises(TypeError, match="loss: expected one of facenet_ext"):
        CrossBatchMemory(nn.Identity(), 4, group=object())
    with pytest.raises(TypeError, match="miner: expected one of facenet_ext"):
        CrossBatchMemory(TripletLoss(), 4, miner=nn.Identity(), group=object())
