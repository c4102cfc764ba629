"""The report of an evaluation: one HTML file that needs no other."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
import torch
from matplotlib.figure import Figure
from sklearn.manifold import TSNE  # type: ignore[import-untyped]
from torch import Tensor

from facenet_ext.metrics import OperatingPoint
from facenet_ext.recognition import ModelName
from facenet_ext.recognition.protocols import Protocol
from facenet_ext.recognition.quality import QualitySlice
from facenet_ext.train.evaluation import Verification
from facenet_ext.train.fonts import draw_png
from facenet_ext.train.images import UnreadableImageError, read_image
from facenet_ext.train.pictures import (
    DIFFERENT_COLOUR,
    SAME_COLOUR,
    draw_distances,
    draw_mistakes,
    draw_roc,
    new_figure,
    shorten,
    tidy,
)
from facenet_ext.train.report import write_text
from facenet_ext.train.text import comparable

__all__ = ["AllPairs", "write_report"]

_MAPPED = 1_500  # items of the map at most
_COLOURED = 10  # identities of it in a colour of their own
_PICTURE = 96  # pixels of a face
_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 2rem auto;
         max-width: 62rem; padding: 0 1rem; }
  h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
  table { border-collapse: collapse; margin: 1rem 0; }
  th, td { padding: .3rem .9rem .3rem 0; text-align: left; border-bottom: 1px solid #ddd; }
  .number { text-align: right; font-variant-numeric: tabular-nums; }
  img { max-width: 100%; } .two { display: flex; flex-wrap: wrap; gap: 1rem; }
  .two img { flex: 1 1 26rem; min-width: 0; max-width: 30rem; } .note { color: #666; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p>{{ lead }}</p>
{% for section in sections %}
<h2 id="{{ section.anchor }}">{{ section.title }}</h2>
{% if section.note %}<p class="note">{{ section.note }}</p>{% endif %}
{% if section.rows %}
<table>
<tr>{% for name in section.header %}<th class="{{ section.kinds[loop.index0] }}">
{{- name }}</th>{% endfor %}</tr>
{% for row in section.rows %}
<tr>{% for cell in row %}<td class="{{ section.kinds[loop.index0] }}">
{{- cell }}</td>{% endfor %}</tr>
{% endfor %}
</table>
{% endif %}
{% if section.pictures %}
<div{% if section.pictures|length > 1 %} class="two"{% endif %}>
{% for alt, data in section.pictures %}<img alt="{{ alt }}" src="data:image/png;base64,{{ data }}">
{% endfor %}</div>
{% endif %}
{% endfor %}
</body>
</html>
"""


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


class _Section:
    """A heading, and what is below it."""

    def __init__(
        self,
        title: str,
        note: str = "",
        header: Sequence[str] = (),
        rows: Sequence[Sequence[str]] = (),
        pictures: Sequence[tuple[str, Figure]] = (),
    ) -> None:
        self.title, self.note, self.header, self.rows = title, note, header, rows
        # The first column has words, and so has one without a name.
        self.kinds = ["number" if at and name else "words" for at, name in enumerate(header)]
        self.anchor = title.lower().replace(" ", "-")
        self.pictures = [(alt, _encode(figure)) for alt, figure in pictures]


def write_report(
    path: Path,
    model: ModelName,
    protocol: Protocol,
    verification: Verification,
    embeddings: Tensor,
    counted: AllPairs | None,
    slices: Sequence[QualitySlice],
) -> None:
    """Write the report, whole or not at all.

    Args:
        path: the .html file.
        model: what was evaluated.
        protocol: on what.
        verification: what came of it.
        embeddings: [items, D].
        counted: VAL over all pairs, if that was asked for.
        slices: pairs of bad quality, if these were.
    """
    same = int(verification.pairs.same.sum())
    different = len(verification.pairs.same) - same
    lead = (
        f"{len(protocol.items):,} items, {same:,} pairs of one identity and {different:,} of two; "
        f"model {model}."
    )
    sections = [
        _Section("Figures", header=("figure", "value", ""), rows=_figures(verification)),
        _Section(
            "Curves",
            "VAL is the share of pairs of one identity that are accepted, FAR that of two. "
            "Distances are squared and Euclidean.",
            pictures=[
                ("ROC curve", draw_roc(verification)),
                ("histogram of distances", draw_distances(verification)),
            ],
        ),
    ]
    if counted is not None:
        sections.append(_all_pairs(counted))
    if slices:
        sections.append(_quality(slices))
    names = protocol.names()
    sections += [
        _Section(
            "Hardest mistakes",
            "Wrong names in the data are among them.",
            pictures=[("pairs that were judged wrongly", _mistakes(verification, protocol, names))],
        ),
        _Section(
            "Map",
            f"Items near each other have near embeddings (t-SNE); the {_COLOURED} identities with "
            "the most items have colours.",
            pictures=[("map of the embeddings", _map(embeddings, protocol))],
        ),
    ]
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    title = f"Verification: {protocol.name}"
    text = environment.from_string(_TEMPLATE).render(title=title, lead=lead, sections=sections)
    write_text(path, text)


