"""Joins runs of the study into committees: `python -m benchmarks.committees`.

The runs are those of study_aligned.yaml, trained by `python -m benchmarks.study`, whose checkpoints
are read. Each committee verifies the people that the runs left out, with what is fitted to the
runs' training people behind it and beside it, and without. So do Fisher vectors without a network.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks import study
from benchmarks.machine import describe
from facenet_ext.common.console import make_console
from facenet_ext.embedding.embedder import Embedder
from facenet_ext.embedding.examples import embed_examples
from facenet_ext.embedding.loading import checkpoint_path, load_embedder
from facenet_ext.evaluation.verification import verify
from facenet_ext.models import WCCN, Cohort, Committee, FisherVectors, Head, members_of
from facenet_ext.train.data import TrainVal, load
from facenet_ext.train.head import fit_head

RESULTS = study.RESULTS.with_stem("committees")
COHORT, FISHER = 256, 400
SEEDS = range(3)  # of the people of the cohort

# (choice, variant) of the plan: networks of 300 batches, and longer ones.
_SHORT = [
    (study.BASE, ""),
    ("window", "learns to straighten"),
    ("window", "eyes and nose"),
    ("loss", "supcon, temperature 0.06"),
    ("loss", "supcon, temperature 0.1"),
    ("window", "larger, learns to straighten"),
]
_LONG = [
    ("longer, supcon", "600 batches, learns to straighten"),
    ("longer, supcon", "600 batches, eyes and nose"),
    ("longer, supcon", "600 batches, larger"),
    ("longer", "600 batches"),
    ("longer, supcon", "1,200 batches, dropout 0.4, weight decay 0.5, learns to straighten"),
]
COMMITTEES = {
    "one of 300 batches": _SHORT[:1],
    "three of 300": _SHORT[:3],
    "six of 300": _SHORT,
    "one of 600": _LONG[:1],
    "three of 600": _LONG[:3],
    "four of 600, one of 1,200": _LONG,
}
HEADS = ("joined", "WCCN", "WCCN, cohort", "WCCN, Fisher vectors, cohort")
COLUMNS = ["networks", *(f"{figure}, {head}" for figure in ("AUC", "accuracy") for head in HEADS)]


class Reached(NamedTuple):
    """What a committee reached with each of HEADS; None where it has no network."""

    auc: list[float | None]
    accuracy: list[float | None]


def joined(names: Sequence[str]) -> Embedder:
    """One model of the networks of several runs, with nothing behind it."""
    runs = [load_embedder(checkpoint_path(str(study.SCRATCH / name))) for name in names]
    members = [member for run in runs for member in members_of(run.network)]
    embedder = runs[0]
    embedder.network = Committee(members).eval()
    embedder.head = Head(None, None, None, embedder.network.embedding_dim)
    return embedder


def reached(embedder: Embedder, data: TrainVal, fisher: FisherVectors) -> Reached:
    """Verify the people who were left out."""
    dim = embedder.embedding_dim
    embeddings = torch.cat(list(embed_examples(embedder, data.val)))
    inputs = embedder.inputs(torch.stack([data.val.values[i] for i in range(len(data.val))]))
    found: dict[int, list[Tensor]] = {0: [embeddings]}
    for seed in SEEDS:
        embedder.head = Head(WCCN(dim), None, Cohort(dim, COHORT), dim)
        fit_head(embedder, data.train, seed)
        found.setdefault(1, []).append(embedder.head.joined(embeddings, inputs))
        found.setdefault(2, []).append(embedder.head(embeddings, inputs))
        embedder.head = Head(WCCN(dim), fisher, Cohort(dim + FISHER, COHORT), dim)
        fit_head(embedder, data.train, seed)
        found.setdefault(3, []).append(embedder.head(embeddings, inputs))
    return _reached(found, data)


class Nothing(nn.Module):
    """Stands in place of a network, and says nothing."""

    embedding_dim = 1

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))  # says on which device it is

    def forward(self, inputs: Tensor) -> Tensor:
        """Return zeros, [N, 1]."""
        return inputs.new_zeros(len(inputs), 1)


def alone(embedder: Embedder, data: TrainVal) -> tuple[FisherVectors, Reached]:
    """Fit Fisher vectors, and verify the people by them, without a network."""
    fisher = FisherVectors(embedder.network.input_shape, FISHER)
    dim, embedder.network = Nothing.embedding_dim, Nothing()
    found: dict[int, list[Tensor]] = {}
    for seed in SEEDS:
        embedder.head = Head(None, fisher, Cohort(dim + FISHER, COHORT), dim)
        fit_head(embedder, data.train, seed)
        found.setdefault(3, []).append(
            torch.cat(list(embed_examples(embedder, data.val, None, "one")))
        )
    return fisher, _reached(found, data)


def _reached(found: dict[int, list[Tensor]], data: TrainVal) -> Reached:
    """Average over the draws of people, head by head."""
    auc: list[float | None] = []
    accuracy: list[float | None] = []
    for head in range(len(HEADS)):
        verified = [verify(rows, data.pairs) for rows in found.get(head, [])]
        auc.append(statistics.mean(v.auc for v in verified) if verified else None)
        accuracy.append(statistics.mean(v.accuracy.mean for v in verified) if verified else None)
    return Reached(auc, accuracy)


def table() -> tuple[list[str], list[list[str]]]:
    """The columns and rows of docs/study.md."""
    rows = json.loads(RESULTS.read_text())["committees"]
    return COLUMNS, [
        [
            name,
            *("" if v is None else f"{100 * v:.1f}" for v in (*row["auc"], *row["accuracy"])),
        ]
        for name, row in rows.items()
    ]


def main() -> None:
    """Measure all committees."""
    from benchmarks import pages
    from facenet_ext.common.files import write_json

    console = make_console()
    names = {
        (run.choice, run.variant): run.name
        for run in study.plan(study.PLAN.with_stem(study.PLANS[1]))[1]
    }
    figures: dict[str, Any] = {}
    embedder = joined([names[_SHORT[0]]])
    data = load(embedder.options.data, console)
    fisher, found = alone(embedder, data)
    figures["none"] = found._asdict()
    console.print(f"none: {found}", soft_wrap=True)
    for name, runs in COMMITTEES.items():
        figures[name] = reached(joined([names[run] for run in runs]), data, fisher)._asdict()
        console.print(f"{name}: {figures[name]}", soft_wrap=True)
    write_json(RESULTS, {"machine": describe(torch.get_num_threads()), "committees": figures})
    pages.write(lambda line: console.print(line, style="dim"))


if __name__ == "__main__":
    main()
