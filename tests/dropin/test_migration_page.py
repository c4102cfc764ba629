"""The migration page as a whole. Its sections have files of their own; its code are doctests."""

from __future__ import annotations

from migration_table import TABLES

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
