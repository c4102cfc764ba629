"""Starts the processes of a test, collects what each returns or raises, and never hangs.

A server that has imported torch forks them, so that a test pays milliseconds for a process.
"""

from __future__ import annotations

import datetime
import faulthandler
import multiprocessing
import os
import pickle
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

_SERVER = multiprocessing.get_context("forkserver")
_PRELOADED = [
    "torch.distributed",
    "torch._dynamo",
    "facenet_ext.mining.storage",
    "facenet_ext.commands.mine",
    "facenet_ext.commands.evaluate",
    "facenet_ext.recognition.clustering",
    "pandas",  # pyarrow imports it where it is installed
    "pytest",
    "processes",
]
_SERVER.set_forkserver_preload(_PRELOADED)

# How long the others may take to end after one rank failed: longer, and they wait for it.
_GRACE = 5.0


class RankError(AssertionError):
    """An exception of a rank, or ranks that stood still."""


def preload(*modules: str) -> None:
    """Let the server import modules too; before it starts, so when a test's module is imported."""
    _PRELOADED.extend(modules)
    _SERVER.set_forkserver_preload(_PRELOADED)


def run(world_size: int, function: Callable[..., Any], *arguments: Any, limit: float = 60) -> Any:
    """Calls a function in so many processes, which are one gloo group.

    Args:
        world_size: how many processes.
        function: of a module, called with the arguments.
        arguments: what is pickled to every rank.
        limit: seconds until the ranks that have not ended are named, and all are killed.

    Returns:
        What each rank returned, by rank.

    Raises:
        RankError: an exception of the lowest rank that has one, or the time limit, with the stacks
            of the ranks that stood still.
    """
    with tempfile.TemporaryDirectory() as folder:
        ends, workers = [], []
        for rank in range(world_size):
            end, other = _SERVER.Pipe(duplex=False)
            job = rank, world_size, folder, limit, function, arguments
            worker = _SERVER.Process(target=_work, args=(other, *job), daemon=True)
            worker.start()
            other.close()
            ends.append(end)
            workers.append(worker)
        try:
            results = _collect(ends, time.monotonic() + limit)
            failed = {r: text for r, (ok, text) in sorted(results.items()) if not ok}
            if failed:
                raise RankError("".join(f"\nrank {r}: {text}" for r, text in failed.items()))
            if len(results) < world_size:
                still = [rank for rank in range(world_size) if rank not in results]
                raise RankError(
                    f"after {limit} s these ranks stood still: {still}\n"
                    + "".join(_stack(workers[rank].pid, rank, folder) for rank in still)
                )
            return [pickle.loads(results[rank][1]) for rank in range(world_size)]
        finally:
            for worker in workers:
                worker.kill()
                worker.join()


def _collect(ends: Sequence[Connection], deadline: float) -> dict[int, tuple[bool, Any]]:
    results: dict[int, tuple[bool, Any]] = {}
    waiting = {end: rank for rank, end in enumerate(ends)}
    while waiting and (left := deadline - time.monotonic()) > 0:
        for end in wait(list(waiting), left):
            rank = waiting.pop(end)  # type: ignore[call-overload]
            try:
                results[rank] = end.recv()  # type: ignore[union-attr]
            except EOFError:
                results[rank] = False, "ended without a word"
            if not results[rank][0]:
                deadline = min(deadline, time.monotonic() + _GRACE)
    return results


def _stack(pid: int | None, rank: int, folder: str) -> str:
    if pid is not None:
        os.kill(pid, signal.SIGUSR1)
        time.sleep(0.5)
    return f"\nrank {rank}:\n" + Path(folder, f"stack{rank}").read_text()


def _work(
    end: Connection,
    rank: int,
    world_size: int,
    folder: str,
    limit: float,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    torch.set_num_threads(1)
    with open(Path(folder, f"stack{rank}"), "w") as stack:
        faulthandler.register(signal.SIGUSR1, stack, all_threads=False)
        try:
            store = dist.FileStore(str(Path(folder, "store")), world_size)
            dist.init_process_group(
                "gloo",
                store=store,
                rank=rank,
                world_size=world_size,
                timeout=datetime.timedelta(seconds=limit),
            )
            # One that ends at once would close connections that others are about to make.
            store.set(f"connected{rank}", "")
            store.wait([f"connected{other}" for other in range(world_size)])
            try:
                result = True, pickle.dumps(function(*arguments))
            finally:
                dist.destroy_process_group()
        except BaseException:
            result = False, traceback.format_exc()
        end.send(result)
