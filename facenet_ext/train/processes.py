"""The processes of a run: how they find each other."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import torch
from lightning import Fabric
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.strategies.ddp import DDPStrategy as FabricDDPStrategy
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from facenet_ext._ranks import Ranks
from facenet_ext.common.errors import InputError
from facenet_ext.common.launch import started_by
from facenet_ext.common.processes import PATIENCE, meet
from facenet_ext.embedding.options import RunOptions
from facenet_ext.train.batch_norm import SyncBatchNorm


class Layout(NamedTuple):
    """How many processes there are.

    Attributes:
        devices: on each machine.
        nodes: machines.
    """

    devices: int
    nodes: int


def layout(run: RunOptions, given: Collection[str] = ()) -> Layout:
    """Return how many processes a run has: what a launcher says, else what the options say.

    Args:
        run: options of the run.
        given: the names of the options that a person gave.

    Raises:
        InputError: a person gave another number than the launcher started.
    """
    launch = started_by()
    if launch is None:
        return Layout(run.devices, run.nodes)
    for name, started in (("devices", launch.devices), ("nodes", launch.nodes)):
        if name in given and getattr(run, name) != started:
            raise InputError(
                f"`{name}` {getattr(run, name)}: {launch.by} says {started}; leave the option out, "
                f"it is for runs without {launch.by}"
            )
    return Layout(launch.devices, launch.nodes)


def join(run: RunOptions, given: Collection[str] = ()) -> Ranks:
    """Meet the other processes of the run; start them first, where no launcher has.

    Args:
        run: options of the run.
        given: the names of the options that a person gave.

    Returns:
        All processes of the run, as this one sees them.

    Raises:
        InputError: there are not so many devices.
    """
    devices, nodes = layout(run, given)
    if devices * nodes > 1 and Ranks.of().size == 1:
        try:
            fabric = Fabric(
                accelerator=run.accelerator,
                devices=devices,
                num_nodes=nodes,
                strategy=FabricDDPStrategy(timeout=PATIENCE),
                plugins=_plugins(),
            )
        except (MisconfigurationException, ValueError) as error:
            raise InputError(f"`devices` {devices}: {error}") from None
        launch = started_by()
        if launch and launch.by == "torchrun" and nodes == 1:
            meet(fabric.device, launch)
        fabric.launch()
    return Ranks.of()


def trainer_options(run: RunOptions) -> dict[str, Any]:
    """Return what Lightning's Trainer has to know of the processes."""
    if Ranks.of().size == 1:
        return {"devices": 1, "plugins": _plugins()}
    devices, nodes = layout(run)
    sync = [SyncBatchNorm()] if run.sync_batch_norm else []
    return {
        "devices": devices,
        "num_nodes": nodes,
        "strategy": DDPStrategy(timeout=PATIENCE),
        "use_distributed_sampler": False,  # batches are cut already
        "plugins": [*_plugins(), *sync],
    }


def _plugins() -> list[Any]:
    """Keep Lightning from saving and submitting Slurm jobs in its own way."""
    launch = started_by()
    return [SLURMEnvironment(auto_requeue=False)] if launch and launch.by == "srun" else []


def share_buffers(module: nn.Module, ranks: Ranks) -> None:
    """Give all ranks the buffers of rank 0: averages over the batches that a rank has seen."""
    if ranks.size > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, 0, group=ranks.group)
