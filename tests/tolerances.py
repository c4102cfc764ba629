"""The one tolerance table: how far a result may be from the float64 oracle, and why.

The bounds are those of docs/semantics.md, section "Numbers".

Exact comparisons need no entry here: indices on integer-valued or float64 data, distances of equal
rows, and two runs of the same call are compared bit for bit.

VALUE, relative error of a distance. A distance is a sum of squared differences, all of one sign, so
    its relative error is a few eps per level of summation and does not depend on how close the two
    rows are or how far they lie from the origin. 1e-5 is 84 eps of float32. float16 and bfloat16
    inputs are read as they are and accumulated in float32: the same entry.
    A cosine distance subtracts two rounded unit rows: an absolute error of eps comes on top.
LOSS, error of a loss relative to the mean of d(a,p) + d(a,n) + margin, its summands before they
    cancel.
GRADIENT, error relative to the largest entry of the gradient. Each entry is a sum over triplets
    of differences of either sign, so small entries come from cancellation. The output is rounded
    once to the input's dtype: ROUNDING, relative, plus its smallest subnormal, SUBNORMAL.
SEARCH, the selected negative: its exact distance may differ from that of the float64 choice by at
    most SEARCH * eps * (|a|² + |n|²), on centred rows, eps of the search's arithmetic.
"""

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

VALUE = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 1e-5, torch.float16: 1e-5}
LOSS = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 1e-5, torch.float16: 1e-5}
GRADIENT = {torch.float64: 1e-12, torch.float32: 3e-5, torch.bfloat16: 3e-5, torch.float16: 3e-5}
ROUNDING = {torch.float64: 0.0, torch.float32: 0.0, torch.bfloat16: 2**-8, torch.float16: 2**-11}
SUBNORMAL = {torch.float64: 0.0, torch.float32: 0.0, torch.bfloat16: 0.0, torch.float16: 2**-24}
SEARCH = 8


def result_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of distances and losses: that of the arithmetic."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def eps(dtype: torch.dtype) -> float:
    """eps of the arithmetic that inputs of this dtype get."""
    return torch.finfo(result_dtype(dtype)).eps


def assert_distances_close(
    actual: Tensor, expected: Tensor, dtype: torch.dtype, distance: str = "sqeuclidean"
) -> None:
    """`actual` has the arithmetic's dtype and is right up to VALUE."""
    assert actual.dtype == result_dtype(dtype)
    absolute = 8 * eps(dtype) if distance == "cosine" else 0.0
    torch.testing.assert_close(actual.double(), expected, rtol=VALUE[dtype], atol=absolute)


def assert_loss_close(actual: Tensor, expected: Tensor, dtype: torch.dtype, scale: float) -> None:
    """`actual` has the arithmetic's dtype and is right up to LOSS times `scale`."""
    assert actual.dtype == result_dtype(dtype)
    torch.testing.assert_close(actual.double(), expected, rtol=0.0, atol=LOSS[dtype] * scale)


def assert_gradient_close(actual: Tensor | None, expected: Tensor, dtype: torch.dtype) -> None:
    """`actual` has the input's dtype and is right up to GRADIENT and one ROUNDING."""
    assert actual is not None
    assert actual.dtype == dtype
    largest = float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(
        actual.double(),
        expected.double(),
        rtol=ROUNDING[dtype],
        atol=GRADIENT[dtype] * largest + SUBNORMAL[dtype],
    )
