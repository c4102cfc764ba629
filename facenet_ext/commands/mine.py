"""``facenet mine``: triplets, and probable mistakes, of a whole training set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from facenet_ext._ranks import Ranks
from facenet_ext.commands.devices import find_device
from facenet_ext.commands.mining_plan import plan, sentences
from facenet_ext.commands.options import MineOptions
from facenet_ext.commands.suspects_report import draw_contact_sheet, write_csv
from facenet_ext.common.console import make_console
from facenet_ext.common.counting import Counting
from facenet_ext.common.errors import InputError, refusing
from facenet_ext.common.figures import save_picture
from facenet_ext.common.files import read_json, write_json, write_text, writing
from facenet_ext.common.interrupts import loading
from facenet_ext.common.launch import is_first
from facenet_ext.common.processes import everyone
from facenet_ext.common.text import counted, number_names, read_lines
from facenet_ext.data.examples import Examples
from facenet_ext.embedding.examples import embed_to_file
from facenet_ext.embedding.loading import checkpoint_path, file_hash, load_embedder
from facenet_ext.mining import (
    TripletRule,
    find_duplicates,
    find_mislabelled,
    mine_to_parquet,
    read_triplets,
)
from facenet_ext.mining.storage import describe, fingerprint
from facenet_ext.recognition.store import STORE, map_array, read_embeddings

_REFUSED = (ValueError, TypeError)  # arrays, or to go on with others than before


class _Set(NamedTuple):
    """What is searched: embeddings [N, D], labels [N], a name each, and perhaps the images."""

    embeddings: NDArray[Any]
    labels: NDArray[Any]
    names: Sequence[str]
    examples: Examples | None


def execute(options: MineOptions) -> int:
    """Do what the command line says."""
    console = make_console(stderr=True)
    output = Path(options.output)
    finished = output / "summary.json"
    if finished.exists():
        raise InputError(
            f"--output {output}: already holds the result of a search; choose another folder"
        )
    if (output / STORE).is_file():
        raise InputError(f"--output {output}: holds stored embeddings; choose another folder")
    device = find_device(options.device)
    rule = TripletRule(
        options.margin,
        options.positives,
        options.negatives,
        options.within_margin,
        fallback="drop",
        distance=options.distance,
    )
    if options.plan is not None:
        return _plan(options, rule, options.plan, device, console)
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
    searched = _load(options, output, device, console)
    figures = _search(searched, rule, options, device, console)
    if not is_first():
        return 0
    if options.suspects:
        figures |= _report_suspects(searched, options.suspects, output, console)
    with writing(output):
        write_json(finished, figures)
    if options.json:
        print(json.dumps(figures, indent=2))
        return 0 if figures["triplets"] else 1
    out = make_console()
    out.print(
        f"{counted(figures['triplets'], 'triplet')} of {counted(figures['rows'], 'row')}: "
        f"{figures['file']}",
        soft_wrap=True,
    )
    if options.suspects:
        out.print(
            f"{counted(figures['mislabelled'], 'row')} looked at for a wrong name, the most "
            f"suspicious first, and {counted(figures['duplicates'], 'pair')} under two names: "
            f"{output / 'suspects.csv'}",
            soft_wrap=True,
        )
    return 0 if figures["triplets"] else 1


def _plan(
    options: MineOptions,
    rule: TripletRule,
    processes: int,
    device: torch.device,
    console: Console,
) -> int:
    if not (options.source.endswith(".npy") or (Path(options.source) / STORE).is_file()):
        raise InputError(
            f"--plan: expected embeddings, got the run {options.source}; embed its images first, "
            "with 'facenet embed'"
        )
    embeddings, labels, *_ = _load(options, Path(options.output), device, console)
    with refusing(kinds=_REFUSED):
        figures = plan(embeddings, labels, rule, options, device, processes)
    if options.json:
        print(json.dumps(figures, indent=2))
        return 0
    out = make_console()
    for line in sentences(figures):
        out.print(line, soft_wrap=True)
    return 0


def _search(
    searched: _Set, rule: TripletRule, options: MineOptions, device: torch.device, console: Console
) -> dict[str, Any]:
    """Mine, or go on, or take what the same search found before it was interrupted."""
    target = Path(options.output) / "triplets.parquet"
    stamp = target.with_name("mining.json")
    description = describe(searched.embeddings, searched.labels, rule, options.block)
    if target.is_file() and read_json(stamp) == description:
        with refusing(kinds=_REFUSED):
            count = len(read_triplets(target).anchor)
    else:
        with (
            refusing(kinds=_REFUSED),
            writing(target.parent),
            Counting("mining", console) as progress,
        ):
            count = mine_to_parquet(
                searched.embeddings,
                searched.labels,
                target,
                rule,
                block=options.block,
                chunk=options.chunk,
                device=device,
                progress=progress,
                group=everyone(),
            )
        if is_first():
            with writing(target.parent):
                write_json(stamp, description)
    return {"rows": len(searched.labels), "triplets": count, "file": str(target)}


def _report_suspects(searched: _Set, count: int, output: Path, console: Console) -> dict[str, Any]:
    embeddings, labels, names, examples = searched
    with refusing(kinds=_REFUSED), Counting("looking for mistakes", console) as progress:
        mislabelled = find_mislabelled(embeddings, labels, count, progress=progress)
        duplicates = find_duplicates(embeddings, labels)
    with writing(output):
        write_csv(output / "suspects.csv", mislabelled, duplicates, names)
    if examples is not None and examples.are_images:
        sheet = draw_contact_sheet(mislabelled, duplicates, examples)
        with writing(output):
            save_picture(sheet, output / "suspects.png")
    return {"mislabelled": len(mislabelled), "duplicates": len(duplicates)}


def _load(options: MineOptions, output: Path, device: torch.device, console: Console) -> _Set:
    if not options.source.endswith(".npy"):
        for name in ("labels", "names"):
            if getattr(options, name) is not None:
                raise InputError(f"--{name}: belongs to an .npy of embeddings; leave it out")
        if (Path(options.source) / STORE).is_file():
            return _stored(options)
        return _embed(options, output, device, console)
    if options.data is not None:
        raise InputError("--data: belongs to a checkpoint; give --labels with an .npy")
    if options.labels is None:
        raise InputError(f"{options.source}: needs --labels, an .npy of one integer per row")
    embeddings, labels = _read(options.source), _read(options.labels)
    names = [str(row) for row in range(len(labels))]
    if options.names is not None:
        names = read_lines(Path(options.names), f"--names {options.names}:")
        if len(names) != len(labels):
            raise InputError(
                f"--names {options.names}: expected a line per row, {len(labels)}, got {len(names)}"
            )
    return _Set(embeddings, labels, names, None)


def _stored(options: MineOptions) -> _Set:
    """Read what 'facenet embed' wrote."""
    if options.data is not None:
        raise InputError("--data: belongs to a checkpoint; these are embeddings")
    stored = read_embeddings(Path(options.source))
    stored.check_named(options.source)
    return _Set(stored.embeddings, number_names(stored.identities)[1], stored.ids, None)


def _read(path: str) -> NDArray[Any]:
    array = map_array(Path(path))
    return array.astype(array.dtype.newbyteorder("=")) if not array.dtype.isnative else array


def _embed(options: MineOptions, output: Path, device: torch.device, console: Console) -> _Set:
    """Embed the training images with a checkpoint, unless that was done before."""
    with loading("facenet mine"):  # Lightning takes seconds, and stored embeddings need none of it
        from facenet_ext.train.data import load

    path = checkpoint_path(options.source)
    module = load_embedder(path, options.model).to(device)
    data = module.options.data
    if options.data is not None:
        data = data.of(options.data)
    examples = load(data, console).train
    if not module.accepts(examples.shape):
        raise InputError(
            f"--data {data.data}: the network of {path} embeds {list(module.shape)}, "
            f"these are {list(examples.shape)}"
        )
    stamp = output / "embeddings.json"
    described = {
        "checkpoint": file_hash(path),
        "examples": fingerprint(examples.values.numpy())
        if isinstance(examples.values, torch.Tensor)
        else examples.values.fingerprint,
        "labels": fingerprint(examples.labels.numpy(), len(examples)),
    }
    file = output / "embeddings.npy"
    if not (file.is_file() and read_json(stamp) == described):
        with writing(output), Counting("embedding", console) as progress:
            embed_to_file(module, examples, np.arange(len(examples)), file, progress)

    def describe() -> None:
        with writing(output):
            write_json(stamp, described)
            np.save(output / "labels.npy", examples.labels.numpy())
            write_text(output / "names.txt", "\n".join(examples.names) + "\n")

    Ranks.of().first(describe)  # the others wait until the file is there
    return _Set(np.load(file, mmap_mode="r"), examples.labels.numpy(), examples.names, examples)
