"""Time and memory against N, as pictures: log-log, ours and the peers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks import cases, peers
from benchmarks.cases import Case
from benchmarks.peers import Peer
from benchmarks.results import Results

INK, MUTED = "#1f2328", "#6e7781"
MIB = 2**20


@dataclass(frozen=True)
class Style:
    peer: Peer
    label: str
    color: str
    ours: bool = False


# From the slowest to the fastest. pytorch-metric-learning lists triplets by an N x N x N mask while
# that has fewer than 2^31 entries, anchor by anchor beyond: hence its dip. Two peers are left out:
# the compiled sort, whose curve lies on the sort's, and TensorFlow-Addons' algorithm, whose curve
# would end too early to show anything.
STYLES = (
    Style(peers.METRIC_LEARNING, "pytorch-metric-learning", "#8250df"),
    Style(peers.SENTENCE_TRANSFORMERS, "sentence-transformers", "#bf8700"),
    Style(peers.SORT, "sort + searchsorted", "#0969da"),
    Style(peers.COMPILED_MINIMUM, "torch.compile,\nmasked minimum", "#1b7c83"),
    Style(peers.MM, "torch.mm(x, x.T)\nalone, forward", MUTED),
    Style(peers.OURS, "facenet_ext", "#cf222e", ours=True),
)

SETTINGS = {
    "font.size": 11,
    "axes.edgecolor": "#d0d7de",
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "savefig.dpi": 200,
}


def draw(results: Results, folder: Path) -> list[Path]:
    """Write both pictures and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = results.machine
    setting = f"float32, D = {cases.DIMENSIONS}, 4 per class, {machine['threads']} CPU threads"
    with plt.rc_context(SETTINGS):
        return [
            _picture(
                folder / "benchmark_time.png",
                f"Semi-hard triplet loss, forward + backward: time\n{setting}",
                [(s, _curve(cases.SWEEP, s.peer, results.time, 1e3)) for s in STYLES],
                _milliseconds,
            ),
            _picture(
                folder / "benchmark_memory.png",
                "Semi-hard triplet loss, forward + backward: memory\n"
                f"peak over the inputs, {setting}",
                [(s, _curve(cases.SWEEP, s.peer, results.peak, 1 / MIB)) for s in STYLES],
                _mebibytes,
            ),
        ]


Curve = list[tuple[int, float]]


def _curve(
    sweep: Sequence[Case], peer: Peer, measured: Callable[[str, Case], float | None], unit: float
) -> Curve:
    points = [(case.n, measured(peer.name, case)) for case in sweep]
    return [(n, value * unit) for n, value in points if value]


def _picture(
    path: Path, title: str, curves: list[tuple[Style, Curve]], unit: Callable[[float, int], str]
) -> Path:
    figure, axes = plt.subplots(figsize=(9, 5.6))
    curves = [(style, curve) for style, curve in curves if curve]
    for style, curve in curves:
        n, values = zip(*curve, strict=True)
        axes.plot(
            n,
            values,
            color=style.color,
            linewidth=3.2 if style.ours else 1.8,
            linestyle="--" if style.peer is peers.MM else "-",
            marker="o",
            markersize=7 if style.ours else 4.5,
            zorder=3 if style.ours else 2,
            clip_on=False,
        )
    _dress(axes, title, curves, unit)
    _slopes(axes, curves)
    _label_ends(axes, curves)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
    return path


def _dress(
    axes: Axes,
    title: str,
    curves: list[tuple[Style, Curve]],
    unit: Callable[[float, int], str],
) -> None:
    headline, setting = title.split("\n")
    axes.set_title(headline, loc="left", fontsize=13, fontweight="bold", pad=26)
    axes.text(0, 1.025, setting, transform=axes.transAxes, color=MUTED)
    axes.set(xscale="log", yscale="log", xlabel="rows in the batch, N")
    sizes = sorted({n for _, curve in curves for n, _ in curve})
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(unit))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(True, axis="y", color="#eaeef2", linewidth=0.8)
    axes.set_axisbelow(True)


def _slopes(axes: Axes, curves: list[tuple[Style, Curve]]) -> None:
    """Short guides below ours, at the right, that show what growth as N and as N² looks like."""
    end, ours = next(curve for style, curve in curves if style.ours)[-1]
    start, level = end / 4, ours / 4 / 16
    for power, name in ((1, "∝ N"), (2, "∝ N²")):
        values = (level, level * (end / start) ** power)
        axes.plot((start, end), values, color="#afb8c1", linewidth=1, zorder=1)
        axes.annotate(
            name,
            (end, values[1]),
            xytext=(10, 0),
            textcoords="offset points",
            color="#8c959f",
            fontsize=10,
            va="center",
        )


def _label_ends(axes: Axes, curves: list[tuple[Style, Curve]]) -> None:
    """Each line's name at its end, pushed up where names would meet: beside the end, or above the
    end of a line that stops early, with what the next N would have taken."""
    largest = max(n for _, curve in curves for n, _ in curve)
    highest = max(value for _, curve in curves for _, value in curve)
    axes.set_ylim(top=6 * highest)  # room above curves that end early, for their names
    axes.figure.canvas.draw()
    pixels_per_point = axes.figure.dpi / 72
    floor = early = float("-inf")
    for style, curve in sorted(curves, key=lambda entry: entry[1][-1][1]):
        n, value = curve[-1]
        if n == largest:
            text, align = style.label, ("left", "center")
            _, y = axes.transData.transform((n, value))
            half = (text.count("\n") + 1) * 7 * pixels_per_point
            shift = max(0.0, floor + half - y)
            floor = y + shift + half
            offset = (10.0, shift / pixels_per_point)
        else:
            next_n = min(case.n for case in cases.SWEEP if case.n > n)
            text = f"{style.label}\nat {next_n:,}: {style.peer.left_out(Case(next_n, 4))}"
            _, y = axes.transData.transform((n, value))
            base = max(y / pixels_per_point + 7, early)
            early = base + 28
            align, offset = ("right", "bottom"), (4.0, base - y / pixels_per_point)
        axes.annotate(
            text,
            (n, value),
            xytext=offset,
            textcoords="offset points",
            color=style.color,
            fontweight="bold" if style.ours else "normal",
            fontsize=12 if style.ours else 10,
            ha=align[0],
            va=align[1],
            annotation_clip=False,
        )


def _milliseconds(value: float, _: int) -> str:
    return f"{value / 1e3:g} s" if value >= 1e3 else f"{value:g} ms"


def _mebibytes(value: float, _: int) -> str:
    return f"{value:,.0f} MiB" if value >= 1 else f"{value:g} MiB"
