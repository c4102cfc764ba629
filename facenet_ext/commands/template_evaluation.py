"""``facenet evaluate`` of protocols that compare templates: IJB-B, IJB-C, speaker trials."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from facenet_ext.commands.evaluation_facts import find_facts, report_folder, warn_of_known
from facenet_ext.commands.options import EvaluateOptions
from facenet_ext.commands.template_report import as_dict, make_report, make_table
from facenet_ext.commands.trained_model import Model, embed_list, load_model
from facenet_ext.commands.warnings import Warnings
from facenet_ext.common.console import make_console
from facenet_ext.common.counting import Counting
from facenet_ext.common.errors import InputError
from facenet_ext.common.files import write_json, write_text, writing
from facenet_ext.common.launch import is_first
from facenet_ext.common.text import counted
from facenet_ext.data.features import read_features, read_names
from facenet_ext.data.image_list import ImageList
from facenet_ext.data.listing import list_images
from facenet_ext.embedding.folders import METRICS
from facenet_ext.embedding.options import is_features
from facenet_ext.evaluation.trial_scores import Found, pool, score, search
from facenet_ext.evaluation.trial_summary import TrialSummary, summarise
from facenet_ext.evaluation.trials import Search, Trials, locate


class _Embedded(NamedTuple):
    """The items of a protocol, embedded.

    Attributes:
        images: the items with their identities; of features too.
        embeddings: [N, D] float32.
        rows: [items] int64, the row of each item; -1 where it cannot be read.
    """

    images: ImageList
    embeddings: NDArray[np.float32]
    rows: NDArray[np.int64]


def evaluate_templates(
    options: EvaluateOptions, protocol: Trials | Search, console: Console, warnings: Warnings
) -> None:
    """Evaluate a model by a protocol that compares templates.

    Args:
        options: of the command.
        protocol: what to compare.
        console: for progress.
        warnings: to add to.
    """
    if options.all_pairs:
        raise InputError("--all-pairs: of images; a protocol of templates has its pairs")
    model = load_model(options, warnings, features=True)
    output = report_folder(options, model)
    data = options.data or model.module.options.data.val or model.module.options.data.data
    embed = _embed_features if is_features(data) else _embed_images
    embedded = embed(protocol, data, model, options.batch, warnings)
    if not is_first():
        return
    people = {*embedded.images.people} - {""}
    run = model.path.resolve().parent.parent
    warnings.add(*warn_of_known(model.module.options.data, run, embedded.images, people))
    start = time.perf_counter()
    templates = pool(embedded.embeddings, embedded.rows, protocol.templates)
    lost = int((~templates.kept).sum())
    told = f"of {counted(len(templates.kept), 'template')} {lost:,} have nothing that can be read"
    result: TrialSummary | list[Found]
    if isinstance(protocol, Trials):
        identities = len(np.unique(protocol.identities(embedded.images.people)))
        with Counting("scoring trials", console) as progress:
            scored = score(templates, protocol, len(protocol), progress)
        told += f": {counted(scored.left_out, 'trial')} of {len(protocol):,} are left out"
        if not 0 < int(scored.same.sum()) < len(scored.same):
            raise InputError(f"{protocol.file.path}: no trials of both kinds can be scored")
        result = summarise(scored.distances, scored.same)
    else:
        identities = len(set(protocol.templates.subjects) - {""})
        result = search(templates, protocol)
        told += ": they are left out"
    if lost:
        warnings.add(told)
    seconds = time.perf_counter() - start
    images = int((embedded.rows >= 0).sum())
    facts = find_facts(options, model, embedded.images.root, identities, images)
    figures = {
        "checkpoint": model.name.checkpoint,
        "network": model.name.network,
        "views": model.name.views,
        "protocol": protocol.name,
        "templates": int(templates.kept.sum()),
        **facts._asdict(),
        "seconds_after_embedding": seconds,
        "warnings": warnings.texts,
        **as_dict(result),
    }
    report = make_report(model.name, facts, protocol, result, warnings.texts)
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        write_text(output / "report.html", report)
        write_json(output / METRICS, figures)
    warnings.tell()
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    out = make_console()
    out.print(make_table(result))
    out.print(f"report.html and {METRICS} are in {output}", soft_wrap=True)


def _embed_images(
    protocol: Trials | Search, data: str, model: Model, batch: int, warnings: Warnings
) -> _Embedded:
    if not model.module.images:
        raise InputError(f"--data {data}: the model embeds features; give an .npz of some")
    listed = list_images(data)
    at = locate(protocol, listed.ids, data)
    images = listed.among(at.tolist())
    stored = embed_list(images, model, batch, warnings)
    place = {name: row for row, name in enumerate(stored.ids)}
    rows = np.array([place.get(name, -1) for name in images.ids], np.int64)
    return _Embedded(images, stored.embeddings, rows)


def _embed_features(
    protocol: Trials | Search, data: str, model: Model, batch: int, warnings: Warnings
) -> _Embedded:
    """Embed utterances: each is the mean direction of its pieces, the rows of its name."""
    values, labels = read_features("data", data)
    names = read_names("data", data, len(values))
    shape = values.shape[1:]
    if model.module.images or not model.module.accepts(shape):
        raise InputError(
            f"--data {data}: a row of features is {list(shape)}, and the model embeds "
            f"{list(model.module.shape)}"
        )
    at = locate(protocol, names, data)
    utterance = {names[row]: item for item, row in enumerate(at)}
    chosen = np.array([row for row, name in enumerate(names) if name in utterance])
    mean = np.zeros((len(at), model.module.options.model.embedding_dim))
    with Counting("embedding", warnings.console) as progress:
        for begin in range(0, len(chosen), batch):
            rows = chosen[begin : begin + batch]
            embeddings = model.module.embed(torch.from_numpy(values[rows])).numpy()
            np.add.at(mean, [utterance[names[row]] for row in rows], embeddings)
            progress(begin + len(rows), len(chosen))
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    utterances = ImageList(Path(data), protocol.templates.items, [str(labels[row]) for row in at])
    return _Embedded(utterances, mean.astype(np.float32), np.arange(len(at)))
