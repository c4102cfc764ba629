"""Optimizers, learning rate schedules and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from facenet_ext.embedding.options import OptimizerOptions


def make_optimizer(network: nn.Module, options: OptimizerOptions) -> Optimizer:
    """Make the optimizer of a network's parameters.

    Weight decay is for matrices and filters; pulling biases and the scales of normalisation
    layers to zero only harms.

    Args:
        network: what to optimise.
        options: which optimizer, and its numbers.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if options.optimizer == "adagrad":
        return torch.optim.Adagrad(
            groups, lr=options.lr, initial_accumulator_value=options.accumulator
        )
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum)
    return torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.98))


def make_scheduler(optimizer: Optimizer, options: OptimizerOptions, steps: int) -> LambdaLR:
    """Make the scheduler that sets the rate before each of ``steps`` steps."""
    factor = partial(rate, options.schedule, steps=steps, warmup=options.warmup)
    return LambdaLR(optimizer, factor)


def rate(schedule: str, step: int, *, steps: int, warmup: float = 0.0) -> float:
    """Return the share of the peak learning rate at a step.

    The rate grows linearly over the warm-up, then with ``q`` from 0 to 1 over the rest:

        constant  1
        cosine    (1 + cos(pi q)) / 2
        step      1, 0.1 from q = 0.6, 0.01 from q = 0.85
        onecycle  cosine up from 1/25 over the warm-up (30 percent unless given), cosine down to 0

    Args:
        schedule: "constant", "cosine", "onecycle" or "step".
        step: from 0.
        steps: steps of the whole run.
        warmup: share of the run, in [0, 1).

    Example:
        >>> [rate("cosine", step, steps=4) for step in (0, 2)]
        [1.0, 0.5]

    Source: cosine is Loshchilov, Hutter, *SGDR*, ICLR 2017; onecycle is Smith, Topin,
    *Super-Convergence*, 2018.
    """
    if schedule == "onecycle" and warmup == 0:
        warmup = 0.3
    growing = warmup * steps
    if step < growing:
        share = (step + 1) / (math.floor(growing) + 1)
        return 1 / 25 + 24 / 25 * _cosine(1 - share) if schedule == "onecycle" else share
    q = min(1.0, (step - growing) / max(1.0, steps - growing))
    if schedule == "constant":
        return 1.0
    if schedule == "step":
        return 1.0 if q < 0.6 else 0.1 if q < 0.85 else 0.01
    return _cosine(q)


def _cosine(q: float) -> float:
    return (1 + math.cos(math.pi * q)) / 2


class AveragedWeights(WeightAveraging):
    r"""Evaluate and keep an exponential moving average of the weights.

    .. math:: \bar w_s = \beta_s \bar w_{s-1} + (1 - \beta_s) w_s, \quad
        \beta_s = \min(\beta, (s + 1) / (s + 20))

    The early, smaller decay forgets the random start.

    Args:
        decay: beta, in (0, 1).

    Source: Polyak, Juditsky, *Acceleration of Stochastic Approximation by Averaging*, 1992; the
    early decay is that of TensorFlow's ExponentialMovingAverage, slower.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(avg_fn=_average(decay))


def _average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        if not averaged.is_floating_point():  # the step count of a batch normalisation
            return current
        step = float(count)
        return averaged.lerp(current, 1 - min(decay, (step + 1) / (step + 20)))

    return average
