"""What ``facenet identify`` says: a table and sentences, JSON, a CSV and curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text
from torch import Tensor

from facenet_ext.common.console import cut
from facenet_ext.common.files import without_nan, write_csv, writing
from facenet_ext.common.text import counted
from facenet_ext.recognition import (
    Identification,
    OpenSetPoint,
    StoredEmbeddings,
    cumulative_matches,
    open_set_rates,
)

_COLUMNS = ("probe", "rank", "identity", "distance", "named", "outcome", "image", "same_image")
_SHOWN = 20
_POINTS = 200
_FRAME, _OUTCOME = 24, 18
"""Columns that the table has beside names, and that the outcomes take."""

_OUTCOMES = {
    "stranger named": "bold red",  # the worst comes first, here and in what is printed
    "wrong name": "bold red",
    "not recognised": "yellow",
    "recognised": "green",
    "rightly unknown": "",
}
"""What can become of a probe whose true identity is known, with a colour for it."""


class Rates(NamedTuple):
    """How right the answers are, where the truth is known.

    Attributes:
        known: probes whose identity is in the gallery.
        unknown: the others.
        outcomes: what became of each probe.
        cmc: [k] the share found by each rank.
        at_threshold: the open-set rates at the threshold.
        curve: the open-set rates at other thresholds.
    """

    known: int
    unknown: int
    outcomes: list[str]
    cmc: Tensor
    at_threshold: OpenSetPoint
    curve: list[OpenSetPoint]


class Identified(NamedTuple):
    """Who the probes are, and how near is near enough.

    Attributes:
        result: of the search.
        named: [M] whether the closest identity is within the threshold.
        itself: [M] the row of the gallery that is the probe itself, and was left out; or -1.
        gallery: what was searched.
        probes: what was looked for.
        people: the identities of the gallery.
        threshold: squared distance.
        far: of the threshold at the model's evaluation, if that is known.
        rates: where the truth is known.
    """

    result: Identification
    named: Tensor
    itself: Tensor
    gallery: StoredEmbeddings
    probes: StoredEmbeddings
    people: list[str]
    threshold: float
    far: float | None
    rates: Rates | None

    def answers(self, row: int) -> list[tuple[str, float, int]]:
        """Return a probe's identities with their distances and rows, the closest first."""
        fields = (field[row].tolist() for field in self.result)
        return [
            (self.people[name], d, at) for d, name, at in zip(*fields, strict=True) if name >= 0
        ]

    def outcome(self, row: int) -> str | None:
        """Return what became of a probe; None where the truth is not known."""
        return None if self.rates is None else self.rates.outcomes[row]

    def same_image(self, row: int) -> str | None:
        """Return the image of the gallery that a probe is itself, if there is one."""
        at = int(self.itself[row])
        return self.gallery.ids[at] if at >= 0 else None


def rate(result: Identification, named: Tensor, truth: Tensor, threshold: float) -> Rates:
    """Return how right the answers are.

    Args:
        result: of the search.
        named: [M] whether the closest identity is within the threshold.
        truth: [M] the number of each probe's identity; -1 where it is not in the gallery.
        threshold: squared distance.
    """
    kinds = list(_OUTCOMES)
    known, right = truth >= 0, result.identities[:, 0] == truth
    outcomes = torch.where(known, kinds.index("not recognised"), kinds.index("rightly unknown"))
    outcomes[named & ~known] = kinds.index("stranger named")
    outcomes[named & known] = kinds.index("wrong name")
    outcomes[named & known & right] = kinds.index("recognised")
    return Rates(
        int(known.sum()),
        int((~known).sum()),
        [kinds[kind] for kind in outcomes.tolist()],
        cumulative_matches(result, truth),
        open_set_rates(result, truth, [threshold])[0],
        open_set_rates(result, truth, _thresholds(result.distances[:, 0])),
    )


def _thresholds(distances: Tensor) -> Tensor:
    """Return some of the distances, evenly over their ranks; however many there are."""
    ordered = distances[distances.isfinite()].sort().values
    at = torch.linspace(0, len(ordered) - 1, min(_POINTS, len(ordered)), dtype=torch.float64)
    chosen: Tensor = torch.unique(ordered[at.long()])
    return chosen


def as_dict(identified: Identified, output: Path | None) -> dict[str, Any]:
    """Return all answers, for JSON."""
    probes = []
    for row, name in enumerate(identified.probes.ids):
        answers = identified.answers(row)
        probes.append(
            {
                "id": name,
                "identity": answers[0][0] if bool(identified.named[row]) else None,
                "outcome": identified.outcome(row),
                "same_image": identified.same_image(row),
                "closest": [{"identity": who, "distance": d} for who, d, _ in answers],
            }
        )
    figures: dict[str, Any] = {
        "threshold": identified.threshold,
        "far_at_evaluation": identified.far,
        "output": None if output is None else str(output),
        "outcomes": None if identified.rates is None else _count(identified.rates),
        "probes_in_gallery": int((identified.itself >= 0).sum()),
        "probes": probes,
    }
    rates = identified.rates
    if rates is not None:
        figures["rates"] = {
            "known_probes": rates.known,
            "unknown_probes": rates.unknown,
            "rank_1": rates.cmc[0].item(),
            "cmc": rates.cmc.tolist(),
            "open_set": rates.at_threshold._asdict(),
        }
    return dict(without_nan(figures))


