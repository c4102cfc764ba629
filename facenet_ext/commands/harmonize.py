"""``facenet harmonize``: a new model whose embeddings can be compared with an old one's."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from facenet_ext._ranks import Ranks
from facenet_ext.commands.options import HarmonizeOptions
from facenet_ext.common.console import make_console
from facenet_ext.common.errors import InputError, InterruptedRunError, in_flags
from facenet_ext.common.figures import save_picture
from facenet_ext.common.files import read_json, write_json
from facenet_ext.common.text import counted
from facenet_ext.embedding.embedder import Embedder
from facenet_ext.embedding.examples import embed_examples
from facenet_ext.embedding.folders import CHECKPOINTS, CONFIG, LAST_FILE
from facenet_ext.embedding.loading import checkpoint_path, file_hash, load_embedder
from facenet_ext.embedding.options import DistillationOptions, Options, RunOptions, dump
from facenet_ext.train.data import load
from facenet_ext.train.fitting import fit
from facenet_ext.train.harmonic import (
    HarmonicModule,
    compare,
    draw_comparison,
    recognised,
)
from facenet_ext.train.module import EmbeddingModule
from facenet_ext.train.processes import join
from facenet_ext.train.progress import quiet
from facenet_ext.train.run import train


def execute(options: HarmonizeOptions) -> int:
    """Do what the command line says."""
    quiet()
    ranks = join(RunOptions())
    console = make_console(stderr=options.json)
    console.quiet = ranks.rank > 0
    folder = Path(options.output)
    paths = {"old": checkpoint_path(options.old)}
    if options.new is not None:
        paths["new"] = checkpoint_path(options.new)
    named = {"old": options.old_model, "new": options.new_model}
    models = {
        name: load_embedder(path, named[name], f"{name}_model") for name, path in paths.items()
    }
    old, new = models["old"], models.get("new")
    if new is not None and new.shape != old.shape:
        raise InputError(
            f"--new {options.new}: embeds {list(new.shape)} and the old model {list(old.shape)}; "
            "both must see the same, so train it on data of that shape"
        )
    _claim(folder, {name: file_hash(path) for name, path in paths.items()})
    try:
        independent = new or _independent(old, folder, options, console)
        both = _options(independent.options, old, options)
        module = independent
        for stage, layer_only, steps in (
            ("layer", True, options.layer_steps),
            ("all", False, options.steps),
        ):
            console.print(f"training {'the last layer' if layer_only else 'the whole network'}")
            run = replace(both.run, max_steps=int(steps), output=str(folder / stage))
            make = partial(
                HarmonicModule,
                old=old,
                old_checkpoint=file_hash(paths["old"]),
                start=module,
                layer_only=layer_only,
            )
            module = _stage(replace(both, run=run), make, console)
    except InterruptedRunError:
        raise InterruptedRunError(None) from None  # the run of a stage is not the user's to resume
    figures = _report(folder, old, independent, module, console)
    if options.json and ranks.rank == 0:
        print(json.dumps(figures, indent=2))
    return 0


def _claim(folder: Path, models: dict[str, str]) -> None:
    """Make the folder, or check that it was begun with the same models."""
    stamp = folder / "models.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not stamp.is_file():
            write_json(stamp, models)
    except OSError as error:
        raise InputError(f"--output {folder}: cannot be used ({error})") from None
    begun = read_json(stamp)
    if not begun:
        raise InputError(f"--output {folder}: its {stamp.name} is not this command's")
    differing = [name for name in ("old", "new") if begun.get(name) != models.get(name)]
    if differing:
        raise InputError(
            f"--output {folder}: was begun with another {differing[0]} model; "
            "give the same, or choose another folder"
        )


def _independent(
    old: Embedder, folder: Path, options: HarmonizeOptions, console: Console
) -> Embedder:
    """Train a model as the old one was, with another seed."""
    run = replace(
        old.options.run,
        seed=old.options.run.seed + 1,
        max_minutes=None,  # as many steps as the old one
        output=str(folder / "independent"),
    )
    data = old.options.data if options.data is None else old.options.data.of(options.data)
    alone = replace(old.options, data=data, run=run, distillation=DistillationOptions())
    return _stage(alone, EmbeddingModule, console)


def _options(new: Options, old: Embedder, options: HarmonizeOptions) -> Options:
    """Return the options of both stages, without what is each one's own."""
    data = new.data if options.data is None else new.data.of(options.data)
    lr = new.optimizer.lr if options.lr is None else options.lr
    dim, members = old.embedding_dim, new.model.members
    if dim % members:
        raise InputError(
            f"--new {options.new}: has {members} members, among which the {dim} numbers of the old "
            "model's embeddings cannot be divided; give a model with another number of them"
        )
    return replace(
        new,
        data=data,
        model=replace(new.model, embedding_dim=dim // members, wccn=False, fisher=0, cohort=0),
        distillation=DistillationOptions(),
        mining=replace(new.mining, mine_every=0),
        optimizer=replace(new.optimizer, lr=lr),
        run=replace(new.run, max_minutes=None),
    )


def _stage(options: Options, make_module: Any, console: Console) -> Embedder:
    """Train, or go on, or take what was trained before."""
    folder = Path(str(options.run.output))
    last = folder / CHECKPOINTS / LAST_FILE
    options, fitted = fit(options, {"model"}, checkpoint=last)
    if fitted:
        console.print(in_flags(fitted), soft_wrap=True)
    config = folder / CONFIG
    if config.is_file() and config.read_text(encoding="utf-8") != dump(options):
        raise InputError(
            f"--output {folder.parent}: {folder.name}/ was begun with other options; give the "
            "same, or choose another folder"
        )
    if not (folder / "metrics.json").is_file():
        if last.is_file():
            train(options, last, make_module, console)
        else:
            config.unlink(missing_ok=True)  # of a run that stopped before its first checkpoint
            train(options, None, make_module, console)
    return load_embedder(last, options.model.model)


def _report(
    folder: Path,
    old: Embedder,
    independent: Embedder,
    new: Embedder,
    console: Console,
) -> dict[str, Any]:
    data = load(new.options.data, console, folder / "all")
    v1, before, v2 = (
        torch.cat(list(embed_examples(module, data.val))) for module in (old, independent, new)
    )
    if Ranks.of().rank > 0:
        return {}
    comparable = before.shape[1] == v1.shape[1]
    readable = v1.isfinite().all(1)
    pairs, labels = data.pairs.between(readable), data.val.labels[readable]
    comparisons = [
        compare("new against new", v2, v2, pairs),
        compare("new against old", v2, v1, pairs),
        compare("old against old", v1, v1, pairs),
    ]
    gallery = v1[readable]
    known, probes = recognised(gallery, gallery, labels)
    after, _ = recognised(v2[readable], gallery, labels)
    counts = {"old probes": known, "new probes, after": after}
    if comparable:
        comparisons.append(compare("new against old, before", before, v1, pairs))
        counts["new probes, before"] = recognised(before[readable], gallery, labels)[0]
    compared = {comparison.name: comparison.as_dict() for comparison in comparisons}
    figures = {
        "comparisons": compared,
        "probes": probes,
        "recognised_in_the_old_gallery": counts,
    }
    write_json(folder / "harmonic.json", figures)
    save_picture(draw_comparison(comparisons), folder / "harmonic.png")
    table = Table(title="old and new embeddings")
    for column in ("compared", "AUC", "VAL at FAR 0.01"):
        table.add_column(column, justify="left" if column == "compared" else "right")
    for name, row in compared.items():
        val = row["val_at_far_1e-2"]
        table.add_row(name, f"{row['auc']:.4f}", "" if val is None else f"{val:.1%}")
    console.print(table)
    for name, count in counts.items():
        console.print(
            f"{name}: {count:,} of {counted(probes, 'face')} are recognised in the old gallery"
            f" ({count / max(1, probes):.1%})"
        )
    console.print(f"harmonic.json and harmonic.png are in {folder}", soft_wrap=True)
    return figures
