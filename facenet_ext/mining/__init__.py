"""Offline mining: triplets over a whole training set, larger than memory.

| file | what it does |
|---|---|
| `search.py` | selects triplets over all rows, a block of anchors at a time |
| `storage.py` | writes them to a Parquet file, and goes on after an interruption |
| `suspects.py` | finds images that are probably under the wrong name, or under two |
"""

from typing import TYPE_CHECKING

from facenet_ext._lazy import lazily

if TYPE_CHECKING:
    from facenet_ext._rule import TripletRule
    from facenet_ext.mining.search import Block, blocks, mine, mine_block
    from facenet_ext.mining.storage import mine_to_parquet, read_triplets
    from facenet_ext.mining.suspects import Suspect, find_duplicates, find_mislabelled

__all__ = [
    "Block",
    "Suspect",
    "TripletRule",
    "blocks",
    "find_duplicates",
    "find_mislabelled",
    "mine",
    "mine_block",
    "mine_to_parquet",
    "read_triplets",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "facenet_ext._rule": ("TripletRule",),
        "search": ("Block", "blocks", "mine", "mine_block"),
        "storage": ("mine_to_parquet", "read_triplets"),
        "suspects": ("Suspect", "find_duplicates", "find_mislabelled"),
    },
)
