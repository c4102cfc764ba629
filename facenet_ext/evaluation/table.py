"""The figures of a verification as a table for the terminal."""

from __future__ import annotations

import math

from rich.table import Table

from facenet_ext.evaluation.verification import Verification
from facenet_ext.metrics import OperatingPoint

__all__ = [
    "table",
    "with_error",
]


def table(verification: Verification) -> Table:
    """Return the figures as a table for the terminal."""
    pairs = verification.pairs
    n_same, n_different = int(pairs.same.sum()), int((~pairs.same).sum())
    people = "" if pairs.identities is None else f" of {pairs.identities:,} identities"
    result = Table(
        title=f"verification of {n_same:,} same and {n_different:,} different pairs{people}",
        caption=verification.few or None,
    )
    result.add_column("figure")
    result.add_column("value", justify="right")
    result.add_column("")
    for point in verification.val_far:
        result.add_row(f"VAL at FAR {point.wanted_far:g}", *_operating_point(point))
    accuracy = verification.accuracy
    result.add_row(
        "balanced accuracy" if pairs.balanced else "accuracy",
        with_error(accuracy.mean, accuracy.standard_error),
        verification.measured,
    )
    result.add_row(
        "in bytes",
        f"{verification.quantized.mean:.2%}",
        "accuracy with one byte per dimension",
    )
    result.add_row("AUC", f"{verification.auc:.4f}", "area under the ROC curve")
    result.add_row("EER", f"{verification.eer:.2%}", "where FAR = 1 - VAL")
    return result


def with_error(mean: float, standard_error: float) -> str:
    """Return a share in percent, with its standard error where there is one."""
    return f"{mean:.2%}" + (f" ± {standard_error:.2%}" if math.isfinite(standard_error) else "")


def _operating_point(point: OperatingPoint) -> tuple[str, str]:
    if not point.reachable:
        return "", "not reachable with this many pairs"
    return f"{point.val:.2%}", f"really {point.far:.2e}, threshold {point.threshold:.3f}"
