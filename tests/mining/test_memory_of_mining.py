"""The claim that mining takes the memory of a tile of rows, whatever the size of the set."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import threading, time
import numpy as np
from facenet_ext.mining import blocks, mine_block

def own():
    '''Bytes of this process that are no file's.'''
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

count = 70_000
labels = np.arange(count) // 4
embeddings = np.lib.format.open_memmap("e.npy", "w+", np.float32, (count, 128))
generator = np.random.default_rng(0)
for first in range(0, count, 7_000):
    embeddings[first : first + 7_000] = generator.standard_normal((7_000, 128))
del embeddings
embeddings = np.load("e.npy", mmap_mode="r")
block = blocks(labels)[0]
mine_block(embeddings[:500], labels[:500], blocks(labels[:500])[0])
before, most, running = own(), 0, True

def watch():
    global most
    while running:
        most = max(most, own())
        time.sleep(0.002)

watcher = threading.Thread(target=watch)
watcher.start()
mine_block(embeddings, labels, block)
running = False
watcher.join()
print((most - before) / 2**20)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads Linux's /proc")
def test_a_block_takes_less_than_64_mebibytes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert 10 < float(done.stdout) < 64
