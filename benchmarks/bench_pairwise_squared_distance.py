"""All pairwise distances, forward: a group for each N, peers beside ours."""

import pytest

from benchmarks import cases, distances, peers
from benchmarks.conftest import Measure


@pytest.mark.parametrize("peer", distances.PEERS, ids=str)
@pytest.mark.parametrize("case", distances.CASES, ids=str)
def test_pairwise_squared_distance(measure: Measure, case: cases.Case, peer: peers.Peer) -> None:
    measure("pairwise_squared_distance", case, peer)
