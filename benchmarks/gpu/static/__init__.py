"""Predicts the hot kernels' speed from their machine code: `python -m benchmarks.gpu.static`.

No GPU is needed, and none has confirmed the figures: they compare one build with another.

__main__.py         the command: compile, follow, simulate; table and JSON
kernels.py          which kernels and cases, and what tells their common path from the others
listing.py          nvdisasm's listing as instructions: source lines, control words, blocks
path.py             the way of one tile through the blocks
whole.py            the way of a warp through a whole kernel, loops repeated
small.py            the kernels of a small batch, and how often their loops are repeated
multiprocessor.py   warps of a scheduler: cycles for a tile
report.py           the figures as a table
"""
