"""Checks of the arguments that callers pass.

They raise ValueError or TypeError. The message names the argument, what was expected and what
came. The operators check again, for callers of ``torch.ops.facenet_ext``. They can only raise
RuntimeError.
"""

import numbers
from collections.abc import Sequence

import torch
from torch import Tensor

from facenet_ext._across import Across
from facenet_ext._pieces import Pieces
from facenet_ext._rule import DISTANCES as DISTANCES
from facenet_ext._rule import check_choice as check_choice
from facenet_ext._rule import check_flag as check_flag
from facenet_ext._rule import check_margin as check_margin
from facenet_ext._transforms import transforms_active
from facenet_ext._types import Triplets
from facenet_ext._warnings import warn_once, warn_without_triplets

REDUCTIONS = ("mean", "mean_nonzero", "sum", "none")
SCALAR_REDUCTIONS = REDUCTIONS[:-1]
TRIPLETS = ("all", "hard", "semihard", "easy")

_FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_INTEGER = (
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
)
# The operators' limit on rows and columns. Their int32 indices have room for a tile beyond it.
_MOST_ROWS = 2**31 - 1 - 1024


def check_temperature(temperature: float) -> None:
    """Raises ValueError unless float32 holds the temperature as a number above 0."""
    limits = torch.finfo(torch.float32)
    number = isinstance(temperature, numbers.Real) and not isinstance(temperature, bool)
    if not (number and limits.tiny <= temperature <= limits.max):
        raise ValueError(f"temperature: expected a finite number above 0, got {temperature!r}")


def check_loss_margin(margin: float) -> None:
    """Raises ValueError unless the margin is a finite number, and warns if it is below 0."""
    check_margin(margin)
    if not torch.compiler.is_compiling() and margin < 0:
        warn_once(
            ("margin", margin),
            f"margin: expected 0 or more, got {margin}: with it a negative may be closer than the "
            f"positive by {-margin}",
        )


def check_max_per_class(value: int | None) -> int:
    """Returns the bound as operators take it, where 0 means no bound."""
    if value is None:
        return 0
    check_bound("max_per_class", value)
    return min(int(value), _MOST_ROWS)


def check_bound(argument: str, value: int) -> None:
    """Raises ValueError unless the value is a whole number from 1."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{argument}: expected a whole number from 1, or None, got {value!r}")


def _check_dense(argument: str, value: Tensor) -> None:
    if value.layout != torch.strided or value.is_nested:
        came = "a nested tensor" if value.is_nested else f"the layout {value.layout}"
        raise TypeError(f"{argument}: expected a dense tensor, got {came}; call to_dense()")


def check_dtype(argument: str, value: torch.dtype) -> None:
    """Raises TypeError unless embeddings can have this dtype."""
    if value not in _FLOATING:
        raise TypeError(f"{argument}: expected float32, float64, float16 or bfloat16, got {value}")


def check_embeddings(argument: str, value: Tensor) -> None:
    """Raises unless ``value`` is a floating-point matrix ``[rows, dim]``."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{argument}: expected a tensor, got {type(value).__name__}")
    check_dtype(argument, value.dtype)
    _check_dense(argument, value)
    if value.dim() != 2:
        raise ValueError(
            f"{argument}: expected a matrix [rows, dim], got shape {tuple(value.shape)}"
        )
    # Not while compiling: a size may be a symbol, whose range torch.export would narrow by this.
    if not torch.compiler.is_compiling() and max(value.shape) > _MOST_ROWS:
        raise ValueError(
            f"{argument}: expected at most {_MOST_ROWS} rows and columns, "
            f"got shape {tuple(value.shape)}"
        )


def check_integers(argument: str, value: Tensor, of: str, like: Tensor) -> Tensor:
    """Returns ``value``, one integer per row of ``like``, as int64 on the device of ``like``.

    Messages call ``like`` by the name ``of``.
    """
    _check_integer_vector(argument, value)
    if value.shape[0] != like.shape[0]:
        raise ValueError(
            f"{argument}: expected one per row of {of}, {like.shape[0]}, got {value.shape[0]}"
        )
    return _as_int64(argument, value, like.device)


def _as_int64(argument: str, value: Tensor, device: torch.device) -> Tensor:
    if device.type != "meta":
        check_values(argument, value)
    return value.to(device, torch.int64)


