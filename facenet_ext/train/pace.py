"""How many steps fit into ``--max-minutes``: the first ones are measured, on a copy."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.functional import normalize

from facenet_ext.data.pairs import Pairs
from facenet_ext.evaluation.verification import verify
from facenet_ext.train.data import Batches
from facenet_ext.train.module import EmbeddingModule

__all__ = ["Pace", "Plan", "measure", "plan_steps"]

_LEAST_STEPS = 2
_MEASURING, _MOST_MEASURING = 0.03, 15.0
"""Share of the time that goes into measuring, and seconds at most, unless two steps take more."""

_EVALUATING = 0.25
"""Share of the time that may go into evaluations, unless one alone takes more."""

_RESERVE = 0.1
"""Share of the time for the report, and for steps that take longer than those measured."""

_PAIRS = 100_000
"""Pairs that are verified to measure how long all of them take."""


class Pace(NamedTuple):
    """What was measured, in seconds.

    Attributes:
        step: a training step, with its share of offline mining.
        evaluation: one evaluation.
    """

    step: float
    evaluation: float


class Plan(NamedTuple):
    """What fits.

    Attributes:
        steps: training steps.
        evaluations: how many of them there are, the last one after the last step.
    """

    steps: int
    evaluations: int


def plan_steps(pace: Pace, seconds: float, evaluations: int, most: int | None = None) -> Plan:
    """Return the steps and evaluations that fit into some time.

    Args:
        pace: what was measured.
        seconds: that are left.
        evaluations: that are wanted; fewer where they take more than a quarter of the time.
        most: steps that are wanted, or None for as many as fit.

    Example:
        >>> plan_steps(Pace(step=1.0, evaluation=5.0), seconds=100, evaluations=4)
        Plan(steps=70, evaluations=4)
    """
    usable = max(0.0, seconds * (1 - _RESERVE))
    evaluations = max(1, min(evaluations, int(usable * _EVALUATING / pace.evaluation)))
    steps = max(1, int((usable - evaluations * pace.evaluation) / pace.step))
    if most is not None:
        steps = min(steps, most)
    return Plan(steps, min(evaluations, steps))


def measure(
    module: EmbeddingModule,
    batches: Batches,
    seconds: float,
    callbacks: Sequence[Callback] = (),
    **trainer_options: Any,
) -> Pace:
    """Measure some steps and a part of an evaluation.

    Args:
        module: a copy of what is to be trained, without pairs: it is trained, and of no use then.
        batches: of the run.
        seconds: that the run may take; a small share of it goes into measuring.
        callbacks: what else takes time before an evaluation.
        trainer_options: of the run: device and precision.
    """
    most = min(seconds * _MEASURING, _MOST_MEASURING)
    watch = _StopWatch(most, module.options.mining.mine_every > 0)
    trainer = Trainer(
        max_epochs=1,
        num_sanity_val_steps=0,
        limit_val_batches=1,
        logger=False,
        enable_checkpointing=False,
        callbacks=[watch, *callbacks],
        **trainer_options,
    )
    trainer.fit(module, batches)
    step = statistics.median(watch.steps[1:] or watch.steps)
    if every := module.options.mining.mine_every:
        step += watch.embedding * len(batches.data.train) / every
    metrics = _measure_metrics(
        module.network.embedding_dim, len(batches.data.val), batches.data.pairs
    )
    evaluation = watch.preparing + watch.evaluating * len(batches.data.val) + metrics
    return Pace(step, evaluation)


def _measure_metrics(dim: int, images: int, pairs: Pairs) -> float:
    """Return about how long the metrics of pairs take, measured with some of them."""
    every = max(1, len(pairs.same) // _PAIRS)
    some: dict[str, Any] = {
        field.name: getattr(pairs, field.name) for field in dataclasses.fields(pairs)
    }
    for name, value in some.items():
        if isinstance(value, Tensor) and len(value) == len(pairs.same):
            some[name] = value[::every]
    embeddings = normalize(torch.randn(images, dim, generator=torch.Generator().manual_seed(0)))
    start = time.perf_counter()
    verify(embeddings, Pairs(**some))
    return (time.perf_counter() - start) * every


class _StopWatch(Callback):
    """Time steps until that has taken so long, and then embedding what is verified.

    The first step does not count: it fills caches, and libraries choose their algorithms in it.

    Attributes:
        steps: seconds of each step.
        preparing: seconds from the beginning of an evaluation to its first batch.
        evaluating: seconds to embed one example as an evaluation does.
        embedding: seconds to embed one example by one pass, where there is offline mining.
    """

    def __init__(self, most: float, mining: bool) -> None:
        self.most = most
        self.mining = mining
        self.steps: list[float] = []
        self.preparing = self.evaluating = self.embedding = 0.0
        self._start = 0.0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock, at the first step; later on it runs from the end of the one before."""
        self._start = self._start or time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop the clock, and the steps where that is enough."""
        outputs["loss"].item()  # waits for the device
        now = time.perf_counter()
        self.steps.append(now - self._start)
        self._start = now
        if sum(self.steps) > self.most and len(self.steps) >= _LEAST_STEPS:
            trainer.should_stop = True

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop the clock, and start it again."""
        now = time.perf_counter()
        self.preparing, self._start = now - self._start, now

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop it, and measure one pass where that is what is mined with."""
        self.evaluating = (time.perf_counter() - self._start) / len(batch[0])
        if self.mining:
            assert isinstance(pl_module, EmbeddingModule)
            start = time.perf_counter()
            pl_module.embed_once(batch[0]).cpu()
            self.embedding = (time.perf_counter() - start) / len(batch[0])
