"""Scores that mean the same for everybody: normalised by those of a cohort."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["as_norm"]

_CHUNK = 2**22
"""Cohort scores that are sorted at once."""


def as_norm(
    scores: Tensor,
    first: Tensor,
    second: Tensor,
    first_cohort: Tensor,
    second_cohort: Tensor,
    top: int = 300,
) -> Tensor:
    r"""Normalise scores by those of a cohort, by adaptive symmetric normalisation.

    Of each side's scores against a cohort of strangers, the ``top`` largest have a mean
    :math:`\mu` and a standard deviation :math:`\sigma` (of that many, not one less):

    .. math:: s' = \frac12\left(\frac{s - \mu_e}{\sigma_e} + \frac{s - \mu_t}{\sigma_t}\right)

    With the whole cohort as ``top`` this is S-norm.

    Args:
        scores: [N] floating point; larger means more alike. For distances give ``-distances``,
            here and in the cohorts.
        first: [N] integers, the row of ``first_cohort`` of each pair's first side (enrolment).
        second: [N] integers, the row of ``second_cohort`` of each pair's second side (test).
        first_cohort: [E, C] floating point, the score of each first side with each of the cohort.
        second_cohort: [T, C'] floating point, that of each second side; it may be the same tensor.
        top: how many of the cohort are near enough to count, 2 to the size of the cohort.

    Returns:
        [N] float64 on the CPU.

    Raises:
        TypeError: scores are not floating point, or rows not integers.
        ValueError: shapes do not fit, a row is out of range, ``top`` is out of range, a score is
            not finite, or the ``top`` scores of a side are all equal.

    Example:
        >>> cohort = torch.tensor([[0.0, 2.0, -9.0], [1.0, 3.0, -9.0]])
        >>> side = torch.tensor([0]), torch.tensor([1])
        >>> as_norm(torch.tensor([4.0]), *side, cohort, cohort, top=2).tolist()
        [2.5]

    Source: Matějka et al., *Analysis of score normalization in multilingual speaker recognition*,
    Interspeech 2017, section 3 (adaptive S-norm, type 1).
    """
    if not scores.is_floating_point():
        raise TypeError(f"scores must be floating point, got {scores.dtype}")
    if scores.ndim != 1:
        raise ValueError(f"scores must be 1-D, got shape {tuple(scores.shape)}")
    if not torch.isfinite(scores).all():
        raise ValueError("scores must be finite")
    result = torch.zeros(len(scores), dtype=torch.float64)
    sides = (("first", first, first_cohort), ("second", second, second_cohort))
    for name, rows, cohort in sides:
        if rows.is_floating_point() or rows.dtype == torch.bool:
            raise TypeError(f"{name} must be integers, got {rows.dtype}")
        if rows.shape != scores.shape:
            raise ValueError(
                f"{name} must have a row for each score, got shape {tuple(rows.shape)} for "
                f"{len(scores)} scores"
            )
        mean, deviation = _statistics(f"{name}_cohort", cohort, top)
        rows = rows.detach().cpu().long()
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(cohort):
            raise ValueError(f"{name} must be rows of {name}_cohort, 0 to {len(cohort) - 1}")
        result += (scores.detach().cpu().double() - mean[rows]) / deviation[rows] / 2
    return result


def _statistics(name: str, cohort: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Return the mean and standard deviation of each row's largest scores."""
    if not cohort.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {cohort.dtype}")
    if cohort.ndim != 2 or not 2 <= top <= cohort.shape[1]:
        raise ValueError(
            f"top must be 2 to the size of the cohort and {name} [rows, cohort], got {top} and "
            f"shape {tuple(cohort.shape)}"
        )
    parts, at = [], 0
    for some in torch.split(cohort.detach(), max(1, _CHUNK // cohort.shape[1])):
        if not torch.isfinite(some).all():
            raise ValueError(f"{name} must be finite")
        nearest = some.topk(top, dim=1).values.double()
        equal = nearest[:, 0] == nearest[:, -1]
        if equal.any():
            row = at + int(equal.nonzero()[0])
            raise ValueError(f"{name} must have scores that differ, row {row} has {top} equal ones")
        at += len(some)
        parts.append(torch.stack([nearest.mean(1), nearest.std(1, correction=0)]).cpu())
    mean, deviation = torch.cat(parts, dim=1) if parts else torch.empty(2, 0)
    return mean, deviation
