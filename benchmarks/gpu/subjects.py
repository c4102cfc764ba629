"""What is timed: ways to compute an operator, ours and the peers, each on a batch of a case.

"step" is the semi-hard loss, forward and backward; "mining" its forward alone, without a gradient;
"distances" all squared distances.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks import peers
from benchmarks.cases import MARGIN
from benchmarks.gpu.accelerator import Accelerator, Call
from benchmarks.gpu.cases import BYTES, Case

Build = Callable[[Case, Accelerator], Callable[[Tensor, Tensor], Call]]
"""Of a case and a device: what makes a call out of embeddings and labels."""

OURS = "facenet_ext"
MM = "torch.mm(x, x.T)"
CDIST = "torch.cdist(x, x)"
SORT = peers.SORT.name
METRIC_LEARNING = peers.METRIC_LEARNING.name
SENTENCE_TRANSFORMERS = peers.SENTENCE_TRANSFORMERS.name

GRAPH = "graph"
EAGER = "eager"
BOUNDED = "eager, max_per_class"


@dataclass(frozen=True)
class Subject:
    """Someone's way to compute an operator, in a mode: called eagerly or replayed from a graph."""

    operator: str
    who: str
    mode: str
    build: Build
    output_bytes: Callable[[Case], int] = lambda case: 0


def _ours_step(bounded: bool) -> Build:
    def build(case: Case, accelerator: Accelerator) -> Callable[[Tensor, Tensor], Call]:
        from facenet_ext import TripletSemiHardLoss

        loss = TripletSemiHardLoss(MARGIN, max_per_class=case.per_class if bounded else None)

        def of(x: Tensor, labels: Tensor) -> Call:
            x = x.detach().requires_grad_()
            return lambda: torch.autograd.grad(loss(x, labels), x)[0]

        return of

    return build


def _ours_mining(bounded: bool) -> Build:
    def build(case: Case, accelerator: Accelerator) -> Callable[[Tensor, Tensor], Call]:
        from facenet_ext import TripletSemiHardLoss

        loss = TripletSemiHardLoss(MARGIN, max_per_class=case.per_class if bounded else None)

        def of(x: Tensor, labels: Tensor) -> Call:
            x = x.detach()

            def call() -> Tensor:
                with torch.no_grad():
                    return loss(x, labels)

            return call

        return of

    return build


def _ours_selection(case: Case, accelerator: Accelerator) -> Callable[[Tensor, Tensor], Call]:
    from facenet_ext import select_triplets

    return lambda x, labels: lambda: select_triplets(x, labels)


def _ours_distances(case: Case, accelerator: Accelerator) -> Callable[[Tensor, Tensor], Call]:
    from facenet_ext import pairwise_squared_distance

    return lambda x, labels: lambda: pairwise_squared_distance(x)


def _mm(case: Case, accelerator: Accelerator) -> Callable[[Tensor, Tensor], Call]:
    return lambda x, labels: lambda: torch.mm(x, x.T)


def _cdist(case: Case, accelerator: Accelerator) -> Callable[[Tensor, Tensor], Call]:
    return lambda x, labels: lambda: torch.cdist(x, x)


def _peer_step(peer: peers.Peer) -> Build:
    def build(case: Case, accelerator: Accelerator) -> Callable[[Tensor, Tensor], Call]:
        function = peer.build()

        def of(x: Tensor, labels: Tensor) -> Call:
            x = x.detach().requires_grad_()

            def call() -> Tensor:
                with torch.device(accelerator.device):  # some make tensors without saying where
                    return torch.autograd.grad(function(x, labels), x)[0]

            return call

        return of

    return build


def _square(case: Case) -> int:
    return BYTES[case.dtype] * case.n**2


def _square_of_values(case: Case) -> int:
    return 4 * case.n**2


OURS_STEP = (
    Subject("step", OURS, GRAPH, _ours_step(True)),
    Subject("step", OURS, BOUNDED, _ours_step(True)),
    Subject("step", OURS, EAGER, _ours_step(False)),
)
OURS_MINING = (
    Subject("mining", OURS, GRAPH, _ours_mining(True)),
    Subject("mining", OURS, BOUNDED, _ours_mining(True)),
    Subject("mining", OURS, EAGER, _ours_mining(False)),
)
PRODUCTS = tuple(Subject("mm", MM, mode, _mm, _square) for mode in (GRAPH, EAGER))
OURS_SELECTION = (Subject("selection", OURS, EAGER, _ours_selection),)
OURS_DISTANCES = tuple(
    Subject("distances", OURS, mode, _ours_distances, _square_of_values) for mode in (GRAPH, EAGER)
)
CDISTS = tuple(
    Subject("distances", CDIST, mode, _cdist, _square_of_values) for mode in (GRAPH, EAGER)
)
PEERS_STEP = tuple(
    Subject("step", peer.name, EAGER, _peer_step(peer))
    for peer in (peers.SORT, peers.METRIC_LEARNING, peers.SENTENCE_TRANSFORMERS)
)
