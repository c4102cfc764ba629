"""Draws what ``facenet align`` does with a photo: ``python -m docs.pictures.faces``.

It needs the extra ``align``, so it is not among the pictures that a test redraws.
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from docs.pictures import style
from docs.pictures.__main__ import IMAGES, settings
from examples.drawn_photos import draw_photo
from facenet_ext.faces import FaceCut, find_faces, load_detector


def draw() -> Figure:
    """A photo with the boxes and points that were found, and the faces cut out in both ways."""
    photo = draw_photo([0, 9, 5], number=2, size=(900, 340), turn=20).photo
    faces = sorted(find_faces(load_detector(), np.asarray(photo)))  # from the left
    figure = Figure(figsize=(9.2, 5.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1.75, 1])
    axes = above.subplots()
    axes.imshow(photo)
    axes.set_title("a photo: boxes and points", fontsize=10)
    axes.set_axis_off()
    for face in faces:
        left, top, right, bottom = face.box
        how = {"fill": False, "edgecolor": style.BAND, "linewidth": 1.8}
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, **how))
        assert face.points is not None
        axes.plot(*face.points.T, "o", color=style.NEGATIVE, markeredgecolor="white", markersize=5)
    kinds = below.subfigures(1, 2)
    for panel, cut, title in zip(
        kinds,
        (FaceCut(), FaceCut(margin=0.15)),
        ("by five points", "with --margin 0.15"),
        strict=True,
    ):
        panel.suptitle(title, fontsize=10)
        for place, face in zip(panel.subplots(1, len(faces)), faces, strict=True):
            place.imshow(cut.cut(photo, face))
            place.set_axis_off()
    return figure


def main(path: Path = IMAGES / "align.jpg") -> None:
    """Write the picture."""
    with settings():
        draw().savefig(path, dpi=100, pil_kwargs={"quality": 88})


if __name__ == "__main__":
    main()
