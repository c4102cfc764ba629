"""The kernels for older CPUs pass the same tests: each instruction set in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

QUICK = (
    "every_dtype_and_cloud or integers_of_every_dtype or golden or every_number_of_columns "
    "or every_random_rule or part_of_a_batch"
)
FILES = (
    "test_pairwise.py",
    "test_select_triplets.py",
    "test_anchors_in_bank.py",
    "test_mined_triplet_loss.py",
    "test_triplet_margin_loss.py",
    "test_random_rules.py",
    "test_softmax_losses.py",
)


def run(instruction_set: str, *options: str) -> None:
    tests = Path(__file__).parent
    environment = os.environ | {"FACENET_EXT_ISA": instruction_set}
    check = "import facenet_ext as f, sys; sys.exit(f.build_info()['cpu_instruction_set'] != '%s')"
    command = [sys.executable, "-c", check % instruction_set]
    if subprocess.run(command, env=environment, check=False).returncode:
        pytest.skip(f"this CPU has no {instruction_set}")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    command += [*options, *(str(tests / name) for name in FILES)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-4000:]


@pytest.mark.ci
@pytest.mark.parametrize("instruction_set", ["baseline", "avx2"])
def test_older_cpus(instruction_set: str) -> None:
    run(instruction_set, "-k", QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("instruction_set", ["baseline", "avx2", "avx512"])
def test_older_cpus_in_full(instruction_set: str) -> None:
    run(instruction_set, "-m", "not slow")
