"""Semi-hard triplet loss, forward and backward: a group for each batch, peers beside ours."""

import pytest

from benchmarks import cases, peers
from benchmarks.conftest import Measure


@pytest.mark.parametrize("peer", peers.PEERS, ids=str)
@pytest.mark.parametrize("case", cases.TIMED, ids=str)
def test_mined_triplet_loss(measure: Measure, case: cases.Case, peer: peers.Peer) -> None:
    measure("mined_triplet_loss", case, peer)
