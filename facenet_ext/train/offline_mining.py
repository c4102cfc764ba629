"""Offline mining during a run: every n steps, triplets over all training examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from rich import get_console
from rich.console import Console

from facenet_ext._ranks import Ranks
from facenet_ext.common.counting import Counting
from facenet_ext.common.processes import everyone
from facenet_ext.common.text import counted
from facenet_ext.embedding.examples import embed_to_file
from facenet_ext.embedding.options import Options
from facenet_ext.mining import mine_to_parquet, read_triplets
from facenet_ext.samplers import derive_seed
from facenet_ext.train.data import Batches, MinedTriplets
from facenet_ext.train.module import EmbeddingModule
from facenet_ext.train.processes import share_buffers


class OfflineMining(Callback):
    """Search all training examples for triplets every n steps, and let them join the batches.

    The triplets that join are part of the checkpoint, so that a run that continues has those that
    it had. All that was found at step s is left in ``mined/step-<s>.parquet`` in the run's folder.

    Args:
        folder: of the run.
        options: of the run.
        batches: what the triplets join.
        console: where progress is shown.

    Source: FaceNet (Schroff et al., CVPR 2015), section 3.2: "generate triplets offline every n
    steps, using the most recent network checkpoint".
    """

    def __init__(self, folder: Path, options: Options, batches: Batches, console: Console) -> None:
        self.folder = folder / "mined"
        self.options = options
        self.batches = batches
        batches.next_search = self._next
        self.console = console
        self._step: int | None = None  # of the last search
        self._triplets = torch.empty(0, 3, dtype=torch.int64)

    def state_dict(self) -> dict[str, Any]:
        """Return the triplets and the step at which they were found, for the checkpoint."""
        return {"step": self._step, "triplets": self._triplets}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them up."""
        self._step, self._triplets = state_dict["step"], state_dict["triplets"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the triplets that a run had when it stopped join again."""
        due = self._last_due(trainer.global_step)
        if due is None:
            return
        highest = int(self._triplets.max()) if len(self._triplets) else -1
        if self._step == due and highest < len(self.batches.data.train):
            self._join()
        else:  # it stopped in the middle of the search, or is of other data
            self._search(due, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        """Search, where it is due."""
        step = trainer.global_step
        if step == self._last_due(step) and step < self.batches.steps:
            self._search(step, pl_module)

    def _last_due(self, step: int) -> int | None:
        """Return the last step up to this one at which there was a search, if there was."""
        options = self.options.mining
        first = options.mine_start or options.mine_every
        return step - (step - first) % options.mine_every if step >= first else None

    def _next(self, step: int) -> int:
        """Return the first step behind this one at which there is a search."""
        options = self.options.mining
        first = options.mine_start or options.mine_every
        due = self._last_due(step)
        return first if due is None else due + options.mine_every

    def _join(self) -> None:
        count, seed = self.options.mining.mined_triplets, self.options.run.seed
        self.batches.mined = MinedTriplets(self._triplets, count, seed)

    def _search(self, step: int, module: LightningModule) -> None:
        assert isinstance(module, EmbeddingModule)
        rows = self._rows(step)
        path = self.folder / f"step-{step:07d}.parquet"
        ranks = Ranks.of()
        share_buffers(module, ranks)
        triplets = torch.empty(0, 3, dtype=torch.int64)
        self.folder.mkdir(parents=True, exist_ok=True)
        bars = get_console() if ranks.rank == 0 else self.console
        with Counting("embedding", bars) as progress:
            embeddings = embed_to_file(
                module,
                self.batches.data.train,
                rows,
                self.folder / "embeddings.npy",
                progress,
            )
        self._mine(path, rows, embeddings, module.device, bars)
        if ranks.rank == 0:
            mined = read_triplets(path)
            active = mined.d_ap - mined.d_an + self.options.loss.margin > 0
            triplets = torch.from_numpy(rows)[torch.stack(mined[:3], dim=1)[active]]
            self.console.print(
                f"step {step}: mined {counted(len(active), 'triplet')}, "
                f"{len(triplets):,} inside the margin",
                soft_wrap=True,
            )
        self._step = step
        self._triplets = ranks.all_gather_rows(triplets)[0].cpu()
        self._join()

    def _rows(self, step: int) -> NDArray[np.int64]:
        """Return the examples to search among."""
        count, subset = len(self.batches.data.train), self.options.mining.mine_subset
        if subset is None or subset >= count:
            return np.arange(count)
        generator = torch.Generator().manual_seed(derive_seed(self.options.run.seed, 3, step))
        return np.sort(torch.randperm(count, generator=generator)[:subset].numpy())

    def _mine(
        self,
        path: Path,
        rows: NDArray[np.int64],
        embeddings: NDArray[np.float32],
        device: torch.device,
        bars: Console,
    ) -> None:
        options, train = self.options.mining, self.batches.data.train
        with Counting("mining", bars) as progress:
            mine_to_parquet(
                embeddings,
                train.labels.numpy()[rows],
                path,
                options.rule(self.options.loss),
                device=device,
                resume=False,
                progress=progress,
                group=everyone(),
            )
