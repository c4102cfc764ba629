"""The semi-hard triplet loss, forward and backward, ours and as others compute it.

Each peer is a function of ``(embeddings [N, D], labels [N])`` that returns a scalar loss, with the
squared Euclidean distance and the same margin. ``computes`` says what it computes, in words that
the tables print. `agreement.py` holds those that say :data:`SAME` to it.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks import plain_torch
from benchmarks.cases import MARGIN, Case
from benchmarks.plain_torch import Function

SAME = "the same loss"
FORWARD = "mined_triplet_loss, forward"  # the operator without its gradient
GIB = 2**30
LONGEST = 30.0  # seconds
LARGEST = 6 * GIB


@dataclass(frozen=True)
class Peer:
    """One way to compute something.

    ``bytes`` and ``seconds`` estimate a call (measured on two 2024 server cores) and serve only to
    leave out what would take more than 6 GiB or 30 s, the same on every machine, and to give slow
    calls few rounds.
    """

    name: str
    computes: str
    build: Callable[[], Function]
    bytes: Callable[[Case], float] = lambda case: 0.0
    seconds: Callable[[Case], float] = lambda case: 0.0
    backward: bool = True
    compiled: bool = False

    def __str__(self) -> str:
        return self.name

    def left_out(self, case: Case) -> str | None:
        """Why this peer is not measured on a case, if it is not."""
        if self.bytes(case) > LARGEST:
            size = self.bytes(case) / GIB
            return f"about {size:.0f} GiB" if size < 1024 else f"about {size / 1024:.0f} TiB"
        if self.seconds(case) > LONGEST:
            return f"about {self.seconds(case):.0f} s"
        return None

    def step(self, embeddings: Tensor, labels: Tensor) -> Callable[[], None]:
        """What is measured: one forward, and one backward into a fresh gradient.

        A CUDA graph can record it.
        """
        function = self.build()

        def forward() -> None:
            function(embeddings, labels)

        def forward_backward() -> None:
            torch.autograd.grad(function(embeddings, labels), embeddings)

        if self.backward:
            return forward_backward
        embeddings = embeddings.detach()
        return forward


# --- ours -------------------------------------------------------------------------------------


def of_this_library(name: str, **options: object) -> Callable[[], Function]:
    """Builds a loss of ours, imported only then: on a GPU's machine it has to be compiled first."""
    return lambda: getattr(importlib.import_module("facenet_ext"), name)(margin=MARGIN, **options)


# --- libraries --------------------------------------------------------------------------------


def _pytorch_metric_learning() -> Function:
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.miners import TripletMarginMiner

    distance = LpDistance(p=2, power=2, normalize_embeddings=False)
    miner = TripletMarginMiner(margin=MARGIN, type_of_triplets="semihard", distance=distance)
    loss = TripletMarginLoss(margin=MARGIN, distance=distance)
    return lambda x, labels: loss(x, labels, miner(x, labels))


def _sentence_transformers() -> Function:
    from sentence_transformers.sentence_transformer.losses import (
        BatchHardTripletLossDistanceFunction,
        BatchSemiHardTripletLoss,
    )

    def distance(x: Tensor) -> Tensor:
        return BatchHardTripletLossDistanceFunction.euclidean_distance(x, squared=True)

    loss = BatchSemiHardTripletLoss(torch.nn.Identity(), distance, MARGIN)
    return lambda x, labels: loss.batch_semi_hard_triplet_loss(labels, x)


# --- the floor --------------------------------------------------------------------------------


def _mm_into() -> Function:
    product = torch.empty(0)

    def mm(x: Tensor, labels: Tensor) -> Tensor:
        product.resize_(len(x), len(x))
        return torch.mm(x, x.T, out=product)

    return mm


OURS = Peer("facenet_ext", SAME, of_this_library("TripletSemiHardLoss"))
BOUNDED = "facenet_ext, max_per_class"


def bounded(per_class: int) -> Peer:
    """Ours, given the largest class size, so that the host does not wait for the GPU."""
    build = of_this_library("TripletSemiHardLoss", max_per_class=per_class)
    return Peer(BOUNDED, SAME, build)


MM = Peer(
    "torch.mm(x, x.T)",
    "one matrix product, forward only: the floor",
    lambda: lambda x, labels: torch.mm(x, x.T),
    bytes=lambda case: 4.0 * case.n**2,
    backward=False,
)
MM_INTO = Peer(
    "torch.mm(x, x.T, out=)",
    "the product into memory that is already there",
    _mm_into,
    bytes=lambda case: 4.0 * case.n**2,
    backward=False,
)
SORT = Peer(
    "sort + searchsorted",
    SAME,
    plain_torch.sort,
    bytes=lambda case: 22.0 * case.n**2,
    seconds=lambda case: 50e-9 * case.n**2,
)
COMPILED_SORT = Peer(
    "sort, torch.compile",
    SAME,
    plain_torch.compiled_sort,
    bytes=lambda case: 22.0 * case.n**2,
    seconds=lambda case: 50e-9 * case.n**2,
    compiled=True,
)
COMPILED_MINIMUM = Peer(
    "masked minimum, torch.compile",
    SAME,
    plain_torch.compiled_minimum,
    bytes=lambda case: 12.0 * case.n**2,
    seconds=lambda case: (20e-9 + 2e-9 * case.per_class) * case.n**2,
    compiled=True,
)
SENTENCE_TRANSFORMERS = Peer(
    "sentence-transformers",
    SAME,
    _sentence_transformers,
    bytes=lambda case: 64.0 * case.n**2,
    seconds=lambda case: 150e-9 * case.n**2,
)
METRIC_LEARNING = Peer(
    "pytorch-metric-learning",
    "all negatives within the margin, not the closest; mean of the non-zero",
    _pytorch_metric_learning,
    bytes=lambda case: 57.0 * case.triplets + (case.n**3 if case.n < 1291 else 0),
    seconds=lambda case: 100e-9 * case.triplets,
)
ADDONS = Peer(
    "TensorFlow-Addons' algorithm",
    SAME,
    plain_torch.tensorflow_addons,
    bytes=lambda case: 17.0 * case.n**3,
    seconds=lambda case: 15e-9 * case.n**3,
)

PEERS = (
    OURS,
    MM,
    MM_INTO,
    COMPILED_MINIMUM,
    COMPILED_SORT,
    SORT,
    SENTENCE_TRANSFORMERS,
    METRIC_LEARNING,
    ADDONS,
)
