"""Results as text: what was measured of each operator beside its peers, and the targets."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import distances, margin, peers, processes
from benchmarks.floors import floor
from benchmarks.peers import Peer
from benchmarks.results import Results, TrainingStep
from benchmarks.targets import Verdict

WIDTH = 190


@dataclass(frozen=True)
class Operator:
    name: str
    title: str
    peers: Sequence[Peer]


OPERATORS = (
    Operator("mined_triplet_loss", "Semi-hard triplet loss, forward + backward", peers.PEERS),
    Operator(peers.FORWARD, "Semi-hard triplet loss, forward", (peers.MM,)),
    Operator("select_triplets", "Semi-hard triplets", ()),
    Operator(margin.OPERATOR, "Loss over all triplets, forward + backward", margin.PEERS),
    Operator(
        processes.OPERATOR,
        "Semi-hard triplet loss of a batch that processes share, forward + backward",
        processes.PEERS,
    ),
    Operator("pairwise_squared_distance", "All pairwise distances, forward", distances.PEERS),
)
# What a target's line says after its case.
TITLES = {
    "mined_triplet_loss": "",
    peers.FORWARD: ", forward",
    margin.OPERATOR: ", all triplets",
    processes.OPERATOR: ", shared by processes",
    "pairwise_squared_distance": ", distances",
}
TRAINING_COLUMNS = ("network", "input", "batch", "in parts of", "step", "images/s", "in the loss")
TARGET_COLUMNS = ("Targets", "", "", "against", "", "ratio", "at most", "aim", "")


def text(results: Results, verdicts: Iterable[Verdict]) -> str:
    """All tables of a run."""
    blocks = [_machine(results)]
    blocks += [_operator(operator, results) for operator in OPERATORS]
    blocks.append(
        table(("Training steps", *TRAINING_COLUMNS[1:]), map(training_row, results.training))
    )
    blocks.append(table(("Stages", "", "", ""), [_stage(*item) for item in results.stages.items()]))
    blocks.append(table(TARGET_COLUMNS, map(_target, verdicts)))
    return "\n\n".join(filter(None, blocks))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned columns, with numbers to the right; "" without rows. Empty columns are left out."""
    columns = [c for c in zip(head, *rows, strict=True) if any(c[1:])]
    if not columns:
        return ""
    aligned = []
    for column in columns:
        width = max(map(len, column))
        numbers = any(cell[:1].isdigit() for cell in column[1:])
        aligned.append([cell.rjust(width) if numbers else cell.ljust(width) for cell in column])
    lines = ["  ".join(cells).rstrip()[:WIDTH] for cells in zip(*aligned, strict=True)]
    return "\n".join(lines)


def _operator(operator: Operator, results: Results) -> str:
    """A line for each peer on each case. Ratios are to the first of ours."""
    computes = {peer.name: peer.computes for peer in operator.peers}
    of = [t for t in results.times if t.operator == operator.name]
    rows = []
    for case in dict.fromkeys(t.case for t in of):
        timed = [t for t in of if t.case == case]
        ours = next((t.median for t in timed if t.peer.startswith(peers.OURS.name)), None)
        for t in timed:
            peak = results.peak(t.peer, case, operator.name) if t.mode == "eager" else None
            least = floor(operator.name, case, results.ceilings)
            rows.append(
                (
                    str(case) if t is timed[0] else "",
                    t.peer + (f", {t.mode}" if t.mode != "eager" else ""),
                    seconds(t.median),
                    "" if ours is None else ratio(t.median / ours),
                    "" if peak is None else mebibytes(peak),
                    "" if least is None else f"{least / t.median:.0%}",
                    computes.get(t.peer, ""),
                )
            )
        names = {t.peer for t in timed}
        for peer in operator.peers if results.device == "cpu" else ():
            if peer.name not in names and (why := peer.left_out(case)):
                rows.append(("", peer.name, f"({why})", "", "", "", peer.computes))
    columns = ("", "median", "of ours", "peak memory", "of the floor", "computes")
    return table((operator.title, *columns), rows)


def training_row(step: TrainingStep) -> list[str]:
    """A training step's line, by column."""
    return [
        step.network,
        f"{step.input_size}x{step.input_size}",
        str(step.batch),
        str(min(step.batch, step.micro_batch)),
        seconds(step.seconds),
        f"{step.batch / step.seconds:.0f}",
        f"{step.loss_seconds / step.seconds:.2%}",
    ]


def _target(verdict: Verdict) -> list[str]:
    target = verdict.target
    unit = seconds if target.quantity == "time" else mebibytes
    alone = target.against is None
    scale = ratio if not alone else seconds if target.quantity == "time" else "{:.0f} MiB".format
    value = [
        "" if number is None else show(number)
        for show, number in (
            (unit, verdict.ours),
            (unit, None if alone else verdict.other),
            (scale, verdict.ratio),
            (scale, target.at_most),
            (scale, target.aim),
        )
    ]
    case = f"{target.case}{TITLES[target.operator]}"
    mode = target.mode if target.device == "cuda" or target.mode != "eager" else ""
    return [case, mode, value[0], "" if alone else verdict.against, *value[1:], verdict.word]


def _stage(name: str, entry: dict[str, Any]) -> list[str]:
    told = str(entry.get("error") or entry.get("summary") or entry.get("reason") or "")
    return [name, entry["status"], f"{entry.get('seconds', 0):.0f} s", told.split("\n")[0][:90]]


def _machine(results: Results) -> str:
    machine = results.machine
    packages = ", ".join(
        f"{name} {number}" for name, number in machine["packages"].items() if number
    )
    lines = [f"{machine['cpu']}, commit {machine['commit']}", packages]
    if results.device == "cpu":
        kernels = machine["facenet_ext"]["cpu_instruction_set"]
        lines.append(f"{machine['threads']} threads, {kernels} kernels")
    if gpu := machine.get("gpu"):
        lines.append(f"{gpu['name']}, driver {gpu['driver']}, CUDA {gpu['cuda']}")
    if results.ceilings:
        rates = (
            f"{what} {rate / 1e12:.2f} {'TB' if what == 'copy' else 'TFLOP'}/s"
            for what, rate in results.ceilings.items()
        )
        lines.append("Measured here: " + "; ".join(rates))
    return "\n".join(lines)


def seconds(value: float) -> str:
    """Milliseconds, or seconds from 1 s."""
    if value >= 1:
        return f"{value:.1f} s"
    return f"{value * 1e3:.3g} ms" if value < 0.1 else f"{value * 1e3:.0f} ms"


def mebibytes(value: float) -> str:
    return f"{value / 2**20:.1f} MiB" if value < 100 * 2**20 else f"{value / 2**20:.0f} MiB"


def ratio(value: float) -> str:
    """A factor, as a fraction where it is small."""
    if value >= 0.095:
        return f"{value:.2f}x" if value < 10 else f"{value:.0f}x"
    return f"1/{1 / value:.0f}"
