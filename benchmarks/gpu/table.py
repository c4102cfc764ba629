"""Results as text, short enough for the end of a log."""

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.gpu.cases import Case
from benchmarks.gpu.subjects import BOUNDED, EAGER, GRAPH, MM, OURS
from benchmarks.gpu.targets import Record, Verdict, find, median

WIDTH = 150


def lines_of(rows: Sequence[Sequence[str]], header: Sequence[str]) -> list[str]:
    """Columns as wide as what is in them, the first to the left."""
    table = [list(header), *map(list, rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()[:WIDTH]
        for row in table
    ]


def seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1e6:.1f} us" if value < 1e-3 else f"{value * 1e3:.2f} ms"


def ratio(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}x" if value > 0.095 else f"1/{1 / max(value, 1e-9):.0f}"


def ceilings(measurements: Iterable[Record]) -> list[str]:
    told = []
    for m in measurements:
        if m["kind"] != "ceiling" or "error" in m:
            continue
        if m["what"] == "copy":
            told.append(f"copy {m['bytes_a_second'] / 1e12:.2f} TB/s")
        else:
            told.append(f"{m['what']} {m['operations_a_second'] / 1e12:.1f} TFLOP/s")
    return ["; ".join(dict.fromkeys(told))] if told else []


def times(measurements: Sequence[Record]) -> list[str]:
    """A line for each case of an operator of ours: its modes, the product, the floor."""
    keys: dict[tuple[str, Case], None] = {}
    for m in measurements:
        if m["kind"] == "time" and m["who"] == OURS:
            case = Case(m["n"], m["dim"], m["per_class"], m["dtype"])
            keys[m["operator"], case] = None
    rows = []
    for operator, case in keys:

        def of(mode: str, who: str = OURS, what: str = operator, case: Case = case) -> float | None:
            return median(measurements, what, who, mode, case)

        graph, product = of(GRAPH), of(GRAPH, MM, "mm")
        record = find(measurements, "time", operator, OURS, GRAPH, case) or {}
        fraction = record.get("fraction")
        rows.append(
            (
                f"{operator} {case}",
                seconds(graph),
                seconds(of(BOUNDED)),
                seconds(of(EAGER)),
                seconds(product),
                ratio(graph / product if graph and product else None),
                "-" if fraction is None else f"{100 * fraction:.0f} %",
            )
        )
    header = ("", "graph", "bounded", "eager", "mm, graph", "of mm", "of floor")
    return lines_of(rows, header) if rows else []


def peers(measurements: Sequence[Record]) -> list[str]:
    rows = []
    for m in measurements:
        if m["kind"] == "time" and m["who"] not in (OURS, MM):
            case = Case(m["n"], m["dim"], m["per_class"], m["dtype"])
            told = m.get("error", "")[:40] if "error" in m else seconds(m["timing"]["median"])
            rows.append((f"{m['operator']} {case}", m["who"], m["mode"], told))
    return lines_of(rows, ("peers", "", "", "")) if rows else []


def targets(verdicts: Iterable[Verdict]) -> list[str]:
    rows = []
    for verdict in verdicts:
        told = verdict.as_dict()
        absolute = told["quantity"] == "time" and told["against"] is None
        show = seconds if absolute else ratio
        rows.append(
            (
                f"{told['operator']} {told['case']}",
                told["mode"],
                told["against"] or "",
                show(told["value"]),
                show(told["at_most"]),
                show(told["aim"]),
                told["verdict"],
            )
        )
    return lines_of(rows, ("targets", "", "against", "is", "at most", "aim", ""))


def stages(entries: dict[str, dict[str, Any]]) -> list[str]:
    rows = []
    for name, entry in entries.items():
        told = entry.get("summary") or entry.get("error") or entry.get("reason") or ""
        rows.append(
            (
                name,
                entry.get("status", "-"),
                f"{entry.get('seconds', 0):.0f} s",
                told.split("\n")[0][:70],
            )
        )
    return lines_of(rows, ("stages", "", "", ""))


def whole(data: dict[str, Any], measurements: Sequence[Record], verdicts: Iterable[Verdict]) -> str:
    """Everything that a run prints at its end."""
    machine = data["machine"]
    about = [
        f"{machine.get('device')}, driver {machine.get('nvidia_smi', {}).get('driver_version')}, "
        f"torch {machine.get('torch')}, CUDA {machine.get('torch_cuda')}, "
        f"Python {machine.get('python')}, commit {machine.get('commit')}"
    ]
    blocks = (
        about,
        ceilings(measurements),
        times(measurements),
        peers(measurements),
        targets(verdicts),
        stages(data["stages"]),
    )
    return "\n\n".join("\n".join(block) for block in blocks if block)
