"""What a report says of images alone: all pairs, quality, the worst mistakes, a map."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from sklearn.manifold import TSNE  # type: ignore[import-untyped]
from torch import Tensor

from facenet_ext.commands.report_page import Card, Picture, Section
from facenet_ext.common.figures import DIFFERENT_COLOUR, SAME_COLOUR, new_figure, shorten
from facenet_ext.data.images import UnreadableImageError, read_row
from facenet_ext.evaluation.pictures import draw_mistakes
from facenet_ext.evaluation.protocols import Protocol
from facenet_ext.evaluation.quality import QualitySlice
from facenet_ext.evaluation.table import with_error
from facenet_ext.evaluation.verification import Verification
from facenet_ext.metrics import OperatingPoint

_MAPPED = 1_500  # items of the map at most
_COLOURED = 10  # identities of it in a colour of their own
_PICTURE = 96  # pixels of a face


class AllPairs(NamedTuple):
    """VAL and FAR over all pairs of images.

    Attributes:
        images: that make them.
        pairs: of two images.
        points: at each wanted FAR.
        far: the rate of the next two.
        mean: of VAL over five splits by identity; NaN where one of them has too few pairs.
        standard_error: of that mean.
        pairs_per_second: that were counted for ``points``.
    """

    images: int
    pairs: int
    points: tuple[OperatingPoint, ...]
    far: float
    mean: float
    standard_error: float
    pairs_per_second: float


def all_pairs_section(counted: AllPairs) -> Section:
    """Return VAL over all pairs."""
    cards = [_point(point) for point in counted.points]
    if math.isfinite(counted.mean):
        cards.append(
            Card(
                f"VAL at FAR {counted.far:g}, five splits",
                with_error(counted.mean, counted.standard_error),
                "mean and standard error over splits of the identities",
            )
        )
    note = f"All {counted.pairs:,} pairs of {counted.images:,} images, each counted once."
    return Section("All pairs", note, cards=cards)


def quality_section(slices: Sequence[QualitySlice]) -> Section:
    """Return how images of bad quality are verified."""
    kinds = list(dict.fromkeys(one.kind for one in slices))
    return Section(
        "Image quality",
        "Some of the pairs again, with all images compressed, and with all images small; one pass "
        "through the network each.",
        pictures=[
            Picture(f"figures by {kind}", _draw_quality([s for s in slices if s.kind == kind]))
            for kind in kinds
        ],
    )


def _draw_quality(slices: Sequence[QualitySlice]) -> Figure:
    figure, axes = new_figure(4.7, 3.4)
    ticks = range(len(slices))
    vals = [math.nan if one.val is None else one.val for one in slices]
    for values, style, colour, name in (
        ([one.auc for one in slices], "o-", SAME_COLOUR, "AUC"),
        (vals, "s--", DIFFERENT_COLOUR, "VAL at FAR 0.01"),
    ):
        if not any(map(math.isfinite, values)):  # too few pairs
            continue
        axes.plot(ticks, values, style, color=colour, label=name)
        for tick, value in zip(ticks, values, strict=True):
            if math.isfinite(value):
                axes.annotate(
                    f"{value:.2f}",
                    (tick, value),
                    xytext=(0, 6),
                    textcoords="offset points",
                    ha="center",
                    fontsize="x-small",
                    color=colour,
                )
    axes.set(ylim=(0, 1.12), xlabel=slices[0].kind)
    axes.set_xticks(list(ticks), [f"{one.value:,}" for one in slices])
    figure.legend(loc="outside lower center", ncol=2, frameon=False)
    return figure


def mistakes_section(verification: Verification, protocol: Protocol) -> Section:
    """Return the pairs that were judged wrongly, the worst of them."""

    def image_of(item: int) -> Tensor:
        try:
            return read_row(protocol.images, protocol.items[item][0], _PICTURE, 3)
        except UnreadableImageError:  # removed since
            return torch.zeros(3, _PICTURE, _PICTURE, dtype=torch.uint8)

    figure = draw_mistakes(verification, image_of, protocol.names())
    if figure is None:
        return Section("Hardest mistakes", "None: every pair was judged rightly at the threshold.")
    return Section(
        "Hardest mistakes",
        "Each image is shown once. Wrong names in the data are among them.",
        pictures=[Picture("pairs that were judged wrongly", figure, photo=True)],
    )


def map_section(embeddings: Tensor, protocol: Protocol) -> Section:
    """Return the embeddings in the plane."""
    return Section(
        "Map",
        f"Items near each other have near embeddings (t-SNE); the {_COLOURED} identities with "
        "the most items have colours.",
        pictures=[Picture("map of the embeddings", _draw_map(embeddings, protocol))],
    )


def _draw_map(embeddings: Tensor, protocol: Protocol) -> Figure:
    """Draw the embeddings in the plane."""
    whose = [protocol.images.people[item[0]] for item in protocol.items]
    common = [name for name, count in Counter(whose).most_common(_COLOURED) if count > 1]
    # Of too many items the common identities' come first, the others as a backdrop.
    order = sorted(range(len(whose)), key=lambda item: whose[item] not in common)[:_MAPPED]
    figure, axes = new_figure(8.0, 6.0)
    axes.set(xticks=[], yticks=[])
    axes.set_frame_on(False)
    if len(order) < 3:
        return figure
    rows = embeddings[torch.tensor(order)].double().numpy()
    perplexity = min(30.0, (len(order) - 1) / 3)
    places = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(rows)
    chosen = [whose[item] for item in order]
    rest = [at for at, name in enumerate(chosen) if name not in common]
    axes.scatter(places[rest, 0], places[rest, 1], s=8, color="#cccccc", label="others")
    for number, name in enumerate(common):
        own = [at for at, of in enumerate(chosen) if of == name]
        axes.scatter(places[own, 0], places[own, 1], s=16, color=f"C{number}", label=str(number))
    legend = axes.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize="small"
    )
    for text, name in zip(legend.get_texts()[1:], common, strict=True):
        text.set_text(shorten(name, 20))  # as a label one that begins with _ would be left out
    return figure


def _point(point: OperatingPoint) -> Card:
    name = f"VAL at FAR {point.wanted_far:g}"
    if not point.reachable:
        return Card(name, "-", "not reachable with this many")
    return Card(name, f"{point.val:.2%}", f"threshold {point.threshold:.3f}")
