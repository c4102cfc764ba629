"""How well an embedding verifies.

| file | what it does |
|---|---|
| `held_out.py` | which identities a run verifies on |
| `protocols.py` | images or videos, and the pairs of them to verify |
| `verification.py` | distances of the pairs, and every figure of them |
| `quality.py` | how an embedding bears images of bad quality |
| `table.py`, `pictures.py` | the figures as a table and as pictures |
"""
