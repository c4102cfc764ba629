"""``facenet evaluate`` of protocols that compare templates: IJB-B, IJB-C, speaker trials."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from facenet_ext.commands.evaluation_facts import warn_of_known
from facenet_ext.commands.evaluation_options import EvaluateOptions
from facenet_ext.commands.evaluation_report import (
    Evaluated,
    in_short,
    pair_cards,
    pair_sections,
    search_section,
)
from facenet_ext.commands.group_section import read_groupings
from facenet_ext.commands.report_page import Section
from facenet_ext.commands.trained_model import Model, embed_list
from facenet_ext.commands.warnings import Warnings
from facenet_ext.common.counting import Counting
from facenet_ext.common.errors import InputError
from facenet_ext.common.launch import is_first
from facenet_ext.common.text import counted, number_names
from facenet_ext.data.features import read_features, read_names
from facenet_ext.data.image_list import ImageList
from facenet_ext.data.listing import list_images
from facenet_ext.data.templates import Templates
from facenet_ext.embedding.options import is_features
from facenet_ext.evaluation.compared import RATES, Compared, as_dict, percent
from facenet_ext.evaluation.groups import GroupedRates, Grouping, rates_by_group
from facenet_ext.evaluation.scored_pairs import ScoredPairs, pairs_of_trials
from facenet_ext.evaluation.search_summary import SearchSummary, summarize_search
from facenet_ext.evaluation.table import groups_table, pairs_table, searches_table
from facenet_ext.evaluation.trial_scores import (
    PooledTemplates,
    pool,
    score,
    search,
)
from facenet_ext.evaluation.trials import Search, Trials, locate
from facenet_ext.metrics import OperatingPoint


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
    options: EvaluateOptions,
    model: Model,
    protocol: Trials | Search,
    console: Console,
    warnings: Warnings,
) -> Evaluated | None:
    """Evaluate a model by a protocol that compares templates.

    Args:
        options: of the command.
        model: that embeds what templates are made of.
        protocol: what to compare.
        console: for progress.
        warnings: to add to.

    Returns:
        What came of it; None in all processes but the first.
    """
    if options.all_pairs:
        raise InputError("--all-pairs: of images; a protocol of templates has its pairs")
    if options.groups is not None and isinstance(protocol, Search):
        raise InputError(
            f"--groups {options.groups}: tells the error rates of pairs by groups, and "
            f"{protocol.name} has searches; leave it out, or give the protocol's pairs to --pairs"
        )
    data = options.data or model.module.options.data.val or model.module.options.data.data
    embed = _embed_features if is_features(data) else _embed_images
    embedded = embed(protocol, data, model, options.batch, warnings)
    if not is_first():
        return None
    groupings = read_groupings(options, _members(protocol.templates), embedded.images, warnings)
    people = {*embedded.images.people} - {""}
    run = model.path.resolve().parent.parent
    warnings.add(*warn_of_known(model.module.options.data, run, embedded.images, people))
    start = time.perf_counter()
    templates = pool(embedded.embeddings, embedded.rows, protocol.templates)
    if isinstance(protocol, Trials):
        found, left_out = _verify(protocol, templates, embedded, groupings, console)
    else:
        found, left_out = _search(protocol, templates)
    if lost := int((~templates.kept).sum()):
        every = counted(len(templates.kept), "template")
        warnings.add(f"of {every} {lost:,} have nothing that can be read: {left_out}")
    images, kept = int((embedded.rows >= 0).sum()), int(templates.kept.sum())
    return Evaluated(
        protocol=protocol.name,
        images=embedded.images,
        embedded=images,
        identities=found.identities,
        facts=[
            ("Embedded", f"{images:,} images or utterances of {found.identities:,} people"),
            ("Templates", f"{kept:,}, by {protocol.name}"),
        ],
        verdict=found.verdict,
        first=found.first,
        then=found.then,
        figures={
            "templates": kept,
            "seconds_after_embedding": time.perf_counter() - start,
            **found.figures,
        },
        tables=found.tables,
        pairs=found.pairs,
    )


def _members(templates: Templates) -> list[list[int]]:
    """Return the items of each template."""
    members: list[list[int]] = [[] for _ in templates.ids]
    for template, item in zip(templates.template.tolist(), templates.item.tolist(), strict=True):
        members[template].append(item)
    return members


class _Outcome(NamedTuple):
    """What verifying and searching templates both have; see :class:`.Evaluated`."""

    identities: int
    verdict: list[str]
    first: list[Section]
    then: list[Section]
    figures: dict[str, Any]
    tables: list[Table]
    pairs: ScoredPairs | None


def _verify(
    protocol: Trials,
    templates: PooledTemplates,
    embedded: _Embedded,
    groupings: Sequence[Grouping],
    console: Console,
) -> tuple[_Outcome, str]:
    """Score trials; return what comes of them, and what became of those without an embedding."""
    with Counting("scoring trials", console) as progress:
        scored = score(templates, protocol, len(protocol), progress)
    if 0 in scored.counts:
        raise InputError(f"{protocol.file.path}: no trials of both kinds can be scored")
    labels = protocol.identities(embedded.images.people)
    pairs = pairs_of_trials(protocol, scored, labels)
    compared = Compared.of_trials(scored, labels)
    groups = [rates_by_group(compared, one) for one in groupings]
    outcome = _Outcome(
        len(np.unique(labels)),
        [_verdict(compared), in_short(compared, groups)],
        [Section("Figures", cards=pair_cards(compared))],
        pair_sections(compared, groups),
        _figures(compared, groups),
        [pairs_table(compared), *map(groups_table, groups)],
        pairs,
    )
    left_out = f"{counted(scored.left_out, 'trial')} of {len(protocol):,} are left out"
    return outcome, left_out


def _search(protocol: Search, templates: PooledTemplates) -> tuple[_Outcome, str]:
    """Search for the probes; return as :func:`_verify`."""
    names, numbers = number_names(protocol.templates.subjects)
    whose = torch.from_numpy(numbers[protocol.probes[templates.kept[protocol.probes]]])
    found = [summarize_search(one, whose) for one in search(templates, protocol)]
    outcome = _Outcome(
        len({*names} - {""}),
        [_search_verdict(one) for one in found],
        [search_section(one) for one in found],
        [],
        {"galleries": [one.as_dict() for one in found]},
        [searches_table(found)],
        None,
    )
    return outcome, "they are left out"


def _figures(compared: Compared, groups: Sequence[GroupedRates]) -> dict[str, Any]:
    """Return the figures as JSON has them, those without intervals as images have them too."""
    figures, curve = compared.summary.figures, compared.curve
    points = []
    for rate in RATES:
        figure = figures[f"fnmr_at_fmr_{rate:g}"]
        reachable = math.isfinite(figure.value)
        points.append(
            OperatingPoint(rate, reachable, 1 - figure.value, figure.fmr, figure.threshold)
        )
    found: dict[str, Any] = {
        "trials": {"same": compared.summary.same, "different": compared.summary.different},
        "val_far": [point._asdict() for point in points],
        "eer": figures["eer"].value,
        "eer_threshold": figures["eer"].threshold,
        "auc": figures["auc"].value,
        "curve": {
            "thresholds": curve.thresholds[1:].tolist(),
            "val": (1 - curve.fnmr[1:]).tolist(),
            "far": curve.fmr[1:].tolist(),
        },
        "summary": as_dict(compared.summary),
    }
    if groups:
        found["groups"] = [one.as_dict() for one in groups]
    return found


def _verdict(compared: Compared) -> str:
    rate, summary = compared.summary.figures["eer"], compared.summary
    return (
        f"Of {counted(summary.same, 'trial')} of one identity and {summary.different:,} of two, "
        f"{percent(rate.value)} of either kind are judged wrongly where both are equal (EER)."
    )


def _search_verdict(found: SearchSummary) -> str:
    told = f"{found.gallery}, {found.subjects:,} subjects: "
    if not found.figures:
        return told + "none of the probes is of one of them."
    first = found.figures["fnir_at_rank_1"]
    told += (
        f"of {counted(found.known, 'probe')} whose subject it has, {percent(first.value)} have "
        "another one nearer (FNIR, rank 1)."
    )
    for key in ("fnir_at_fpir_0.01", "fnir_at_fpir_0.1"):
        figure = found.figures.get(key)
        if figure is not None and math.isfinite(figure.value):
            one_in = round(1 / float(key.rpartition("_")[2]))
            return told + (
                f" If no more than one in {one_in} of the others may be taken for somebody, "
                f"{percent(figure.value)} are not found."
            )
    return told


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
