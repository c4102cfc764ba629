"""``facenet mine``: triplets, and probable mistakes, of a whole training set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from facenet_ext.commands.devices import find_device
from facenet_ext.commands.suspects_report import draw_contact_sheet, write_csv
from facenet_ext.common.console import make_console
from facenet_ext.common.counting import Counting
from facenet_ext.common.errors import InputError
from facenet_ext.common.figures import save_picture
from facenet_ext.common.files import read_json, write_json, write_text
from facenet_ext.common.text import read_lines
from facenet_ext.data.examples import Examples
from facenet_ext.embedding.loading import checkpoint_path, file_hash, load_embedder
from facenet_ext.mining import (
    TripletRule,
    find_duplicates,
    find_mislabelled,
    mine_to_parquet,
    read_triplets,
)
from facenet_ext.mining.storage import describe, fingerprint
from facenet_ext.recognition.store import STORE, map_array, number, read_embeddings
from facenet_ext.train.data import load
from facenet_ext.train.offline import embed_to_file

__all__ = ["execute"]


class _Set(NamedTuple):
    """What is searched: embeddings [N, D], labels [N], a name each, and perhaps the images."""

    embeddings: NDArray[Any]
    labels: NDArray[Any]
    names: list[str]
    examples: Examples | None


def execute(found: Any) -> int:
    """Do what the command line says."""
    console = make_console(stderr=True)
    output = Path(found.output)
    finished = output / "summary.json"
    if finished.exists():
        raise InputError(
            f"--output {output}: already holds the result of a search; choose another folder"
        )
    if (output / STORE).is_file():
        raise InputError(f"--output {output}: holds stored embeddings; choose another folder")
    device = find_device(found.device)
    try:
        rule = TripletRule(
            float(found.margin),
            found.positives,
            found.negatives,
            found.within_margin,
            fallback="drop",
            distance=found.distance,
        )
        output.mkdir(parents=True, exist_ok=True)
        searched = _load(found, output, device, console)
        figures = _search(searched, rule, found, device, console)
        if found.suspects:
            figures |= _report_suspects(searched, int(found.suspects), output, console)
        write_json(finished, figures)
    except (ValueError, TypeError) as error:
        raise InputError(str(error)) from None
    except OSError as error:
        raise InputError(f"--output {output}: cannot be written to ({error.strerror})") from None
    if found.json:
        print(json.dumps(figures, indent=2))
        return 0 if figures["triplets"] else 1
    out = make_console()
    out.print(
        f"{figures['triplets']:,} triplets of {figures['rows']:,} rows: {figures['file']}",
        soft_wrap=True,
    )
    if found.suspects:
        out.print(
            f"{figures['mislabelled']} rows looked at for a wrong name, the most suspicious first, "
            f"and {figures['duplicates']} pairs under two names: {output / 'suspects.csv'}",
            soft_wrap=True,
        )
    return 0 if figures["triplets"] else 1


def _search(
    searched: _Set, rule: TripletRule, found: Any, device: torch.device, console: Console
) -> dict[str, Any]:
    """Mine, or go on, or take what the same search found before it was interrupted."""
    target = Path(found.output) / "triplets.parquet"
    stamp = target.with_name("mining.json")
    description = describe(searched.embeddings, searched.labels, rule, int(found.block))
    if target.is_file() and stamp.is_file() and read_json(stamp) == description:
        count = len(read_triplets(target).anchor)
    else:
        with Counting("mining", console) as progress:
            count = mine_to_parquet(
                searched.embeddings,
                searched.labels,
                target,
                rule,
                block=int(found.block),
                chunk=int(found.chunk),
                device=device,
                progress=progress,
            )
        write_json(stamp, description)
    return {"rows": len(searched.labels), "triplets": count, "file": str(target)}


def _report_suspects(searched: _Set, count: int, output: Path, console: Console) -> dict[str, Any]:
    embeddings, labels, names, examples = searched
    with Counting("looking for mistakes", console) as progress:
        mislabelled = find_mislabelled(embeddings, labels, count, progress=progress)
    duplicates = find_duplicates(embeddings, labels)
    write_csv(output / "suspects.csv", mislabelled, duplicates, names)
    if examples is not None and examples.are_images:
        sheet = draw_contact_sheet(mislabelled, duplicates, examples)
        save_picture(sheet, output / "suspects.png")
    return {"mislabelled": len(mislabelled), "duplicates": len(duplicates)}


def _load(found: Any, output: Path, device: torch.device, console: Console) -> _Set:
    if not found.source.endswith(".npy"):
        for name in ("labels", "names"):
            if getattr(found, name) is not None:
                raise InputError(f"--{name}: belongs to an .npy of embeddings; leave it out")
        if (Path(found.source) / STORE).is_file():
            return _stored(found)
        return _embed(found, output, device, console)
    if found.data is not None:
        raise InputError("--data: belongs to a checkpoint; give --labels with an .npy")
    if found.labels is None:
        raise InputError(f"{found.source}: needs --labels, an .npy of one integer per row")
    embeddings, labels = _read(found.source), _read(found.labels)
    names = [str(row) for row in range(len(labels))]
    if found.names is not None:
        names = read_lines(Path(found.names), f"--names {found.names}:")
        if len(names) != len(labels):
            raise InputError(
                f"--names {found.names}: expected a line per row, {len(labels)}, got {len(names)}"
            )
    return _Set(embeddings, labels, names, None)


def _stored(found: Any) -> _Set:
    """Read what 'facenet embed' wrote."""
    if found.data is not None:
        raise InputError("--data: belongs to a checkpoint; these are embeddings")
    stored = read_embeddings(Path(found.source))
    stored.check_named(found.source)
    return _Set(stored.embeddings, number(stored.identities)[1], stored.ids, None)


def _read(path: str) -> NDArray[Any]:
    array = map_array(Path(path))
    return array.astype(array.dtype.newbyteorder("=")) if not array.dtype.isnative else array


def _embed(found: Any, output: Path, device: torch.device, console: Console) -> _Set:
    """Embed the training images with a checkpoint, unless that was done before."""
    path = checkpoint_path(found.source)
    module = load_embedder(path).to(device)
    options = module.options.data
    if found.data is not None:
        options = options.of(found.data)
    examples = load(options, console).train
    if not module.accepts(examples.shape):
        raise InputError(
            f"--data {options.data}: the network of {path} embeds {list(module.shape)}, "
            f"these are {list(examples.shape)}"
        )
    stamp = output / "embeddings.json"
    described = {
        "checkpoint": file_hash(path),
        "examples": fingerprint(examples.values.numpy()),
        "labels": fingerprint(examples.labels.numpy(), len(examples)),
    }
    file = output / "embeddings.npy"
    if not (stamp.is_file() and file.is_file() and read_json(stamp) == described):
        with Counting("embedding", console) as progress:
            embed_to_file(module, examples, np.arange(len(examples)), file, progress)
        write_json(stamp, described)
    np.save(output / "labels.npy", examples.labels.numpy())
    write_text(output / "names.txt", "\n".join(examples.names) + "\n")
    return _Set(np.load(file, mmap_mode="r"), examples.labels.numpy(), examples.names, examples)
