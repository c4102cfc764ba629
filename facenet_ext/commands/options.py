"""The options of each command but ``train``: its parser is built from them, it is called with them.

Nothing here imports torch, so that ``--help`` is there at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt

from facenet_ext._defaults import EMBEDDING_BATCH, MINING_BLOCK, MINING_CHUNK
from facenet_ext._rule import Deterministic, Distance, Positives
from facenet_ext.common.options import argument, option
from facenet_ext.embedding.folders import EVALUATION
from facenet_ext.embedding.options import Margin

__all__ = [
    "BenchOptions",
    "CheckpointOptions",
    "ClusterOptions",
    "CommandOptions",
    "CompletionOptions",
    "EmbedOptions",
    "EvaluateOptions",
    "ExportOptions",
    "HarmonizeOptions",
    "IdentifyOptions",
    "MineOptions",
    "ModelsOptions",
    "ThresholdOptions",
    "VerifyOptions",
]


@dataclass(frozen=True, kw_only=True)
class CommandOptions:
    """What every command takes."""

    json: bool = option(False, "print JSON, for programs")


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions(CommandOptions):
    """Trained model."""

    checkpoint: str | None = option(
        None, "a run's folder or .ckpt file; by default the latest run in runs/"
    )
    views: Literal["all", "one"] = option(
        "all",
        "passes through the network per image: all that the run verified with, or one, which is "
        "faster and less accurate",
    )
    device: str = option("cpu", "where to compute: cpu, cuda")
    batch: int = option(EMBEDDING_BATCH, "images at once", PositiveInt)


@dataclass(frozen=True, kw_only=True)
class ThresholdOptions(CheckpointOptions):
    """How close is close enough."""

    threshold: float | None = option(
        None,
        "squared distance; by default the one that the model's accuracy was measured with",
        PositiveFloat,
    )
    far: float | None = option(
        None,
        "take the threshold with this false accept rate at the model's evaluation",
        PositiveFloat,
    )


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(ThresholdOptions):
    """``facenet verify``."""

    first: str = argument("an image")
    second: str = argument("another one")


@dataclass(frozen=True, kw_only=True)
class IdentifyOptions(ThresholdOptions):
    """``facenet identify``."""

    gallery: str = argument("a folder gallery/<identity>/<image>, or embeddings of one")
    probe: str = argument("an image, a folder of images, or embeddings")
    top: int = option(5, "identities to name, 1 to 100", PositiveInt)
    output: str | None = option(
        None,
        "a folder for identified.csv, and for curves where the probes' identities are known",
    )


@dataclass(frozen=True, kw_only=True)
class ClusterOptions(ThresholdOptions):
    """``facenet cluster``."""

    source: str = argument("a folder of images, of any depth, or embeddings of one")
    output: str = option("clusters", "folder for the clusters and contact sheets")
    images: str | None = option(
        None, "the folder that stored embeddings are of, for the contact sheets"
    )
    linkage: Literal["average", "single"] = option(
        "average", "distance of two clusters: the mean of all pairs, or the closest pair"
    )
    sheets: int = option(50, "contact sheets, of the largest clusters", NonNegativeInt)
    sheet_images: int = option(48, "images of a contact sheet at most", PositiveInt)


@dataclass(frozen=True, kw_only=True)
class EmbedOptions(CheckpointOptions):
    """``facenet embed``."""

    images: str = argument("a folder of images, of any depth, or one image")
    output: str = option("embeddings", "the folder to write")
    on_unreadable: Literal["skip", "stop"] = option(
        "skip", "what to do about images that cannot be read; skipped ones are listed"
    )


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(CheckpointOptions):
    """``facenet evaluate``."""

    data: str | None = option(
        None, "'lfw', a folder <identity>/<image>, or an archive; by default the run's"
    )
    pairs: str | None = option(
        None, "LFW's pairs.txt, YouTube Faces' splits.txt, or a .csv first,second,same[,fold]"
    )
    all_pairs: bool = option(False, "VAL and FAR over all pairs of the images too")
    far: float = option(1e-3, "false accept rate of --all-pairs", PositiveFloat)
    quality: int = option(
        600, "images to verify compressed and small as well; 0: none", NonNegativeInt
    )
    output: str | None = option(None, f"folder to write; by default {EVALUATION}/ in the run's")


@dataclass(frozen=True, kw_only=True)
class MineOptions(CommandOptions):
    """``facenet mine``."""

    source: str = argument(
        "a run's folder or .ckpt file to embed --data with; or embeddings, of 'facenet embed' or "
        "an .npy"
    )
    data: str | None = option(None, "images, as for train; by default the run's")
    labels: str | None = option(None, "of an .npy of embeddings: .npy, [N] integers")
    names: str | None = option(None, "of an .npy of embeddings: a text file, a line each")
    output: str = option("mined", "folder for triplets and suspects")
    positives: str = option("hardest", "as for train", Positives)
    negatives: str = option("semihard", "as for train", Deterministic)
    distance: str = option("sqeuclidean", "as for train", Distance)
    margin: float = option(0.2, "of --within-margin", Margin)
    within_margin: bool = option(False, "semi-hard negatives inside the margin only")
    suspects: int = option(48, "probable mistakes to report; 0 is none", NonNegativeInt)
    block: int = option(MINING_BLOCK, "anchors at once", PositiveInt)
    chunk: int = option(MINING_CHUNK, "candidates at once", PositiveInt)
    device: str = option("cpu", "where to compute: cpu, cuda")


@dataclass(frozen=True, kw_only=True)
class HarmonizeOptions(CommandOptions):
    """``facenet harmonize``."""

    old: str = argument("the old model: a run's folder, or a .ckpt file")
    new: str | None = option(
        None,
        "the new model, trained on its own; by default one is trained as the old one was, with "
        "another seed",
    )
    data: str | None = option(None, "images, as for train; by default the new run's")
    output: str = option("runs/harmonic", "folder of the runs and report")
    layer_steps: int = option(200, "steps of the last layer alone", PositiveInt)
    steps: int = option(800, "steps of all of it", PositiveInt)
    lr: float | None = option(None, "learning rate; by default the new run's", PositiveFloat)


@dataclass(frozen=True, kw_only=True)
class ModelsOptions(CommandOptions):
    """``facenet models``."""

    in_channels: int = option(3, "1 grey, 3 colour", PositiveInt)
    embedding_dim: int = option(128, "of an embedding", PositiveInt)
    batch_norm: bool = option(False, "batch normalisation in the paper's networks")
    batch: int = option(8, "images timed at once", PositiveInt)
    repeats: int = option(5, "times to measure; 0 measures no time", NonNegativeInt)


@dataclass(frozen=True, kw_only=True)
class BenchOptions(CommandOptions):
    """``facenet bench``."""

    rows: int = option(16_384, "embeddings", PositiveInt)
    dim: int = option(128, "numbers of an embedding", PositiveInt)
    batch: int = option(1800, "of the loss, 40 of each identity", PositiveInt)
    repeats: int = option(5, "of each measurement", PositiveInt)
    threads: int | None = option(None, "of the CPU", PositiveInt)
    device: str = option("cpu", "where to compute: cpu, cuda")


@dataclass(frozen=True, kw_only=True)
class ExportOptions(CommandOptions):
    """``facenet export``."""

    checkpoint: str = argument("a run's folder, or a .ckpt file")
    output: str = argument("the .onnx file to write")


@dataclass(frozen=True, kw_only=True)
class CompletionOptions:
    """``facenet completion``."""

    shell: Literal["bash", "zsh", "fish"] = argument("whose language to print")
