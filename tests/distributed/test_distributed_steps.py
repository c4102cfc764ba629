"""A training step of W processes is that of one: through DDP, FSDP, accumulation and the rest."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
import torch.distributed as dist
from processes import run
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from facenet_ext import SupConLoss, TripletMarginLoss, TripletSemiHardLoss
from facenet_ext.distributed import DistributedLoss
from facenet_ext.micro_batches import embed_in_micro_batches

ROWS = 24


def make_network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4), nn.Tanh()).to(dtype)


def make_data(dtype: torch.dtype = torch.float64, batches: int = 1) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(2)
    x = torch.randn(batches, ROWS, 6, generator=g, dtype=torch.float64).to(dtype)
    return x, torch.arange(ROWS).div(3, rounding_mode="floor").expand(batches, ROWS)


def mine(whole: Tensor) -> Tensor:
    """This rank's rows of [ROWS, ...], fewer of them on each rank than on the next."""
    world_size, rank = dist.get_world_size(), dist.get_rank()
    ends = [round(ROWS * (at / world_size) ** 2) for at in range(world_size + 1)]
    return whole[ends[rank] : ends[rank + 1]]


def gradients(network: nn.Module) -> list[Tensor]:
    def whole(g: Tensor) -> Tensor:
        return g.full_tensor() if hasattr(g, "full_tensor") else g  # type: ignore[no-any-return]

    return [whole(p.grad) for p in network.parameters() if p.grad is not None]


