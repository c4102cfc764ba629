"""What started this process: torchrun, Slurm's srun, Lightning, or a person."""

from __future__ import annotations

import os
from typing import NamedTuple


class Launch(NamedTuple):
    """What a launcher says in the environment.

    Attributes:
        by: its name.
        rank: of this process among all of them.
        devices: processes on each machine.
        nodes: machines.
        start: how often the processes have been started again, after they ended early.
    """

    by: str
    rank: int
    devices: int
    nodes: int
    start: int


def started_by() -> Launch | None:
    """Return the launcher that started this process; None for a person, or for Lightning."""
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        size, local = int(env["WORLD_SIZE"]), int(env["LOCAL_WORLD_SIZE"])
        start = int(env.get("TORCHELASTIC_RESTART_COUNT", "0"))
        return Launch("torchrun", int(env["RANK"]), local, size // local, start)
    tasks = int(env.get("SLURM_NTASKS", "1"))
    if tasks > 1 and env.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        nodes = int(env.get("SLURM_NNODES", "1"))
        rank, start = (int(env.get(f"SLURM_{n}", "0")) for n in ("PROCID", "RESTART_COUNT"))
        return Launch("srun", rank, tasks // nodes, nodes, start)
    return None


def is_first() -> bool:
    """Return whether this is the first process of all, or the only one."""
    launch = started_by()
    if launch is not None:
        return launch.rank == 0
    # Set by Lightning for the processes that it starts.
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK"))


def restarted() -> bool:
    """Return whether a launcher has started these processes again, after they ended early."""
    counts = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
    return any(int(os.environ.get(name, "0")) > 0 for name in counts)


def may_restart() -> bool:
    """Return whether torchrun would start these processes again if one ended early."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0


def cores() -> int:
    """Return how many cores this process may use: its share of those of the machine."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        allowed = os.cpu_count() or 1
    launch = started_by()
    processes = launch.devices if launch else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, allowed // processes)
