"""The options of a training run: one field each, with its default and its help.

An option's value is from the first of these that has one: the command line; the file that
``--config`` names; the preset in ``cli/configs``, which ``--preset`` names or the kind of data
chooses (``digits.yaml``, ``faces.yaml``, ``features.yaml``); the field's default. ``--help`` and
``--print_config`` show the values, and a run saves them.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml  # type: ignore[import-untyped]
from jsonargparse.typing import (
    ClosedUnitInterval,
    NonNegativeFloat,
    NonNegativeInt,
    OpenUnitInterval,
    PositiveFloat,
    PositiveInt,
    restricted_number_type,
    restricted_string_type,
)

from facenet_ext._network_names import OWN, BuiltIn
from facenet_ext._rule import Deterministic, Distance, Fallback, Negatives, Positives, TripletRule
from facenet_ext.common.errors import InputError, one_line
from facenet_ext.common.options import option, rare

_Share = restricted_number_type("Share", float, [(">=", 0), ("<", 1)])
_CropShare = restricted_number_type("CropShare", float, [(">", 0), ("<=", 1)])
Margin = restricted_number_type("Margin", float, [(">", 0), ("<=", sys.float_info.max)])
_AtLeastTwo = restricted_number_type("AtLeastTwo", int, (">=", 2))
_AtLeastFour = restricted_number_type("AtLeastFour", int, (">=", 4))
OwnNetwork = restricted_string_type("OwnNetwork", OWN, docstring="package.module:function")
_AtLeastEight = restricted_number_type("AtLeastEight", int, (">=", 8))


def _one_or_more(kind: Any) -> Any:
    return kind | tuple[kind, ...]


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Data."""

    data: str = option(
        "digits",
        "'digits' (bundled with scikit-learn), or a folder root/<identity>/<image>, or a folder "
        "with such folders train/ and val/ and perhaps pairs.txt, or an archive of one, or a .rec, "
        "tar shards or Parquet (a path, a glob, or braces), or precomputed features: an .npz of "
        "arrays 'features' and 'labels'",
    )
    val: str | None = option(None, "images as for --data, or .npz, to verify on")
    pairs: str | None = option(
        None, "pairs to verify on: LFW's pairs.txt, or a .csv first,second,same[,fold]"
    )
    held_out: float = option(
        0.2, "share of the identities to verify on, unless val/ or --val has some", OpenUnitInterval
    )
    channels: Literal[1, 3] = option(1, "1 for grey, 3 for colour")
    image_size: int = option(96, "pixels that images are decoded to", _AtLeastEight)
    crop: float = option(1.0, "central share of the image that the network sees", _CropShare)
    test_shift: float = rare(
        0.0,
        "embed an image as the mean over nine crops, moved by that share of the image: steadier "
        "where faces are not well centred; 0 is one crop",
        _Share,
    )
    test_flip: bool | None = rare(
        None, "embed an example as the mean with its mirror image; by default if --flip is given"
    )
    input_size: int = option(64, "pixels of the network's input", _AtLeastEight)
    speeds: tuple[PositiveFloat, ...] = rare(
        (1.0,),
        "learn from spectrograms at these speeds; a speaker at another speed is another identity",
    )
    memory: float = rare(
        4.0,
        "GiB of decoded images to keep in memory; more are decoded when a batch needs them",
        PositiveFloat,
    )
    cache: str | None = rare(
        None,
        "folder in which decoded images are kept for later runs, and for all processes of a "
        "machine: each image is decoded once",
    )
    cache_size: float = rare(
        100.0,
        "GiB that the folder of --cache may take; what does not fit is not kept",
        PositiveFloat,
    )
    workers: int | None = rare(
        None,
        "processes that make batches ahead, where images are not in memory; 0 makes them when they "
        "are needed; by default as many as there are cores",
        NonNegativeInt,
    )

    def of(self, data: str) -> DataOptions:
        """Return options that read other data in the same way."""
        return dataclasses.replace(self, data=data, val=None, pairs=None)


