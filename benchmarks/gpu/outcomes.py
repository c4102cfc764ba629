"""A pytest plugin: each test's outcome as a record, an end after so many seconds.

    FACENET_TEST_SECONDS=60 python -m pytest -p benchmarks.gpu.outcomes ...

The session also ends when the process has lost its CUDA context: every later test would fail.
"""

import os
import time
from typing import Any

import pytest

from benchmarks.gpu import records

SECONDS = "FACENET_TEST_SECONDS"


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Outcomes(float(os.environ.get(SECONDS, "inf"))))


class Outcomes:
    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.session: Any = None

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self.session = session

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        records.write("collected", count=len(session.items))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            records.write(
                "test", id=report.nodeid, outcome="error", text=str(report.longrepr)[-800:]
            )
        elif report.skipped:
            records.write("test", id=report.nodeid, outcome="skipped", text=_reason(report))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.passed:
            return
        found: dict[str, Any] = {"id": report.nodeid, "seconds": round(report.duration, 3)}
        found["outcome"] = report.outcome if report.when == "call" or report.skipped else "error"
        if report.user_properties:
            found["properties"] = dict(report.user_properties)
        if report.skipped:
            found["text"] = _reason(report)
        elif report.failed:
            text = str(report.longrepr)
            found["text"] = text[-800:]
            if records.is_fatal(text):
                self.session.shouldstop = "the CUDA context is lost"
        records.write("test", **found)
        if time.monotonic() > self.end:
            self.session.shouldstop = "out of time"

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        records.write("end", exit=int(exitstatus), stopped=str(session.shouldstop or ""))


def _reason(report: Any) -> str:
    told = report.longrepr
    return str(told[2] if isinstance(told, tuple) else told)[:200]
