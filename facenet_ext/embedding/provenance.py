"""What a checkpoint says about its training, and whether other images are like those of it."""

from __future__ import annotations

import dataclasses
import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from facenet_ext.common.errors import InputError
from facenet_ext.data.decoding import LazyImages
from facenet_ext.data.image_set import ImageSet, Readable
from facenet_ext.data.images import UnreadableImageError, decode
from facenet_ext.faces.cut import FaceCut
from facenet_ext.models import members_of

if TYPE_CHECKING:
    from facenet_ext.embedding.embedder import Embedder

_SAMPLE = 200
"""Most training images that are looked at: a few show their kind."""

_COMPONENTS = 64
_SHRINKAGE = 0.05
_COLOURFUL = 8.0  # mean difference of red, green and blue, of 255: JPEG alone makes less
_SIDES = 2.0  # how much larger or smaller an image may be
_ASPECT = 1.25


class Look(NamedTuple):
    """What an image file is like.

    Attributes:
        width: pixels, of the upright image.
        height: the same.
        colour: whether it has colours.
        cut: how it was cut out of a photo, where the file says it.
    """

    width: int
    height: int
    colour: bool
    cut: FaceCut | None = None

    def __str__(self) -> str:
        return f"{self.width} x {self.height} pixels, {'in colour' if self.colour else 'grey'}"


class ImageKind(NamedTuple):
    """What the image files of a training are like: ranges that hold 98 of 100 of them.

    Attributes:
        width: pixels, smallest and largest.
        height: the same.
        aspect: width over height, smallest and largest.
        colour: share of the images that has colours.
    """

    width: tuple[float, float]
    height: tuple[float, float]
    aspect: tuple[float, float]
    colour: float

    @classmethod
    def of(cls, looks: Sequence[Look]) -> ImageKind:
        """Return the kind of some images.

        Example:
            >>> ImageKind.of([Look(96, 112, False), Look(96, 112, False)]).height
            (112.0, 112.0)
        """
        return cls(
            _range([look.width for look in looks]),
            _range([look.height for look in looks]),
            _range([look.width / look.height for look in looks]),
            sum(look.colour for look in looks) / len(looks),
        )

    def __str__(self) -> str:
        width, height = (
            f"{lo:.0f}" if round(lo) == round(hi) else f"{lo:.0f} to {hi:.0f}"
            for lo, hi in (self.width, self.height)
        )
        colours = "in colour" if self.colour > 0.98 else "grey" if self.colour < 0.02 else ""
        return f"{width} x {height} pixels" + (f", {colours}" if colours else "")

    def fits(self, look: Look) -> bool:
        """Whether an image is like these in size and shape, and in having colours or none.

        Example:
            >>> kind = ImageKind.of([Look(96, 96, False)])
            >>> kind.fits(Look(112, 112, False)), kind.fits(Look(500, 700, True))
            (True, False)
        """
        sides = (
            low / _SIDES <= side <= high * _SIDES
            for side, (low, high) in ((look.width, self.width), (look.height, self.height))
        )
        low, high = self.aspect
        colour_known = 0.98 >= self.colour >= 0.02
        return (
            all(sides)
            and low / _ASPECT <= look.width / look.height <= high * _ASPECT
            and (colour_known or look.colour == (self.colour > 0.5))
        )


DIGITS = ImageKind((8.0, 8.0), (8.0, 8.0), (1.0, 1.0), 0.0)
"""What scikit-learn's digits are like."""


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.quantile(values, [0.01, 0.99]).tolist()
    return low, high


def spread_out(count: int, most: int) -> list[int]:
    """Return at most ``most`` of ``count`` positions, evenly spread.

    Example:
        >>> spread_out(100, 4)
        [0, 33, 66, 99]
    """
    if count <= most:
        return list(range(count))
    return [round(row * (count - 1) / (most - 1)) for row in range(most)]


def look_at_row(images: Readable, row: int) -> Look | None:
    """Return what an image of a set is like; None where it cannot be read."""
    try:
        return look_at(images.read(row))
    except (OSError, InputError):
        return None


def look_at(content: bytes) -> Look | None:
    """Return what an image is like, from the bytes of its file; None where it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are shown when the image is used
            with Image.open(io.BytesIO(content)) as file:
                width, height = file.size
                cut = FaceCut.of_file(file)
                try:
                    turned = file.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
                except Exception:  # a damaged file may raise any kind
                    turned = False
            pixels = torch.from_numpy(decode(content, "", 32, 3)).permute(2, 0, 1).float()
    except (OSError, ValueError, SyntaxError, UnreadableImageError, Image.DecompressionBombError):
        return None
    colour = float((pixels.amax(0) - pixels.amin(0)).mean()) > _COLOURFUL
    sides = (height, width) if turned else (width, height)
    return Look(*sides, colour, cut)


def _features(embedder: Embedder, examples: Tensor) -> Tensor:
    """Return the inputs of the networks' last layers, averaged over positions: [N, F]."""
    seen: list[Tensor] = []

    def keep(features: Tensor) -> None:
        seen.append(features.flatten(2).mean(2) if features.ndim > 2 else features)

    handles = [member.on_features(keep) for member in members_of(embedder.network)]
    try:
        with torch.no_grad():
            embedder.embed_once(examples.to(embedder.device))
    finally:
        for handle in handles:
            handle.remove()
    return torch.cat(seen, 1).float().cpu()


