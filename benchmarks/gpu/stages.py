"""Stages: each with a budget of seconds, all within a deadline; one's failure stops no other."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu.records import error_text
from benchmarks.gpu.report import Report

Entry = dict[str, Any]
"""What the report says of a stage: status, seconds, and what the stage adds."""


class StageFailure(RuntimeError):  # noqa: N818
    """A stage came to its end, and what it checked is not right."""


@dataclass(frozen=True)
class Stage:
    """`run(seconds, entry)` works for so long at most and adds to the entry as it goes."""

    name: str
    seconds: float
    run: Callable[[float, Entry], None]
    needs: tuple[str, ...] = ()
    least: float = 5.0  # with fewer seconds left it is not begun


def run_stages(
    stages: Sequence[Stage],
    report: Report,
    deadline: float,
    clock: Callable[[], float] = time.monotonic,
    say: Callable[[str], None] = print,
) -> bool:
    """Runs them in this order; whether all passed. The report is saved after each."""
    for stage in stages:
        entry = report.stage(stage.name)
        begin = clock()
        lacking = [name for name in stage.needs if not _passed(report, name)]
        if lacking:
            entry.update(status="left out", reason=f"needs {', '.join(lacking)}")
        elif deadline - begin < stage.least:
            entry.update(status="left out", reason="no time left")
        else:
            entry["status"] = "running"
            report.save()
            try:
                stage.run(min(stage.seconds, deadline - begin), entry)
                entry["status"] = "passed"
            except Exception as error:
                entry.update(status="failed", error=error_text(error))
            except BaseException:
                entry["status"] = "interrupted"
                raise
            finally:
                entry["seconds"] = round(clock() - begin, 2)
                report.save()
        report.save()
        why = entry.get("error") or entry.get("reason") or ""
        say(f"[{stage.name}] {entry['status']} after {entry.get('seconds', 0)} s {why}")
    return all(_passed(report, stage.name) for stage in stages)


def _passed(report: Report, name: str) -> bool:
    """A stage that this run was not asked for counts as passed."""
    entry = report.data["stages"].get(name)
    return entry is None or entry.get("status") == "passed"
