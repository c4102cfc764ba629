"""Looks up the thresholds that an evaluation measured, for commands that decide by one."""

from __future__ import annotations

import bisect
import math
from pathlib import Path
from typing import Any, NamedTuple

from facenet_ext.common.errors import InputError
from facenet_ext.common.files import read_json
from facenet_ext.embedding.folders import EVALUATION, METRICS
from facenet_ext.embedding.loading import file_hash, read_facts


class OperatingPoints(NamedTuple):
    """VAL and FAR by threshold, as an evaluation measured them.

    Attributes:
        threshold: the threshold that accuracy was measured with.
        thresholds: ascending.
        val: VAL at each of them.
        far: FAR at each of them.
        source: the file they are from.
        accuracy: the evaluation's accuracy, both kinds of pair weighing the same; None if it is
            not known.
    """

    threshold: float
    thresholds: list[float]
    val: list[float]
    far: list[float]
    source: Path
    accuracy: float | None = None

    @property
    def resolution(self) -> float:
        """The smallest FAR above 0 that the evaluation measured; NaN where all are 0."""
        return min((far for far in self.far if far > 0), default=math.nan)

    def far_at(self, threshold: float) -> float:
        """Return the FAR at a threshold; between two measured ones, that at the upper one."""
        at = bisect.bisect_left(self.thresholds, threshold)
        return self.far[min(at, len(self.far) - 1)]

    def threshold_at(self, far: float) -> float:
        """Return the largest threshold with at most this FAR.

        Raises:
            InputError: the evaluation had too few pairs to measure such a FAR.
        """
        if not far >= self.resolution:
            raise InputError(
                f"`far` {far:g}: the evaluation in {self.source} measured no rate below "
                f"{self.resolution:g}; evaluate more pairs, or give `threshold`"
            )
        allowed = [t for t, f in zip(self.thresholds, self.far, strict=True) if f <= far]
        return allowed[-1]


def find_operating_points(checkpoint: Path, views: str = "all") -> OperatingPoints:
    """Find what the evaluation of a checkpoint measured.

    Of several evaluations the first of these counts: that of ``facenet evaluate`` of just this
    file, the run's own of just these weights, the run's last one before them.

    Args:
        checkpoint: a file in a run's ``checkpoints/``.
        views: "all" or "one": how images are embedded. Evaluations by the other do not count; a
            run's own are by all.

    Raises:
        InputError: there is no evaluation.
    """
    run = checkpoint.resolve().parent.parent
    evaluated = run / EVALUATION / METRICS
    figures = read_json(evaluated)
    if (figures.get("checkpoint"), figures.get("views")) == (file_hash(checkpoint), views):
        points = _points(figures, evaluated)
        if points is not None:
            return points
    if views == "all":
        facts = read_facts(checkpoint)
        during = facts.get("evaluation")
        measured = [(during if isinstance(during, dict) else {}, checkpoint)]
        measured.append((read_json(run / METRICS), run / METRICS))
        measured.sort(key=lambda one: one[0].get("steps") != facts["steps"])
        for figures, source in measured:
            points = _points(figures, source)
            if points is not None:
                return points
    option = "" if views == "all" else f" --views {views}"
    raise InputError(
        f"{checkpoint}: has no evaluation beside it that measured a threshold; run "
        f"'facenet evaluate{option}' on it, or give `threshold`"
    )


def _points(figures: Any, path: Path) -> OperatingPoints | None:
    """Return the operating points among figures; None where they are incomplete."""
    try:
        curve = figures["curve"]
        thresholds, val, far = (
            [float(value) for value in curve[name]] for name in ("thresholds", "val", "far")
        )
        accuracy = figures.get("accuracy", {}).get("mean")
        points = OperatingPoints(
            float(figures["threshold"]),
            thresholds,
            val,
            far,
            path,
            float(accuracy) if isinstance(accuracy, (int, float)) else None,
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None
    numbers = [points.threshold, *thresholds, *val, *far]
    if not thresholds or not len(thresholds) == len(val) == len(far):
        return None
    return points if all(map(math.isfinite, numbers)) else None
