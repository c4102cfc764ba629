"""``facenet evaluate`` of pairs of images, and of pairs of videos."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from facenet_ext.all_pairs import val_far_all_pairs, val_far_over_splits
from facenet_ext.commands.evaluation_facts import warn_of_known
from facenet_ext.commands.evaluation_options import EvaluateOptions
from facenet_ext.commands.evaluation_report import Evaluated, in_short, pair_cards, pair_sections
from facenet_ext.commands.group_section import read_groupings
from facenet_ext.commands.image_sections import (
    AllPairs,
    all_pairs_section,
    map_section,
    mistakes_section,
    quality_section,
)
from facenet_ext.commands.report_page import Card, Section
from facenet_ext.commands.trained_model import Model, embed_list
from facenet_ext.commands.warnings import Warnings
from facenet_ext.common.counting import Counting
from facenet_ext.common.errors import InputError, refusing
from facenet_ext.common.launch import is_first
from facenet_ext.common.processes import everyone
from facenet_ext.common.text import number_names
from facenet_ext.embedding.options import is_features
from facenet_ext.evaluation import held_out
from facenet_ext.evaluation.compared import as_dict
from facenet_ext.evaluation.groups import rates_by_group
from facenet_ext.evaluation.protocols import Protocol, make_protocol, read_protocol
from facenet_ext.evaluation.quality import QualitySlice, measure_quality
from facenet_ext.evaluation.scored_pairs import pairs_of_verification
from facenet_ext.evaluation.table import groups_table, table, with_error
from facenet_ext.evaluation.verification import Verification, verify
from facenet_ext.recognition import StoredEmbeddings

_SPLITS = 5


def evaluate_images(
    options: EvaluateOptions, model: Model, console: Console, warnings: Warnings
) -> Evaluated | None:
    """Verify pairs of images or of videos.

    Args:
        options: of the command.
        model: that embeds them.
        console: for progress.
        warnings: to add to.

    Returns:
        What came of it; None in all processes but the first.
    """
    trained = model.module.options.data
    data = options.data or trained.val or trained.data
    if data == "digits" or is_features(data):
        raise InputError(f"--data {data}: has no files of images; give a folder of some")
    run = model.path.resolve().parent.parent
    if options.data is None and options.pairs is None:
        protocol = make_protocol(*held_out.list_val(trained, run))
    else:
        protocol = read_protocol(data, options.pairs)
    groupings = read_groupings(options, protocol.items, protocol.images, warnings)
    warnings.add(*warn_of_known(trained, run, protocol.images, protocol.people))
    stored = embed_list(protocol.images, model, options.batch, warnings)
    embeddings, spread, protocol, kept = _items(protocol, stored)
    with refusing(f"{protocol.name}: "):
        verification = verify(embeddings, protocol.pairs, spread)
    counted = _all_pairs(stored, options.far, protocol, console) if options.all_pairs else None
    if not is_first():
        return None
    slices: list[QualitySlice] = []
    if options.quality:
        with Counting("worsening images", console) as progress:
            slices = measure_quality(model.module, protocol, options.quality, progress)
    if verification.few:
        warnings.add(verification.few)
    compared = verification.compared
    groups = [rates_by_group(compared, one.among(kept)) for one in groupings]
    pairs, images = protocol.pairs, len({row for item in protocol.items for row in item})
    same = int(pairs.same.sum())
    people = "" if pairs.identities is None else f" of {pairs.identities:,} people"
    then = pair_sections(compared, groups)
    if counted is not None:
        then.append(all_pairs_section(counted))
    if slices:
        then.append(quality_section(slices))
    then += [mistakes_section(verification, protocol), map_section(embeddings, protocol)]
    shown = table(verification)
    shown.caption = None  # where there are few identities the warning says so
    figures = verification.as_dict() | {"summary": as_dict(verification.summary)}
    if groups:
        figures["groups"] = [one.as_dict() for one in groups]
    if counted is not None:
        points = [point._asdict() for point in counted.points]
        figures["all_pairs"] = counted._asdict() | {"points": points}
    if slices:
        figures["quality"] = [one._asdict() for one in slices]
    return Evaluated(
        protocol=protocol.name,
        images=protocol.images,
        embedded=images,
        identities=pairs.identities,
        facts=[
            ("Images", f"{images:,}{people}"),
            (
                "Pairs",
                f"{protocol.name}: {same:,} of one person, {len(pairs.same) - same:,} of two",
            ),
        ],
        verdict=[verification.verdict, in_short(compared, groups)],
        first=[Section("Figures", cards=_cards(verification))],
        then=then,
        figures={
            "items": len(protocol.items),
            "images": len(protocol.images),
            "verdict": verification.verdict,
        }
        | figures,
        tables=[shown, *map(groups_table, groups)],
        lines=[verification.verdict, *_told(counted)],
        pairs=pairs_of_verification(verification, protocol.names()),
    )


def _cards(verification: Verification) -> list[Card]:
    accuracy = verification.accuracy
    return [
        Card(
            "balanced accuracy" if verification.pairs.balanced else "accuracy",
            with_error(accuracy.mean, accuracy.standard_error),
            verification.measured,
        ),
        *pair_cards(verification.compared),
        Card("accuracy in bytes", f"{verification.quantized.mean:.2%}", "one byte per dimension"),
    ]


def _items(
    protocol: Protocol, stored: StoredEmbeddings
) -> tuple[Tensor, Tensor | None, Protocol, list[int]]:
    """Return each item's embedding and spread, without what cannot be read, and what is kept.

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
        return torch.from_numpy(stored.embeddings[flat]), None, protocol, kept
    means, spread = [], []
    for item in rows:
        frames = torch.from_numpy(stored.embeddings[np.array(item)]).double()
        means.append(frames.mean(0))
        spread.append((frames - frames.mean(0)).square().sum(1).mean())
    return torch.stack(means).float(), torch.stack(spread).float(), protocol, kept


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


def _told(counted: AllPairs | None) -> Iterator[str]:
    """Yield what is printed of all pairs."""
    if counted is None:
        return
    yield f"all {counted.pairs:,} pairs of {counted.images:,} images:"
    for point in counted.points:
        if point.reachable:
            yield f"  VAL {point.val:.2%} at FAR {point.wanted_far:g} (up to {point.threshold:.4f})"
    if math.isfinite(counted.mean):
        yield (
            f"  over {_SPLITS} splits of the identities: VAL {counted.mean:.2%} ± "
            f"{counted.standard_error:.2%} at FAR {counted.far:g}"
        )
