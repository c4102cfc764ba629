"""``facenet identify``: whose images are these."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from facenet_ext.commands.console import make_console
from facenet_ext.commands.model_options import (
    choose_threshold,
    embed_or_read,
)
from facenet_ext.recognition import (
    Identification,
    OpenSetPoint,
    StoredEmbeddings,
    check_one_model,
    cumulative_matches,
    identify,
    open_set_rates,
)
from facenet_ext.recognition.store import number
from facenet_ext.train.counting import Counting
from facenet_ext.train.errors import InputError
from facenet_ext.train.evaluation import without_nan
from facenet_ext.train.report import write_text
from facenet_ext.train.text import comparable

__all__ = ["execute"]

_SHOWN = 20
_POINTS = 200


class _Rates(NamedTuple):
    """How right the answers are, where the truth is known."""

    known: int
    unknown: int
    cmc: Tensor
    at_threshold: OpenSetPoint
    curve: list[OpenSetPoint]


class _Found(NamedTuple):
    """Who was found, and how near that is near enough."""

    result: Identification
    recognised: Tensor
    gallery: StoredEmbeddings
    probes: StoredEmbeddings
    people: list[str]
    threshold: float
    far: float | None
    rates: _Rates | None

    def answers(self, row: int) -> list[tuple[str, float, int]]:
        """Return a probe's identities with their distances and rows, the closest first."""
        fields = (field[row].tolist() for field in self.result)
        return [
            (self.people[name], d, at) for d, name, at in zip(*fields, strict=True) if name >= 0
        ]


def execute(found: Any) -> int:
    """Do what the command line says."""
    console = make_console(stderr=True)
    if not 1 <= found.top <= 100:
        raise InputError(f"--top {found.top}: expected 1 to 100")
    gallery, probes = embed_or_read(found, console, found.gallery, found.probe)
    gallery.check_named(found.gallery)
    check_one_model(gallery=gallery, probe=probes)
    threshold, far, _ = choose_threshold(found, gallery.model)
    people, names = number(gallery.identities)
    top = min(int(found.top), max(1, len(people)))
    try:
        with Counting("identifying", console) as progress:
            result = identify(gallery.embeddings, names, probes.embeddings, top, progress=progress)
    except ValueError as error:  # stored embeddings may hold anything
        raise InputError(f"{found.gallery}, {found.probe}: {error}") from None
    recognised = result.distances[:, 0] <= threshold
    rates = _rate(result, probes, people, threshold) if probes.named else None
    all_found = _Found(result, recognised, gallery, probes, people, threshold, far, rates)
    if found.output is not None:
        _write(Path(found.output), all_found)
    if found.json:
        print(json.dumps(_figures(all_found), indent=2))
    else:
        _show(all_found)
    return 0 if bool(recognised.any()) else 1


def _rate(
    result: Identification, probes: StoredEmbeddings, people: list[str], threshold: float
) -> _Rates:
    place = {comparable(name): at for at, name in enumerate(people)}
    truth = torch.tensor([place.get(comparable(name), -1) for name in probes.identities])
    nearest = result.distances[:, 0].double()
    steps = torch.linspace(0, 1, _POINTS, dtype=torch.float64)
    thresholds = sorted(set(torch.quantile(nearest, steps).tolist()))
    return _Rates(
        int((truth >= 0).sum()),
        int((truth < 0).sum()),
        cumulative_matches(result, truth),
        open_set_rates(result, truth, [threshold])[0],
        open_set_rates(result, truth, thresholds),
    )


def _figures(found: _Found) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "threshold": found.threshold,
        "far_at_evaluation": found.far,
        "probes": [
            {
                "id": name,
                "identity": answers[0][0] if close else None,
                "closest": [{"identity": who, "distance": d} for who, d, _ in answers],
            }
            for row, (name, close) in enumerate(
                zip(found.probes.ids, found.recognised.tolist(), strict=True)
            )
            for answers in (found.answers(row),)
        ],
    }
    rates = found.rates
    if rates is not None:
        figures["rates"] = {
            "known_probes": rates.known,
            "unknown_probes": rates.unknown,
            "rank_1": rates.cmc[0].item(),
            "cmc": rates.cmc.tolist(),
            "open_set": rates.at_threshold._asdict(),
        }
    return dict(without_nan(figures))


def _show(found: _Found) -> None:
    probes, recognised, rates = found.probes, found.recognised, found.rates
    console = make_console()
    table = Table(title=f"closest of {len(found.people):,} identities")
    table.add_column("probe")
    table.add_column("identity")
    table.add_column("distance", justify="right")
    table.add_column("then")
    for row in range(min(len(probes), _SHOWN)):
        (who, distance, _), *others = found.answers(row)
        name = f"[green]{escape(who)}[/]" if recognised[row] else "[yellow]unknown[/]"
        then = ", ".join(f"{escape(other)} {d:.2f}" for other, d, _ in others[:3])
        if not recognised[row]:
            then = f"{escape(who)} {distance:.2f}" + (f", {then}" if then else "")
        table.add_row(escape(probes.ids[row]), name, f"{distance:.3f}", then)
    console.print(table)
    if len(probes) > _SHOWN:
        console.print(f"and {len(probes) - _SHOWN:,} more; --output writes all of them")
    told = "" if found.far is None else f", FAR {found.far:.2%} at evaluation"
    count = int(recognised.sum())
    console.print(
        f"{count:,} of {len(probes):,} probes recognised (threshold {found.threshold:.3f}{told})"
    )
    if rates is None:
        return
    if rates.known:
        ranks = ", ".join(
            f"rank {rank}: {rates.cmc[rank - 1]:.1%}"
            for rank in sorted({1, min(5, len(rates.cmc)), len(rates.cmc)})
        )
        console.print(f"of {rates.known:,} probes whose identity is in the gallery, {ranks}")
        console.print(
            f"found at rank 1 and within the threshold: {rates.at_threshold.identified:.1%}"
        )
    if rates.unknown:
        console.print(
            f"of {rates.unknown:,} probes whose identity is not in the gallery, "
            f"{rates.at_threshold.false_alarms:.1%} are taken for someone"
        )


def _write(output: Path, found: _Found) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["probe", "rank", "identity", "distance", "recognised", "image"])
    for row, name in enumerate(found.probes.ids):
        for rank, (who, distance, at) in enumerate(found.answers(row), start=1):
            close = int(rank == 1 and bool(found.recognised[row]))
            writer.writerow([name, rank, who, f"{distance:.6f}", close, found.gallery.ids[at]])
    rates = found.rates
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_text(output / "identified.csv", text.getvalue())
        if rates is not None:
            from facenet_ext.commands.recognition_pictures import draw_identification
            from facenet_ext.train.pictures import save_picture

            figure = draw_identification(
                rates.cmc.tolist(), rates.curve, rates.known, rates.unknown
            )
            save_picture(figure, output / "identification.png")
    except OSError as error:
        raise InputError(f"--output {output}: cannot be written to ({error.strerror})") from None
