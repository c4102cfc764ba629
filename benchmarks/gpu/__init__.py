"""Builds, checks and measures the CUDA kernels on one GPU: `python -m benchmarks.gpu`.

It needs torch, numpy, pytest and the build tools, and no network; `make gpu-check` is the same.
Cases, peers, targets, floors, tables and the machine's description are those of `benchmarks`.

__main__.py         the command: stages in the order of their worth, a JSON after each
jobs.py             pytest in processes of their own: time limits, logs, junit files
limits.py           a pytest plugin: what to do when time is up, or the GPU is lost
build.py            the package, for this GPU alone, into build/gpu
check_operators.py  every operator on small batches, against the CPU
sanitizers.py       the same calls under compute-sanitizer
measurements.py     times, peaks of memory, kernels
clock.py            how they are measured
static/             what the machine code predicts, without a GPU
"""
