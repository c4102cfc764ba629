"""A command in several processes: how they meet, who prints, and whose error is told."""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from facenet_ext.common.errors import InputError
from facenet_ext.common.launch import Launch, is_first, started_by

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup

_TOLD = "facenet_ext/told"
_TELLING = 10.0
"""Seconds in which the process whose error it is has told it: then torchrun ends the others."""

_LOOKING = 0.05
"""Seconds between two looks, so that signals are heard."""

PATIENCE = datetime.timedelta(days=1)
"""How long a process waits for another. One that has died is noticed long before."""

_joined = False


def is_launched_with_others() -> bool:
    """Whether torchrun or srun started this process beside others."""
    launch = started_by()
    return launch is not None and launch.devices * launch.nodes > 1


def is_one_of_many() -> bool:
    """Whether there are others, also where this process or its first one started them."""
    group = everyone()
    return is_launched_with_others() or not is_first() or (group is not None and group.size() > 1)


def join(device: str) -> None:
    """Form a group with the other processes of torchrun; without any do nothing.

    Args:
        device: where the command computes: on CUDA devices the processes talk by nccl, each with
            a device of its own, else by gloo.
    """
    global _joined
    if not is_launched_with_others():
        return
    import torch
    import torch.distributed as dist

    if dist.is_initialized():
        return
    if "MASTER_ADDR" not in os.environ:
        raise InputError(
            "srun started several processes of this command, and they do not know each other; "
            "start it with srun --ntasks-per-node 1 torchrun --nnodes NODES --nproc-per-node N ..."
        )
    place = torch.device(device)
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(place)
    launch = started_by()
    if launch is not None and launch.nodes == 1:
        meet(place, launch)
    else:
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=PATIENCE)
    _joined = True


def meet(device: torch.device, launch: Launch) -> None:
    """Begin the group of all processes on one machine that torchrun started.

    The store that torchrun offers outlives processes that it starts again, and would give them the
    addresses of those that have ended. So each start has names of its own in it.

    Args:
        device: where this process computes.
        launch: what torchrun says.
    """
    import torch.distributed

    size = launch.devices * launch.nodes
    distributed: Any = torch.distributed
    store, *_ = next(distributed.rendezvous("env://", launch.rank, size))
    on_gpu = device.type == "cuda"
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=distributed.PrefixStore(f"start {launch.start}", store),
        rank=launch.rank,
        world_size=size,
        timeout=PATIENCE,
        device_id=device if on_gpu else None,
    )


def everyone() -> ProcessGroup | None:
    """Return the group of all processes, which divide the work; None: this one is alone."""
    dist = sys.modules.get("torch.distributed")
    joined = dist is not None and dist.is_available() and dist.is_initialized()
    return dist.group.WORLD if dist is not None and joined else None


def leave() -> None:
    """End the group that :func:`join` formed."""
    global _joined
    if _joined:
        import torch.distributed as dist

        dist.destroy_process_group()
        _joined = False


@contextlib.contextmanager
def others_silent() -> Iterator[None]:
    """Let the first process alone print inside."""
    if is_first():
        yield
        return
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def tell_once(error: BaseException, tell: Callable[[], None]) -> None:
    """Tell of what ends the command, unless another process does.

    The process with the error prints it, on its standard error, even if it is not the first one.
    The processes that end because of this error wait until it is printed. If a process was killed,
    the first of the others that notices it prints that.

    Args:
        error: what ended this process.
        tell: prints it.
    """
    if not is_one_of_many():
        tell()
        return
    group: Any = everyone()
    if group is None:
        # All processes read the same command line, and stumble over the same.
        if is_first():
            tell()
        else:
            time.sleep(_TELLING)
        return
    store = group.get_group_store()
    with contextlib.suppress(RuntimeError):  # the process that has the store is gone
        if _is_of_another(error) and _wait_until_told(store):
            return
        if store.add(f"{_TOLD}/by", 1) > 1:
            _wait_until_told(store)
            return
        tell()
        store.set(_TOLD, "")


def _is_of_another(error: BaseException | None) -> bool:
    """Whether this is the error of another process, which that process prints itself."""
    while error is not None:
        if hasattr(error, "of_rank"):  # set by `Ranks`
            return True
        error = error.__context__
    return False


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another process does not answer: torch raises no type of its own.

    Args:
        error: of a collective.
    """
    return isinstance(error, RuntimeError) and (
        "gloo" in str(error) or type(error).__name__.startswith("Dist")
    )


def _wait_until_told(store: Any) -> bool:
    deadline = time.monotonic() + _TELLING
    while not store.check([_TOLD]):
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOKING)
    return True
