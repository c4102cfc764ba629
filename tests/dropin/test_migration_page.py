"""The migration page as a whole; its sections are tested in files of their own."""

from __future__ import annotations

import doctest

import pytest
from migration_table import PAGE, TABLES

SECTIONS = {
    "OpenFace": "test_migration_retired",
    "TensorFlow-Addons": "test_migration_retired",
    "davidsandberg/facenet": "test_migration_retired",
    "pytorch-metric-learning": "test_migration_pytorch_metric_learning",
    "sentence-transformers": "test_migration_sentence_transformers",
    "torch.nn.TripletMarginLoss": "test_migration_torch",
}


def test_every_section_has_its_tests() -> None:
    assert set(TABLES) == set(SECTIONS)
    for rows in TABLES.values():
        assert rows["The same value"]
        assert rows["What differs"]


def test_its_code_runs() -> None:
    pytest.importorskip("pytorch_metric_learning")
    pytest.importorskip("sentence_transformers")
    failed, attempted = doctest.testfile(str(PAGE), module_relative=False)
    assert attempted > 0
    assert failed == 0
