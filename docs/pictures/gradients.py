"""What each loss does to a small batch: a step against the gradient, as arrows."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor, nn

from docs.pictures import style
from docs.pictures.style import INK, NEGATIVE, POSITIVE, THIRD
from facenet_ext import TripletHardLoss, TripletLoss, TripletMarginLoss, TripletSemiHardLoss

CLASSES = (("o", POSITIVE), ("s", NEGATIVE), ("^", THIRD))
BATCH = torch.tensor(
    [
        [-1.0, 0.3], [-0.75, -0.5], [-0.2, -0.15], [-0.3, 0.6],
        [0.15, 0.95], [0.65, 0.45], [-0.55, 1.05], [0.1, 0.25],
        [0.35, -0.35], [0.95, -0.1], [0.6, -0.85], [-0.1, -0.8],
    ],
    dtype=torch.float64,
)  # fmt: skip
LABELS = torch.arange(len(BATCH)) // 4
LONGEST = 0.5

LOSSES: dict[str, tuple[nn.Module, str]] = {
    "TripletSemiHardLoss()": (TripletSemiHardLoss(), "each pair, its semi-hard negative"),
    "TripletHardLoss()": (TripletHardLoss(), "each anchor's farthest and closest"),
    "TripletHardLoss(0, soft=True)": (TripletHardLoss(0, soft=True), "as before, by softplus"),
    'TripletLoss(positives="easiest")': (
        TripletLoss(positives="easiest"),
        "each anchor's closest positive",
    ),
    "TripletMarginLoss()": (TripletMarginLoss(), "every triplet that violates the margin"),
    'TripletMarginLoss(triplets="semihard")': (
        TripletMarginLoss(triplets="semihard"),
        "only those beyond the positive",
    ),
}


def step(loss: nn.Module) -> Tensor:
    """Where each row would go, ``[N, 2]``: minus the loss's gradient."""
    batch = BATCH.clone().requires_grad_()
    loss(batch, LABELS).backward()
    assert batch.grad is not None
    return -batch.grad


def draw_gradients() -> Figure:
    """A step of each loss on the same batch; the longest arrow of each panel is equally long."""
    figure, panels = style.grid(2, 3, 8.1)
    for axes, (name, (loss, meaning)) in zip(panels, LOSSES.items(), strict=True):
        style.caption(axes, name, meaning)
        axes.set(xlim=(-1.35, 1.3), ylim=(-1.2, 1.45))
        for place, label in zip(BATCH.tolist(), LABELS.tolist(), strict=True):
            style.mark(axes, place, *CLASSES[label], markeredgewidth=0)
        arrows = step(loss)
        arrows *= LONGEST / float(arrows.norm(dim=1).max())
        axes.quiver(
            *BATCH.T.tolist(),
            *arrows.T.tolist(),
            color=INK,
            angles="xy",
            scale_units="xy",
            scale=1,
            width=0.009,
            headwidth=3.6,
            headlength=4.5,
            minlength=0.3,
            zorder=5,
            gid=f"step-{name}",
        )
    entries = {
        f"class {label}": Line2D([], [], marker=marker, color=colour, linestyle="none")
        for label, (marker, colour) in enumerate(CLASSES)
    }
    arrow = Line2D([], [], marker=r"$\rightarrow$", color=INK, linestyle="none", markersize=16)
    style.legend(figure, {**entries, "minus the gradient": arrow}, 4)
    return figure
