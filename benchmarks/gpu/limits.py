"""A pytest plugin: time limits that leave the junit file, and an end once the GPU is lost.

A call that hangs on the GPU can be interrupted by no signal. pytest-timeout ends the process then,
without a junit file; this writes it first.
"""

import os
import re
import sys
import threading
import time
import traceback
from typing import Any

import pytest

# An error that costs the process its CUDA context: every later call fails.
LOST = re.compile(
    "illegal (memory access|address|instruction)|misaligned address|unspecified launch failure"
    "|device-side assert|launch timed out|cudaError(Illegal|LaunchFailure|Misaligned)"
    "|illegalAddress"
)


def is_lost(error: object) -> bool:
    return LOST.search(str(error)) is not None


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("time limits")
    group.addoption(
        "--session-seconds", type=float, default=float("inf"), help="begin no test then"
    )
    group.addoption("--test-seconds", type=float, default=threading.TIMEOUT_MAX, help="for a test")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Limits(config))


class Limits:
    def __init__(self, config: pytest.Config) -> None:
        self.end = time.monotonic() + config.getoption("--session-seconds")
        self.seconds = config.getoption("--test-seconds")
        self.session: Any = None
        self.timer = threading.Timer(0, lambda: None)

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self.session = session

    def pytest_runtest_logstart(self, nodeid: str, location: Any) -> None:
        self.timer = threading.Timer(self.seconds, self.hung, (nodeid, location))
        self.timer.daemon = True
        self.timer.start()

    def pytest_runtest_logfinish(self) -> None:
        self.timer.cancel()
        if time.monotonic() > self.end:
            self.session.shouldstop = self.session.shouldstop or "out of time"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and is_lost(report.longrepr):
            self.session.shouldstop = "the CUDA context is lost"

    def hung(self, nodeid: str, location: Any) -> None:
        """In the timer's thread: report the test that hangs, write the files, end the process."""
        stack = traceback.format_stack(sys._current_frames()[threading.main_thread().ident])
        told = "".join([f"still running after {self.seconds:g} s:\n", *stack[-5:]])
        report = pytest.TestReport(nodeid, location, {}, "failed", told, "call")
        hook, failed = self.session.config.hook, pytest.ExitCode.TESTS_FAILED
        try:
            hook.pytest_runtest_logreport(report=report)
            hook.pytest_sessionfinish(session=self.session, exitstatus=failed)
        finally:
            os._exit(failed)
