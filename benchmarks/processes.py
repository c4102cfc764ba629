"""The loss of a batch that two processes share, ours and as others compute it."""

import functools
import multiprocessing
import tempfile
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks.cases import MARGIN, Case
from benchmarks.peers import OURS, SAME, Peer
from benchmarks.plain_torch import Function

OPERATOR = "distributed_loss"
CASES = (Case(1024, 4), Case(8192, 4))
PROCESSES = 2


class SharedPeer(Peer):
    """A loss whose batch is split over processes of one thread each, one step in all of them."""

    def step(self, embeddings: Tensor, labels: Tensor) -> Callable[[], None]:
        return Team(self.build, embeddings.detach(), labels).step


class Team:
    """Processes that wait for a word to compute a step. They end with the team."""

    def __init__(
        self,
        build: Callable[[], Function],
        embeddings: Tensor,
        labels: Tensor,
        processes: int = PROCESSES,
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        folder = tempfile.TemporaryDirectory()
        self.ends: list[Connection] = []
        workers: list[Any] = []
        # Whole classes, as MPerClassSampler gives them out, in the order of the batch.
        for rank, part in enumerate(labels.argsort(stable=True).chunk(processes)):
            rows = part.sort().values
            end, other = context.Pipe()
            share = embeddings[rows].numpy(), labels[rows].numpy()
            worker = context.Process(
                target=_work, args=(other, rank, processes, folder.name, build, share), daemon=True
            )
            worker.start()
            self.ends.append(end)
            workers.append(worker)
        weakref.finalize(self, _end, workers, folder)
        self.step()

    def step(self) -> None:
        """A forward and a backward of every process."""
        for end in self.ends:
            end.send(None)
        for end in self.ends:
            if error := end.recv():
                raise RuntimeError(error)


def _end(workers: list[Any], folder: Any) -> None:
    for worker in workers:
        worker.kill()
        worker.join()
    folder.cleanup()


def _work(end: Connection, rank: int, processes: int, folder: str, build: Any, share: Any) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(Path(folder, "store")), processes)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=processes)
    embeddings, labels = map(torch.from_numpy, share)
    embeddings.requires_grad_()
    function = build()
    while True:
        end.recv()
        try:
            torch.autograd.grad(function(embeddings, labels), embeddings)
            end.send(None)
        except Exception as error:
            end.send(repr(error))


def own_loss() -> Function:
    """Ours of a batch that processes share, with as many rows each, as the peers need them."""
    from facenet_ext import TripletSemiHardLoss
    from facenet_ext.distributed import DistributedLoss

    return DistributedLoss(TripletSemiHardLoss(margin=MARGIN), equal_rows=True)


def _metric_learning(efficient: bool) -> Function:
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.miners import TripletMarginMiner
    from pytorch_metric_learning.utils.distributed import (
        DistributedLossWrapper,
        DistributedMinerWrapper,
    )

    distance = LpDistance(p=2, power=2, normalize_embeddings=False)
    miner = DistributedMinerWrapper(
        TripletMarginMiner(margin=MARGIN, type_of_triplets="semihard", distance=distance),
        efficient=efficient,
    )
    loss = DistributedLossWrapper(
        TripletMarginLoss(margin=MARGIN, distance=distance), efficient=efficient
    )
    return lambda x, labels: loss(x, labels, miner(x, labels))


def _peer(efficient: bool, computes: str) -> Peer:
    return SharedPeer(
        f"pytorch-metric-learning's wrapper{', efficient' * efficient}, {PROCESSES} processes",
        computes,
        functools.partial(_metric_learning, efficient),
        bytes=lambda case: PROCESSES * (57.0 * case.triplets + case.n**3),
        seconds=lambda case: 200e-9 * case.triplets,
    )


SHARED = SharedPeer(f"facenet_ext, {PROCESSES} processes of 1 thread", SAME, own_loss)
METRIC_LEARNING = _peer(False, "every process the whole batch; its value is twice the loss")
PEERS = (
    SHARED,
    OURS,
    METRIC_LEARNING,
    _peer(True, "own anchors; other ranks' rows get no gradient, so it is another one"),
)
