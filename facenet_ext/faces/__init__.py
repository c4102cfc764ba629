"""From photos to faces: finds faces in photos and cuts them out, all in the same way.

| file | what it does |
|---|---|
| `detection.py` | finds faces: the detector that comes along, or any other |
| `cut.py` | cuts a face out, upright by five points or as a plain square |
| `photos.py` | does it for a folder of photos, out of core |
"""

from typing import TYPE_CHECKING

from facenet_ext._lazy import lazily

if TYPE_CHECKING:
    from facenet_ext.faces.cut import TEMPLATE, FaceCut
    from facenet_ext.faces.detection import Detector, Face, find_faces, load_detector
    from facenet_ext.faces.photos import (
        AlignedFace,
        AlignedFaces,
        FaceChoice,
        align_photos,
        read_faces,
    )

__all__ = [
    "TEMPLATE",
    "AlignedFace",
    "AlignedFaces",
    "Detector",
    "Face",
    "FaceChoice",
    "FaceCut",
    "align_photos",
    "find_faces",
    "load_detector",
    "read_faces",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "cut": ("TEMPLATE", "FaceCut"),
        "detection": ("Detector", "Face", "find_faces", "load_detector"),
        "photos": ("AlignedFace", "AlignedFaces", "FaceChoice", "align_photos", "read_faces"),
    },
)
