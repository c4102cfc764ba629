"""Ours on one instruction set, beside what its targets compare it with.

`python -m benchmarks` runs this file once for each instruction set that the machine has.
"""

import os
import subprocess
import sys

import pytest

from benchmarks import margin, peers
from benchmarks.cases import Case
from benchmarks.conftest import Measure

NAMES = ("avx512", "avx2", "baseline")
VARIABLE = "FACENET_EXT_ISA"
_HALF = (Case(8192, 4, dtype="bfloat16"), Case(8192, 4, dtype="float16"))
_MINED = "mined_triplet_loss"

MEASURED = (
    *((_MINED, case, peers.OURS) for case in (Case(64, 8), Case(1800, 40), Case(8192, 4), *_HALF)),
    (_MINED, Case(64, 8), peers.METRIC_LEARNING),
    *((_MINED, case, peers.MM) for case in (Case(1800, 40), Case(8192, 4))),
    *(
        (margin.OPERATOR, case, peer)
        for case in (Case(1800, 40), Case(8192, 4))
        for peer in (margin.OURS, peers.MM)
    ),
)


def available() -> list[str]:
    """The instruction sets that this machine has kernels for."""
    told = "import facenet_ext; print(facenet_ext.build_info()['cpu_instruction_set'])"
    found = []
    for name in NAMES:
        command = [sys.executable, "-c", told]
        output = subprocess.check_output(command, env=os.environ | {VARIABLE: name}, text=True)
        found += [name] if output.strip() == name else []
    return found


@pytest.mark.parametrize(("operator", "case", "peer"), MEASURED, ids=str)
def test_instruction_set(measure: Measure, operator: str, case: Case, peer: peers.Peer) -> None:
    measure(operator, case, peer)