@dataclasses.dataclass(frozen=True)
class BatchOptions:
    """Batches: P identities with K images each, and single images."""

    identities: int = option(32, "identities per batch (P)", _AtLeastTwo)
    images_per_identity: int = option(4, "images of each (K)", _AtLeastTwo)
    min_images: int = option(2, "images an identity needs to be one of the P", PositiveInt)
    size_cap: int = rare(
        1,
        "draw identities in proportion to their number of images, which counts up to this; 1 draws "
        "all equally often",
        PositiveInt,
    )
    repeat: bool = rare(
        True,
        "repeat images of an identity that has fewer than K; false: it has fewer in the batch too",
    )
    negatives: int = option(
        0,
        "images per batch, as negatives, of identities with too few images to be one of the P",
        NonNegativeInt,
    )
    batch_size: int | None = option(
        None, "images per batch, in place of --negatives: negatives fill it up", PositiveInt
    )
    negative_copies: int = rare(
        1,
        "copies of each negative, differently augmented; from 2 on they are each other's positives",
        PositiveInt,
    )
    micro_batch: int | None = option(
        None,
        "images embedded at once: a larger batch takes the memory of this many, and the time of "
        "one more forward; the gradient is that of the whole batch",
        _AtLeastFour,
    )


@dataclasses.dataclass(frozen=True)
class AugmentationOptions:
    """Augmentation of training images; 0 turns one off."""

    flip: bool = option(
        False,
        "mirror half of the images, and embed an image as the mean with its mirror image; for "
        "sequences, run backwards",
    )
    rotation: float = rare(0.0, "largest angle, degrees", NonNegativeFloat)
    translation: float = rare(0.0, "largest shift, share of the image", _Share)
    scale: float = rare(0.0, "largest change, share of the size", _Share)
    aspect: float = rare(0.0, "largest change, share of width over height", _Share)
    shear: float = rare(0.0, "largest shear, share of the size", _Share)
    brightness: float = rare(0.0, "largest change, share of full white", _Share)
    contrast: float = rare(0.0, "largest change, share of the contrast", _Share)
    gamma: float = rare(0.0, "largest change, share of the exponent", _Share)
    illumination: float = rare(0.0, "largest strength of a gradient of light", _Share)
    blur: float = rare(0.0, "probability of a blur", ClosedUnitInterval)
    noise: float = rare(0.0, "standard deviation, share of full white", _Share)
    erasing: float = option(0.0, "probability of blanking a rectangle", ClosedUnitInterval)


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """Model."""

    model: str = option(
        "small",
        "network: 'small' is this project's own; nn1 to nns2 are the paper's and iresnet18, 50 and "
        "100 ArcFace's, for --input-size; mlp, conv1d and conv2d are for features; "
        "package.module:function, or a registered name, is one of your own",
        BuiltIn | OwnNetwork,
    )
    standardize: bool = rare(
        True, "standardise each image by itself; false: the network gets pixels from 0 to 1"
    )
    channels_last: bool = rare(
        True, "lay out images channels-last, if a network of your own does not refuse that"
    )
    batch_norm: bool = option(
        False, "add batch normalisation to the paper's networks, which train better with it"
    )
    embedding_dim: int = option(128, "length of an embedding (D)", PositiveInt)
    width: int = option(
        32,
        "channels of the first stage of small, conv1d and conv2d, of all layers of mlp",
        PositiveInt,
    )
    stages: tuple[PositiveInt, ...] = rare(
        (1, 1, 1, 1),
        "blocks in each stage of small, conv1d and conv2d; for mlp, one hidden layer for each "
        "number",
    )
    dropout: float = option(0.2, "share of the last features that training drops", _Share)
    aligned_size: int | tuple[int, ...] | None = option(
        None,
        "let small learn to straighten images: a layer cuts a turned, scaled and shifted window of "
        "this many pixels out of each; members take several numbers in turn",
        _one_or_more(_AtLeastEight),
    )
    aligned_window: float | tuple[float, ...] = rare(
        0.875,
        "share of the image's height and width in the window before training; members take several "
        "numbers in turn",
        _one_or_more(_CropShare),
    )
    aligned_x: float | tuple[float, ...] = rare(
        0.5,
        "where the centre of the window is before training, from the left edge, 0, to the right "
        "one, 1; members take several numbers in turn",
        _one_or_more(ClosedUnitInterval),
    )
    aligned_y: float | tuple[float, ...] = rare(
        0.5, "the same from the upper edge to the lower one", _one_or_more(ClosedUnitInterval)
    )
    straighten: bool = rare(
        True, "let the windows learn to move and turn; false leaves them where they are"
    )
    members: int = option(
        1,
        "networks trained side by side, each by its own loss; an embedding joins those of all, "
        "--embedding-dim numbers each",
        PositiveInt,
    )
    wccn: bool = rare(
        False,
        "whiten embeddings by how those of one person scatter, measured on training examples at "
        "each evaluation: within-class covariance normalisation",
    )
    fisher: int = rare(
        0,
        "numbers that tell of an image what its patches look like, joined to an embedding: Fisher "
        "vectors, fitted to training images at the first evaluation, beside the network",
        NonNegativeInt,
    )
    fisher_step: int = rare(
        1,
        "take one patch of so many across and down: with 2 Fisher vectors take a third of the time",
        PositiveInt,
    )
    cohort: int = rare(
        0,
        "people of the training; an embedding tells which of them it resembles too, so that images "
        "which are near to everybody do not pass for one person",
        NonNegativeInt,
    )


