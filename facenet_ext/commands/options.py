"""The other commands than ``train``, ``evaluate`` and ``compare``: their help and their options.

The docstring of a class is the description in its ``--help``, which is there at once: nothing here
imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from facenet_ext._defaults import (
    DEFAULT_DETECTOR,
    EMBEDDING_BATCH,
    MIN_FACE_SIZE,
    MIN_SCORE,
    MINING_BLOCK,
    MINING_CHUNK,
)
from facenet_ext._rule import Deterministic, Distance, Positives
from facenet_ext.common.options import argument, option
from facenet_ext.data.names import Format
from facenet_ext.embedding.options import Margin, OwnNetwork

OWN_MODEL = (
    "package.module:function that builds the network, if it is one of your own: a checkpoint alone "
    "never has code imported"
)


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
    model: str | None = option(None, OWN_MODEL, OwnNetwork)
    views: Literal["all", "one"] = option(
        "all",
        "passes through the network per image: all that the run verified with, or one, which is "
        "faster and less accurate",
    )
    device: str = option("cpu", "where to compute: cpu, cuda")
    batch: int = option(EMBEDDING_BATCH, "images at once", PositiveInt)


@dataclass(frozen=True, kw_only=True)
class PhotoOptions(CheckpointOptions):
    """Photos as they are."""

    align: bool = option(
        False,
        "find the largest face of each photo, and cut it out as the model's training faces were",
    )
    detector: str = option(
        DEFAULT_DETECTOR, "what finds the faces: mtcnn, or module:function for another one"
    )


@dataclass(frozen=True, kw_only=True)
class ThresholdOptions(PhotoOptions):
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
    """Tell whether two images are of one person.

    The exit status is 0 if they are, 1 if they are not.
    """

    examples = """
        facenet verify a.jpg b.jpg
        facenet verify a.jpg b.jpg --far 0.001 && echo same
        facenet verify photo.jpg other.jpg --align
        facenet verify a.jpg b.jpg --checkpoint runs/faces-20260101-120000 --threshold 1.1"""

    first: str = argument("an image")
    second: str = argument("another one")


@dataclass(frozen=True, kw_only=True)
class IdentifyOptions(ThresholdOptions):
    """Find the identities of a gallery that are closest to each probe.

    A probe that is farther than the threshold from all of them is unknown. A probe that is an image
    of the gallery itself is compared with the other images only. Where the probes lie in folders
    with the names of the gallery's, tells who was recognised and who was taken for another. The
    exit status is 1 if nobody gets a name.
    """

    examples = """
        facenet identify gallery photo.jpg
        facenet identify gallery probes --far 0.001 --output found
        facenet identify gallery_embeddings probe_embeddings --top 10 --json"""

    gallery: str = argument("images as for train, or embeddings of some")
    probe: str = argument("an image, a folder of images or another image set, or embeddings")
    top: int = option(5, "identities to name, 1 to 100", PositiveInt)
    output: str | None = option(
        None,
        "a folder for identified.csv, and for curves where the probes' identities are known",
    )


@dataclass(frozen=True, kw_only=True)
class ClusterOptions(ThresholdOptions):
    """Group images by who is on them.

    This is agglomerative clustering, up to the threshold, without a matrix of all distances. The
    exit status is 1 if no two images belong together.
    """

    examples = """
        facenet cluster photos --output people
        facenet cluster embeddings --images photos --far 0.001 --json"""

    source: str = argument(
        "a folder of images, of any depth, another image set, or embeddings of one"
    )
    output: str = option("clusters", "folder for the clusters and contact sheets")
    images: str | None = option(
        None, "the images that stored embeddings are of, for the contact sheets"
    )
    linkage: Literal["average", "single"] = option(
        "average", "distance of two clusters: the mean of all pairs, or the closest pair"
    )
    sheets: int = option(50, "contact sheets, of the largest clusters", NonNegativeInt)
    sheet_images: int = option(48, "images of a contact sheet at most", PositiveInt)


@dataclass(frozen=True, kw_only=True)
class EmbedOptions(PhotoOptions):
    """Embed all images under a folder into another folder.

    Written are embeddings.npy, ids.txt, identities.txt (the folder of each image) and store.json
    (the model). An interrupted run goes on where it was when the same command is given again.
    """

    examples = """
        facenet embed faces --output gallery
        facenet embed faces --checkpoint runs/faces-20260101-120000 --views one --json"""

    images: str = argument("a folder of images, of any depth, another image set, or one image")
    output: str = option("embeddings", "the folder to write")
    on_unreadable: Literal["skip", "stop"] = option(
        "skip", "what to do about images that cannot be read; skipped ones are listed"
    )


@dataclass(frozen=True, kw_only=True)
class AlignOptions(CommandOptions):
    """Find the faces in photos, and write each, cut out and upright, into a file of its own.

    A face has the path of its photo: photos/<identity>/<photo> becomes faces/<identity>/<photo>.
    Five points (eyes, nose, corners of the mouth) say how it is turned. Written beside the faces
    are faces.csv (boxes, points, scores), left_out.csv (photos without a face, unreadable ones) and
    report.html with contact sheets. An interrupted run goes on where it was when the same command
    is given again. The exit status is 1 if no face is found.
    """

    examples = """
        facenet align photos
        facenet align photos --output faces --faces center
        facenet align party.jpg --faces all --output guests --min-face-size 80
        facenet align photos --margin 0.25 --size 160 --json
        facenet align photos --detector my_detectors:find"""

    photos: str = argument("a folder of photos, of any depth, or one photo")
    output: str = option("faces", "the folder to write")
    faces: Literal["largest", "center", "all"] = option(
        "largest",
        "which faces of a photo: the largest one, the one closest to the centre, or all, numbered "
        "from the largest on",
    )
    margin: float | None = option(
        None,
        "cut plain squares, not turned, with this margin on each side, a share of the box's longer "
        "side; by default faces are cut upright, by five points",
        NonNegativeFloat,
    )
    size: int = option(112, "height and width of a face, pixels", PositiveInt)
    min_face_size: int = option(
        MIN_FACE_SIZE, "pixels of the smallest face to look for; smaller takes longer", PositiveInt
    )
    min_score: float = option(
        MIN_SCORE, "least score of a face; scores of mtcnn are 0.7 to 1", NonNegativeFloat
    )
    without_face: Literal["leave", "median"] = option(
        "leave",
        "a photo in which no face is found: leave it out, or cut it where the faces of the other "
        "photos lie, at the median, so that none of the images of a protocol is missing",
    )
    detector: str = option(
        DEFAULT_DETECTOR, "what finds the faces: mtcnn, or module:function for another one"
    )


@dataclass(frozen=True, kw_only=True)
class MineOptions(CommandOptions):
    """Search a whole training set, out of core, for triplets and for probable mistakes.

    Mistakes are images that are probably under the wrong name or under two. An interrupted search
    goes on where it was when the same command is given again. The exit status is 1 if there are no
    triplets.
    """

    examples = """
        facenet mine runs/faces-20260101-120000
        facenet mine runs/faces-20260101-120000 --data other/faces --negatives hardest
        facenet mine embeddings --positives all
        facenet mine embeddings.npy --labels labels.npy --output mined
        facenet mine embeddings.npy --labels labels.npy --plan 8"""

    source: str = argument(
        "a run's folder or .ckpt file to embed --data with; or embeddings, of 'facenet embed' or "
        "an .npy"
    )
    model: str | None = option(None, OWN_MODEL, OwnNetwork)
    data: str | None = option(None, "images, as for train; by default the run's")
    labels: str | None = option(
        None, "for an .npy of embeddings: an .npy of integers, the identity of each row"
    )
    names: str | None = option(
        None, "for an .npy of embeddings: a text file with the name of each row in a line"
    )
    output: str = option("mined", "folder for triplets and suspects")
    positives: str = option("hardest", "as for train", Positives)
    negatives: str = option("semihard", "as for train", Deterministic)
    distance: str = option("sqeuclidean", "as for train", Distance)
    margin: float = option(0.2, "margin for --within-margin", Margin)
    within_margin: bool = option(False, "semi-hard negatives inside the margin only")
    suspects: int = option(48, "probable mistakes to report; 0 is none", NonNegativeInt)
    block: int = option(MINING_BLOCK, "anchors at once", PositiveInt)
    chunk: int = option(MINING_CHUNK, "candidates at once", PositiveInt)
    plan: int | None = option(
        None,
        "do not search: print how much work it is, and its hours on this many processes",
        PositiveInt,
    )
    device: str = option("cpu", "where to compute: cpu, cuda")


@dataclass(frozen=True, kw_only=True)
class HarmonizeOptions(CommandOptions):
    """Train a new model so that its embeddings can be compared with those of an old one.

    Train a new last layer first, then all of it, with triplets from the embeddings of both. Report
    how well old and new embeddings are told apart. An interrupted run goes on where it was when the
    same command is given again.
    """

    examples = """
        facenet harmonize runs/old
        facenet harmonize runs/old --new runs/better --output runs/harmonic
        facenet harmonize runs/old --new runs/better --layer-steps 300 --steps 1000"""

    old: str = argument("the old model: a run's folder, or a .ckpt file")
    new: str | None = option(
        None,
        "the new model, trained on its own; by default one is trained as the old one was, with "
        "another seed",
    )
    old_model: str | None = option(None, f"for the old model: {OWN_MODEL}", OwnNetwork)
    new_model: str | None = option(None, "the same for the new model", OwnNetwork)
    data: str | None = option(None, "images, as for train; by default the new run's")
    output: str = option("runs/harmonic", "folder of the runs and report")
    layer_steps: int = option(200, "steps of the last layer alone", PositiveInt)
    steps: int = option(800, "steps of all of it", PositiveInt)
    lr: float | None = option(None, "learning rate; by default the new run's", PositiveFloat)


@dataclass(frozen=True, kw_only=True)
class DataOptions(CommandOptions):
    """Describe images to train on, and convert them to another format.

    Tells their format, how many images and identities there are, how many images of each, what is
    passed over and what cannot be read. Formats are folders <identity>/<image> and archives of
    them, InsightFace's .rec with its .idx, WebDataset's .tar shards, and Parquet. An interrupted
    conversion goes on where it was when the same command is given again.
    """

    examples = """
        facenet data faces
        facenet data faces.rec --check all --json
        facenet data 'shards/shard-{000..127}.tar'
        facenet data faces.rec --to shards"""

    data: str = argument("images, as for train: a path, a glob, or a pattern in braces")
    to: str | None = option(None, "a folder to write the same images to")
    format: Format = option(
        "shards", "what to write: WebDataset shards, InsightFace's .rec, Parquet, or a folder"
    )
    part: int = option(10_000, "images of a shard or of a Parquet file", PositiveInt)
    check: Literal["sample", "all", "none"] = option(
        "sample", "images to decode, to tell which cannot be read: 1,000, all, or none"
    )


@dataclass(frozen=True, kw_only=True)
class ModelsOptions(CommandOptions):
    """Print what each network costs, also those that are registered.

    That is parameters, multiply-adds, size, and milliseconds per image on this machine. Networks
    are registered by the modules that the variable FACENET_MODELS lists.
    """

    examples = """
        facenet models
        facenet models --batch-norm --in-channels 1 --batch 32
        facenet models --repeats 0 --json
        facenet models --model nets:resnet --input-size 112"""

    model: str | None = option(None, "package.module:function to list too", OwnNetwork)
    input_size: int = option(112, "pixels that networks of your own see", PositiveInt)
    in_channels: int = option(3, "1 for grey images, 3 for colour", PositiveInt)
    embedding_dim: int = option(128, "length of an embedding", PositiveInt)
    batch_norm: bool = option(False, "batch normalisation in the paper's networks")
    batch: int = option(8, "images timed at once", PositiveInt)
    repeats: int = option(5, "times to measure; 0 measures no time", NonNegativeInt)


@dataclass(frozen=True, kw_only=True)
class BenchOptions(CommandOptions):
    """Measure the kernels on this machine, each beside the matrix product of the same pairs.

    Times are medians, in one run.
    """

    examples = """
        facenet bench
        facenet bench --rows 50000 --dim 256 --threads 4
        facenet bench --device cuda --json"""

    rows: int = option(16_384, "number of embeddings", PositiveInt)
    dim: int = option(128, "length of an embedding", PositiveInt)
    batch: int = option(1800, "rows in a batch of the loss, 40 of each identity", PositiveInt)
    repeats: int = option(5, "how often to measure", PositiveInt)
    threads: int | None = option(None, "CPU threads; all by default", PositiveInt)
    device: str = option("cpu", "where to compute: cpu, cuda")


@dataclass(frozen=True, kw_only=True)
class ExportOptions(CommandOptions):
    """Write the network of a checkpoint as ONNX, with its weights, for batches of any size.

    What it takes is the input of the network: floating-point images, cropped and scaled.
    """

    examples = "facenet export runs/faces-20260101-120000 faces.onnx"

    checkpoint: str = argument("a run's folder, or a .ckpt file")
    output: str = argument("the .onnx file to write")
    model: str | None = option(None, OWN_MODEL, OwnNetwork)


@dataclass(frozen=True, kw_only=True)
class CompletionOptions:
    """Print what lets a shell complete the commands and options of 'facenet'."""

    examples = """
        eval "$(facenet completion bash)"
        eval "$(facenet completion zsh)"
        facenet completion fish > ~/.config/fish/completions/facenet.fish"""

    shell: Literal["bash", "zsh", "fish"] = argument("whose language to print")
