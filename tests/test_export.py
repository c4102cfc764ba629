"""torch.export with dynamic batches, and torch.compile(dynamic=True) in one graph for all sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from helpers import make_batch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.export import Dim, export
from torch.utils._pytree import tree_leaves

from facenet_ext.functional import mined_triplet_loss, pairwise_squared_distance
from facenet_ext.losses import (
    NTXentLoss,
    SupConLoss,
    TripletHardLoss,
    TripletLoss,
    TripletMarginLoss,
    TripletSemiHardLoss,
)
from facenet_ext.miners import TripletMiner


class Function(torch.nn.Module):
    """A function as a module, which torch.export asks for."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> Any:
        return self.function(*args)


class Training(torch.nn.Module):
    """A small model and its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4))
        self.loss = TripletSemiHardLoss(margin=0.3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.loss(torch.nn.functional.normalize(self.layers(x)), y)


class Mining(torch.nn.Module):
    """A miner, then a loss: the number of triplets in between depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.miner, self.loss = TripletMiner(fallback="drop"), TripletLoss()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.loss(x, y, self.miner(x, y))


# Of a batch x, y; a new module is one more entry.
OF_A_BATCH: dict[str, Callable[[], torch.nn.Module]] = {
    "semi-hard": TripletSemiHardLoss,
    "hard": lambda: TripletHardLoss(soft=True, distance="cosine"),
    "bounded": lambda: TripletLoss(max_per_class=4, reduction="mean_nonzero"),
    "none": lambda: TripletLoss(reduction="none", within_margin=True),
    "over all triplets": TripletMarginLoss,
    "supcon": SupConLoss,
    "miner": TripletMiner,
    "miner and loss": Mining,
    "model and loss": Training,
    "labels of int32": lambda: Function(lambda x, y: mined_triplet_loss(x, y.int())),
    "distances": lambda: Function(lambda x, y: pairwise_squared_distance(x)),
}
# Of x, y and a bank c, z.
OF_A_BANK: dict[str, Callable[[], torch.nn.Module]] = {
    "semi-hard from a bank": lambda: FromBank(TripletSemiHardLoss()),
    "bounded from a bank": lambda: FromBank(TripletHardLoss(max_per_class=4)),
    "ntxent from a bank": lambda: FromBank(NTXentLoss()),
    "miner from a bank": lambda: FromBank(TripletMiner()),
    "distances to a bank": lambda: Function(lambda x, y, c, z: pairwise_squared_distance(x, c)),
}


class FromBank(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, y: Tensor, c: Tensor, z: Tensor) -> Any:
        return self.inner(x, y, ref_emb=c, ref_labels=z)


def batch(name: str, rows: int) -> list[Tensor]:
    x, y = make_batch("quads", rows, 5)
    return [x, y] if name in OF_A_BATCH else [x, y, *make_batch("quads", rows + 7, 5, seed=1)]


def assert_same(actual: Any, expected: Any) -> None:
    for a, e in zip(tree_leaves(actual), tree_leaves(expected), strict=True):
        torch.testing.assert_close(a, e, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", OF_A_BATCH | OF_A_BANK)
def test_it_exports_for_batches_of_every_size(name: str, strict: bool) -> None:
    module = (OF_A_BATCH | OF_A_BANK)[name]().eval()
    rows, bank_rows = Dim("rows", min=2), Dim("bank_rows", min=2)
    example = batch(name, 24)
    sizes = [{0: rows}, {0: rows}, {0: bank_rows}, {0: bank_rows}][: len(example)]
    # What a function of *args is given is one tuple.
    dynamic = (tuple(sizes),) if isinstance(module, Function) else tuple(sizes)
    program = export(module, tuple(example), dynamic_shapes=dynamic, strict=strict).module()
    for size in (24, 31, 60):
        inputs = batch(name, size)
        assert_same(program(*inputs), module(*inputs))


@pytest.fixture
def dynamic_sizes() -> Iterator[None]:
    """What torch asks for where a size depends on the data; and no graph of another test."""
    torch._dynamo.reset()
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        yield
    torch._dynamo.reset()


@pytest.mark.parametrize("name", OF_A_BATCH | OF_A_BANK)
def test_it_compiles_once_for_batches_of_every_size(name: str, dynamic_sizes: None) -> None:
    module = (OF_A_BATCH | OF_A_BANK)[name]()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend=counter)
    counts = []
    for size in (12, 20, 13, 64, 33):
        inputs = [t.requires_grad_() if t.is_floating_point() else t for t in batch(name, size)]
        result = compiled(*inputs)
        assert_same(result, module(*inputs))
        if isinstance(result, Tensor):
            result.sum().backward()
        counts.append(counter.frame_count)
    assert counts == counts[:1] * 5


def test_a_training_step_compiles_once_and_trains(dynamic_sizes: None) -> None:
    """Without dynamic=True: the second size makes sizes dynamic, and no other compiles again."""
    model = Training()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    counts = []
    for size in (24, 32, 12, 60, 45):
        optimizer.zero_grad()
        compiled(*batch("model and loss", size)).backward()
        optimizer.step()
        counts.append(counter.frame_count)
    assert counts[1:] == counts[1:2] * 4
    assert all(p.grad is not None and p.grad.any() for p in model.layers[0].parameters())