@dataclasses.dataclass(frozen=True)
class LossOptions:
    """Loss; the rules are those of facenet_ext.losses.TripletLoss."""

    loss: str | tuple[str, ...] = option(
        "triplet",
        "triplet: a hinge for each selected triplet; supcon: a softmax over all pairs of an "
        "anchor; members take several in turn",
        _one_or_more(Literal["triplet", "supcon"]),
    )
    temperature: float = rare(0.1, "temperature of supcon", PositiveFloat)
    margin: float = option(0.2, "how much farther than a positive a negative must be", Margin)
    positive_rule: str = option("all", "which positives of each anchor", Positives)
    negative_rule: str = option("semihard", "which negative of each (anchor, positive)", Negatives)
    within_margin: bool = rare(False, "semi-hard negatives inside the margin only")
    fallback: str = rare("farthest", "what to take where no negative is semi-hard", Fallback)
    distance: str = option("sqeuclidean", "distance", Distance)
    smooth: bool = rare(False, "softplus in place of the hinge")
    reduction: Literal["mean", "mean_nonzero", "sum"] = rare("mean", "over triplets")

    @property
    def rule(self) -> TripletRule:
        """The rule by which the loss selects triplets."""
        return TripletRule(
            self.margin,
            self.positive_rule,
            self.negative_rule,
            self.within_margin,
            self.fallback,
            self.distance,
        )


@dataclasses.dataclass(frozen=True)
class DistillationOptions:
    """Distillation: learn to embed in one pass what a trained model embeds in many."""

    distil: str | None = option(
        None,
        "the run or checkpoint of the model to learn from, such as a committee; its options are "
        "the defaults, but for one network and one view of an image",
    )
    distil_weight: float = rare(
        4.0,
        "weight of the squared distance to that model's embeddings, beside the triplet loss",
        PositiveFloat,
    )