def check_values(argument: str, value: Tensor, why: str = "") -> None:
    """Raises ValueError for a tensor on the meta device: it has no values to read."""
    if value.is_meta:
        raise ValueError(
            f"{argument}: expected values, got a tensor on the meta device, which has none{why}: "
            "pass a tensor with data"
        )


def check_triplets_can_be_counted(embeddings: Tensor) -> None:
    """Raises ValueError on the meta device. A fake tensor's triplets have an unbacked size."""
    check_values("embeddings", embeddings, ", and the number of triplets depends on them")


def _check_integer_vector(argument: str, value: Tensor) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{argument}: expected a tensor of integers, got {type(value).__name__}")
    if value.dtype not in _INTEGER:
        raise TypeError(f"{argument}: expected integers, got {value.dtype}")
    _check_dense(argument, value)
    if value.dim() != 1:
        raise ValueError(f"{argument}: expected one dimension, got shape {tuple(value.shape)}")


def check_integer_vector(argument: str, value: Tensor) -> Tensor:
    """Returns a vector of integers as int64."""
    _check_integer_vector(argument, value)
    return value.to(torch.int64)


def check_comparable(a_name: str, a: Tensor, b_name: str, b: Tensor) -> None:
    """Raises ValueError where two tensors of integers cannot be compared as int64.

    The operators read uint64 as int64, bit for bit. Between two uint64 tensors this keeps what is
    equal. Beside a signed tensor a value from 2**63 on would be read as a negative number of it.
    """
    if (a.dtype == torch.uint64) == (b.dtype == torch.uint64) or torch.compiler.is_compiling():
        return
    name, value = (a_name, a) if a.dtype == torch.uint64 else (b_name, b)
    if not value.is_meta and (value.to(torch.int64) < 0).any():
        other = b_name if name == a_name else a_name
        raise ValueError(f"{name}: expected values below 2**63, as {other} is not uint64")


def check_pair(a_name: str, a: Tensor, b_name: str, b: Tensor) -> tuple[Tensor, Tensor]:
    """Returns two matrices in the wider of their dtypes.

    Raises unless they have the same number of columns and the same device.
    """
    check_embeddings(b_name, b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"{b_name}: expected {a.shape[1]} columns as {a_name} has, got {b.shape[1]}"
        )
    if a.device != b.device:
        raise ValueError(f"{b_name}: expected it on {a.device} as {a_name}, got {b.device}")
    if a.dtype == b.dtype:
        return a, b
    wider = torch.promote_types(a.dtype, b.dtype)
    return a.to(wider), b.to(wider)


