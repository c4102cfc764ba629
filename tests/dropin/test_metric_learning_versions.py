"""docs/migration.md: what is different with pytorch-metric-learning 3.

Each row is tested with the version that is installed; what version 3 does is of its release notes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from helpers import make_batch
from metric_learning import MAJOR, VERSION
from migration_table import TABLES, number
from torch.nn.functional import normalize

from facenet_ext import TripletHardLoss, TripletMarginLoss, TripletMiner

if MAJOR not in (2, 3):
    pytest.skip(f"docs/migration.md does not know {VERSION}", allow_module_level=True)
from pytorch_metric_learning import losses, miners, samplers

ROWS = {row[0]: row for row in TABLES["pytorch-metric-learning"]["With version 3"]}


def cell(what: str) -> str:
    """What the page says of the installed version."""
    return ROWS[what][MAJOR - 1]


def there(module: str) -> bool:
    """Whether the installed version has a module of this name."""
    try:
        return find_spec(f"pytorch_metric_learning.{module}") is not None
    except ModuleNotFoundError:
        return False


def margin() -> None:
    loss = losses.TripletMarginLoss()
    assert loss.margin == number(cell("default margin of `TripletMarginLoss`"))
    x, y = make_batch("quads", 24, 7)
    ours = TripletMarginLoss(loss.margin, distance="euclidean")
    torch.testing.assert_close(loss(x, y), ours(normalize(x), y))
    assert TripletMarginLoss().margin == number(ROWS["default margin of `TripletMarginLoss`"][2])


def trainers() -> None:
    is_there = cell("`trainers`, `testers`") == "there"
    assert (there("trainers"), there("testers")) == (is_there, is_there)


def sampler() -> None:
    first = next(iter(samplers.MPerClassSampler([0, 0, 1, 1], m=2, batch_size=4)))
    gives = "gives rows," if MAJOR == 2 else "gives batches,"
    assert cell("`MPerClassSampler`").startswith(gives)
    assert sorted(first) == [0, 1, 2, 3] if MAJOR == 3 else first in range(4)


def miner() -> None:
    x, y = make_batch("quads", 24, 7)
    for make in (miners.BatchHardMiner, miners.MultiSimilarityMiner):
        mined = make()(x, y)
        assert isinstance(mined, tuple)
        assert len(mined) in (3, 4)
        assert hasattr(mined, "_fields") == cell("what a miner returns").endswith("names")
    theirs = losses.TripletMarginLoss(margin=0.2)
    mined = miners.BatchHardMiner()(x, y)
    ours = TripletHardLoss(distance="euclidean", reduction="mean_nonzero")(normalize(x), y, mined)
    torch.testing.assert_close(theirs(x, y, mined), ours)
    assert theirs(x, y, TripletMiner()(x, y)).isfinite()


def moved(row: str) -> None:
    old, new = row.strip("`"), ROWS[row][2].strip("`")
    assert there(old) == (cell(row) == "there")
    if MAJOR == 3:
        assert there(new)


TESTS: dict[str, Callable[[], None]] = {
    "default margin of `TripletMarginLoss`": margin,
    "`trainers`, `testers`": trainers,
    "`MPerClassSampler`": sampler,
    "what a miner returns": miner,
} | {
    f"`utils.{name}`": lambda name=name: moved(f"`utils.{name}`")
    for name in ("loss_and_miner_utils", "distributed", "accuracy_calculator")
}


@pytest.mark.parametrize("row", ROWS)
def test_the_installed_version(row: str) -> None:
    TESTS[row]()


@pytest.mark.slow
@pytest.mark.skipif(MAJOR == 3, reason="version 3 is installed: the other test is about it")
def test_version_3(tmp_path: Path) -> None:
    """In a folder of its own, beside all else that is installed here."""
    torch_version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if sys.version_info < (3, 12) or torch_version < (2, 14):
        pytest.skip(
            "pytorch-metric-learning 3 needs Python 3.12 and torch 2.14, here are "
            f"{sys.version_info[0]}.{sys.version_info[1]} and {torch.__version__}"
        )
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path]
    done = subprocess.run([*pip, "pytorch-metric-learning>=3,<4"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pytorch-metric-learning 3 cannot be installed: {done.stderr[-300:]}")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        [*command, "-m", "not slow", "-n", "0"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert f"{len(ROWS)} passed" in done.stdout
