"""``facenet evaluate``: how well a model verifies, and a report of it."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from facenet_ext.all_pairs import val_far_all_pairs, val_far_over_splits
from facenet_ext.commands.evaluation_facts import Facts, find_facts, report_folder, warn_of_known
from facenet_ext.commands.evaluation_report import AllPairs, make_report
from facenet_ext.commands.options import EvaluateOptions
from facenet_ext.commands.template_evaluation import evaluate_templates
from facenet_ext.commands.trained_model import Model, embed_list, load_model
from facenet_ext.commands.warnings import Warnings
from facenet_ext.common.console import make_console
from facenet_ext.common.counting import Counting
from facenet_ext.common.errors import InputError, refusing
from facenet_ext.common.files import without_nan, write_json, write_text, writing
from facenet_ext.common.launch import is_first
from facenet_ext.common.processes import everyone
from facenet_ext.common.text import number_names
from facenet_ext.embedding.folders import METRICS
from facenet_ext.embedding.options import is_features
from facenet_ext.evaluation import held_out
from facenet_ext.evaluation.protocols import Protocol, make_protocol, read_protocol
from facenet_ext.evaluation.quality import QualitySlice, measure_quality
from facenet_ext.evaluation.table import table
from facenet_ext.evaluation.trials import Search, Trials, read_trials
from facenet_ext.evaluation.verification import Verification, verify
from facenet_ext.recognition import StoredEmbeddings

_SPLITS = 5


def execute(options: EvaluateOptions) -> None:
    """Do what the command line says."""
    console = make_console(stderr=True)
    if not options.far <= 1:
        raise InputError(f"--far {options.far:g}: expected a rate in (0, 1]")
    warnings = Warnings(console)
    compared = _templates(options)
    if compared is not None:
        evaluate_templates(options, compared, console, warnings)
        return
    model = load_model(options, warnings)
    trained = model.module.options.data
    data = options.data or trained.val or trained.data
    if data == "digits" or is_features(data):
        raise InputError(f"--data {data}: has no files of images; give a folder of some")
    output = report_folder(options, model)
    run = model.path.resolve().parent.parent
    if options.data is None and options.pairs is None:
        protocol = make_protocol(*held_out.list_val(trained, run))
    else:
        protocol = read_protocol(data, options.pairs)
    warnings.add(*warn_of_known(trained, run, protocol.images, protocol.people))
    stored = embed_list(protocol.images, model, options.batch, warnings)
    embeddings, spread, protocol = _items(protocol, stored)
    with refusing(f"{protocol.name}: "):
        verification = verify(embeddings, protocol.pairs, spread)
    counted = _all_pairs(stored, options.far, protocol, console) if options.all_pairs else None
    if not is_first():
        return
    slices: list[QualitySlice] = []
    if options.quality:
        with Counting("worsening images", console) as progress:
            slices = measure_quality(model.module, protocol, options.quality, progress)
    if verification.few:
        warnings.add(verification.few)
    images = len({row for item in protocol.items for row in item})
    facts = find_facts(options, model, protocol.images.root, protocol.pairs.identities, images)
    figures = _figures(model, facts, protocol, verification, counted, slices, warnings)
    report = make_report(
        model.name, facts, protocol, verification, embeddings, counted, slices, warnings.texts
    )
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        write_text(output / "report.html", report)
        write_json(output / METRICS, figures)
    warnings.tell()
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    out = make_console()
    shown = table(verification)
    shown.caption = None  # where there are few identities the warning says so
    out.print(shown)
    out.print(verification.verdict, soft_wrap=True, highlight=False)
    if counted is not None:
        _show_all_pairs(out, counted)
    out.print(f"report.html and {METRICS} are in {output}", soft_wrap=True)


def _templates(options: EvaluateOptions) -> Trials | Search | None:
    """Return the protocol if it compares templates, else None."""
    enrol = None if options.enrol is None else Path(options.enrol)
    of_bin = options.data is not None and options.data.endswith(".bin")  # it has its own pairs
    found = None
    if options.pairs is not None and not of_bin:
        found = read_trials(Path(options.pairs), enrol)
    if found is None and enrol is not None:
        raise InputError(f"--enrol {enrol}: goes with --pairs, a file of trials of utterances")
    return found


def _items(protocol: Protocol, stored: StoredEmbeddings) -> tuple[Tensor, Tensor | None, Protocol]:
    """Return each item's embedding and spread, without what cannot be read.

    A video is the mean of its frames and their mean squared distance from it: with these the mean
    distance over all pairs of frames of two videos is that of two rows.
    """
    place = {name: row for row, name in enumerate(stored.ids)}
    ids = protocol.images.ids
    items = [[row for row in item if ids[row] in place] for item in protocol.items]
    kept = [at for at, item in enumerate(items) if item]
    protocol = dataclasses.replace(protocol, items=items).among(kept)
    rows = [[place[ids[row]] for row in item] for item in protocol.items]
    if all(len(item) == 1 for item in rows):
        flat = np.array([item[0] for item in rows])
        return torch.from_numpy(stored.embeddings[flat]), None, protocol
    means, spread = [], []
    for item in rows:
        frames = torch.from_numpy(stored.embeddings[np.array(item)]).double()
        means.append(frames.mean(0))
        spread.append((frames - frames.mean(0)).square().sum(1).mean())
    return torch.stack(means).float(), torch.stack(spread).float(), protocol


def _all_pairs(
    stored: StoredEmbeddings, far: float, protocol: Protocol, console: Console
) -> AllPairs:
    if any(len(item) > 1 for item in protocol.items):
        raise InputError("--all-pairs: of images; videos have their pairs")
    stored.check_named("--all-pairs")
    embeddings = torch.from_numpy(np.array(stored.embeddings))
    labels = torch.from_numpy(number_names(stored.identities)[1])
    rates = sorted({far, 1e-2, 1e-3}, reverse=True)
    mean = standard_error = math.nan
    with refusing("--all-pairs: "), Counting("counting all pairs", console) as progress:
        start = time.perf_counter()
        points = val_far_all_pairs(embeddings, labels, rates, progress=progress, group=everyone())
        seconds = time.perf_counter() - start
    try:
        splits = val_far_over_splits(embeddings, labels, far, splits=_SPLITS, group=everyone())
    except ValueError:  # a split without a pair of one identity
        pass
    else:
        if all(point.reachable for point in splits.points):
            mean, standard_error = splits.mean, splits.standard_error
    pairs = len(labels) * (len(labels) - 1) // 2
    return AllPairs(len(labels), pairs, points, far, mean, standard_error, pairs / seconds)


def _show_all_pairs(console: Console, counted: AllPairs) -> None:
    console.print(f"all {counted.pairs:,} pairs of {counted.images:,} images:")
    for point in counted.points:
        if point.reachable:
            console.print(
                f"  VAL {point.val:.2%} at FAR {point.wanted_far:g} (up to {point.threshold:.4f})"
            )
    if math.isfinite(counted.mean):
        console.print(
            f"  over {_SPLITS} splits of the identities: VAL {counted.mean:.2%} ± "
            f"{counted.standard_error:.2%} at FAR {counted.far:g}"
        )


def _figures(
    model: Model,
    facts: Facts,
    protocol: Protocol,
    verification: Verification,
    counted: AllPairs | None,
    slices: list[QualitySlice],
    warnings: Warnings,
) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "checkpoint": model.name.checkpoint,
        "network": model.name.network,
        "views": model.name.views,
        "protocol": protocol.name,
        "items": len(protocol.items),
        **facts._asdict(),
        "images": len(protocol.images),
        "verdict": verification.verdict,
        "warnings": warnings.texts,
    }
    figures |= verification.as_dict() | {"summary": verification.summary_as_dict()}
    if counted is not None:
        points = [point._asdict() for point in counted.points]
        figures["all_pairs"] = counted._asdict() | {"points": points}
    if slices:
        figures["quality"] = [one._asdict() for one in slices]
    return dict(without_nan(figures))