class Batch:
    """Embeddings and labels of a mining call, checked and in the operators' types.

    Attributes:
        emb: ``[M, D]``
        labels: ``[M]`` int64
        ref_emb: ``[N, D]`` or None
        ref_labels: ``[N]`` int64 or None
        anchor_ids: ``[M]`` int64 or None
        ref_ids: ``[N]`` int64 or None
        across: the ranks whose anchors the batch has besides these, or None.
        seed: what a random rule draws from, ``[1 + M]`` with the rows of the anchors in the whole
            batch behind it; None: it draws one for this batch alone.
        pieces: the candidates in place of ``ref_emb``, where they come round in pieces, or None.
    """

    __slots__ = (
        "_given",
        "across",
        "anchor_ids",
        "emb",
        "labels",
        "pieces",
        "ref_emb",
        "ref_ids",
        "ref_labels",
        "seed",
    )

    def __init__(
        self,
        embeddings: Tensor,
        labels: Tensor,
        ref_emb: Tensor | None,
        ref_labels: Tensor | None,
        anchor_ids: Tensor | None,
        ref_ids: Tensor | None,
    ) -> None:
        check_embeddings("embeddings", embeddings)
        self.emb = embeddings
        self.labels = check_integers("labels", labels, "embeddings", embeddings)
        self._given = labels, ref_labels
        self.across: Across | None = None
        self.seed: Tensor | None = None
        self.pieces: Pieces | None = None
        self.ref_emb = self.ref_labels = self.anchor_ids = self.ref_ids = None
        if ref_emb is None:
            for name, value in (
                ("ref_labels", ref_labels),
                ("anchor_ids", anchor_ids),
                ("ref_ids", ref_ids),
            ):
                if value is not None:
                    raise ValueError(f"{name}: expected ref_emb with it, got none; pass ref_emb")
            return
        if ref_labels is None:
            raise ValueError("ref_labels: expected one per row of ref_emb, got none")
        if (anchor_ids is None) != (ref_ids is None):
            missing = "anchor_ids" if anchor_ids is None else "ref_ids"
            raise ValueError(
                f"{missing}: expected anchor_ids and ref_ids together, got one of them"
            )
        self.emb, self.ref_emb = check_pair("embeddings", embeddings, "ref_emb", ref_emb)
        self.ref_labels = check_integers("ref_labels", ref_labels, "ref_emb", ref_emb)
        check_comparable("labels", labels, "ref_labels", ref_labels)
        if anchor_ids is not None and ref_ids is not None:
            self.anchor_ids = check_integers("anchor_ids", anchor_ids, "embeddings", embeddings)
            self.ref_ids = check_integers("ref_ids", ref_ids, "ref_emb", ref_emb)
            check_comparable("anchor_ids", anchor_ids, "ref_ids", ref_ids)

    def meet(
        self, pieces: Pieces, ref_labels: Tensor, anchor_ids: Tensor | None, ref_ids: Tensor | None
    ) -> None:
        """Gives a batch without ``ref_emb`` candidates that come round in pieces."""
        self._given = self.labels, ref_labels
        self.pieces, self.ref_labels = pieces, ref_labels
        self.anchor_ids, self.ref_ids = anchor_ids, ref_ids

    def has_negatives(self) -> Tensor:
        """``[]``, whether an anchor and a candidate have different labels, or two candidates."""
        labels = self.labels
        if self.ref_labels is not None:
            labels = torch.cat([self.ref_labels, labels])
        return (labels != labels[:1]).any()

    def warn_without_triplets(self, result: Tensor) -> None:
        """Warns if the labels allow no triplet; ``result`` is a loss [], or losses [T]."""
        if self.across is None or self.across.ranks.rank == 0:
            warn_without_triplets(result, *self._given)

    def tensors(
        self,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        """The operators' first six arguments."""
        return (
            self.emb,
            self.labels,
            self.ref_emb,
            self.ref_labels,
            self.anchor_ids,
            self.ref_ids,
        )


def check_triplets(argument: str, value: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Returns anchor, positive and negative; what these entries are is not checked."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(
            f"{argument}: expected (anchor, positive, negative), got {type(value).__name__}"
        )
    if len(value) != 3 and not isinstance(value, Triplets):
        raise ValueError(
            f"{argument}: expected (anchor, positive, negative), got {len(value)} entries"
        )
    anchor, positive, negative = value[:3]
    return anchor, positive, negative


def check_rows(argument: str, indices: Tensor, matrix: Tensor) -> Tensor:
    """Returns indices of rows of ``matrix`` as int64 on its device.

    Raises ValueError for one out of range. Where values cannot be read, as while compiling, only
    the operator checks the range.
    """
    _check_integer_vector(argument, indices)
    integers = _as_int64(argument, indices, matrix.device)
    unreadable = torch.compiler.is_compiling() or transforms_active() or integers.is_meta
    if unreadable or integers.numel() == 0:
        return integers
    low, high = (int(value) for value in torch.aminmax(integers))
    if low < 0 or high >= matrix.shape[0]:
        wrong = low if low < 0 else high
        raise ValueError(f"{argument}: expected rows in [0, {matrix.shape[0]}), got {wrong}")
    return integers


def check_triplet_rows(
    argument: str,
    triplets: Sequence[Tensor],
    embeddings: Tensor,
    ref_emb: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Anchors, rows of ``embeddings``, and positives and negatives, of ``ref_emb`` if given."""
    candidates = embeddings if ref_emb is None else ref_emb
    anchor, positive, negative = (
        check_rows(f"{argument}.{name}", index, rows)
        for name, index, rows in zip(
            ("anchor", "positive", "negative"),
            check_triplets(argument, triplets),
            (embeddings, candidates, candidates),
            strict=True,
        )
    )
    for name, index in (("positive", positive), ("negative", negative)):
        if index.shape != anchor.shape:
            raise ValueError(
                f"{argument}.{name}: expected {anchor.shape[0]} entries as anchor has, "
                f"got {index.shape[0]}"
            )
    return anchor, positive, negative
