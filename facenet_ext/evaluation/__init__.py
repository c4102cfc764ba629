"""How well an embedding verifies.

| file | what it does |
|---|---|
| `held_out.py` | what a run learns from, and whom it verifies on |
| `protocols.py` | what to verify: images or videos, and pairs of them |
| `verification.py` | distances of the pairs, and every figure of them |
| `quality.py` | how an embedding bears images of bad quality |
| `table.py`, `pictures.py` | the figures as a table and as pictures |
"""
