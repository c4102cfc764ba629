"""Prints what a call of ``mined_triplet_loss`` asks of a device: launches, in order, and bytes.

The kernels are the emulated ones, and none is run: with ``max_per_class`` no launch depends on what
another computed. Arguments: calls, each as "1800-40-128-float32", which is rows, rows of each
class, columns and dtype.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections import Counter
from typing import Any

import facenet_emulated
import torch


def kernel_name(signature: str) -> str:
    """``void facenet::(anonymous namespace)::rank<float>(...)`` is "rank"."""
    signature = signature.strip().replace("(anonymous namespace)::", "")
    return re.split(r"[<(]", signature)[0].split("::")[-1].split()[-1]


def asked(rows: int, per_class: int, dim: int, dtype: torch.dtype) -> dict[str, Any]:
    from facenet_ext.functional import mined_triplet_loss

    x = torch.zeros(rows, dim, dtype=dtype, requires_grad=True)
    y = torch.arange(rows) // per_class
    with tempfile.NamedTemporaryFile("r") as log:
        os.environ["FACENET_EMULATED_LOG"] = log.name
        with torch.profiler.profile(profile_memory=True) as profile:
            mined_triplet_loss(x, y, max_per_class=per_class)
        names = [kernel_name(line) for line in log]
    assert profile.profiler is not None
    assert profile.profiler.kineto_results is not None
    now = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return {"launches": Counter(names), "bytes": peak}


def main() -> None:
    facenet_emulated.pytest_load_initial_conftests()  # before facenet_ext is imported
    os.environ["FACENET_EMULATED_DRY_RUN"] = "1"
    for case in sys.argv[1:]:
        rows, per_class, dim, dtype = case.split("-")
        found = asked(int(rows), int(per_class), int(dim), getattr(torch, dtype))
        print(json.dumps(found))


if __name__ == "__main__":
    main()
