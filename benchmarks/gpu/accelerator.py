"""What a measurement asks of a device: a clock, graphs, memory. The host's serves a dry run."""

import time
from collections.abc import Callable
from typing import Any, Protocol

import torch

Call = Callable[[], object]


class Accelerator(Protocol):
    """A device that works on what it is given in order."""

    device: str
    l2_bytes: int

    def mark(self) -> Any:
        """A point in the device's time, after all that was asked of it."""

    def between(self, begin: Any, end: Any) -> float:
        """Seconds from mark to mark; both have passed."""

    def wait(self) -> None:
        """Until the device has done everything."""

    def capture(self, call: Call) -> Call:
        """The call as a graph, to be replayed."""

    def peak(self, call: Call) -> int:
        """Bytes by which a call raises the memory in use, at its peak."""

    def free(self) -> None:
        """Gives back memory that is kept for reuse."""

    def kernels(self, call: Call) -> list[dict[str, Any]]:
        """Name, count and seconds of each kernel of a call, the longest first."""


class Cuda:
    """The current GPU."""

    device = "cuda"

    def __init__(self) -> None:
        self.l2_bytes = getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 0) or 2**26

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, begin: torch.cuda.Event, end: torch.cuda.Event) -> float:
        return begin.elapsed_time(end) / 1e3

    def wait(self) -> None:
        torch.cuda.synchronize()

    def capture(self, call: Call) -> Call:
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

    def peak(self, call: Call) -> int:
        call()
        self.free()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def free(self) -> None:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()

    def kernels(self, call: Call) -> list[dict[str, Any]]:
        call()
        torch.cuda.synchronize()
        activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profile:
            call()
            torch.cuda.synchronize()
        found: dict[str, dict[str, Any]] = {}
        for event in profile.events():
            if event.device_type != torch.autograd.DeviceType.CUDA:
                continue
            entry = found.setdefault(
                event.name, {"kernel": event.name[:160], "count": 0, "seconds": 0.0}
            )
            entry["count"] += 1
            entry["seconds"] += event.time_range.elapsed_us() / 1e6
        return sorted(found.values(), key=lambda entry: -entry["seconds"])[:40]


class Host:
    """The CPU in a GPU's place: the measurements run, their figures mean nothing."""

    device = "cpu"
    l2_bytes = 2**20

    def mark(self) -> float:
        return time.perf_counter()

    def between(self, begin: float, end: float) -> float:
        return end - begin

    def wait(self) -> None:
        pass

    def capture(self, call: Call) -> Call:
        call()
        return call

    def peak(self, call: Call) -> int:
        call()
        return 0

    def free(self) -> None:
        pass

    def kernels(self, call: Call) -> list[dict[str, Any]]:
        call()
        return []
