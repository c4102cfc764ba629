"""Image sets: one interface over the formats that training sets come in.

| file | what it does |
|---|---|
| `opening.py`, `patterns.py` | finds out what some data is, and opens it |
| `folder.py` | a folder `<identity>/<image>` |
| `records.py` | InsightFace's `.rec` and `.idx` |
| `shards.py`, `tar.py` | WebDataset's shards, and a tar archive of `<identity>/<image>` |
| `zipped.py` | a zip archive of `<identity>/<image>` |
| `parquet.py` | Parquet, as Hugging Face's `datasets` writes it |
| `writing.py` | writes a set in another format |
| `indexed.py`, `index.py` | what they share: columns in a file of the cache, mapped by all |
| `files.py` | reads parts of files, in any thread and process |
"""

from facenet_ext.data.sets.opening import open_set

__all__ = ["open_set"]
