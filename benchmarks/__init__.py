"""What the fused operators cost beside their peers: `python -m benchmarks`, or `make bench`.

cases.py        the batches that are measured
peers.py        the mined loss, ours and others': what each computes, where it is left out
plain_torch.py  the plain torch among them
distances.py    peers for pairwise distances
agreement.py    checks that peers that claim the same result have it, and the same gradient
conftest.py     how a call is timed
bench_*.py      time, as pytest-benchmark groups: `pytest benchmarks/bench_*.py --benchmark-only`
memory.py       peak memory, each point in a process of its own
input.py        how images reach the batches: rates, waiting, memory; its own results
machine.py      what it was measured on
targets.py      what is to be reached, as data
floors.py       the time that no implementation on a GPU can beat
results.py      what was measured, as data and as JSON
table.py        results as tables
plots.py        results as pictures
gpu/            the same on a GPU, and what checks the kernels there
"""

import os

# Compiling in this process keeps torch.compile's worker processes from running beside a
# measurement. torch reads this when it is first asked to compile.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
