"""What ``evaluate`` and ``compare`` end with: a report, the figures as JSON, and an answer."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.table import Table

from facenet_ext.commands.warnings import Warnings
from facenet_ext.common.console import make_console
from facenet_ext.common.files import write_json, write_text, writing

_REPORT = "report.html"


def write_results(output: Path, report: str, name: str, figures: dict[str, Any]) -> None:
    """Write a report and figures.

    Args:
        output: the folder, which is made.
        report: a page of HTML.
        name: of the file of the figures.
        figures: as JSON has them.
    """
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        write_text(output / _REPORT, report)
        write_json(output / name, figures)


def tell_results(
    figures: dict[str, Any],
    shown: Iterable[Table | str],
    warnings: Warnings,
    *,
    as_json: bool,
    written: tuple[Path, str] | None,
) -> None:
    """Print the warnings, then the answer.

    Args:
        figures: what ``--json`` prints.
        shown: what is printed without it.
        warnings: of the command.
        as_json: whether to print JSON.
        written: the folder and the name of the figures, as :func:`write_results` wrote them.
    """
    warnings.tell()
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    out = make_console()
    for one in shown:
        if isinstance(one, str):
            out.print(one, soft_wrap=True, highlight=False)
        else:
            out.print(one)
    if written is not None:
        out.print(f"{_REPORT} and {written[1]} are in {written[0]}", soft_wrap=True)
