"""The loss over all triplets, forward and backward: a group for each batch, peers beside ours."""

import pytest

from benchmarks import cases, margin, peers
from benchmarks.conftest import Measure


@pytest.mark.parametrize("peer", margin.PEERS, ids=str)
@pytest.mark.parametrize("case", margin.CASES, ids=str)
def test_triplet_margin_loss(measure: Measure, case: cases.Case, peer: peers.Peer) -> None:
    measure(margin.OPERATOR, case, peer)