class FeatureRange(NamedTuple):
    r"""The range of a network's features for images of its training; it knows nothing outside.

    How far features lie outside is their Mahalanobis distance from those of the training images:

    .. math:: s(x) = (x - \mu)^T (\Sigma + \lambda I)^{-1} (x - \mu)

    Embeddings say less than features: the unit sphere and the loss bring images that the network
    does not know near to those that it knows. Only the largest components of the covariance are
    kept.

    Attributes:
        mean: [F] float32.
        directions: [K, F] float32, of length 1 each, of the largest components.
        variances: [K] float32, along each, with lambda.
        rest: the variance along every other direction.
        usual: the distance up to which 99 of 100 held-out images lie, of people that are not in
            the training.
        largest: the largest distance of a held-out image.

    Source: Lee et al., *A Simple Unified Framework for Detecting Out-of-Distribution Samples and
    Adversarial Attacks*, NeurIPS 2018.
    """

    mean: Tensor
    directions: Tensor
    variances: Tensor
    rest: float
    usual: float
    largest: float

    @classmethod
    def measure(cls, embedder: Embedder, train: Tensor, held_out: Tensor) -> FeatureRange:
        """Measure the range.

        Args:
            embedder: in evaluation mode.
            train: [N, C, H, W] uint8, images of the training.
            held_out: [M, C, H, W] uint8, images of other people.
        """
        features = _features(embedder, train)
        mean = features.mean(0)
        _, values, directions = torch.linalg.svd(features - mean, full_matrices=False)
        variances = values.square() / len(features)
        shrinkage = _SHRINKAGE * float(variances.sum()) / features.shape[1] + 1e-12
        kept = variances[:_COMPONENTS] + shrinkage
        plain = cls(mean, directions[:_COMPONENTS].clone(), kept, shrinkage, 0.0, 0.0)
        distances = plain._of(_features(embedder, held_out))
        return plain._replace(
            usual=float(np.quantile(distances.numpy(), 0.99)), largest=distances.max().item()
        )

    def distances(self, embedder: Embedder, images: Tensor) -> Tensor:
        """Return how far the features of [N, C, H, W] uint8 images lie outside: [N]."""
        return self._of(_features(embedder, images))

    def _of(self, features: Tensor) -> Tensor:
        centred = features - self.mean
        along = (centred @ self.directions.T).square()
        across = (centred.square().sum(1) - along.sum(1)).clamp(min=0)
        return (along / self.variances).sum(1) + across / self.rest


class Training(NamedTuple):
    """What is known of a training. None stands for what is not known, as of older checkpoints.

    Attributes:
        data: the value of ``--data``.
        images: how many images it learned from.
        identities: how many identities these are of.
        kind: what their files are like.
        features: the range of the network's features.
        steps: steps that were made.
        planned: steps of the whole schedule.
        measured: the step at which the range was measured. It says nothing of the weights of
            another step.
        cut: how the faces that it learned from were cut out of photos, where all of those that were
            looked at say the same: see ``facenet align``.
    """

    data: str
    images: int | None = None
    identities: int | None = None
    kind: ImageKind | None = None
    features: FeatureRange | None = None
    steps: int | None = None
    planned: int | None = None
    measured: int | None = None
    cut: FaceCut | None = None

    @classmethod
    def start(cls, data: str, labels: Tensor, images: ImageSet | None) -> Training:
        """Return what is known of a training before its first step.

        Args:
            data: the value of ``--data``.
            labels: of the examples that it learns from.
            images: the encoded images; None where the data has none.
        """
        rows = [] if images is None else spread_out(len(images), _SAMPLE)
        looks = [look_at_row(images, row) for row in rows if images is not None]
        readable = [look for look in looks if look is not None]
        kind = ImageKind.of(readable) if readable else DIGITS if data == "digits" else None
        cuts = {look.cut for look in readable}
        cut = cuts.pop() if len(cuts) == 1 else None
        return cls(data, len(labels), len(set(labels.tolist())), kind, cut=cut)

    def with_range(
        self,
        embedder: Embedder,
        train: Tensor | LazyImages,
        held_out: Tensor | LazyImages,
        step: int,
    ) -> Training:
        """Return it with the range of the network's features at a step, measured on a sample."""
        parts = [part[spread_out(len(part), _SAMPLE)] for part in (train, held_out)]
        features = FeatureRange.measure(embedder, *parts)
        return self._replace(features=features, measured=step)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data and tensors, for a checkpoint."""
        kept = self._asdict()
        kept["kind"] = None if self.kind is None else self.kind._asdict()
        kept["features"] = None if self.features is None else self.features._asdict()
        kept["cut"] = None if self.cut is None else dataclasses.asdict(self.cut)
        return kept

    @classmethod
    def read(cls, kept: dict[str, Any], steps: Any = None) -> Training:
        """Return what a checkpoint says about its training; entries may be missing or damaged.

        Args:
            kept: the checkpoint's entry ``facenet_ext``.
            steps: the step after which it was written.
        """
        data = str(kept.get("options", {}).get("data", ""))
        steps = steps if isinstance(steps, int) else None
        plain = cls(data, kind=DIGITS if data == "digits" else None, steps=steps)
        entry = kept.get("training")
        try:
            if not isinstance(entry, dict):
                return plain
            kind, features = entry["kind"], entry["features"]
            if entry["measured"] != steps:
                features = None
            return cls(**entry)._replace(
                kind=None if kind is None else ImageKind(**kind),
                features=None if features is None else FeatureRange(**features),
                cut=FaceCut.read(entry.get("cut")),
                steps=steps,
            )
        except (TypeError, KeyError):  # of another version
            return plain
