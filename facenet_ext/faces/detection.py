"""Finds faces in photos: with the detector that comes along, or with any other."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from facenet_ext._defaults import DEFAULT_DETECTOR, MIN_FACE_SIZE, MIN_SCORE
from facenet_ext._extras import how_to_install
from facenet_ext.common.errors import InputError
from facenet_ext.common.importing import import_named

__all__ = ["Detector", "Face", "find_faces", "load_detector"]

_BORDERS = (1 / 8, 1 / 2)
"""Of the photo's sides, black, around it. The detector cuts boxes off at the photo's edges and then
misplaces the points of a face: on crops that are all face by up to 0.2 of the distance of the eyes,
and with the first border by up to 0.08, which is no more than with a larger one. Where it finds no
face, the second border is tried: of 169 such crops of 9,189 it then finds one in 111."""


class Face(NamedTuple):
    """A face in a photo.

    Positions are in pixels; (0, 0) is the centre of the first one.

    Attributes:
        box: left, top, right, bottom.
        points: [5, 2], x and y of the eyes, the tip of the nose and the corners of the mouth, of
            either pair first the one on the left of the photo; None where the detector has none.
        score: how sure the detector is; the higher the surer.
    """

    box: tuple[float, float, float, float]
    points: NDArray[np.float64] | None
    score: float

    @property
    def area(self) -> float:
        """Of the box, in pixels."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


class Detector(Protocol):
    """Anything that finds faces: a function, or an object with ``__call__``.

    It is called by one thread at a time.
    """

    def __call__(self, photo: NDArray[np.uint8], /) -> tuple[Any, Any, Any]:
        """Find the faces in a photo.

        Args:
            photo: [H, W, 3] RGB, upright.

        Returns:
            Of N faces the boxes [N, 4], the points [N, 5, 2] or None, and the scores [N]: arrays or
            what NumPy makes arrays of; see :class:`Face`.
        """
        ...


class _Mtcnn:
    """MTCNN, as the package ``mtcnn-runtime`` has it: three small networks in ONNX Runtime.

    Args:
        min_face_size: pixels.

    Raises:
        InputError: the package is missing.

    Source: Zhang et al., *Joint Face Detection and Alignment Using Multitask Cascaded Convolutional
    Networks*, IEEE Signal Processing Letters 2016.
    """

    def __init__(self, min_face_size: int) -> None:
        called = f"`detector` {DEFAULT_DETECTOR}"
        try:
            from mtcnnruntime import MTCNN, detector  # type: ignore[import-untyped]
        except ModuleNotFoundError as missing:
            how = how_to_install(missing.name or "a package", "align")
            raise InputError(f"{called}: {how}") from missing
        except ImportError as error:  # a server without a display lacks libraries of OpenCV's
            raise InputError(
                f"{called}: OpenCV cannot be loaded ({error}); pip uninstall opencv-python, and "
                "then pip install opencv-python-headless"
            ) from error
        detector.print = lambda *_: None  # it prints "error" for boxes outside the photo
        self._mtcnn = MTCNN()
        self._min_face_size = min_face_size

    def __call__(self, photo: NDArray[np.uint8], /) -> tuple[Any, Any, Any]:
        for border in _BORDERS:
            found = self._find(photo, border)
            if len(found[0]):
                break
        return found

    def _find(self, photo: NDArray[np.uint8], border: float) -> tuple[Any, Any, Any]:
        height, width, _ = photo.shape
        x, y = (int(side * border) for side in (width, height))
        framed = np.zeros((height + 2 * y, width + 2 * x, 3), np.uint8)
        framed[y : y + height, x : x + width] = photo[:, :, ::-1]  # it takes BGR
        try:
            boxes, points = self._mtcnn.detect(framed, min_face_size=self._min_face_size)
        except ValueError as error:
            if "need at least one array" not in str(error):  # its first network found nothing
                raise
            boxes, points = [], []
        boxes, points = np.reshape(boxes, (-1, 5)), np.reshape(points, (-1, 2, 5))
        return boxes[:, :4] - [x, y, x, y], points.transpose(0, 2, 1) - [x, y], boxes[:, 4]


def load_detector(name: str = DEFAULT_DETECTOR, min_face_size: int = MIN_FACE_SIZE) -> Detector:
    """Load a detector.

    Args:
        name: "mtcnn", or "module:function" for one of your own; of a class an object is made.
        min_face_size: pixels; only for "mtcnn", which is the faster the larger it is.

    Raises:
        InputError: it cannot be imported, or a package is missing.
    """
    if name == DEFAULT_DETECTOR:
        return _Mtcnn(min_face_size)
    if ":" not in name:
        raise InputError(f"`detector` {name}: expected {DEFAULT_DETECTOR} or module:function")
    detector: Detector | type[Detector] = import_named(name, "`detector`")
    if isinstance(detector, type):
        try:
            detector = detector()
        except Exception as error:  # whatever the user's code raises
            raise InputError(
                f"`detector` {name}: cannot be made ({type(error).__name__}: {error})"
            ) from error
    return detector


def find_faces(
    detector: Detector,
    photo: NDArray[np.uint8],
    *,
    min_face_size: float = MIN_FACE_SIZE,
    min_score: float = MIN_SCORE,
) -> list[Face]:
    """Find the faces in a photo.

    Args:
        detector: finds them.
        photo: [H, W, 3] RGB, upright.
        min_face_size: the least height and width of a box, pixels.
        min_score: the least score.

    Returns:
        The faces, the largest first.

    Raises:
        ValueError: what the detector returns is not what :class:`Detector` says.

    Example:
        >>> def detector(photo):
        ...     return [[10, 10, 70, 90]], None, [0.99]
        >>> find_faces(detector, np.zeros((100, 100, 3), np.uint8))[0].area
        4800.0
    """
    returned = detector(photo)
    try:
        boxes, points, scores = returned
    except (TypeError, ValueError):
        raise ValueError(f"expected boxes, points and scores, got {returned!r}") from None
    boxes, scores = (np.asarray(values, np.float64) for values in (boxes, scores))
    count = len(boxes)
    boxes = boxes.reshape(0, 4) if not count else boxes
    points = None if points is None else np.asarray(points, np.float64)
    if points is not None and not count:
        points = points.reshape(0, 5, 2)
    if boxes.shape != (count, 4) or scores.shape != (count,):
        raise ValueError(
            f"expected boxes [N, 4] and scores [N], got {list(boxes.shape)} and "
            f"{list(scores.shape)}"
        )
    if points is not None and points.shape != (count, 5, 2):
        raise ValueError(f"expected points [{count}, 5, 2] or None, got {list(points.shape)}")
    parts = (boxes, scores) if points is None else (boxes, scores, points)
    if not all(np.isfinite(part).all() for part in parts):
        raise ValueError("expected finite numbers, got NaN or infinity")
    faces = [
        Face(tuple(box.tolist()), None if points is None else points[row], float(score))
        for row, (box, score) in enumerate(zip(boxes, scores, strict=True))
        if score >= min_score and min(box[2:] - box[:2]) >= min_face_size
    ]
    return sorted(faces, key=lambda face: face.area, reverse=True)