def _figures(verification: Verification) -> list[list[str]]:
    accuracy = verification.accuracy
    kind = "balanced accuracy" if verification.pairs.balanced else "accuracy"
    rows = [
        [
            kind,
            f"{accuracy.mean:.2%} ± {accuracy.standard_error:.2%}",
            f"{len(accuracy.accuracies)} folds, threshold {verification.threshold:.3f}",
        ]
    ]
    rows += [_point(point) for point in verification.val_far]
    rows += [
        ["AUC", f"{verification.auc:.4f}", "area under the ROC curve"],
        ["EER", f"{verification.eer:.2%}", "where FAR = 1 - VAL"],
        ["accuracy in bytes", f"{verification.quantized.mean:.2%}", "one byte per dimension"],
    ]
    return rows


def _point(point: OperatingPoint) -> list[str]:
    name = f"VAL at FAR {point.wanted_far:g}"
    if not point.reachable:
        return [name, "-", "not reachable with this many pairs"]
    return [name, f"{point.val:.2%}", f"threshold {point.threshold:.3f}"]


def _all_pairs(counted: AllPairs) -> _Section:
    rows = [_point(point) for point in counted.points]
    if math.isfinite(counted.mean):
        rows.append(
            [
                f"VAL at FAR {counted.far:g}, five splits",
                f"{counted.mean:.2%} ± {counted.standard_error:.2%}",
                "mean and standard error over splits of the identities",
            ]
        )
    note = f"All {counted.pairs:,} pairs of {counted.images:,} images, each counted once."
    return _Section("All pairs", note, ("figure", "value", ""), rows)


def _quality(slices: Sequence[QualitySlice]) -> _Section:
    kinds = list(dict.fromkeys(one.kind for one in slices))
    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        of_kind = [one for one in slices if one.kind == kind]
        ticks = range(len(of_kind))
        axes.plot(ticks, [one.auc for one in of_kind], "o-", color=SAME_COLOUR, label="AUC")
        vals = [math.nan if one.val is None else one.val for one in of_kind]
        axes.plot(ticks, vals, "s--", color=DIFFERENT_COLOUR, label="VAL at FAR 0.01")
        axes.set(ylim=(0, 1.02), xlabel=kind)
        axes.set_xticks(list(ticks), [f"{one.value:,}" for one in of_kind])
        axes.legend(frameon=False, loc="lower right")
        tidy(axes)
    rows = [
        [one.kind, f"{one.value:,}", f"{one.auc:.4f}", "-" if one.val is None else f"{one.val:.1%}"]
        for one in slices
    ]
    return _Section(
        "Image quality",
        "Some of the pairs again, with all images compressed, and with all images small; one pass "
        "through the network each.",
        ("quality", "value", "AUC", "VAL at FAR 0.01"),
        rows,
        [("figures by image quality", figure)],
    )


def _mistakes(verification: Verification, protocol: Protocol, names: list[str]) -> Figure:
    def image_of(item: int) -> Tensor:
        try:
            return read_image(protocol.images.path(protocol.items[item][0]), _PICTURE, 3)
        except UnreadableImageError:  # removed since
            return torch.zeros(3, _PICTURE, _PICTURE, dtype=torch.uint8)

    return draw_mistakes(verification, image_of, names)


def _map(embeddings: Tensor, protocol: Protocol) -> Figure:
    """Draw the embeddings in the plane."""
    whose = [comparable(protocol.images.identities[item[0]]) for item in protocol.items]
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


def _encode(figure: Figure) -> str:
    return base64.b64encode(draw_png(figure, dpi=110)).decode("ascii")