def show(identified: Identified, console: Console, output: Path | None) -> None:
    """Print a table of the first probes, and sentences: the worst news first."""
    probes = identified.probes
    console.print(_table(identified, console.width))
    lines = []
    if len(probes) > _SHOWN:
        where = "--output writes all of them" if output is None else f"all of them are in {output}"
        lines.append(f"and {len(probes) - _SHOWN:,} more; {where}")
    same = int((identified.itself >= 0).sum())
    if same:
        lines.append(
            f"{same:,} of {counted(len(probes), 'probe')} are in the gallery themselves, as far as "
            "embeddings tell: each is compared with the other images only"
        )
    told = "" if identified.far is None else f", FAR {identified.far:.2%} at evaluation"
    threshold = f"threshold {identified.threshold:.3f}{told}"
    if identified.rates is None:
        lines.append(
            f"{int(identified.named.sum()):,} of {counted(len(probes), 'probe')} get a name "
            f"({threshold}); whether it is the right one is not known: for that put them into "
            "folders with the names of the gallery's"
        )
    else:
        lines += [*_rated(identified.rates), threshold]
    if output is not None:
        curves = "" if identified.rates is None else " and identification.png"
        lines.append(f"identified.csv{curves} {'are' if curves else 'is'} in {output}")
    for line in lines:
        console.print(line, soft_wrap=True)


def _count(rates: Rates) -> dict[str, int]:
    return {kind: rates.outcomes.count(kind) for kind in _OUTCOMES}


def _rated(rates: Rates) -> list[str]:
    counts, lines = _count(rates), []

    def share(kind: str, of: int) -> str:
        return f"{counts[kind]:,} ({counts[kind] / of:.1%})"

    if rates.unknown:
        lines.append(
            f"of {counted(rates.unknown, 'probe')} whose identity is not in the gallery, "
            f"{share('stranger named', rates.unknown)} are taken for someone"
        )
    if rates.known:
        lines.append(
            f"of {counted(rates.known, 'probe')} whose identity is in the gallery, "
            f"{share('wrong name', rates.known)} get a wrong name, "
            f"{share('not recognised', rates.known)} get none, "
            f"{share('recognised', rates.known)} are recognised"
        )
        ranks = sorted({1, min(5, len(rates.cmc)), len(rates.cmc)})
        shares = ", ".join(f"rank {rank}: {rates.cmc[rank - 1]:.1%}" for rank in ranks)
        lines.append(f"at whatever distance, the right name is found by {shares}")
    return lines


def _table(identified: Identified, width: int) -> Table:
    """Return a table of the first probes, a line each: names are cut to fit into the width."""
    judged = identified.rates is not None
    cells = []
    for row in range(min(len(identified.probes), _SHOWN)):
        answers, named = identified.answers(row), bool(identified.named[row])
        then = (f"{who} {d:.2f}" for who, d, _ in answers[int(named) : int(named) + 3])
        who = answers[0][0] if named else "unknown"
        distance = f"{answers[0][1]:.3f}" if answers else ""
        outcome = identified.outcome(row) or ""
        style = _OUTCOMES.get(outcome, "")
        cells.append((identified.probes.ids[row], who, distance, outcome, ", ".join(then), style))
    room = max(24, width - _FRAME - _OUTCOME * judged)
    who_room = min(room // 4, max(len(cell[1]) for cell in cells))
    then_room = min(room // 3, max(len(cell[4]) for cell in cells))
    table = Table(title=f"closest of {counted(len(identified.people), 'identity')}")
    for column in ("probe", "identity", "distance", *(["outcome"] if judged else []), "then"):
        justify: JustifyMethod = "right" if column == "distance" else "left"
        most = then_room if column == "then" else None
        table.add_column(column, justify=justify, no_wrap=True, overflow="ellipsis", max_width=most)
    for probe, who, distance, outcome, others, style in cells:
        table.add_row(
            cut(probe, room - who_room - then_room),
            Text(cut(who, who_room), style),
            distance,
            *([Text(outcome, style)] if judged else []),
            others,
        )
    return table


def write(output: Path, identified: Identified) -> None:
    """Write ``identified.csv``, and curves where the truth is known.

    Raises:
        InputError: the folder cannot be written to.
    """
    rows: list[tuple[object, ...]] = [_COLUMNS]
    for row, name in enumerate(identified.probes.ids):
        answers = identified.answers(row)
        outcome, same = identified.outcome(row) or "", identified.same_image(row) or ""
        for rank, (who, distance, at) in enumerate(answers, start=1):
            named = int(rank == 1 and bool(identified.named[row]))
            about = outcome if rank == 1 else ""
            image = identified.gallery.ids[at]
            rows.append((name, rank, who, f"{distance:.6f}", named, about, image, same))
        if not answers:  # its own images are all that there are
            rows.append((name, "", "", "", 0, outcome, "", same))
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        write_csv(output / "identified.csv", rows)
    rates = identified.rates
    if rates is not None:
        from facenet_ext.commands.recognition_pictures import draw_identification
        from facenet_ext.common.figures import save_picture

        figure = draw_identification(rates.cmc.tolist(), rates.curve, rates.known, rates.unknown)
        with writing(output):
            save_picture(figure, output / "identification.png")
