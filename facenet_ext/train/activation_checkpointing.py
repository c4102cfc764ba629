"""Drops the activations inside a network's blocks, and computes them again in the backward."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from facenet_ext.common.errors import InputError
from facenet_ext.micro_batches import frozen_averages
from facenet_ext.models import Committee, NormalizedNetwork, members_of


def checkpoint_activations(network: NormalizedNetwork | Committee) -> None:
    """Let the blocks of a network keep their inputs alone until the backward.

    A block is an entry of a ``Sequential`` or a ``ModuleList`` that has layers of its own, such as
    a residual block. Random numbers are drawn again as they were, and the averages of batch
    normalisation move once, so values and gradients stay the same.

    Args:
        network: its blocks are changed; what it computes, and its state, are not.

    Raises:
        InputError: there are no blocks.

    Source: Chen et al., *Training Deep Nets with Sublinear Memory Cost*, 2016.
    """
    blocks = [block for member in members_of(network) for block in _blocks(member)]
    if not blocks:
        raise InputError(
            "`activation_checkpointing`: found no blocks in the network, which are modules of "
            "several layers in an nn.Sequential or nn.ModuleList; leave it out"
        )
    for block in blocks:
        block.forward = partial(_recomputed, block, block.forward)


def _recomputed(block: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return contextlib.nullcontext(), frozen_averages(block)

    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(module, (nn.Sequential, nn.ModuleList)) and _is_block(child):
            yield child
        else:
            yield from _blocks(child)


def _is_block(module: nn.Module) -> bool:
    """Whether a module has layers of its own, and is not just a list of such modules."""
    if not isinstance(module, (nn.Sequential, nn.ModuleList)):
        return any(True for _ in module.children())
    return len(module) > 0 and not any(map(_is_block, module))
