"""What a call asks of a GPU: how many kernels and other nodes of a graph, and how much memory.

Nothing runs: the emulation (docs/emulation.md) writes down what is launched.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from emulation import emulator

pytestmark = pytest.mark.ci

SCRIPT = Path(emulator.__file__).with_name("launches.py")
# A sum of CUB is one entry here, and a sort one for each 8 bits: several nodes of a graph each.
OF_CUB = ("DeviceRadixSort", "DeviceScan")
MB = 1e6

# Rows, rows of a class, dtype: the most kernels, clears of memory, passes of CUB, and megabytes.
CASES: dict[tuple[int, int, str], tuple[int, int, int, float]] = {
    (1800, 40, "float32"): (3, 0, 0, 2.9),
    (1800, 40, "bfloat16"): (3, 0, 0, 2.9),
    (1800, 40, "float64"): (8, 1, 0, 5.1),
    (1800, 900, "float32"): (3, 0, 0, 29.4),  # a block has room for few anchors
    (64, 2, "float32"): (3, 0, 0, 0.05),
    (16384, 4, "float32"): (15, 2, 4, 21.0),
    (16384, 4, "bfloat16"): (15, 2, 4, 16.8),
}


def name(case: tuple[int, int, str]) -> str:
    return f"{case[0]}-{case[1]}-128-{case[2]}"


@pytest.fixture(scope="module")
def asked() -> dict[str, Any]:
    """Of each case the launches by name, and the bytes."""
    try:
        # The limits of a device, where the emulation's tests have their own.
        environment = emulator.operators_environment(
            "plain", processors=132, counted_rows=4096, small_work=600_000_000
        )
    except emulator.UnavailableError as reason:
        pytest.skip(f"no emulation of the CUDA kernels: {reason}")
    names = [name(case) for case in CASES]
    command = [sys.executable, str(SCRIPT), *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(zip(names, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("case", CASES, ids=name)
def test_what_a_call_launches(case: tuple[int, int, str], asked: dict[str, Any]) -> None:
    launches: dict[str, int] = asked[name(case)]["launches"]
    of_cub = sum(launches.get(which, 0) for which in OF_CUB)
    clears = launches.get("memset", 0)
    kernels = sum(launches.values()) - of_cub - clears
    most_kernels, most_clears, most_of_cub, most_megabytes = CASES[case]
    assert kernels <= most_kernels, launches
    assert clears <= most_clears, launches
    assert of_cub <= most_of_cub, launches
    assert asked[name(case)]["bytes"] <= most_megabytes * MB