def assert_gradients_equal(got: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """Equal up to a part of the largest entry: a bias's gradient is a sum that cancels."""
    assert len(got) == len(expected) > 0
    largest = max(e.abs().max().item() for e in expected)
    for g, e in zip(got, expected, strict=True):
        torch.testing.assert_close(g, e, rtol=0, atol=tolerance * largest)


def wrapped_step(how: str, dtype: torch.dtype) -> list[Tensor]:
    network: Any = make_network(dtype)
    if how == "fully_shard":
        fully_shard(network[0])
        fully_shard(network)
    else:
        network = DistributedDataParallel(network)
    (x,), (y,) = make_data(dtype)
    DistributedLoss(TripletSemiHardLoss())(network(mine(x)), mine(y)).backward()
    return gradients(network)


@pytest.mark.parametrize("world_size", [2, 3, 4])
@pytest.mark.parametrize("how", ["ddp", "fully_shard"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_parameter_gradients_are_those_of_one_process(
    how: str, world_size: int, dtype: torch.dtype, tolerance: float
) -> None:
    network = make_network(dtype)
    (x,), (y,) = make_data(dtype)
    TripletSemiHardLoss()(network(x), y).backward()
    for got in run(world_size, wrapped_step, how, dtype):
        assert_gradients_equal(got, gradients(network), tolerance)


def adamw_steps(steps: int) -> list[Tensor]:
    network: Any = make_network()
    if dist.is_initialized():
        network = DistributedDataParallel(network)
    loss = DistributedLoss(TripletSemiHardLoss())
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for x, y in zip(*make_data(batches=steps), strict=True):
        rows, labels = (mine(x), mine(y)) if dist.is_initialized() else (x, y)
        optimizer.zero_grad()
        loss(network(rows), labels).backward()
        optimizer.step()
    return [parameter.detach() for parameter in network.parameters()]


def test_steps_of_an_optimizer_that_divides_by_the_gradient() -> None:
    expected = adamw_steps(5)
    for got in run(2, adamw_steps, 5):
        for g, e in zip(got, expected, strict=True):
            torch.testing.assert_close(g, e, rtol=0, atol=1e-10)


def accumulated_step(size: int) -> tuple[list[Tensor], dict[str, int]]:
    network = DistributedDataParallel(make_network())
    loss = DistributedLoss(TripletSemiHardLoss())
    x, y = make_data(batches=3)
    with counted_bytes() as sent:
        for at in range(3):
            last = at == 2
            with contextlib.nullcontext() if last else network.no_sync():
                embeddings = embed_in_micro_batches(network, mine(x[at]), size)
                (loss(embeddings, mine(y[at])) / 3).backward()
    return gradients(network), {name: count for name, (count, _) in sent.items()}


@pytest.mark.parametrize("size", [ROWS, 5])
def test_accumulation_and_micro_batches(size: int) -> None:
    network = make_network()
    x, y = make_data(batches=3)
    for at in range(3):
        (TripletSemiHardLoss()(network(x[at]), y[at]) / 3).backward()
    for got, calls in run(2, accumulated_step, size):
        assert_gradients_equal(got, gradients(network), 1e-12)
        # Counts and rows of each batch, whatever the parts it was embedded in.
        assert calls["all_gather"] == 6
        assert calls["reduce_scatter"] == 3


@contextlib.contextmanager
def counted_bytes() -> Any:
    """Collectives of DistributedLoss within: {name: [calls, bytes that this rank passes]}."""
    from facenet_ext._ranks import Ranks

    sent: dict[str, list[int]] = {}
    before = {name: getattr(Ranks, name) for name in ("all_gather", "all_reduce", "reduce_scatter")}

    def counting(name: str) -> Any:
        def call(ranks: Ranks, tensor: Tensor, *rest: Any) -> Any:
            entry = sent.setdefault(name, [0, 0])
            entry[0] += 1
            entry[1] += tensor.numel() * tensor.element_size()
            return before[name](ranks, tensor, *rest)

        return call

    for name in before:
        setattr(Ranks, name, counting(name))
    try:
        yield sent
    finally:
        for name, method in before.items():
            setattr(Ranks, name, method)


def step_in_bytes(equal_rows: bool, calls: int) -> dict[str, list[int]]:
    x = torch.randn(32, 16, requires_grad=True)
    y = torch.arange(32) // 2
    loss = DistributedLoss(TripletSemiHardLoss(), equal_rows=equal_rows)
    loss(x, y)
    with counted_bytes() as sent:
        for _ in range(calls):
            loss(x, y).backward()
    return dict(sent)


def test_bytes_that_a_step_sends() -> None:
    rows = 32 * (16 * 4 + 8)  # float32 and a label
    gradients_of_all = 2 * 32 * 16 * 4
    for sent in run(2, step_in_bytes, True, 1):
        assert sent == {
            "all_gather": [1, rows],
            "all_reduce": [1, 4 * 8],  # the sum, two counts, and whether a rank failed
            "reduce_scatter": [1, gradients_of_all],
        }
    for sent in run(2, step_in_bytes, False, 1):
        assert sent["all_gather"] == [2, rows + 4 * 8]  # and numbers of rows


def compiled_step() -> list[Tensor]:
    network = make_network()
    loss = DistributedLoss(TripletSemiHardLoss())
    (x,), (y,) = make_data()

    @torch.compile(backend="aot_eager")
    def step(inputs: Tensor, labels: Tensor) -> Tensor:
        return loss(network(inputs), labels) * 2

    step(mine(x), mine(y)).backward()
    grads = gradients(network)
    for grad in grads:
        dist.all_reduce(grad)
    return [grad / 2 / dist.get_world_size() for grad in grads]


def test_compiled_around_the_loss() -> None:
    network = make_network()
    (x,), (y,) = make_data()
    TripletSemiHardLoss()(network(x), y).backward()
    for got in run(2, compiled_step):
        assert_gradients_equal(got, gradients(network), 1e-12)


def autocast_step() -> tuple[Tensor, torch.dtype, list[int]]:
    network = DistributedDataParallel(make_network(torch.float32))
    (x,), (y,) = make_data(torch.float32)
    with counted_bytes() as sent, torch.autocast("cpu", torch.bfloat16):
        embeddings = network(mine(x))
        value = DistributedLoss(TripletMarginLoss())(embeddings, mine(y))
    value.backward()
    return value.detach(), embeddings.dtype, [sent["all_gather"][1], *gradients(network)[0].shape]


def test_rows_travel_in_half_precision_under_autocast() -> None:
    network = make_network(torch.float32)
    (x,), (y,) = make_data(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        expected = TripletMarginLoss()(network(x), y)
    for value, dtype, (sent, *_) in run(2, autocast_step):
        assert dtype == torch.bfloat16
        assert sent == 4 * 8 + 18 * (4 * 2 + 8)  # as many as the rank with the most rows has
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)


def scaled_step(infinite_on: int) -> tuple[bool, float]:
    network = DistributedDataParallel(make_network(torch.float32))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    (x,), (y,) = make_data(torch.float32)
    inputs = mine(x).clone()
    if dist.get_rank() == infinite_on:
        inputs[0, 0] = torch.inf
    before = [p.detach().clone() for p in network.parameters()]
    value = DistributedLoss(TripletSemiHardLoss())(network(inputs) / inputs[:, :1], mine(y))
    scaler.scale(value).backward()
    scaler.step(optimizer)
    scaler.update()
    same = all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    return same, scaler.get_scale()


def test_infinity_of_one_rank_skips_the_step_on_all() -> None:
    assert run(2, scaled_step, 1) == [(True, 512.0)] * 2
    assert run(2, scaled_step, 7) == [(False, 1024.0)] * 2


def nan_on(rank: int, loss: nn.Module, chunk_rows: int | None) -> tuple[float, bool]:
    x = torch.randn(6, 3, requires_grad=True)
    with torch.no_grad():
        if dist.get_rank() == rank:
            x[4, 1] = torch.nan
    y = torch.arange(6)  # no triplet at all
    value = DistributedLoss(loss, chunk_rows=chunk_rows)(x, y)
    value.backward()
    assert x.grad is not None
    return value.item(), bool(x.grad.isnan().all())


@pytest.mark.parametrize("chunk_rows", [None, 4])
@pytest.mark.parametrize("loss", [TripletSemiHardLoss(), TripletMarginLoss(), SupConLoss()])
def test_nan_anywhere_makes_every_loss_nan(loss: nn.Module, chunk_rows: int | None) -> None:
    for value, gradient in run(3, nan_on, 1, loss, chunk_rows):
        assert value != value
        assert gradient


def twice(world: int) -> list[Tensor]:
    torch.manual_seed(dist.get_rank())
    x = torch.randn(200, 32, requires_grad=True)
    y = torch.arange(200) // 4
    loss = DistributedLoss(TripletSemiHardLoss())
    result = []
    for _ in range(2):
        x.grad = None
        value = loss(x, y)
        value.backward()
        assert x.grad is not None
        result += [value.detach(), x.grad]
    return result


def test_same_bits_on_every_rank_and_in_every_run() -> None:
    runs = [run(3, twice, 3) for _ in range(2)]
    for of_ranks in zip(*runs, strict=True):
        for value, gradient, again, gradient_again in of_ranks:
            assert torch.equal(value, again)
            assert torch.equal(value, runs[0][0][0])
            assert torch.equal(gradient, gradient_again)
        assert torch.equal(of_ranks[0][1], of_ranks[1][1])
