"""Detectors that find faces where a test wants them: ``--detector detectors:one``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_ext.faces import TEMPLATE

Found = tuple[Any, Any, Any]


def one(photo: NDArray[np.uint8]) -> Found:
    """A face in the middle half of every photo that is not black."""
    if not photo.any():
        return [], [], []
    height, width, _ = photo.shape
    side = min(height, width) / 2
    left, top = (width - side) / 2, (height - side) / 2
    points = TEMPLATE / 112 * side + [left, top]
    return [[left, top, left + side, top + side]], [points], [0.95]


def boxes(photo: NDArray[np.uint8]) -> Found:
    """What has boxes alone."""
    found, _, scores = one(photo)
    return found, None, scores


class Three:
    """A small face in the middle, a large one on the left, one that is not sure on the right."""

    def __call__(self, photo: NDArray[np.uint8]) -> Found:
        height, width, _ = photo.shape
        places = np.array(
            [
                [width / 2 - 25, height / 2 - 25, width / 2 + 25, height / 2 + 25],
                [10, 10, 90, 90],
                [width - 90, 10, width - 5, 95],
            ]
        )
        sides = places[:, 2:] - places[:, :2]
        points = TEMPLATE[None] / 112 * sides[:, None] + places[:, None, :2]
        return places, points, [0.99, 0.95, 0.5]


def broken(photo: NDArray[np.uint8]) -> Found:
    raise RuntimeError("out of order")


def needs_more(photo: NDArray[np.uint8], size: int) -> Found:
    raise AssertionError(size)


number = 3
