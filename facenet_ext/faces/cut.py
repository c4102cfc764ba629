"""Cuts a face out of a photo, and marks the file that it is written to with how that was done."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from facenet_ext._defaults import DEFAULT_DETECTOR

if TYPE_CHECKING:
    from facenet_ext.faces.detection import Face

__all__ = ["TEMPLATE", "FaceCut"]

TEMPLATE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
"""Where the points of an upright face lie in 112 x 112 pixels, [5, 2] as (x, y).

The eyes, the tip of the nose and the corners of the mouth, of either pair first the one on the left
of the image. (0, 0) is the centre of the first pixel. Data sets for face recognition are cut so.

Source: Deng et al., *ArcFace: Additive Angular Margin Loss for Deep Face Recognition*, CVPR 2019,
its published code.
"""
_SIDE = 112

_MARK = "facenet_ext face, cut "
_LONGEST_MARK = 4096  # a file may say anything
_QUALITY = 95


@dataclasses.dataclass(frozen=True)
class FaceCut:
    r"""How faces are cut out of photos.

    By five points: a similarity transform (turn, scale, shift) lays the points of a face on those
    of ``TEMPLATE``, as closely as it can:

    .. math:: \min_{s, R, t} \sum_{i=1}^{5} \lVert s R\,p_i + t - q_i \rVert^2

    Or as a plain square, which is not turned: its centre is that of the face's box, and its side
    that of the box's longer side, with a margin on both ends.

    What lies outside the photo is black.

    Attributes:
        margin: None cuts by five points. Else the margin of the plain square on each of its sides,
            as a share of the box's longer side.
        size: height and width of what is cut out, pixels.
        detector: the name of what found the box and the points.

    Example:
        >>> print(FaceCut())
        by five points to 112 x 112 pixels
        >>> print(FaceCut(margin=0.2, size=160))
        as squares with a margin of 0.2 around the boxes of mtcnn, to 160 x 160 pixels
    """

    margin: float | None = None
    size: int = _SIDE
    detector: str = DEFAULT_DETECTOR

    def __post_init__(self) -> None:
        if self.margin is not None and not 0 <= self.margin <= 10:
            raise ValueError(f"`margin`: expected a share from 0 to 10, got {self.margin}")
        if not 8 <= self.size <= 4096:
            raise ValueError(f"`size`: expected 8 to 4096 pixels, got {self.size}")

    def __str__(self) -> str:
        pixels = f"{self.size} x {self.size} pixels"
        if self.margin is None:
            return f"by five points to {pixels}"
        return (
            f"as squares with a margin of {self.margin:g} around the boxes of {self.detector}, to "
            f"{pixels}"
        )

    def is_like(self, other: FaceCut) -> bool:
        """Whether faces lie in the same way in both, whatever the number of pixels.

        Every detector finds the same five points, but each has boxes of its own.

        Example:
            >>> FaceCut().is_like(FaceCut(size=224, detector="mine:find"))
            True
            >>> FaceCut(margin=0.2).is_like(FaceCut(margin=0.2, detector="mine:find"))
            False
        """
        return self.margin == other.margin and (
            self.margin is None or self.detector == other.detector
        )

    def position(self, face: Face) -> NDArray[np.float64]:
        """Return where the cut of a face lies in its photo.

        Args:
            face: what a detector found.

        Returns:
            [2, 3]: the map from positions in the cut to positions in the photo, both in pixels from
            the upper left corner, so that the centre of the first pixel is at (0.5, 0.5).

        Raises:
            ValueError: the face's points are missing, or all in one place.
        """
        if self.margin is not None:
            left, top, right, bottom = face.box
            side = max(right - left, bottom - top) * (1 + 2 * self.margin)
            scale = side / self.size
            x, y = (left + right - side) / 2, (top + bottom - side) / 2
            return np.array([[scale, 0.0, x], [0.0, scale, y]])
        if face.points is None:
            raise ValueError("the detector gives no points; cut with a margin around its boxes")
        # A similarity transform is a linear function of complex numbers, q = a p + b.
        ends = (TEMPLATE + 0.5) @ [1, 1j] * (self.size / _SIDE)
        points = (face.points + 0.5) @ [1, 1j]
        p, q = points - points.mean(), ends - ends.mean()
        spread = np.vdot(p, p).real
        a = np.vdot(p, q) / spread if spread > 1e-6 else 0
        if abs(a) < 1e-6:
            raise ValueError("the detector's points of a face are all in one place")
        back = 1 / a
        origin = points.mean() - back * ends.mean()
        return np.array([[back.real, -back.imag, origin.real], [back.imag, back.real, origin.imag]])

    def cut(self, photo: Image.Image, face: Face) -> Image.Image:
        """Cut a face out.

        Args:
            photo: grey or RGB.
            face: what a detector found in it.

        Returns:
            ``size`` x ``size`` pixels.

        Raises:
            ValueError: see :meth:`position`.
        """
        return self.cut_at(photo, self.position(face))

    def cut_at(self, photo: Image.Image, position: NDArray[np.float64]) -> Image.Image:
        """Cut out what lies at a position, which :meth:`position` explains."""
        position = position.copy()
        scale = math.hypot(*position[:, 0])
        corners = position @ np.array([[0, 0, 1, 1], [0, 1, 0, 1], [1 / self.size] * 4]) * self.size
        around = 2 * max(1.0, scale)  # what the interpolation sees beside a pixel
        low = np.clip(np.floor(corners.min(1) - around), 0, photo.size).astype(int)
        high = np.clip(np.ceil(corners.max(1) + around), 0, photo.size).astype(int)
        if (high <= low).any():  # it lies outside the photo
            return Image.new(photo.mode, (self.size, self.size))
        # A large face is scaled down first, by all its pixels: those left out would alias.
        sides = np.maximum(np.ceil((high - low) / max(1.0, scale)), 1).astype(int)
        part = photo.resize(
            (int(sides[0]), int(sides[1])),
            Image.Resampling.BICUBIC,
            box=(int(low[0]), int(low[1]), int(high[0]), int(high[1])),
        )
        position[:, 2] -= low
        position *= (sides / (high - low))[:, None]
        return part.transform(
            (self.size, self.size),
            Image.Transform.AFFINE,
            position.flatten().tolist(),
            Image.Resampling.BICUBIC,
        )

    @property
    def mark(self) -> str:
        """What files of faces that are cut so say in a comment."""
        return _MARK + json.dumps(dataclasses.asdict(self))

    @classmethod
    def of_file(cls, file: Image.Image) -> FaceCut | None:
        """Return how the face in a file was cut, as its comment says; None where it does not.

        Args:
            file: as ``PIL.Image.open`` returns it; its pixels are not read.
        """
        mark = file.info.get("comment", file.info.get("Comment"))  # of a JPEG, of a PNG
        if isinstance(mark, bytes):
            mark = mark[:_LONGEST_MARK].decode("utf-8", "replace")
        if not isinstance(mark, str) or not mark.startswith(_MARK):
            return None
        try:
            return cls.read(json.loads(mark[:_LONGEST_MARK].removeprefix(_MARK)))
        except (ValueError, RecursionError):
            return None

    @classmethod
    def read(cls, kept: Any) -> FaceCut | None:
        """Return what ``dataclasses.asdict`` made of one; None where it is something else."""
        try:
            margin, size, detector = (kept[field.name] for field in dataclasses.fields(cls))
            margin = None if margin is None else float(margin)
            return cls(margin, int(size), str(detector))
        except (TypeError, KeyError, ValueError, OverflowError):  # of another version, or damaged
            return None

    def encode(self, face: Image.Image, ending: str) -> bytes:
        """Return a file of a face that was cut so, with its mark.

        Args:
            face: what was cut out.
            ending: ".png", or ".jpg" or another one for a JPEG.
        """
        pixels = np.asarray(face)
        if pixels.ndim == 3 and (pixels == pixels[:, :, :1]).all():
            face = Image.fromarray(pixels[:, :, 0])
        file = io.BytesIO()
        if ending.lower() == ".png":
            comment = PngInfo()
            comment.add_text("Comment", self.mark)
            face.save(file, "PNG", pnginfo=comment)
        else:
            face.save(file, "JPEG", quality=_QUALITY, subsampling=0, comment=self.mark)
        return file.getvalue()
