"""Writes the recorded figures into README.md and docs: `python -m benchmarks.pages`.

A page marks where with `<!-- figures: WHAT -->` and `<!-- /figures -->`; what is between them is
made from benchmarks/results. So it shows on GitHub too, and a test holds it to the results.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import committees, input, scale, speakers, study, use
from benchmarks.gpu.static import report
from benchmarks.machine import ROOT
from benchmarks.results import Peak, Results, Timing
from benchmarks.table import (
    OPERATORS,
    TITLES,
    TRAINING_COLUMNS,
    mebibytes,
    ratio,
    seconds,
    training_row,
)
from benchmarks.targets import Verdict, judge

PAGES = (ROOT / "README.md", ROOT / "csrc" / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_BEGIN = re.compile(r"^<!-- figures: (.+) -->$", re.MULTILINE)
_END = "<!-- /figures -->"
RESULTS = ROOT / "benchmarks" / "results" / "cpu.json"
NOT_MEASURED = "The recorded run did not measure it."
# Left out of the tables, as their figures are about those of the column beside them.
TWINS = ("torch.mm(x, x.T, out=)", "sort, torch.compile", "torch.cdist, no mm")


def figures(what: str) -> str:
    """The figures that a page's mark names.

    They are "machine", "targets", "training", "study", "study-machine", "study-aligned",
    "committees", "scale-rates", "scale-checks", "scale-rows", "scale-machine", "input",
    "input-targets", "input-machine", "use", "use-in-short", "speakers", "speakers-machine",
    "cuda-predicted", "cuda-small", or of one operator its "times", "peaks" or "peers".
    """
    results = Results.load(RESULTS)
    kind, _, operator = what.partition(" ")
    makers: dict[str, Callable[[], str]] = {
        "machine": lambda: _machine(results.machine),
        "targets": lambda: _targets(judge(results)),
        "times": lambda: _matrix(results.times, operator, "median", seconds),
        "peaks": lambda: _matrix(results.peaks, operator, "growth", mebibytes),
        "peers": lambda: _peers(operator),
        "training": lambda: (
            _table([*TRAINING_COLUMNS], [*map(training_row, results.training)]) or NOT_MEASURED
        ),
        "study": lambda: _table(study.COLUMNS, study.rows(study.recorded()), words=2),
        "study-machine": _study_machine,
        "study-aligned": lambda: _table(
            study.COLUMNS,
            study.rows(study.recorded(study.RESULTS.with_stem(study.PLANS[1]))),
            words=2,
        ),
        "committees": lambda: _table(*committees.table()),
        "scale-rates": lambda: _table(["", "measured"], scale.rates_table(scale.recorded())),
        "scale-checks": lambda: _table(scale.CHECKED, scale.checks_table(scale.recorded())),
        "scale-rows": lambda: _table(scale.ROWS_OF, scale.rows_table(scale.recorded())),
        "scale-machine": lambda: (
            f"{(m := scale.recorded()['machine'])['cpu']}, {m['cores']} cores; {m['date'][:10]}."
        ),
        "input": lambda: _table(*input.table()),
        "input-targets": lambda: _table(*input.targets_table()),
        "input-machine": lambda: _machine(input.recorded()["machine"]),
        "use": _use,
        "speakers": lambda: _table(*speakers.table()),
        "speakers-machine": lambda: _machine(speakers.recorded()["machine"]),
        "use-in-short": _use_in_short,
        "cuda-small": lambda: _table(*report.nodes_table(report.recorded_nodes())),
        "cuda-predicted": lambda: _table(*report.table(report.recorded())),
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


def _targets(verdicts: list[Verdict]) -> str:
    rows = []
    for verdict in verdicts:
        target = verdict.target
        unit = seconds if target.quantity == "time" else mebibytes
        case = f"{target.quantity}, {target.case}{TITLES[target.operator]}"
        case += f", {target.mode} kernels" if target.mode != "eager" else ""
        others = [verdict.against, _shown(unit, verdict.other), _shown(ratio, verdict.ratio)]
        if target.against is None:  # it is a size, compared with nothing
            others = [""] * 3
        rows.append([case, _shown(unit, verdict.ours), *others])
    return _table(["", "facenet_ext", "against", "takes", "ratio"], rows)


def _matrix(
    measured: Sequence[Timing | Peak], operator: str, value: str, unit: Callable[[float], str]
) -> str:
    """A row for each batch, a column for each peer; a dash for what was not measured."""
    chosen = [
        one
        for one in measured
        if one.operator == operator and one.peer not in TWINS and one.mode == "eager"
    ]
    if not chosen:
        return "" if value == "growth" else NOT_MEASURED
    peers = list(dict.fromkeys(one.peer for one in chosen))
    values = {(one.case, one.peer): getattr(one, value) for one in chosen}
    rows = [
        [str(case), *(_shown(unit, values.get((case, peer))) for peer in peers)]
        for case in sorted({one.case for one in chosen})
    ]
    return _table(["", *peers], rows)


def _peers(operator: str) -> str:
    """What each peer computes."""
    (entry,) = (entry for entry in OPERATORS if entry.name == operator)
    rows = [[f"`{peer}`", peer.computes] for peer in entry.peers if str(peer) not in TWINS]
    return _table(["peer", "computes"], rows, words=2)


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
    """A table whose first columns hold words, the others numbers; "" without rows."""
    if not rows:
        return ""
    lines = _lines(head, rows, words)
    return "\n".join(['<div class="figures" markdown>', "", *lines, "", "</div>"])


def _lines(head: list[str], rows: list[list[str]], words: int) -> list[str]:
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return [f"| {' | '.join(row)} |" for row in [head, rule, *rows]]


if __name__ == "__main__":
    write(print)
