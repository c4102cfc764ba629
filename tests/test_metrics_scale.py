"""Claims about large sets of pairs: the time and the memory of all figures and their intervals."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SUMMARIZE = """
import json, sys, time
import torch
from facenet_ext.metrics import summarize

def status(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(field))

def pairs(count, same, people, items):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(items) % people
    first, second = torch.randint(items, (2, count), generator=generator, dtype=torch.int32)
    of_same = first[:same] % people  # an image of the same person, and after these any image
    second[:same] = of_same + people * (second[:same] % (items // people))
    distances = torch.randn(count, generator=generator)
    distances += 3 * (labels[first] != labels[second])
    return distances, labels[first] == labels[second], first, second, labels

counts = json.loads(sys.argv[1])
*few, labels = pairs(20_000, 10_000, 500, 2000)
summarize(*few, labels=labels)  # loads what is loaded once
*many, labels = pairs(*counts)
with open("/proc/self/clear_refs", "w") as peak:
    peak.write("5")
before, start = status("VmRSS:"), time.process_time()
summary = summarize(*many, labels=labels, threshold=1.0, log_likelihood_ratios=True)
seconds = time.process_time() - start
print(json.dumps([seconds, (status("VmHWM:") - before) / 1024, summary.identities]))
"""


def measure(pairs: int, same: int, people: int, items: int) -> tuple[float, float, int]:
    """Processor seconds, MiB beyond the pairs themselves, and identities."""
    counts = json.dumps([pairs, same, people, items])
    done = subprocess.run(
        [sys.executable, "-c", SUMMARIZE, counts], capture_output=True, text=True, check=True
    )
    seconds, mebibytes, identities = json.loads(done.stdout)
    return seconds, mebibytes, identities


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_551_000_trials_take_a_second() -> None:
    seconds, mebibytes, identities = measure(551_000, 275_000, 1251, 145_000)
    assert identities == 1251
    assert seconds < 1
    assert mebibytes < 64


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
@pytest.mark.parametrize(
    ("same", "people", "items"),
    [(10_270, 1845, 12_115), (4_000_000, 20_000, 200_000)],
    ids=["IJB-B", "half of them same"],
)
def test_8_million_pairs_take_10_seconds_and_64_mib(same: int, people: int, items: int) -> None:
    seconds, mebibytes, identities = measure(8_010_270, same, people, items)
    assert identities == people
    assert seconds < 10
    assert mebibytes < 64
