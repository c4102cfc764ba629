"""From rates measured here to times on many processes: `python -m benchmarks.scale`.

Measures how long a pair of rows takes a thread, how long a message takes, and how many bytes a
second processes send each other. A model of a few lines makes the time of a training step and of
mining from that, for any number of processes. It is compared with real processes on this machine.
"""

import argparse
import functools
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.machine import ROOT, host
from benchmarks.processes import Team, own_loss

RESULTS = ROOT / "benchmarks" / "results" / "scale.json"
PICTURE = ROOT / "docs" / "images" / "scale.png"
DIM = 128
ROWS = 4096  # of the batch that the model is compared with real processes on
PROCESSES = (1, 2, 4)
PAPER_ROWS = 1800  # of a rank, in the picture
ROWS_OF = ["rows", "pairs", "operations", "float32", "this machine", "8 GPUs", "64 GPUs"]
CHECKED = ["processes", "measured", "model", "model / measured"]
ASSUMED_GPU = 20e12  # float32 operations a second, sustained: an assumption, not a measurement


@dataclass(frozen=True)
class Rates:
    """What the model takes as input.

    Attributes:
        step_pair: seconds of a thread for an anchor and a candidate in a training step.
        own_pair: the same where all rows are of one process, which measures each pair once for both
            anchors.
        mining_pair: the same in mining.
        fixed: seconds of a step, whatever its size.
        message: seconds until a small message has passed between two processes.
        byte: seconds for each byte that a process sends.
        cores: how many there are for the processes that are measured.
    """

    step_pair: float
    own_pair: float
    mining_pair: float
    fixed: float
    message: float
    byte: float
    cores: int


def step_seconds(rates: Rates, rows: float, processes: int, cores: float) -> float:
    """A training step of ``rows`` in the batch: each rank's pairs, then what it sends.

    The rows and their gradients go round a ring, (W - 1) / W of all of them. There are four
    collectives: numbers of rows, rows, sums, gradients.
    """
    own = rows / processes
    crowding = max(1.0, processes / cores)
    if processes == 1:
        return rates.fixed + rows * rows * rates.own_pair
    pairs = own * rows * rates.step_pair * crowding
    hops = 5 * (processes - 1)  # an all-reduce goes round twice
    sent = (processes - 1) / processes * rows * (2 * 4 * DIM + 8)
    return rates.fixed * crowding + pairs + hops * rates.message + sent * rates.byte


def mining_seconds(pair: float, rows: float, processes: int) -> float:
    """Mining over all pairs: blocks need nothing of each other."""
    return rows * rows * pair / processes


# --- measuring ------------------------------------------------------------------------------------