@dataclasses.dataclass(frozen=True)
class MiningOptions:
    """Offline mining: triplets over all training images join the batches."""

    mine_every: int = option(0, "steps between searches; 0 is no offline mining", NonNegativeInt)
    mine_start: int = rare(
        0, "steps before the first search: a random network finds nothing", NonNegativeInt
    )
    mine_subset: int | None = rare(
        None, "search among this many images, drawn anew each time; all by default", _AtLeastTwo
    )
    mine_positives: str = rare("hardest", "which positives of each image", Positives)
    mine_negatives: str = rare("semihard", "which negative of each pair", Deterministic)
    mined_triplets: int = rare(32, "mined triplets in each batch, three images each", PositiveInt)

    def rule(self, loss: LossOptions) -> TripletRule:
        """Return the rule by which triplets are mined, for a loss of these options."""
        return TripletRule(
            loss.margin,
            self.mine_positives,
            self.mine_negatives,
            fallback="drop",
            distance=loss.distance,
        )


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """Optimizer."""

    optimizer: Literal["adagrad", "sgd", "adamw"] = option("adamw", "optimizer")
    lr: float = option(1e-3, "peak learning rate", PositiveFloat)
    weight_decay: float = option(0.0, "decay of weight matrices, not of biases", NonNegativeFloat)
    momentum: float = rare(0.9, "momentum of sgd", _Share)
    accumulator: float = rare(
        0.1,
        "adagrad's initial sum of squared gradients; the smaller, the larger the first steps",
        NonNegativeFloat,
    )
    clip: float = rare(0.0, "largest norm of the gradient; 0 does not clip", NonNegativeFloat)
    schedule: Literal["constant", "cosine", "onecycle", "step"] = option(
        "cosine", "learning rate over the run; step divides it by 10 at 60 and at 85 percent"
    )
    warmup: float = rare(0.0, "share of the run in which the rate grows from 0", _Share)
    ema: float = option(0.0, "decay of the averaged weights that are evaluated; 0 is none", _Share)


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Run."""

    max_epochs: int = option(
        20, "epochs; in one, each image of the P's identities comes once on average", PositiveInt
    )
    max_steps: int | None = option(None, "batches, in place of --max-epochs", PositiveInt)
    max_minutes: float | None = option(
        None, "end the run after this time; the schedule is fitted to it", PositiveFloat
    )
    evaluations: int = option(5, "how often to evaluate during the run", PositiveInt)
    seed: int = option(0, "seed of everything random", NonNegativeInt)
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = option(
        "auto", "auto is bf16-mixed where the device computes in bfloat16, else 32-true"
    )
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = option("auto", "device to train on")
    devices: int = rare(
        1,
        "processes on each machine, a GPU each where there are GPUs; leave it out under torchrun "
        "and srun",
        PositiveInt,
    )
    nodes: int = rare(1, "machines; start the command on each of them", PositiveInt)
    sync_batch_norm: bool = rare(
        False,
        "let batch normalisation see the batch of all processes, not only a process's own part",
    )
    activation_checkpointing: bool = rare(
        False,
        "drop what is computed inside the network's blocks and compute it again in the backward: "
        "less memory, a third more time, the same gradient",
    )
    threads: int | None = option(None, "CPU threads of a process; all by default", PositiveInt)
    output: str | None = option(None, "folder of the run; runs/<data>-<date>-<time> by default")


@dataclasses.dataclass(frozen=True)
class Options:
    """Every option of a run, in groups; ``--resume`` belongs to one command, not to the run."""

    data: DataOptions = DataOptions()
    batch: BatchOptions = BatchOptions()
    augmentation: AugmentationOptions = AugmentationOptions()
    model: ModelOptions = ModelOptions()
    loss: LossOptions = LossOptions()
    distillation: DistillationOptions = DistillationOptions()
    mining: MiningOptions = MiningOptions()
    optimizer: OptimizerOptions = OptimizerOptions()
    run: RunOptions = RunOptions()

    @property
    def flips(self) -> bool:
        """Whether an embedding is the mean with that of the mirror image."""
        return self.augmentation.flip if self.data.test_flip is None else self.data.test_flip

    def flat(self) -> dict[str, Any]:
        """Return all options by name, as a config file has them."""
        flat: dict[str, Any] = {}
        for group in dataclasses.fields(self):
            flat |= dataclasses.asdict(getattr(self, group.name))
        return {name: list(v) if isinstance(v, tuple) else v for name, v in flat.items()}

    @classmethod
    def from_flat(cls, flat: dict[str, Any]) -> Options:
        """Return the options of :meth:`flat`'s result, with defaults for those it lacks."""
        return cls(
            **{
                name: group(
                    **{
                        f.name: tuple(v) if isinstance(v := flat[f.name], list) else v
                        for f in dataclasses.fields(group)
                        if f.name in flat
                    }
                )
                for name, group in groups().items()
            }
        )


def dump(options: Options) -> str:
    """Return the options as the text of a config file."""
    return str(yaml.safe_dump(options.flat(), sort_keys=False))


def read_options(path: Path) -> Options:
    """Read the options of a config file.

    Raises:
        InputError: it cannot be read, or is none.
    """
    try:
        return Options.from_flat(dict(yaml.safe_load(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not the options of a run ({one_line(error)})") from None


def groups() -> dict[str, type[Any]]:
    """Return the class of each group of options."""
    return get_type_hints(Options)


def spelled(name: str, value: Any) -> str:
    """Return an option and its value as one writes them on a command line.

    Example:
        >>> spelled("aligned_size", [72, 48]), spelled("max_steps", None)
        ('--aligned-size [72,48]', '--max-steps null')
    """
    return f"--{name.replace('_', '-')} {text_of(value)}"


def text_of(value: Any) -> str:
    """Return a value as one writes it on a command line."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def is_features(data: str) -> bool:
    """Return whether ``--data`` or ``--val`` names precomputed features."""
    return data.endswith(".npz")
