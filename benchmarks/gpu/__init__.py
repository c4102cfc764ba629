"""Builds, checks and measures the CUDA kernels on one GPU: `python -m benchmarks.gpu`.

It needs torch, numpy, pytest and the build tools, and no network; `make gpu-check` is the same.

__main__.py     the command: stages one after the other, within so many minutes
stages.py       a stage has a budget of seconds; its failure does not stop the others
processes.py    each stage works in processes of their own, with a time limit and a log
records.py      what a process found, line by line, so that a killed one leaves what it has
report.py       the JSON, rewritten as it grows
machine.py      what it runs on
build.py        the package, for this GPU alone, into build/gpu
smoke.py        every operator once, against the CPU
cases.py        the batches that are measured
accelerator.py  the GPU's clock, graphs and memory; the host's for a dry run
timing.py       medians of many calls
floors.py       the time that no implementation can beat
subjects.py     ours and the peers, as things to be timed
measure.py      the measurements: core first, then the rest
targets.py      what is to be reached, as data
table.py        results as text
suite.py        the operators' tests on the GPU
outcomes.py     a pytest plugin: each test's outcome as a record
sanitize.py     compute-sanitizer on a few small calls
small_calls.py  those calls
"""
