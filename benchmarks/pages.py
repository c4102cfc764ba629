"""The recorded figures as Markdown, for docs/performance.md: read when the site is built."""

import json
from collections.abc import Callable
from typing import Any

from benchmarks import study, use
from benchmarks.cases import Case
from benchmarks.machine import ROOT
from benchmarks.results import TrainingStep
from benchmarks.table import (
    OPERATORS,
    TITLES,
    TRAINING_COLUMNS,
    mebibytes,
    ratio,
    seconds,
    training_row,
)

RESULTS = ROOT / "benchmarks" / "results" / "cpu.json"
FIRST = "mined_triplet_loss"  # what files without a name for the operator are about
# Left out of the tables: what says nothing more than the column beside it.
TWINS = ("torch.mm(x, x.T, out=)", "sort, torch.compile", "torch.cdist, no mm")


def figures(what: str) -> str:
    """What a page asks for: "machine", "targets", "training", "study", "study-machine", "use"; or
    of one operator its "times", "peaks" or "peers".
    """
    found = json.loads(RESULTS.read_text())
    kind, _, operator = what.partition(" ")
    makers: dict[str, Callable[[], str]] = {
        "machine": lambda: _machine(found["machine"]),
        "targets": lambda: _targets(found["targets"]),
        "times": lambda: _matrix(found["times"], operator, "median", seconds),
        "peaks": lambda: _matrix(found["peaks"], operator, "growth", mebibytes),
        "peers": lambda: _peers(operator),
        "training": lambda: _training(found.get("training", [])),
        "study": lambda: _table(study.COLUMNS, study.rows(study.recorded()), words=2),
        "study-machine": _study_machine,
        "use": _use,
    }
    if kind not in makers:
        raise ValueError(f"figures: expected one of {', '.join(makers)}, got {what!r}")
    return makers[kind]()


def _machine(machine: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return (
        f"{machine['cpu']}, {machine['threads']} threads, "
        f"{machine['facenet_ext']['cpu_instruction_set']} kernels; {packages}; "
        f"{machine['date'][:10]}."
    )


def _targets(targets: list[dict[str, Any]]) -> str:
    rows = []
    for target in targets:
        unit = seconds if target["quantity"] == "time" else mebibytes
        case = f"{target['quantity']}, {target['case']}{TITLES[target.get('operator', FIRST)]}"
        row = [case, _shown(unit, target["ours"]), "", "", ""]
        if target["against"] != "1 MiB":  # else it is a size, compared with nothing
            row[2:] = (
                target["against"],
                _shown(unit, target["other"]),
                _shown(ratio, target["ratio"]),
            )
        rows.append(row)
    return _table(["", "facenet_ext", "against", "takes", "ratio"], rows)


def _matrix(
    entries: list[dict[str, Any]], operator: str, value: str, unit: Callable[[float], str]
) -> str:
    """A row for each batch, a column for each peer; a dash for what was not measured."""
    chosen = [
        entry
        for entry in entries
        if entry.get("operator", FIRST) == operator and entry["peer"] not in TWINS
    ]
    if not chosen:
        return "" if value == "growth" else "The recorded run did not measure it."
    peers = list(dict.fromkeys(entry["peer"] for entry in chosen))
    measured = {(entry["n"], entry["per_class"], entry["peer"]): entry[value] for entry in chosen}
    rows = []
    for n, per_class in sorted({case[:2] for case in measured}):
        cells = [_shown(unit, measured.get((n, per_class, peer))) for peer in peers]
        rows.append([str(Case(n, per_class)), *cells])
    return _table(["", *peers], rows)


def _peers(operator: str) -> str:
    """What each peer computes."""
    (found,) = (entry for entry in OPERATORS if entry.name == operator)
    rows = [[f"`{peer}`", peer.computes] for peer in found.peers if str(peer) not in TWINS]
    return _table(["peer", "computes"], rows, words=2)


def _training(steps: list[dict[str, Any]]) -> str:
    if not steps:
        return "The recorded run did not measure it."
    rows = [training_row(TrainingStep(**step)) for step in steps]
    return _table(list(TRAINING_COLUMNS), rows)


def _study_machine() -> str:
    machine = json.loads(study.RESULTS.read_text())["machine"]
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['jobs']} runs at once; "
        f"{machine['date'][:10]}."
    )


def _use() -> str:
    machine = json.loads(use.RESULTS.read_text())["machine"]
    head, rows = use.table()
    return f"{_table(head, rows, words=2)}\n\n{_machine(machine)}"


def _shown(unit: Callable[[float], str], value: float | None) -> str:
    return "-" if value is None else unit(value)


def _table(head: list[str], rows: list[list[str]], words: int = 1) -> str:
    """A table whose first columns hold words, the others numbers."""
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    lines = [f"| {' | '.join(row)} |" for row in [head, rule, *rows]]
    return "\n".join(['<div class="figures" markdown>', "", *lines, "", "</div>"])
