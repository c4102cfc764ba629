"""Small data for the training script, and options for small runs of it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Facenet = Callable[..., tuple[int, str, str]]

# A network and batches so small that a run is a matter of a second.
TINY: list[str] = shlex.split("""
    --input-size 16 --width 4 --stages [1,1] --embedding-dim 8 --aligned-size null --members 1
    --threads 1 --accelerator cpu --precision 32-true --identities 4 --images-per-identity 3
    --negatives 0 --max-steps 4 --evaluations 2
""")


def write_faces(root: Path, counts: dict[str, int], size: int = 20) -> Path:
    """Write images ``root/<name>/<name>_0001.png``: a pattern for each name, and some noise."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        pattern = np.random.default_rng(list(name.encode())).integers(0, 200, (5, 5))
        for number in range(1, count + 1):
            noise = np.random.default_rng([number, *name.encode()]).integers(0, 55, (5, 5))
            image = Image.fromarray((pattern + noise).astype(np.uint8)).resize((size, size))
            image.save(root / name / f"{name}_{number:04d}.png")
    return root


def write_pairs(path: Path, folds: int = 2, per_fold: int = 2) -> Path:
    """Write an LFW-format file over Person_06 to Person_09 of the faces."""
    lines = [f"{folds}\t{per_fold}"]
    for fold in range(folds):
        people = [f"Person_{6 + 2 * fold + i:02d}" for i in range(2)]
        lines += [f"{person}\t1\t2" for person in people][:per_fold]
        lines += [f"{people[0]}\t{i}\t{people[1]}\t{i}" for i in range(1, per_fold + 1)]
    path.write_text("\n".join(lines) + "\n")
    return path
