"""Peak memory of a forward and a backward, over the inputs: each point in a process of its own.

    python -m benchmarks.memory OPERATOR PEER N PER_CLASS THREADS

prints the growth in bytes. The process first runs the peer on a tiny batch (torch.compile: on the
batch itself, so that the compiler's memory is not counted), gives free memory back to the system,
resets the kernel's record of the peak, and then runs once.
"""

import ctypes
import gc
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from benchmarks import cases, margin, peers
from benchmarks.cases import Case
from benchmarks.machine import ROOT
from benchmarks.results import Peak

# Whose memory is measured: cases and peers of each operator.
MEASURED = {
    # Without compiled sort + searchsorted, which takes the memory of the uncompiled one.
    "mined_triplet_loss": (
        cases.IN_MEMORY,
        (
            peers.OURS,
            peers.MM,
            peers.COMPILED_MINIMUM,
            peers.SORT,
            peers.SENTENCE_TRANSFORMERS,
            peers.METRIC_LEARNING,
        ),
    ),
    margin.OPERATOR: (margin.IN_MEMORY, margin.PEERS),
}
TINY = Case(32, 4)
LONGEST = 180.0  # seconds


def measure(quick: bool, threads: int, report: Callable[[str], None]) -> list[Peak]:
    """The peaks of all peers on all cases, two processes at a time."""
    points = [
        (operator, peer, case)
        for operator, (of_operator, its_peers) in MEASURED.items()
        for case in cases.within(of_operator, quick)
        for peer in its_peers
        if peer.left_out(case) is None
    ]

    def point(number: int) -> Peak | None:
        operator, peer, case = points[number]
        peak = _in_process_of_its_own(operator, peer, case, threads)
        shown = "failed" if peak is None else f"{peak / 2**20:11.1f} MiB"
        report(f"  {number + 1:3}/{len(points)}  {case!s:<24} {peer!s:<32} {shown}")
        if peak is None:
            return None
        of = {"operator": operator, "peer": peer.name, "n": case.n, "per_class": case.per_class}
        return Peak(**of, growth=peak)

    with ThreadPoolExecutor(2) as pool:
        return [peak for peak in pool.map(point, range(len(points))) if peak is not None]


def _in_process_of_its_own(operator: str, peer: peers.Peer, case: Case, threads: int) -> int | None:
    command = [sys.executable, "-m", "benchmarks.memory"]
    command += [operator, peer.name, str(case.n), str(case.per_class), str(threads)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=LONGEST
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        # A process that the system killed for lack of memory prints nothing itself.
        print(f"{peer} on {case}: {error}\n{error.stderr or ''}", file=sys.stderr)
        return None
    return int(done.stdout.splitlines()[-1])


def growth(peer: peers.Peer, case: Case) -> int:
    """Bytes by which a forward and a backward raise this process's peak."""
    peer.step(*(case if peer.compiled else TINY).batch())()
    step = peer.step(*case.batch())
    if peer.compiled:
        step()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # sets the recorded peak to the present use
    before = _status("VmRSS")
    step()
    return max(_status("VmHWM") - before, 0)


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def main() -> None:
    operator, name, n, per_class, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    peer = next(peer for peer in MEASURED[operator][1] if peer.name == name)
    print(growth(peer, Case(int(n), int(per_class))))


if __name__ == "__main__":
    main()
