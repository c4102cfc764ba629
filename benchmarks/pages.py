"""Writes the recorded figures into README.md and docs: `python -m benchmarks.pages`.

A page marks where with `<!-- figures: WHAT -->` and `<!-- /figures -->`; what is between them is
made from benchmarks/results. So it shows on GitHub too, and a test holds it to the results.
"""

import json
import re
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

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_BEGIN = re.compile(r"^<!-- figures: (.+) -->$", re.MULTILINE)
_END = "<!-- /figures -->"
RESULTS = ROOT / "benchmarks" / "results" / "cpu.json"
FIRST = "mined_triplet_loss"  # the operator of entries that name none
# Left out of the tables, as their figures are about those of the column beside them.
TWINS = ("torch.mm(x, x.T, out=)", "sort, torch.compile", "torch.cdist, no mm")


def figures(what: str) -> str:
    """The figures that a page's mark names.

    They are "machine", "targets", "training", "study", "study-machine", "use", "use-in-short", or
    of one operator its "times", "peaks" or "peers".
    """
    results = json.loads(RESULTS.read_text())
    kind, _, operator = what.partition(" ")
    makers: dict[str, Callable[[], str]] = {
        "machine": lambda: _machine(results["machine"]),
        "targets": lambda: _targets(results["targets"]),
        "times": lambda: _matrix(results["times"], operator, "median", seconds),
        "peaks": lambda: _matrix(results["peaks"], operator, "growth", mebibytes),
        "peers": lambda: _peers(operator),
        "training": lambda: _training(results.get("training", [])),
        "study": lambda: _table(study.COLUMNS, study.rows(study.recorded()), words=2),
        "study-machine": _study_machine,
        "use": _use,
        "use-in-short": _use_in_short,
    }
    if kind not in makers:
        raise ValueError(f"figures: expected one of {', '.join(makers)}, got {what!r}")
    return makers[kind]()


def filled(page: str) -> str:
    """A page with the recorded figures between its marks."""
    before, *parts = _BEGIN.split(page)
    text = before
    for what, after in zip(parts[::2], parts[1::2], strict=True):
        _, end, rest = after.partition(f"{_END}\n")
        if not end:
            raise ValueError(f"<!-- figures: {what} -->: expected a line {_END} after it")
        shown = filter(None, [f"<!-- figures: {what} -->", figures(what), _END])
        text += "\n\n".join(shown) + f"\n{rest}"
    return text


def without_figures(page: str) -> str:
    """A page without its figures: the text that is written by hand."""
    before, *parts = _BEGIN.split(page)
    return before + "".join(after.partition(_END)[2] for after in parts[1::2])


def write(tell: Callable[[str], None]) -> None:
    """Write the recorded figures into all pages, and tell of each that changes."""
    for path in PAGES:
        page = path.read_text()
        if (new := filled(page)) != page:
            path.write_text(new)
            tell(f"wrote {path.relative_to(ROOT)}")


def _machine(machine: dict[str, Any]) -> str:
    packages = ", ".join(
        f"{name} {version}" for name, version in machine["packages"].items() if version
    )
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
    (entry,) = (entry for entry in OPERATORS if entry.name == operator)
    rows = [[f"`{peer}`", peer.computes] for peer in entry.peers if str(peer) not in TWINS]
    return _table(["peer", "computes"], rows, words=2)


def _training(steps: list[dict[str, Any]]) -> str:
    if not steps:
        return "The recorded run did not measure it."
    rows = [training_row(TrainingStep(**step)) for step in steps]
    return _table(list(TRAINING_COLUMNS), rows)


def _study_machine() -> str:
    machine = json.loads(study.RESULTS.read_text())["machine"]
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['jobs']} "
        f"{'run' if machine['jobs'] == 1 else 'runs'} at once; "
        f"{machine['date'][:10]}."
    )


def _use() -> str:
    machine = json.loads(use.RESULTS.read_text())["machine"]
    head, rows = use.table()
    return f"{_table(head, rows, words=2)}\n\n{_machine(machine)}"


def _use_in_short() -> str:
    """The few figures that README.md has."""

    def measured(what: str, by: str) -> use.Use:
        (one,) = (e for e in use.recorded() if e.what.startswith(what) and by in e.by)
        return one

    val = measured("VAL at FAR", "facenet_ext")
    nearest, products = (measured("10 nearest", by) for by in ("facenet_ext", "torch"))
    clusters, scipy = (measured("clusters of", by) for by in ("facenet_ext", "SciPy"))
    one, all_views = (measured("embedding of", by) for by in ("one view", "all 18 views"))
    rows = [
        [
            f"{val.what} faces: {val.amount / 1e9:.0f} billion, exact to the pair",
            f"{seconds(val.seconds)}, {val.amount / val.seconds / 1e9:.1f} billion pairs a second "
            "in one pass",
        ],
        [
            f"{nearest.what} probes",
            f"{seconds(nearest.seconds)}, {products.seconds / nearest.seconds:.1f} times as fast "
            "as products and `topk` in chunks",
        ],
        [
            clusters.what,
            f"{seconds(clusters.seconds)}, where SciPy takes {seconds(scipy.seconds)} and "
            f"{4 * scipy.amount**2 / 1e9:.1f} GB",
        ],
        [
            "embedding 96x96 JPEG files with the faces' committee",
            f"{one.amount / one.seconds:.0f} images a second in one view, "
            f"{all_views.amount / all_views.seconds:.0f} in all 18",
        ],
    ]
    return "\n".join(_lines(["", ""], rows, words=2))


def _shown(unit: Callable[[float], str], value: float | None) -> str:
    return "-" if value is None else unit(value)


def _table(head: list[str], rows: list[list[str]], words: int = 1) -> str:
    """A table whose first columns hold words, the others numbers."""
    lines = _lines(head, rows, words)
    return "\n".join(['<div class="figures" markdown>', "", *lines, "", "</div>"])


def _lines(head: list[str], rows: list[list[str]], words: int) -> list[str]:
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return [f"| {' | '.join(row)} |" for row in [head, rule, *rows]]


if __name__ == "__main__":
    write(print)
