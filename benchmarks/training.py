"""Training steps as `facenet train` takes them: images per second, and the loss's share."""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable

import torch

from benchmarks.results import TrainingStep
from facenet_ext.cli.train_options import parse
from facenet_ext.micro_batches import embed_in_micro_batches
from facenet_ext.train.module import EmbeddingModule
from facenet_ext.train.optimization import make_optimizer

# Preset, network, images in a batch, images of each identity: the defaults for faces, and the
# paper's batch.
SUBJECTS = (
    ("faces", "small", 480, 3),
    ("faces", "small", 1800, 40),
    ("paper", "nn4", 1800, 40),
)
QUICK = SUBJECTS[:1]
_REPEATS = 3


def measure(quick: bool, threads: int, tell: Callable[[str], None]) -> list[TrainingStep]:
    """Measure every subject."""
    torch.set_num_threads(threads)
    steps = []
    for subject in QUICK if quick else SUBJECTS:
        steps.append(_measure(*subject))
        tell(describe(steps[-1]))
    return steps


def describe(step: TrainingStep) -> str:
    """A line for one subject."""
    return (
        f"  {step.network}, batch {step.batch}: {step.batch / step.seconds:.0f} images/s, "
        f"the loss takes {step.loss_seconds / step.seconds:.2%} of a step"
    )


def _measure(preset: str, network: str, batch: int, per_class: int) -> TrainingStep:
    arguments = ["--preset", preset, "--data", "images", "--model", network]
    options = parse([*arguments, "--precision", "32-true"], "benchmarks").options
    size = options.data.image_size
    module = EmbeddingModule(options, (1, size, size), steps=1)
    optimizer = make_optimizer(module.network, options.optimizer)
    images = torch.randint(256, (batch, 1, size, size), dtype=torch.uint8)
    labels = torch.arange(batch) // per_class
    micro_batch = options.batch.micro_batch or 480

    def step() -> None:
        inputs = module.augment(images).to(memory_format=torch.channels_last)
        embeddings = embed_in_micro_batches(module.network, inputs, micro_batch)
        optimizer.zero_grad()
        module.batch_loss(images, embeddings, labels).backward()
        optimizer.step()

    embeddings = torch.nn.functional.normalize(torch.randn(batch, module.network.embedding_dim))
    embeddings.requires_grad_()

    def loss() -> None:
        module.batch_loss(images, embeddings, labels).backward()

    return TrainingStep(
        network=network,
        input_size=options.data.input_size,
        batch=batch,
        micro_batch=micro_batch,
        seconds=_median(step),
        loss_seconds=_median(loss),
    )


def _median(call: Callable[[], None]) -> float:
    return statistics.median(timeit.repeat(call, number=1, repeat=1 + _REPEATS)[1:])
