"""Times calls, and prints a line for each."""

import time
from collections.abc import Callable

import pytest
import torch

from benchmarks import agreement
from benchmarks.cases import QUICK_N, Case, within
from benchmarks.peers import Peer

BUDGET = 0.8  # seconds for each benchmark that is not slow
SLOW = 4.0  # seconds; a call that takes longer is measured once, without a warm-up

Measure = Callable[[str, Case, Peer], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("facenet_ext benchmarks")
    group.addoption("--bench-threads", type=int, default=2, help="torch's threads [2]")
    group.addoption("--bench-quick", action="store_true", help=f"only up to N = {QUICK_N}")
    group.addoption("--bench-mode", default="eager", help="what the times are recorded as [eager]")
    group.addoption("--bench-lines", action="store_true", help="a line for each benchmark")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--bench-lines"):
        config.pluginmanager.register(Lines(config))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--bench-quick"):
        items[:] = [i for i in items if within((i.callspec.params["case"],), quick=True)]


@pytest.fixture(scope="session")
def threads(pytestconfig: pytest.Config) -> None:
    """Sets torch's threads, and stops everything if peers do not compute what they say."""
    torch.set_num_threads(pytestconfig.getoption("--bench-threads"))
    agreement.check()


@pytest.fixture
def measure(threads: None, benchmark, pytestconfig: pytest.Config, record_property) -> Measure:
    """Times a peer on a case: in the group of the case, beside the case's other peers."""

    def run(operator: str, case: Case, peer: Peer) -> None:
        record_property("line", f"{case!s:<24} {peer!s:<32}")
        if reason := peer.left_out(case):
            pytest.skip(reason)
        benchmark.group = f"{operator}: {case}"
        benchmark.extra_info.update(
            operator=operator,
            peer=peer.name,
            n=case.n,
            per_class=case.per_class,
            dtype=case.dtype,
            mode=pytestconfig.getoption("--bench-mode"),
        )
        step = peer.step(*case.batch())
        budget = BUDGET / 4 if pytestconfig.getoption("--bench-quick") else BUDGET
        rounds = _rounds(step, peer, case, budget)
        benchmark.pedantic(step, rounds=rounds, iterations=1)
        record_property("median", benchmark.stats["median"])

    return run


def _rounds(step: Callable[[], None], peer: Peer, case: Case, budget: float) -> int:
    """How many rounds fit the budget, after a warm-up that also compiles what is compiled."""
    slow = peer.seconds(case) > SLOW
    if not slow or peer.compiled:
        step()
    if slow:
        return 1
    start = time.perf_counter()
    step()
    return min(max(round(budget / (time.perf_counter() - start)), 3), 2000)


class Lines:
    """Prints a line for each benchmark in place of pytest's dots."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.total = 0
        self.done = 0

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.total = len(session.items)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        return (report.outcome, "", "") if report.when == "call" else None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        self.done += 1
        properties = dict(report.user_properties)
        if "median" in properties:
            result = f"{properties['median'] * 1e3:11.3f} ms"
        elif report.skipped and isinstance(report.longrepr, tuple):
            result = f"   left out: {report.longrepr[2].removeprefix('Skipped: ')}"
        else:
            result = "   failed"
        line = f"  {self.done:3}/{self.total}  {properties.get('line', '')} {result}"
        self.config.get_terminal_writer().line(line, flush=True)
