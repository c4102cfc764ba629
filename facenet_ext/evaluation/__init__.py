"""How well an embedding verifies.

| file | what it does |
|---|---|
| `held_out.py` | what a run learns from, and whom it verifies on |
| `protocols.py` | what to verify: images or videos, and pairs of them |
| `compared.py` | pairs of any kind with their distances, and the figures that come of these |
| `verification.py` | pairs of images and of videos, and their accuracy |
| `groups.py` | error rates of groups, and of pairs of groups |
| `trials.py` | protocols that compare templates: IJB-B's and IJB-C's, speaker trials |
| `trial_scores.py` | pools embeddings into templates, scores trials, searches galleries |
| `search_summary.py` | the figures of searches in a gallery |
| `scored_pairs.py` | the pairs of an evaluation with their distances, in a file |
| `comparison.py` | two evaluations of the same pairs: which is better, and how sure that is |
| `quality.py` | how well an embedding verifies images of bad quality |
| `table.py`, `curves.py`, `pictures.py` | the figures as a table, as curves and as pictures |
"""
