"""Cuts photos in which no face was found: where faces lie in the other photos."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facenet_ext.faces.cut import FaceCut
from facenet_ext.faces.detection import Face


class Place(NamedTuple):
    """Where a cut lies in its photo, in units of the photo's shorter side.

    Attributes:
        x: from the photo's centre to the cut's, to the right.
        y: the same, down.
        side: of the cut.
    """

    x: float
    y: float
    side: float

    @classmethod
    def of(cls, cut: FaceCut, face: Face, photo: Sequence[int]) -> Place:
        """Return the place of a face's cut in a photo of so many pixels across and down."""
        position = cut.position(face)
        x, y = position @ [cut.size / 2, cut.size / 2, 1]
        shorter = min(photo)
        side = math.hypot(*position[:, 0]) * cut.size
        return cls((x - photo[0] / 2) / shorter, (y - photo[1] / 2) / shorter, side / shorter)

    @classmethod
    def median(cls, places: Iterable[Place]) -> Place | None:
        """Return the medians of each number; None of no places.

        Example:
            >>> Place.median([Place(0, 0.1, 1), Place(0.2, 0, 0.9), Place(0.1, 0.3, 2)])
            Place(x=0.1, y=0.1, side=1.0)
        """
        values = np.array(list(places), np.float64)
        return cls(*np.median(values, axis=0).tolist()) if len(values) else None

    def position(self, size: int, photo: Sequence[int]) -> NDArray[np.float64]:
        """Return where a cut of ``size`` pixels lies in another photo, not turned.

        See :meth:`.FaceCut.position`.
        """
        shorter = min(photo)
        scale = self.side * shorter / size
        x, y = (
            extent / 2 + (offset - self.side / 2) * shorter
            for extent, offset in zip(photo, self[:2], strict=True)
        )
        return np.array([[scale, 0.0, x], [0.0, scale, y]])
