"""Warns in one line where a model, or a threshold, is a bad judge of images."""

from __future__ import annotations

from pathlib import Path

import torch

from facenet_ext.common.errors import InputError
from facenet_ext.common.files import read_json
from facenet_ext.common.text import printable
from facenet_ext.data.image_list import ImageList
from facenet_ext.data.images import UnreadableImageError, read_row
from facenet_ext.embedding.embedder import Embedder
from facenet_ext.embedding.folders import METRICS
from facenet_ext.embedding.operating_points import OperatingPoints
from facenet_ext.embedding.provenance import Look, Training, look_at_row, spread_out
from facenet_ext.faces.cut import FaceCut

_MOST_FALSE_ACCEPTS = 0.05
_NEAR_CHANCE = 0.6
_LOOKED_AT = 64
_SEVERAL = 10
_MARGIN = 1.25
_SHARE = 0.2
"""From this share of odd images on there is a warning: a few training images are odd too."""

_ADVICE = "expect wrong answers, or cut faces out as there (README, 'Prepare your photos')"
_DIGITS_ADVICE = "it knows handwritten digits and no faces; train one on faces"


def warn_of_training(training: Training, checkpoint: Path | None = None) -> list[str]:
    """Return a warning where a model was trained for less than half of its schedule.

    Args:
        training: what is known of it.
        checkpoint: its file. If its run went on after it, to half of the schedule or more, there is
            no warning: this step was the best one.

    Example:
        >>> warn_of_training(Training("faces", steps=25, planned=1200))
        ['the model is barely trained: it made 25 of 1,200 planned steps']
    """
    if training.steps is None or training.planned is None:
        return []
    made = training.steps
    if checkpoint is not None:
        ended = read_json(checkpoint.resolve().parent.parent / METRICS).get("steps")
        made = max(made, ended) if isinstance(ended, int) else made
    if 2 * made >= training.planned:
        return []
    return [
        f"the model is barely trained: it made {training.steps:,} of {training.planned:,} planned "
        "steps"
    ]


def warn_of_threshold(points: OperatingPoints, threshold: float) -> list[str]:
    """Return warnings where a threshold, or any threshold, would tell people apart badly.

    Args:
        points: what an evaluation measured.
        threshold: the threshold to decide by.

    Returns:
        A sentence where the evaluation's accuracy is near chance, and one where more than 5 % of
        pairs of two people are as close as the threshold.
    """
    warnings = []
    if points.accuracy is not None and points.accuracy < _NEAR_CHANCE:
        warnings.append(
            f"the model is hardly better than guessing: at evaluation {points.accuracy:.1%} of "
            "pairs were judged rightly, and guessing judges 50 %; train longer, or on more people"
        )
    far = points.far_at(threshold)
    if far > _MOST_FALSE_ACCEPTS:
        lower = max(0.01, points.resolution)
        advice = (
            f"`far` {lower:.2g} is stricter"
            if lower < far
            else "evaluate more pairs for a stricter one"
        )
        warnings.append(
            f"the threshold {threshold:.3f} is loose: at evaluation it took {far:.1%} of pairs of "
            f"two people for one person; {advice}"
        )
    return warnings


def are_cut(images: ImageList) -> bool:
    """Whether images are faces that ``facenet align`` cut out: an evenly spread sample is."""
    looks = _look(images)
    return bool(looks) and all(look.cut is not None for _, look in looks)


def warn_of_cut(cut: FaceCut | None, images: ImageList) -> list[str]:
    """Return a warning where images may be photos, and a model knows only faces cut out of them.

    An evenly spread sample is looked at. What ``facenet align`` wrote says how it was cut.

    Args:
        cut: how the faces of the model's training were cut; None where that is not known, and then
            there is nothing to say.
        images: what the model is to embed.

    Raises:
        InputError: an image was cut otherwise than those of the training.
    """
    if cut is None:
        return []
    looks = _look(images)
    others = [(row, look.cut) for row, look in looks if look.cut and not look.cut.is_like(cut)]
    if others:
        row, other = others[0]
        raise InputError(
            f"{printable(images.path(row))}: was cut {other}, and the faces that the model was "
            f"trained on {cut}; give the photos themselves with `align`"
        )
    unknown = [row for row, look in looks if look.cut is None]
    if not unknown:
        return []
    subject = _subject(str(images.path(unknown[0])), len(unknown), len(looks))
    return [
        f"{subject} not cut out by 'facenet align', as the faces are that the model was trained on "
        f"({cut}); if these are photos, give `align`"
    ]


def warn_of_images(embedder: Embedder, images: ImageList) -> list[str]:
    """Return warnings where images differ from those that a model was trained on.

    An evenly spread sample is looked at. Its files may differ in size, shape or colour, and the
    network's features of them may lie outside the range of the training.

    Args:
        embedder: the model, in evaluation mode.
        images: what it shall embed; those that cannot be read are skipped.

    Returns:
        Two sentences at most.
    """
    training = embedder.provenance
    advice = _DIGITS_ADVICE if training.data == "digits" else _ADVICE
    chosen = spread_out(len(images), _LOOKED_AT)
    warnings = []
    if training.kind is not None:
        looks = [(row, look) for row in chosen if (look := look_at_row(images, row)) is not None]
        odd = [(row, look) for row, look in looks if not training.kind.fits(look)]
        if odd and len(odd) >= _SHARE * len(looks):
            row, look = odd[0]
            example = f"{images.path(row)} ({look})"
            warnings.append(
                f"{_subject(example, len(odd), len(looks))} unlike the images that the model was "
                f"trained on ({training.kind}): {advice}"
            )
    if training.features is not None:
        seen, pixels = [], []
        for row in chosen:
            try:
                size, channels = embedder.options.data.image_size, embedder.shape[0]
                pixels.append(read_row(images, row, size, channels))
            except UnreadableImageError:
                continue
            seen.append(row)
        if pixels:
            distances = training.features.distances(embedder, torch.stack(pixels))
            few = len(pixels) < _SEVERAL  # one of few may be odd by chance: the limit is wider
            limit = _MARGIN * training.features.largest if few else training.features.usual
            outside = [row for row, d in zip(seen, distances.tolist(), strict=True) if d > limit]
            if outside and len(outside) >= _SHARE * len(pixels):
                example = str(images.path(outside[0]))
                warnings.append(
                    f"{_subject(example, len(outside), len(pixels))} outside the range of "
                    f"what the network has learned to tell apart: {advice}"
                )
    return warnings


def _look(images: ImageList) -> list[tuple[int, Look]]:
    """What a sample of images is like, but for those that cannot be read."""
    rows = spread_out(len(images), _LOOKED_AT)
    return [(row, look) for row in rows if (look := look_at_row(images, row)) is not None]


def _subject(example: str, odd: int, count: int) -> str:
    """Return the subject of a warning and its verb, as "3 of 9 images ..., are"."""
    example = printable(example)
    if count == 1:
        return f"{example} is"
    return f"{odd} of {count} images looked at, such as {example}, are"
