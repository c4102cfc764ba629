"""How well an embedding verifies.

| file | what it does |
|---|---|
| `held_out.py` | what a run learns from, and whom it verifies on |
| `protocols.py` | what to verify: images or videos, and pairs of them |
| `verification.py` | the distances of the pairs, and the figures that come of them |
| `trials.py` | protocols that compare templates: IJB-B's and IJB-C's, speaker trials |
| `trial_scores.py` | pools embeddings into templates, scores trials, searches galleries |
| `trial_summary.py` | the figures of millions of scores |
| `quality.py` | how well an embedding verifies images of bad quality |
| `table.py`, `pictures.py` | the figures as a table and as pictures |
"""
