"""The loss of a batch that processes share: a group for each batch, peers beside ours."""

import pytest

from benchmarks import cases, peers, processes
from benchmarks.conftest import Measure


@pytest.mark.parametrize("peer", processes.PEERS, ids=str)
@pytest.mark.parametrize("case", processes.CASES, ids=str)
def test_distributed_loss(measure: Measure, case: cases.Case, peer: peers.Peer) -> None:
    measure(processes.OPERATOR, case, peer)
