"""Gradient caching: a batch larger than memory, embedded a part at a time, with exact gradients."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["embed_in_micro_batches"]


def embed_in_micro_batches(
    network: nn.Module,
    inputs: Tensor,
    size: int,
    on_part: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Embed a batch in parts, for one loss over all of it, and keep only the embeddings.

    A triplet loss needs all embeddings of a batch at once, but only the network's activations take
    much memory. The activations of each part are dropped after the forward. The backward computes
    them again, part by part. This takes the memory of ``size`` inputs, and the time of one more
    forward. The gradient is exactly that of the whole batch, because random numbers (dropout) are
    drawn again as they were. Batch normalisation takes its statistics over a part, as it does on
    several devices with that many inputs each. Its running averages move once for each part.

    Args:
        network: from ``[B, ...]`` to ``[B, D]``.
        inputs: ``[N, ...]``
        size: most inputs in a part; the parts are of about equal size. If ``size`` is N or more, or
            gradients are off, nothing is computed twice.
        on_part: called with the first row of each part, and with the one behind its last, before
            the part is embedded and before it is computed again.

    Returns:
        ``[N, D]``

    Raises:
        ValueError: a size below 1.

    Example:
        >>> from facenet_ext import TripletSemiHardLoss
        >>> network = nn.Linear(8, 4)
        >>> embeddings = embed_in_micro_batches(network, torch.randn(100, 8), 32)
        >>> TripletSemiHardLoss()(embeddings, torch.arange(100) // 4).backward()
        >>> network.weight.grad.shape
        torch.Size([4, 8])

    Source: Gao, Zhang, Han, Callan, *Scaling Deep Contrastive Learning Batch Size under Memory
    Limited Setup*, RepL4NLP 2021 (GradCache), by way of activation checkpointing.
    """
    if size < 1:
        raise ValueError(f"size: expected at least 1, got {size}")
    parts = torch.tensor_split(inputs, max(1, -(-len(inputs) // size)))
    begins = [0, *itertools.accumulate(len(part) for part in parts)]

    def embed(part: Tensor, begin: int) -> Tensor:
        if on_part is not None:
            on_part(begin, begin + len(part))
        embeddings: Tensor = network(part)
        return embeddings

    if len(parts) == 1:
        return embed(inputs, 0)
    if not torch.is_grad_enabled():
        return torch.cat([embed(part, begin) for part, begin in zip(parts, begins, strict=False)])

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return contextlib.nullcontext(), frozen_averages(network)

    return torch.cat(
        [
            checkpoint(embed, part, begin, use_reentrant=False, context_fn=contexts)
            for part, begin in zip(parts, begins, strict=False)
        ]
    )


@contextlib.contextmanager
def frozen_averages(network: nn.Module) -> Iterator[None]:
    """Keep the running averages of batch normalisation, which the forward has updated already."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    layers = [m for m in network.modules() if isinstance(m, kinds) and m.track_running_stats]
    before = [(m.momentum, m.num_batches_tracked) for m in layers]
    for layer in layers:
        layer.momentum, layer.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for layer, (momentum, tracked) in zip(layers, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, tracked
