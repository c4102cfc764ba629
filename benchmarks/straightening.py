"""Draws where the points of faces lie: `python -m benchmarks.straightening`.

As the images are, as a network straightens them that has learned to, and as `facenet align` lays
them. The network is the study's of images that are not aligned, and the images are of people that
it has never seen; `python -m benchmarks.study --plan study_aligned` leaves both.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import study
from benchmarks.machine import ROOT
from benchmarks.plots import SETTINGS
from facenet_ext.common.console import make_console
from facenet_ext.embedding.loading import checkpoint_path, load_embedder
from facenet_ext.faces import FaceCut, read_faces
from facenet_ext.models.alignment import Alignment
from facenet_ext.train.data import load

PICTURE = ROOT / "docs" / "images" / "straightening.png"
RUN = (
    "moved and turned as images that are not aligned",
    "learns to straighten, images not aligned",
)
POINTS = ("left eye", "right eye", "nose", "left corner of the mouth", "right corner")
_SHOWN = 300  # faces

Points = NDArray[np.float64]  # [N, 5, 2], shares of the window's width and height


def spread(points: Points) -> float:
    """How far points lie from their mean places, as a share of the distance between the eyes."""
    off = points - points.mean(0)
    eyes = np.linalg.norm(points[:, 1] - points[:, 0], axis=1).mean()
    return float(np.sqrt((off**2).sum(2).mean()) / eyes)


def found(aligned: Path, run: Path) -> dict[str, Points]:
    """Where the five points of each held-out image lie, in three frames."""
    embedder = load_embedder(checkpoint_path(str(run)))
    data = load(embedder.options.data, make_console())
    layers = list(embedder.network.modules())
    align = next(layer for layer in layers if isinstance(layer, Alignment))
    faces = {Path(face.photo).name: face.face for face in read_faces(aligned)}
    names = [Path(data.val.names[row]).name for row in range(len(data.val))]
    rows = [row for row, name in enumerate(names) if name in faces]
    examples = torch.stack([torch.as_tensor(data.val.values[row]) for row in rows])
    with torch.no_grad():
        windows = [align.positions(embedder.prepare(part)) for part in examples.split(256)]
    theta = torch.cat(windows).double().numpy()
    turn, move = theta[:, :, :2], theta[:, :, 2]
    cut, size = FaceCut(), examples.shape[-1]
    pixels = np.stack([faces[names[row]].points for row in rows]) + 0.5
    inside = (2 * pixels / size - 1) / embedder.options.data.crop
    straightened = np.einsum("nij,nkj->nki", np.linalg.inv(turn), inside - move[:, None])
    by_points = []
    for row, points in zip(rows, pixels, strict=True):
        back = cut.position(faces[names[row]])
        by_points.append((points - back[:, 2]) @ np.linalg.inv(back[:, :2]).T / cut.size)
    return {
        "as they are": pixels / size,
        "as the network straightens them": (straightened + 1) / 2,
        "as facenet align lays them": np.stack(by_points),
    }


def draw(frames: dict[str, Points], path: Path) -> None:
    """Draw each frame's points beside the others'."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context(SETTINGS):
        figure, axes = plt.subplots(1, len(frames), figsize=(11, 4.2), sharex=True, sharey=True)
        for plot, (name, points) in zip(axes, frames.items(), strict=True):
            for number, part in enumerate(POINTS):
                plot.scatter(*points[:_SHOWN, number].T, s=3, alpha=0.5, label=part)
            plot.set_title(f"{name}: {spread(points):.0%}")
            plot.set(xlim=(0, 1), ylim=(1, 0), xticks=(), yticks=(), aspect="equal")
        figure.legend(
            *axes[0].get_legend_handles_labels(), loc="lower center", ncols=5, markerscale=4
        )
        figure.tight_layout(rect=(0, 0.07, 1, 1))
        figure.savefig(path)
        plt.close(figure)


def main() -> None:
    """Draw the picture of docs/study.md."""
    runs = study.plan(study.PLAN.with_stem(study.PLANS[1]))[1]
    (name,) = (run.name for run in runs if (run.choice, run.variant) == RUN)
    frames = found(study.SCRATCH / "aligned", study.SCRATCH / name)
    for frame, points in frames.items():
        make_console().print(f"{frame}: {spread(points):.1%} of the distance between the eyes")
    draw(frames, PICTURE)


if __name__ == "__main__":
    main()
