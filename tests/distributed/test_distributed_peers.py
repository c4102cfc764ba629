"""What pytorch-metric-learning's wrapper computes in two processes, beside this package."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from processes import run
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from facenet_ext import TripletMarginLoss
from facenet_ext.distributed import DistributedLoss

pytest.importorskip("pytorch_metric_learning")


def theirs(efficient: bool | None) -> Any:
    """Their loss of all semi-hard triplets; None: of one process."""
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import TripletMarginLoss as Loss
    from pytorch_metric_learning.miners import TripletMarginMiner
    from pytorch_metric_learning.utils import distributed

    distance = LpDistance(p=2, power=2, normalize_embeddings=False)
    miner: Any = TripletMarginMiner(margin=0.2, type_of_triplets="semihard", distance=distance)
    loss: Any = Loss(margin=0.2, distance=distance)
    if efficient is not None:
        miner = distributed.DistributedMinerWrapper(miner, efficient=efficient)
        loss = distributed.DistributedLossWrapper(loss, efficient=efficient)
    return lambda x, y: loss(x, y, miner(x, y))


def ours() -> Any:
    return DistributedLoss(TripletMarginLoss(0.2, triplets="semihard"))


def step(which: str) -> tuple[Tensor, Tensor]:
    """The value, and the gradient of the only layer, through DDP if there is a group."""
    torch.manual_seed(0)
    network: nn.Module = nn.Linear(6, 4).double()
    x, y = torch.randn(24, 6).double(), torch.arange(24) // 3
    loss = ours() if which == "ours" else theirs({"one": None, "efficient": True}.get(which, False))
    weight = network.weight
    if dist.is_initialized():
        network = DistributedDataParallel(network)
        rows = slice(12 * dist.get_rank(), 12 * dist.get_rank() + 12)
        x, y = x[rows], y[rows]
    value = loss(network(x), y)
    value.backward()
    assert isinstance(weight.grad, Tensor)
    return value.detach(), weight.grad


def test_gradient_of_one_process_is_ours_and_not_that_of_their_efficient_wrapper() -> None:
    value, gradient = step("one")
    size = gradient.abs().max()
    for got, of_rank in run(2, step, "ours"):
        torch.testing.assert_close(got, value, rtol=1e-12, atol=0)
        assert (of_rank - gradient).abs().max() <= 1e-12 * size
    for got, of_rank in run(2, step, "theirs"):
        torch.testing.assert_close(got, 2 * value, rtol=1e-12, atol=0)
        assert (of_rank - gradient).abs().max() <= 1e-12 * size
    for _, of_rank in run(2, step, "efficient"):
        assert (of_rank - gradient).abs().max() > 0.1 * size
