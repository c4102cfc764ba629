"""The benchmark of what a model is used with: what it is compared with computes the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning", reason="the training script")

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("benchmarks/ is not here: these are installed tests", allow_module_level=True)
sys.path.append(str(ROOT))

from benchmarks import use  # noqa: E402
from facenet_ext.all_pairs import distance_histogram  # noqa: E402
from facenet_ext.neighbours import within  # noqa: E402


def test_peers_count_the_same_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(use, "_CHUNK", 70)
    x, labels = use.faces(300, 5)
    assert use.torch_within(x, 1.0) == len(within(x, 1.0).first)
    found = distance_histogram(x, labels)
    same, different = use.torch_counts(x, labels).sum(1).tolist()
    assert (same, different) == (int(found.same.sum()), int(found.different.sum()))


def test_recorded_figures_have_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(use, "RESULTS", tmp_path / "use.json")
    use.RESULTS.write_text(
        '{"measured": ['
        '{"what": "a", "by": "us", "seconds": 0.5, "amount": 1e9, "unit": "pairs"},'
        '{"what": "a", "by": "them", "seconds": 20.0, "amount": 1e9, "unit": "pairs"}]}'
    )
    head, rows = use.table()
    assert rows == [
        ["a", "us", "0.50 s", "2.00 Gpairs/s"],
        ["", "them", "20 s", "50,000,000 pairs/s"],
    ]
    assert len(head) == 4


def test_random_faces_are_near_their_own() -> None:
    x, labels = use.faces(100, 5)
    d = torch.cdist(x, x).square()
    same = (labels[:, None] == labels) & ~torch.eye(100, dtype=torch.bool)
    assert d[same].mean() < 0.9 < d[labels[:, None] != labels].mean()
