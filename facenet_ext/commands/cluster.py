"""``facenet cluster``: which images belong to one person."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from facenet_ext.commands.options import ClusterOptions
from facenet_ext.commands.recognition_pictures import draw_sheet
from facenet_ext.commands.trained_model import choose_threshold, embed_or_read
from facenet_ext.commands.warnings import Warnings
from facenet_ext.common.console import make_console
from facenet_ext.common.counting import Counting
from facenet_ext.common.errors import InputError, refusing
from facenet_ext.common.figures import save_picture
from facenet_ext.common.files import write_csv, write_json, writing
from facenet_ext.common.launch import is_first
from facenet_ext.common.processes import everyone
from facenet_ext.common.text import counted, number_names
from facenet_ext.data.image_list import ImageList
from facenet_ext.data.images import UnreadableImageError, decode_row
from facenet_ext.data.listing import list_images
from facenet_ext.data.sets.patterns import matching
from facenet_ext.recognition import Clusters, StoredEmbeddings, cluster, score_clusters

_SHEETS = "sheets"
_PICTURE = 96  # pixels of an image in a sheet


def execute(options: ClusterOptions) -> int:
    """Do what the command line says."""
    console = make_console(stderr=True)
    if options.images is not None and not matching(options.images):
        raise InputError(f"--images {options.images}: no such folder")
    output = Path(options.output)
    warnings = Warnings(console)
    ((stored, images),) = embed_or_read(
        options, warnings, options.source, leave_out=output / _SHEETS
    )
    threshold, far, _ = choose_threshold(options, stored.model, warnings)
    start = time.perf_counter()
    # Stored embeddings may hold anything.
    with refusing(f"{options.source}: "), Counting("clustering", console) as progress:
        clusters = cluster(
            stored.embeddings, threshold, options.linkage, progress=progress, group=everyone()
        )
    if not is_first():
        return 0
    seconds = time.perf_counter() - start
    several = int((clusters.sizes > 1).sum())
    figures: dict[str, Any] = {
        "images": len(stored),
        "clusters": len(clusters.sizes),
        "of_two_or_more": several,
        "threshold": threshold,
        "far_at_evaluation": far,
        "linkage": options.linkage,
        "seconds": seconds,
        "scores": None,
        "warnings": warnings.texts,
    }
    if stored.named:
        whose = number_names(stored.identities)[1].tolist()
        figures["scores"] = score_clusters(clusters.labels.tolist(), whose)._asdict()
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        order = np.argsort(clusters.labels, kind="stable").tolist()
        rows = ((clusters.labels[at], stored.ids[at], stored.identities[at]) for at in order)
        write_csv(output / "clusters.csv", [("cluster", "image", "identity"), *rows])
    images = images if options.images is None else list_images(options.images)
    figures["sheets"] = _draw_sheets(output / _SHEETS, clusters, stored, images, options, console)
    with writing(output):
        write_json(output / "summary.json", figures)
    warnings.tell()
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        _show(figures, clusters, output)
    return 0 if several else 1


def _show(figures: dict[str, Any], clusters: Clusters, output: Path) -> None:
    console = make_console()
    largest = ", ".join(map(str, clusters.sizes[:5]))
    told = (
        ""
        if figures["far_at_evaluation"] is None
        else (f", FAR {figures['far_at_evaluation']:.2%} at evaluation")
    )
    console.print(
        f"{counted(figures['images'], 'image')} in {counted(figures['clusters'], 'cluster')}, "
        f"{figures['of_two_or_more']:,} of two or more; the largest have {largest} "
        f"(threshold {figures['threshold']:.3f}{told})"
    )
    scores = figures["scores"]
    if scores is not None:
        table = Table(title="against the folders' names")
        for column in ("", "precision", "recall", "F"):
            table.add_column(column, justify="right" if column else "left")
        for name, key in (("pairs", "pair"), ("BCubed", "bcubed")):
            table.add_row(
                name, *(f"{scores[f'{key}_{s}']:.1%}" for s in ("precision", "recall", "f"))
            )
        console.print(table)
        console.print(f"normalised mutual information {scores['nmi']:.3f}")
    sheets = f"and {counted(figures['sheets'], 'contact sheet')} are" if figures["sheets"] else "is"
    console.print(f"clusters.csv {sheets} in {output}", soft_wrap=True)


def _draw_sheets(
    folder: Path,
    clusters: Clusters,
    stored: StoredEmbeddings,
    images: ImageList | None,
    options: ClusterOptions,
    console: Console,
) -> int:
    """Draw the largest clusters of two or more, where the images are at hand; return how many."""
    with writing(folder):
        for sheet in folder.glob("cluster-[0-9][0-9][0-9][0-9].png"):  # an earlier call drew them
            sheet.unlink()
    count = min(options.sheets, int((clusters.sizes > 1).sum()))
    picture = _pictures(images, stored) if count else None
    if picture is None:
        return 0
    with writing(folder):
        folder.mkdir(exist_ok=True)
    with Counting("drawing", console) as progress:
        for number in range(count):
            progress(number, count)
            rows = np.flatnonzero(clusters.labels == number)
            shown = rows[: options.sheet_images].tolist()
            more = f", {len(shown)} shown" if len(shown) < len(rows) else ""
            figure = draw_sheet(
                [picture(stored.ids[row]) for row in shown],
                [stored.ids[row] for row in shown],
                f"cluster {number}: {len(rows)} images{more}",
            )
            with writing(folder):
                save_picture(figure, folder / f"cluster-{number:04d}.png")
    return count


def _pictures(
    images: ImageList | None, stored: StoredEmbeddings
) -> Callable[[str], NDArray[np.uint8]] | None:
    """Return a function from an image's name to its pixels; None where the images are elsewhere."""
    if images is None:
        return None
    place = {name: row for row, name in enumerate(images.ids)}
    if stored.ids[0] not in place:
        return None

    def picture(name: str) -> NDArray[np.uint8]:
        try:
            return decode_row(images, place[name], _PICTURE, 3)
        except (KeyError, UnreadableImageError):  # removed since
            return np.zeros((_PICTURE, _PICTURE, 3), np.uint8)

    return picture
