"""A memory of past embeddings, so that a batch is mined against many batches."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from facenet_ext import _validation as check
from facenet_ext._agreement import Agreement
from facenet_ext._compilation import outside_graphs
from facenet_ext._memory_across import loss_across
from facenet_ext._ranks import Ranks
from facenet_ext._triplet_module import is_fused, is_plain
from facenet_ext.miners import TripletMiner

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["CrossBatchMemory"]


class CrossBatchMemory(nn.Module):
    """The loss of a batch against the last ``memory_size`` embeddings.

    Embeddings drift slowly, so those of past batches can serve as positives and negatives. The loss
    gets the batch as ``embeddings`` and the memory as ``ref_emb``. The memory is a ring, and stores
    embeddings without gradient: the newest overwrite the oldest. Before the ring is full, only the
    rows that are filled take part.

    The module enqueues a batch before it computes the loss, so the batch meets its own rows as
    well. An item never meets its own copy. If the caller passes the items' ``ids``, it does not
    meet an older copy either: copies have their anchor's id, and the loss (or the miner) gets
    ``anchor_ids`` and ``ref_ids``. The losses and miners of this package take these. Others, such
    as those of pytorch-metric-learning, take no ids. The module computes such a loss first, and
    enqueues the batch after it, so the batch meets earlier batches only. Where there are none, the
    loss is not called, and the result is 0. A call that fails leaves the memory as it was.

    With :class:`TripletMarginLoss` this does what pytorch-metric-learning's module of the same name
    does around its loss of the same name. In place of its ``enqueue_mask``, call :meth:`enqueue`,
    and call the loss with ``enqueue=False``.

    If the batch and the memory have different dtypes, distances are computed in the wider one.
    Under autocast embeddings are half precision, and so is the memory, unless ``dtype`` says
    otherwise.

    It is a module with state: move it with ``.to(device)``, save it with its ``state_dict``. A row
    that is not finite makes every loss not finite, until it is overwritten or until ``reset()``.
    The module never waits for a GPU, except to read a mask given as ``enqueue``. ``torch.compile``
    does not trace it: it runs as it is, between the graphs of the code around it.

    Args:
        loss: called as ``loss(embeddings, labels, indices_tuple, ref_emb, ref_labels)``, and with
            ``anchor_ids=`` and ``ref_ids=`` if it takes them and there is no miner.
        embedding_dim: the number of columns, D.
        memory_size: the number of rows, N.
        miner: selects triplets in place of the loss:
            ``miner(embeddings, labels, ref_emb, ref_labels)``, and with the ids if it takes them.
        dtype: in which rows are stored; None: the dtype of the first batch.
        group: processes with one memory, such as ``torch.distributed.group.WORLD``. Each passes its
            rows of a batch. The memory takes in all of them, in rank order, and is the same on
            every rank, bit for bit. The loss is that of all ranks' rows: see
            :class:`facenet_ext.distributed.DistributedLoss`. The loss and the miner have to be of
            this package. None: each process has a memory of its own.

    Raises:
        ValueError: a size that is not a whole number from 1.
        TypeError: a loss or a miner that is not a module, a dtype that is not floating point.

    Example:
        >>> from facenet_ext import TripletLoss
        >>> memory = CrossBatchMemory(TripletLoss(margin=0.5), embedding_dim=1, memory_size=3)
        >>> memory(torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1]))
        tensor(0.)
        >>> memory(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 1]))
        tensor(0.5000)
        >>> len(memory), memory.labels.tolist()
        (3, [1, 1, 0])

    Source: Wang, Zhang, Huang, Scott, "Cross-Batch Memory for Embedding Learning", CVPR 2020,
    section 3.2 and algorithm 1.

    Attributes:
        embeddings: ``[N, D]``, of which the first ``len(memory)`` rows count.
        labels: ``[N]`` int64
        ids: ``[N]`` int64
    """

    embeddings: Tensor
    labels: Tensor
    ids: Tensor

    def __init__(
        self,
        loss: nn.Module,
        embedding_dim: int,
        memory_size: int = 1024,
        miner: nn.Module | None = None,
        *,
        dtype: torch.dtype | None = None,
        group: ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        for name, module in (("loss", loss), ("miner", miner)):
            if not isinstance(module, nn.Module) and not (name == "miner" and module is None):
                raise TypeError(f"{name}: expected a torch.nn.Module, got {type(module).__name__}")
        for name, value in (("embedding_dim", embedding_dim), ("memory_size", memory_size)):
            if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name}: expected a whole number from 1, got {value!r}")
        if dtype is not None:
            check.check_dtype("dtype", dtype)
        if group is not None:
            if not is_plain(loss):
                raise TypeError(
                    "loss: expected one of facenet_ext that keeps its forward, as group is given, "
                    f"got {type(loss).__name__}"
                )
            if not isinstance(miner, TripletMiner | None):
                raise TypeError(
                    "miner: expected one of facenet_ext, as group is given, got "
                    f"{type(miner).__name__}"
                )
        self.loss = loss
        self.miner = miner
        self.group = group
        self._agreement = Agreement(equal_rows=False)
        self.embedding_dim = int(embedding_dim)
        self.memory_size = int(memory_size)
        self.dtype = dtype
        self._written = 0  # rows so far; row s is at s % memory_size
        self.register_buffer("embeddings", torch.zeros(memory_size, embedding_dim, dtype=dtype))
        self.register_buffer("labels", torch.zeros(memory_size, dtype=torch.int64))
        self.register_buffer("ids", torch.zeros(memory_size, dtype=torch.int64))

    def __len__(self) -> int:
        """The number of rows that take part."""
        return min(self._written, self.memory_size)

    @outside_graphs  # every call writes to other positions, and would need another graph
    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: None = None,
        *,
        ids: Tensor | None = None,
        enqueue: bool | Tensor = True,
    ) -> Tensor:
        """The loss of a batch against the memory, to which the batch is added.

        Args:
            embeddings: ``[M, D]``, M of any size.
            labels: ``[M]`` integers.
            indices_tuple: None, for callers that pass this argument on. Triplets of rows of the
                batch cannot name rows of the memory; give a ``miner`` instead.
            ids: ``[M]`` integers from 0: the item that each row is of, such as its position in the
                dataset. Give them in all calls or in none. Rows of one item are never each other's
                positives. By default every row is an item of its own, with serial numbers -1, -2,
                ... as ids.
            enqueue: False leaves the memory as it is; ``[M]`` booleans choose which rows to add.
                All rows are anchors in any case. To add rows that are no anchors, call
                :meth:`enqueue`.

        Returns:
            What the loss returns.

        Raises:
            ValueError: shapes or devices that do not fit, ``indices_tuple``, or ``ids`` where
                neither the miner nor the loss takes any.
            TypeError: embeddings that are not floating point, labels or ids that are not integers.
        """
        if indices_tuple is not None:
            raise ValueError("indices_tuple: expected None; to select triplets pass a miner")
        ranks = Ranks.among(self.group)
        if ranks.size > 1:
            return loss_across(self, ranks, embeddings, labels, ids, enqueue, anchors=True)
        labels = self._check(embeddings, labels)
        mask = self._mask(enqueue, embeddings)
        anchor_ids = self._ids_of(embeddings, ids, mask)
        new: Any = slice(None if enqueue else 0) if mask is None else mask.nonzero().squeeze(1)
        rows = embeddings[new], labels[new], anchor_ids[new]
        if _takes_ids(self.loss if self.miner is None else self.miner):
            put_back = self._write(*rows)
            try:
                return self._loss(embeddings, labels, anchor_ids)
            except BaseException:
                put_back()
                raise
        if ids is not None:
            raise ValueError(
                "ids: expected None, as the loss takes no anchor_ids and ref_ids, which would "
                "exclude copies; pass a loss or a miner of facenet_ext"
            )
        if len(self):
            loss = self._loss(embeddings, labels)
        else:  # some miners cannot search an empty memory; rows that are not finite give NaN
            loss = (embeddings * 0).sum(dtype=torch.promote_types(embeddings.dtype, torch.float32))
        self._write(*rows)
        return loss

    @outside_graphs  # every call writes to other positions, and would need another graph
    def enqueue(self, embeddings: Tensor, labels: Tensor, *, ids: Tensor | None = None) -> None:
        """Adds rows that are no anchors, such as another network's, or rows to begin with.

        Args:
            embeddings: ``[M, D]``
            labels: ``[M]`` integers.
            ids: ``[M]`` integers, see :meth:`forward`.

        Raises:
            ValueError: shapes or devices that do not fit.
            TypeError: embeddings that are not floating point, labels or ids that are not integers.
        """
        ranks = Ranks.among(self.group)
        if ranks.size > 1:
            loss_across(self, ranks, embeddings, labels, ids, True, anchors=False)
            return
        labels = self._check(embeddings, labels)
        self._write(embeddings, labels, self._ids_of(embeddings, ids, None))

    def reset(self) -> None:
        """Forgets all rows."""
        self._written = 0
        for buffer in (self.embeddings, self.labels, self.ids):
            buffer.zero_()

    def _loss(self, embeddings: Tensor, labels: Tensor, anchor_ids: Tensor | None = None) -> Tensor:
        rows, ref_labels, ref_ids = self._stored()
        batch, rows = check.check_pair("embeddings", embeddings, "the memory", rows)
        ids = {} if anchor_ids is None else {"anchor_ids": anchor_ids, "ref_ids": ref_ids}
        triplets = None
        if self.miner is not None:
            triplets, ids = self.miner(batch, labels, rows, ref_labels, **ids), {}
        loss: Tensor = self.loss(batch, labels, triplets, rows, ref_labels, **ids)
        return loss

    def _stored(self) -> tuple[Tensor, Tensor, Tensor]:
        """The rows that take part, their labels and ids, as the loss may keep them."""
        rows, labels, ids = (b[: len(self)] for b in (self.embeddings, self.labels, self.ids))
        fused = self.miner is None and is_fused(self.loss)
        if torch.is_grad_enabled() and not fused:
            # The backward may read what the next batch overwrites.
            return rows.clone(), labels.clone(), ids.clone()
        return rows, labels, ids

    def _check(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        check.check_embeddings("embeddings", embeddings)
        if embeddings.shape[1] != self.embedding_dim:
            raise ValueError(
                f"embeddings: expected {self.embedding_dim} columns as the memory has "
                f"(embedding_dim), got {embeddings.shape[1]}"
            )
        if embeddings.device != self.embeddings.device:
            raise ValueError(
                f"embeddings: expected them on {self.embeddings.device} as the memory, got "
                f"{embeddings.device}; move the memory with .to()"
            )
        return check.check_integers("labels", labels, "embeddings", embeddings)

    @staticmethod
    def _mask(enqueue: bool | Tensor, embeddings: Tensor) -> Tensor | None:
        if isinstance(enqueue, bool):
            return None
        if not isinstance(enqueue, Tensor) or enqueue.dtype != torch.bool:
            got = enqueue.dtype if isinstance(enqueue, Tensor) else repr(enqueue)
            raise TypeError(f"enqueue: expected True, False or a tensor of booleans, got {got}")
        if enqueue.shape != embeddings.shape[:1]:
            raise ValueError(
                f"enqueue: expected one per row of embeddings, {embeddings.shape[0]}, got shape "
                f"{tuple(enqueue.shape)}"
            )
        return enqueue.to(embeddings.device)

    def _ids_of(self, embeddings: Tensor, ids: Tensor | None, mask: Tensor | None) -> Tensor:
        """The caller's ids, or the serial numbers that the rows get if they are enqueued."""
        if ids is not None:
            return check.check_integers("ids", ids, "embeddings", embeddings)
        count = embeddings.shape[0]
        if mask is None:
            later = torch.arange(count, device=embeddings.device)
        else:  # rows that are left out have a number that no stored row has
            later = torch.where(mask, mask.cumsum(0) - 1, count)
        return -1 - self._written - later

    def _write(self, embeddings: Tensor, labels: Tensor, ids: Tensor) -> Callable[[], None]:
        """Enqueues rows, and returns a function that undoes it."""
        before = self._written, self.embeddings
        if self._written == 0 and self.dtype is None:
            with torch.inference_mode(False):  # a tensor made in it could not be written to outside
                self.embeddings = self.embeddings.to(embeddings.dtype)
        count = embeddings.shape[0]
        kept = min(count, self.memory_size)
        self._written += count
        first = (self._written - kept) % self.memory_size
        to_end = min(kept, self.memory_size - first)
        overwritten = []
        for buffer, rows in (
            (self.embeddings, embeddings.detach()),
            (self.labels, labels),
            (self.ids, ids),
        ):
            newest = rows[count - kept :]
            for place, part in (
                (buffer[first : first + to_end], newest[:to_end]),
                (buffer[: kept - to_end], newest[to_end:]),
            ):
                overwritten.append((place, place.clone()))
                place.copy_(part)

        def put_back() -> None:
            for place, rows in overwritten:
                place.copy_(rows)
            self._written, self.embeddings = before

        return put_back

    def get_extra_state(self) -> Tensor:
        """How many rows were written, for the ``state_dict``."""
        return torch.tensor(self._written, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Continues after as many rows as were written."""
        self._written = int(state)

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        stored = state_dict.get(prefix + "embeddings")
        if stored is not None:
            if stored.shape != self.embeddings.shape:
                got = " and ".join(map(str, stored.shape))
                error_msgs.append(
                    f"{prefix}embeddings: expected memory_size={self.memory_size} and "
                    f"embedding_dim={self.embedding_dim}, got {got}; "
                    "make the memory with the sizes that were saved"
                )
                return
            if self.dtype is None:
                with torch.inference_mode(False):
                    self.embeddings = self.embeddings.to(stored.dtype)
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )

    def extra_repr(self) -> str:
        """The options, as they would be passed; the loss and the miner are shown as modules."""
        return (
            f"embedding_dim={self.embedding_dim}, memory_size={self.memory_size}, "
            f"dtype={self.dtype}"
        )


def _takes_ids(module: nn.Module) -> bool:
    module = getattr(module, "_orig_mod", module)  # the module that torch.compile wraps
    return {"anchor_ids", "ref_ids"} <= inspect.signature(module.forward).parameters.keys()
