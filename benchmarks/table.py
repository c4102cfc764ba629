"""Results as tables: every case with its peers, and the targets."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks import cases, distances, margin, peers
from benchmarks.cases import Case
from benchmarks.peers import Peer
from benchmarks.results import Results, TrainingStep
from benchmarks.targets import Verdict


@dataclass(frozen=True)
class Operator:
    name: str
    title: str
    cases: Sequence[Case]
    peers: Sequence[Peer]
    weighed: bool


OPERATORS = (
    Operator(
        "mined_triplet_loss",
        "Semi-hard triplet loss, forward + backward",
        cases.TIMED,
        peers.PEERS,
        weighed=True,
    ),
    Operator(
        margin.OPERATOR,
        "Loss over all triplets, forward + backward",
        margin.CASES,
        margin.PEERS,
        weighed=True,
    ),
    Operator(
        "pairwise_squared_distance",
        "All pairwise distances, forward",
        distances.CASES,
        distances.PEERS,
        weighed=False,
    ),
)


# What a target adds to its case.
TITLES = {"mined_triplet_loss": "", margin.OPERATOR: ", all triplets"}


def show(console: Console, results: Results, verdicts: Sequence[Verdict]) -> None:
    """Print the tables of a run."""
    for operator in OPERATORS:
        console.print(_operator(operator, results))
    if results.training:
        console.print(_training(results.training))
    console.print(_targets(verdicts))
    console.print(_machine(results), style="dim")


def _operator(operator: Operator, results: Results) -> Table:
    table = Table(title=operator.title, title_justify="left", title_style="bold")
    for name in ("case", "peer", "computes"):
        table.add_column(name)
    numbers = ("median", "of ours", "peak memory") if operator.weighed else ("median", "of ours")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    for case in operator.cases:
        ours = results.time(peers.OURS.name, case, operator.name)
        if ours is None:
            continue
        for peer in operator.peers:
            time = results.time(peer.name, case, operator.name)
            peak = results.peak(peer.name, case, operator.name) if operator.weighed else None
            table.add_row(
                str(case) if peer is operator.peers[0] else "",
                Text(str(peer), style="bold" if peer.name == peers.OURS.name else ""),
                peer.computes,
                f"({peer.left_out(case)})" if time is None else seconds(time),
                "" if time is None else ratio(time / ours),
                *(["" if peak is None else mebibytes(peak)] if operator.weighed else []),
            )
        table.add_section()
    return table


def _training(steps: Sequence[TrainingStep]) -> Table:
    table = Table(title="Training steps", title_justify="left", title_style="bold")
    for name in TRAINING_COLUMNS:
        table.add_column(name, justify="left" if name == "network" else "right")
    for step in steps:
        table.add_row(*training_row(step))
    return table


TRAINING_COLUMNS = ("network", "input", "batch", "in parts of", "step", "images/s", "in the loss")


def training_row(step: TrainingStep) -> list[str]:
    """What is said of a training step, by column."""
    return [
        step.network,
        f"{step.input_size}x{step.input_size}",
        str(step.batch),
        str(min(step.batch, step.micro_batch)),
        seconds(step.seconds),
        f"{step.batch / step.seconds:.0f}",
        f"{step.loss_seconds / step.seconds:.2%}",
    ]


def _targets(verdicts: Sequence[Verdict]) -> Table:
    table = Table(title="Targets", title_justify="left", title_style="bold")
    for name in ("case", "ours", "against", "", "ratio", "at most", "aim", ""):
        table.add_column(name)
    for verdict in verdicts:
        target = verdict.target
        unit = seconds if target.quantity == "time" else mebibytes
        absolute = target.against is None
        against = f"ours at N={target.against.n}" if isinstance(target.against, Case) else None
        scale = (lambda value: f"{value:.0f} MiB") if absolute else ratio
        table.add_row(
            f"{target.case}{TITLES[target.operator]}",
            "" if verdict.ours is None else unit(verdict.ours),
            "peak memory growth" if absolute else against or str(target.against),
            "" if absolute or verdict.other is None else unit(verdict.other),
            "" if verdict.ratio is None else scale(verdict.ratio),
            scale(target.at_most),
            "" if target.aim is None else scale(target.aim),
            _word(verdict),
        )
    return table


def _word(verdict: Verdict) -> Text:
    if verdict.met is None:
        return Text("not measured", style="yellow")
    if not verdict.met:
        return Text("NOT MET", style="bold red")
    return Text("met, the aim too" if verdict.aim_met else "met", style="green")


def _machine(results: Results) -> str:
    machine = results.machine
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    return (
        f"{machine['cpu']}, {machine['threads']} threads; "
        f"{machine['facenet_ext']['cpu_instruction_set']} kernels; {packages}; "
        f"commit {machine['commit']}"
    )


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
