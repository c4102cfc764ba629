"""``facenet data``: what an image set holds, and its conversion to another format."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from facenet_ext.commands.options import DataOptions
from facenet_ext.common.console import make_console
from facenet_ext.common.counting import Counting
from facenet_ext.common.errors import InputError
from facenet_ext.common.text import bytes_in_words, counted, printable
from facenet_ext.data.features import read_labels
from facenet_ext.data.image_list import told
from facenet_ext.data.images import UnreadableImageError, decode_row
from facenet_ext.data.sets import open_set
from facenet_ext.data.sets.indexed import IndexedSet
from facenet_ext.data.sets.writing import write_set
from facenet_ext.data.sources import find
from facenet_ext.embedding.options import is_features

_TRIED = 1000
_NAMED = 10
_SIZES = ((1, 1), (2, 4), (5, 9), (10, 19), (20, 49), (50, 99), (100, None))
_SIZE = 32  # pixels: most JPEGs are decoded at a smaller scale, but to the end


def execute(options: DataOptions) -> None:
    """Do what the command line says."""
    if options.data == "digits":
        raise InputError("DATA digits: are no files; give files of images")
    if is_features(options.data):
        if options.to is not None:
            raise InputError(f"--to: {options.data} holds features, which have one format alone")
        figures = [_describe_features(options.data)]
    else:
        try:
            figures = _images(options, make_console(stderr=True))
        except InputError as error:  # DATA is an argument here, and no option
            raise InputError(str(error).replace("`data`", "DATA")) from None
    if options.json:
        print(json.dumps({"sets": figures}, indent=2))
        return
    console = make_console()
    for one in figures:
        _show(one, console)
    if options.to is not None:
        console.print(f"written as {options.format} to {options.to}", soft_wrap=True)


def _images(options: DataOptions, console: Console) -> list[dict[str, Any]]:
    """Describe the sets of images, and convert them."""
    with Counting("indexing", console) as progress:
        source = find(options.data, progress)
        parts = {"train": source.train, "val": source.val}
        sets = {
            name: open_set(str(path), progress) for name, path in parts.items() if path is not None
        }
    figures = []
    for images in sets.values():
        with Counting("decoding", console) as progress:
            figures.append(_describe(images, options.check, progress))
    if options.to is not None:
        for name, images in sets.items():
            to = Path(options.to)
            with Counting("writing", console) as progress:
                write_set(
                    images,
                    to / name if len(sets) > 1 else to,
                    options.format,
                    part=options.part,
                    progress=progress,
                )
    return figures


def _describe(
    images: IndexedSet, check: str, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    sizes = np.bincount(images.labels)
    rows = range(len(images))
    if check != "all":
        count = min(_TRIED if check == "sample" else 0, len(images))
        rows = np.linspace(0, len(images) - 1, count).astype(np.int64).tolist()
    unreadable = _unreadable(images, rows, progress)
    return {
        "data": str(images.root),
        "kind": images.kind,
        "images": len(images),
        "identities": len(images.identities),
        "images_per_identity": _sizes(sizes),
        "bytes": images.encoded_bytes,
        "index_bytes": images.index.nbytes,
        "decoded": len(rows),
        "unreadable": unreadable,
        "passed_over": dict(images.passed_over),
        "fingerprint": images.fingerprint,
    }


def _sizes(sizes: Any) -> dict[str, Any]:
    bounds = {
        (f"{low}" if low == high else f"{low} to {high}" if high else f"{low} or more"): int(
            ((sizes >= low) & (sizes <= (high or sizes.max()))).sum()
        )
        for low, high in _SIZES
    }
    return {
        "fewest": int(sizes.min()),
        "median": float(np.median(sizes)),
        "mean": float(sizes.mean()),
        "most": int(sizes.max()),
        "identities_with": bounds,
    }


def _unreadable(
    images: IndexedSet, rows: Any, progress: Callable[[int, int], None]
) -> dict[str, str]:
    """Decode some images, and return why each of them cannot be."""

    def read(row: int) -> str | None:
        try:
            decode_row(images, row, _SIZE, 3)
        except UnreadableImageError as error:
            return str(error)
        return None

    errors = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # images are decoded outside Python's lock
        for begin in range(0, len(rows), _TRIED):
            some = rows[begin : begin + _TRIED]
            for row, why in zip(some, pool.map(read, some), strict=True):
                if why is not None:
                    errors[images.name(row)] = why
            progress(begin + len(some), len(rows))
    return errors


def _describe_features(data: str) -> dict[str, Any]:
    labels, shape = read_labels("data", data)
    sizes = np.unique(labels, return_counts=True)[1]
    return {
        "data": data,
        "kind": "features",
        "rows": len(labels),
        "shape": list(shape),
        "identities": len(sizes),
        "images_per_identity": _sizes(sizes),
        "bytes": Path(data).expanduser().stat().st_size,
    }


def _show(figures: dict[str, Any], console: Console) -> None:
    def say(line: str) -> None:
        console.print(line, soft_wrap=True)

    of_features = figures["kind"] == "features"
    rows = figures["rows"] if of_features else figures["images"]
    what = counted(rows, "row of features" if of_features else "image")
    say(f"{printable(figures['data'])}: {figures['kind']}")
    size = bytes_in_words(figures["bytes"])
    say(f"  {what} of {counted(figures['identities'], 'identity')}, {size}")
    sizes = figures["images_per_identity"]
    say(
        f"  images of an identity: {sizes['fewest']:,} to {sizes['most']:,}, "
        f"median {sizes['median']:g}, mean {sizes['mean']:.1f}"
    )
    for size, count in sizes["identities_with"].items():
        if count:
            say(f"    {size}: {counted(count, 'identity')}")
    if of_features:
        return
    if figures["passed_over"]:
        say(f"  passed over: {told(Counter(figures['passed_over']))}")
    unreadable = figures["unreadable"]
    if figures["decoded"]:
        say(f"  {len(unreadable):,} of {counted(figures['decoded'], 'image')} tried cannot be read")
    for why in list(unreadable.values())[:_NAMED]:
        say(f"    {printable(why)}")
    if len(unreadable) > _NAMED:
        say(f"    and {len(unreadable) - _NAMED:,} more; --json names all")
