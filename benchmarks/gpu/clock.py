"""The time of a call, on a GPU or, for a dry run, on the CPU."""

import os
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.benchmark import Timer

DEVICE = os.environ.get("FACENET_TEST_DEVICE", "cuda")
Call = Callable[[], object]


def measure(call: Call, mode: str, seconds: float) -> dict[str, Any]:
    """Median, least and most seconds of one call.

    "graph": the GPU's time for the call as a CUDA graph, with an empty L2 cache where Triton is
    there. "eager": the time that passes, the host's work in it.
    """
    call()
    if mode == "graph" and DEVICE == "cuda":
        call = capture(call)
        try:
            from triton.testing import do_bench
        except ImportError:
            pass
        else:
            raw = do_bench(call, warmup=100 * seconds, rep=1000 * seconds, return_mode="all")
            return summary([milliseconds / 1e3 for milliseconds in raw], "triton do_bench")
    timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    found = timer.blocked_autorange(min_run_time=seconds)
    return summary(found.times, "torch.utils.benchmark")


def summary(raw: list[float], clock: str) -> dict[str, Any]:
    found = {"median": statistics.median(raw), "min": min(raw), "max": max(raw)}
    return found | {"rounds": len(raw), "clock": clock}


def capture(call: Call) -> Call:
    """The call as a CUDA graph, to be replayed."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # what a first call sets up may not be captured
            call()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def peak(call: Call) -> int:
    """Bytes by which a call raises the GPU's memory in use; 0 on a CPU."""
    call()
    if DEVICE != "cuda":
        return 0
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def kernels(call: Call) -> list[dict[str, Any]]:
    """Name, count and seconds of each kernel of a call, the longest first."""
    call()
    activity = torch.profiler.ProfilerActivity
    chosen = [activity.CPU, activity.CUDA] if DEVICE == "cuda" else [activity.CPU]
    with torch.profiler.profile(activities=chosen) as profile:
        call()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
    on_device = torch.autograd.DeviceType.CUDA
    found = [
        {"kernel": e.key[:160], "count": e.count, "seconds": e.self_device_time_total / 1e6}
        for e in profile.key_averages()
        if e.device_type == on_device
    ]
    return sorted(found, key=lambda kernel: -kernel["seconds"])[:40]
