"""Plans how many steps fit into ``--max-minutes``: some are measured first, on a copy."""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn.functional import normalize

from facenet_ext._ranks import Ranks
from facenet_ext.data.pairs import Pairs
from facenet_ext.evaluation.verification import verify
from facenet_ext.train.data import Batches
from facenet_ext.train.module import EmbeddingModule

_LEAST_STEPS = 2
_MEASURING, _MOST_MEASURING = 0.03, 15.0
"""Share of the time that goes into measuring, and seconds at most, unless two steps take more."""

_EVALUATING = 0.25
"""Share of the time that may go into evaluations, unless one alone takes more."""

_RESERVE = 0.1
"""Share of the time for the report, and for steps that take longer than those measured."""

_EMBEDDED = 256
"""Examples that are embedded at once to measure how long it takes."""

_PAIRS = 100_000
"""Pairs that are verified to measure how long all of them take."""


class Pace(NamedTuple):
    """Measured times, in seconds.

    Attributes:
        step: of a training step, with its share of offline mining.
        evaluation: of one evaluation.
    """

    step: float
    evaluation: float


class Plan(NamedTuple):
    """What fits into the time.

    Attributes:
        steps: number of training steps.
        evaluations: number of evaluations; the last one comes after the last step.
    """

    steps: int
    evaluations: int


def plan_steps(pace: Pace, seconds: float, evaluations: int, most: int | None = None) -> Plan:
    """Return the steps and evaluations that fit into some time.

    Args:
        pace: the measured times.
        seconds: the time that is left.
        evaluations: the wanted number; fewer where they would take more than a quarter of the time.
        most: the largest number of steps, or None for as many as fit.

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
    **trainer_options: Any,
) -> Pace:
    """Measure some steps and a part of an evaluation.

    Args:
        module: a copy of the module to train, without pairs. Measuring trains it: discard it then.
        batches: of the run.
        seconds: the time that the run may take; a small share of it goes into measuring.
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
        callbacks=[watch],
        **trainer_options,
    )
    trainer.fit(module, batches)
    ranks = Ranks.of()
    step = statistics.median(watch.steps[1:] or watch.steps)
    if every := module.options.mining.mine_every:
        step += watch.embedding / ranks.size * len(batches.data.train) / every
    metrics = _measure_metrics(module.embedding_dim, len(batches.data.val), batches.data.pairs)
    evaluation = watch.preparing + watch.evaluating / ranks.size * len(batches.data.val) + metrics
    return Pace(step, evaluation)


def _measure_metrics(dim: int, images: int, pairs: Pairs) -> float:
    """Estimate the time that the metrics of all pairs take, from some of them."""
    every = max(1, len(pairs.same) // _PAIRS)
    names = ("first", "second", "same", "folds")
    some: dict[str, Any] = {name: getattr(pairs, name)[::every] for name in names}
    embeddings = normalize(torch.randn(images, dim, generator=torch.Generator().manual_seed(0)))
    start = time.perf_counter()
    verify(embeddings, dataclasses.replace(pairs, **some))
    return (time.perf_counter() - start) * every


class _StopWatch(Callback):
    """Time training steps, for ``most`` seconds, and then a part of an evaluation.

    The first step is a warm-up: it fills caches, and libraries choose their algorithms in it.

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

    def on_train_batch_start(self, *_: Any, **__: Any) -> None:
        """Start the clock at the first step; that of a later step starts as the last one ends."""
        self._start = self._start or time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any, **__: Any
    ) -> None:
        """Note the step's time, and stop training when ``most`` is reached."""
        outputs["loss"].item()  # waits for the device
        now = time.perf_counter()
        self.steps.append(now - self._start)
        self._start = now
        stop = sum(self.steps) > self.most and len(self.steps) >= _LEAST_STEPS
        ranks = Ranks.of()
        if ranks.all_reduce(torch.tensor(int(stop), device=ranks.device)) > 0:
            trainer.should_stop = True

    def on_validation_start(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_validation_batch_start(self, *_: Any, **__: Any) -> None:
        """Note the time of what comes before the first batch, and start the clock again."""
        now = time.perf_counter()
        self.preparing, self._start = now - self._start, now

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        *_: Any,
        **__: Any,
    ) -> None:
        """Note the time of the batch; with offline mining, also measure embedding by one pass."""
        self.evaluating = (time.perf_counter() - self._start) / len(batch[0])
        if self.mining:
            assert isinstance(pl_module, EmbeddingModule)
            start = time.perf_counter()
            some = batch[0][:_EMBEDDED]
            pl_module.embed_once(some).cpu()
            self.embedding = (time.perf_counter() - start) / len(some)
