"""Warnings about calls that are no errors but have no effect, each once in a process."""

import sys
import warnings
from collections.abc import Hashable

import torch
from torch import Tensor

from facenet_ext._transforms import values_readable

_NO_TRIPLET = "this batch has no triplet, so that its loss is 0:"
_SAMPLER = (
    "A triplet needs two rows of one label and one of another. Draw such batches with "
    "DataLoader(dataset, batch_sampler=facenet_ext.MPerClassSampler(labels, m=4, classes=8))"
)
_told: set[Hashable] = set()


def warn_once(key: Hashable, message: str) -> None:
    """Warns once for each key, at the calling line outside of this package and torch."""
    if key in _told:
        return
    _told.add(key)
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _package(frame.f_globals) in ("facenet_ext", "torch"):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)


def _package(variables: dict[str, object]) -> str:
    return str(variables.get("__name__")).partition(".")[0]


def warn_without_triplets(result: Tensor, labels: Tensor, ref_labels: Tensor | None) -> None:
    """Warns of a batch whose labels allow no triplet, unless to know that would wait for a GPU.

    Labels are read only on the CPU, and only if the result is 0, is empty, or is on a GPU.

    Args:
        result: a loss [], or an entry for each triplet [T].
        labels: of the anchors, as the caller gave them.
        ref_labels: of other candidates.
    """
    if torch.compiler.is_compiling():
        return
    if "triplets" in _told or not values_readable(result, labels, ref_labels):
        return
    # tolist() reads memory; item() is an operator, which a dispatch mode may record or refuse.
    has_triplets = result.numel() if result.dim() else result.is_cpu and bool(result.tolist())
    if has_triplets:
        return
    reason = _no_triplet(labels, ref_labels)
    if reason is not None:
        warn_once("triplets", f"{_NO_TRIPLET} {reason}")


def _no_triplet(labels: Tensor, ref_labels: Tensor | None) -> str | None:
    """Why labels allow no triplet; None where they may allow one, or are on a GPU."""
    if not labels.is_cpu or not (ref_labels is None or ref_labels.is_cpu):
        return None
    own = set(labels.tolist())
    others = own if ref_labels is None else set(ref_labels.tolist())
    if not own or not others:
        return None
    if len(own | others) == 1:
        return f"all labels are {own.pop()}. {_SAMPLER}"
    if ref_labels is None:
        return f"its {len(own)} labels all differ. {_SAMPLER}" if len(own) == len(labels) else None
    if len(others) == 1:
        return f"all ref_labels are {others.pop()}, and a triplet needs another label there"
    if own.isdisjoint(others):
        return "none of its labels is among ref_labels, where a class has to have the same number"
    return None