def _median(call: Callable[[], Any], rounds: int = 7) -> float:
    call()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _batch(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(rows, DIM, generator=torch.Generator().manual_seed(rows))
    return torch.nn.functional.normalize(x), torch.arange(rows) // 4


def _step(rows: int, processes: int) -> float:
    """The time of a step of a batch that so many processes share."""
    return _median(Team(own_loss, *_batch(rows), processes).step)


def _quarter() -> Callable[..., Any]:
    """The loss of a quarter of the rows as anchors, all rows as candidates."""
    from facenet_ext import TripletSemiHardLoss

    def loss(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        ids, own = torch.arange(len(x)), slice(len(x) // 4)
        value: torch.Tensor = TripletSemiHardLoss()(
            x[own], labels[own], None, x, labels, ids[own], ids
        )
        return value

    return loss


def _exchange(size: int) -> Callable[..., Any]:
    """A collective of two processes, in the form of a loss."""
    if size == 0:
        return lambda x, labels: (dist.all_reduce(torch.zeros(4)), x.sum())[1]
    block, blocks = torch.zeros(size, dtype=torch.uint8), torch.zeros(2 * size, dtype=torch.uint8)
    return lambda x, labels: (dist.all_gather_into_tensor(blocks, block), x.sum())[1]


def measure() -> dict[str, Any]:
    """Measure the rates, and the times that the model is compared with."""
    from facenet_ext import select_triplets

    torch.set_num_threads(1)
    alone = {rows: _step(rows, 1) for rows in (ROWS // 4, ROWS)}
    pair = (alone[ROWS] - alone[ROWS // 4]) / (ROWS**2 - (ROWS // 4) ** 2)
    fixed = max(alone[ROWS // 4] - pair * (ROWS // 4) ** 2, 0.0)
    quarter = _median(Team(_quarter, *_batch(ROWS), 1).step)
    x, labels = _batch(ROWS)
    mined = _median(
        lambda: select_triplets(
            x[:1024], labels[:1024], positives="hardest", ref_emb=x, ref_labels=labels
        )
    )
    large = 2**24
    team = functools.partial(Team, embeddings=x[:4], labels=labels[:4], processes=2)
    idle = _median(team(functools.partial(_exchange, 0)).step, 200)
    rates = Rates(
        step_pair=(quarter - fixed) / (ROWS**2 / 4),
        own_pair=pair,
        mining_pair=mined / (1024 * ROWS),
        fixed=fixed,
        message=idle / 2,
        byte=(_median(team(functools.partial(_exchange, large)).step) - idle) / large,
        cores=len(os.sched_getaffinity(0)),
    )
    checks = [
        {
            "processes": w,
            "measured": _step(ROWS, w),
            "model": step_seconds(rates, ROWS, w, rates.cores),
        }
        for w in PROCESSES
    ]
    return {"machine": host(), "rates": asdict(rates), "checks": checks}


# --- showing --------------------------------------------------------------------------------------


def recorded() -> dict[str, Any]:
    """The last measurements."""
    return json.loads(RESULTS.read_text())  # type: ignore[no-any-return]


def draw(rates: Rates, path: Path) -> None:
    """Time of a step, and rows mined in a day, over the number of processes."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from benchmarks.plots import SETTINGS

    processes = [2**k for k in range(11)]
    with plt.rc_context(SETTINGS):
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6))
        steps = [step_seconds(rates, w * PAPER_ROWS, w, w) for w in processes]
        pairs = [PAPER_ROWS * w * PAPER_ROWS * rates.step_pair for w in processes]
        left.plot(processes, steps, color="#cf222e", linewidth=2.5, label="a step")
        left.plot(processes, pairs, color="#6e7781", linestyle="--", label="its pairs alone")
        left.set_ylabel("seconds")
        left.set_title(f"Training: {PAPER_ROWS} rows on each process", loc="left")
        left.legend(frameon=False)
        for rows, color in ((1e6, "#0969da"), (1e7, "#1b7c83"), (1e8, "#8250df")):
            hours = [mining_seconds(rates.mining_pair, rows, w) / 3600 for w in processes]
            right.plot(processes, hours, color=color, linewidth=2.5, label=f"{rows:.0e} rows")
        right.set_ylabel("hours")
        right.set_title("Mining over all pairs", loc="left")
        right.legend(frameon=False)
        for axes in (left, right):
            axes.set(xscale="log", yscale="log", xlabel="processes of one thread")
            axes.grid(color="#eaeef2")
        figure.tight_layout()
        figure.savefig(path)
        plt.close(figure)


def hours(seconds: float) -> str:
    """A time for a table: seconds, minutes, hours, days or years, whatever fits."""
    for size, unit in ((31_557_600, "years"), (86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.1f} s"


def rows_table(results: dict[str, Any]) -> list[list[str]]:
    """For each number of rows: pairs, operations, bytes, and hours of mining."""
    rates = Rates(**results["rates"])
    gpu_pair = 2 * DIM / ASSUMED_GPU
    table = []
    for rows in (1e6, 1e7, 1e8, 2e8):
        times = [mining_seconds(rates.mining_pair, rows, rates.cores)]
        times += [mining_seconds(gpu_pair, rows, gpus) for gpus in (8, 64)]
        table.append(
            [
                f"{rows:.0e}".replace("e+0", "e"),
                f"{rows * rows:.0e}".replace("e+", "e"),
                f"{2 * DIM * rows * rows:.1e}".replace("e+", "e"),
                f"{4 * DIM * rows / 1e9:,.1f} GB",
                *map(hours, times),
            ]
        )
    return table


def checks_table(results: dict[str, Any]) -> list[list[str]]:
    """The model beside real processes."""
    return [
        [
            str(check["processes"]),
            f"{check['measured'] * 1e3:.0f} ms",
            f"{check['model'] * 1e3:.0f} ms",
            f"{check['model'] / check['measured']:.2f}",
        ]
        for check in results["checks"]
    ]


def rates_table(results: dict[str, Any]) -> list[list[str]]:
    """The measured rates."""
    r = Rates(**results["rates"])
    return [
        [
            "an anchor and a candidate, training step, forward and backward",
            f"{r.step_pair * 1e9:.2f} ns",
        ],
        ["the same of one process alone", f"{r.own_pair * 1e9:.2f} ns"],
        ["an anchor and a candidate, mining", f"{r.mining_pair * 1e9:.2f} ns"],
        ["a step, whatever its size", f"{r.fixed * 1e3:.1f} ms"],
        ["a message between two processes, by gloo", f"{r.message * 1e6:.0f} us"],
        ["bytes that a process sends in a second", f"{1 / r.byte / 1e9:.2f} GB"],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--redraw", action="store_true", help="measure nothing")
    if not parser.parse_args().redraw:
        RESULTS.write_text(json.dumps(measure(), indent=1) + "\n")
        print(f"wrote {RESULTS.relative_to(ROOT)}")
    results = recorded()
    for row in rates_table(results) + checks_table(results):
        print("  ".join(row))
    draw(Rates(**results["rates"]), PICTURE)
    print(f"wrote {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
