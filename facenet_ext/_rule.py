"""The rule that selects triplets: the one place of its options, their choices and their checks.

Imports no torch, so that command lines can offer the choices before torch is loaded.
"""

import dataclasses
import numbers
import sys
from collections.abc import Sequence
from typing import Any, Literal, get_args

Distance = Literal["sqeuclidean", "euclidean", "cosine"]
Positives = Literal["all", "hardest", "easiest"]
Fallback = Literal["farthest", "drop"]
Deterministic = Literal["semihard", "hardest"]
Random = Literal["random_semihard", "random_violating", "distance_weighted"]
Negatives = Literal[Deterministic, Random]

DISTANCES: tuple[str, ...] = get_args(Distance)
POSITIVES: tuple[str, ...] = get_args(Positives)
FALLBACKS: tuple[str, ...] = get_args(Fallback)
DETERMINISTIC: tuple[str, ...] = get_args(Deterministic)
RANDOM: tuple[str, ...] = get_args(Random)
NEGATIVES = DETERMINISTIC + RANDOM


def check_choice(argument: str, value: str, choices: Sequence[str]) -> None:
    """Raises ValueError unless ``value`` is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        expected = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{argument}: expected one of {expected}, got {value!r}")


def check_flag(argument: str, value: bool) -> None:
    """Raises TypeError unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{argument}: expected True or False, got {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real)


def check_margin(margin: float) -> None:
    """Raises ValueError unless the margin is a finite number."""
    try:
        # Not math.isfinite: torch.compile(dynamic=True) traces comparisons and not that.
        finite = _is_number(margin) and abs(float(margin)) <= sys.float_info.max
    except OverflowError:  # an integer beyond every float
        finite = False
    if not finite:
        raise ValueError(f"margin: expected a finite number, got {margin!r}")


@dataclasses.dataclass(frozen=True)
class TripletRule:
    """Which triplets are selected: see :func:`facenet_ext.select_triplets`.

    Attributes:
        margin: what ``within_margin`` and the random rules compare with; also a loss's margin.
        positives: ``"all"`` of an anchor, or only its ``"hardest"`` (farthest) or ``"easiest"``.
        negatives: ``"semihard"``; ``"hardest"`` (the closest of all); or drawn at random:
            ``"random_semihard"``, any n with d(a, p) < d(a, n) < d(a, p) + margin, all equally
            likely; ``"random_violating"``, any with d(a, n) < d(a, p) + margin, all equally likely;
            ``"distance_weighted"``, by the weights of :func:`facenet_ext.select_triplets`.
        within_margin: ask semi-hard negatives to satisfy d(a, n) < d(a, p) + margin.
        fallback: where no negative qualifies: ``"farthest"`` takes the farthest one (as
            TensorFlow's semi-hard loss does), ``"drop"`` leaves the pair out. Random rules always
            leave it out.
        distance: ``"sqeuclidean"``, ``"euclidean"`` or ``"cosine"`` (1 - cos).
        cutoff: distance-weighted negatives closer than this weigh as if they were this far away.
        nonzero_loss_cutoff: distance-weighted negatives this far away or farther are not drawn; at
            most 2.

    Raises:
        ValueError: an unknown option, a margin that is not finite.
        TypeError: a ``within_margin`` that is neither True nor False.

    Example:
        >>> TripletRule(negatives="hardest").positives
        'all'
        >>> TripletRule(negatives="nearest")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: negatives: expected one of 'semihard', 'hardest', ..., got 'nearest'

    Source: FaceNet (Schroff et al., CVPR 2015), section 3.2.
    """

    margin: float = 0.2
    positives: str = "all"
    negatives: str = "semihard"
    within_margin: bool = False
    fallback: str = "farthest"
    distance: str = "sqeuclidean"
    cutoff: float = 0.5
    nonzero_loss_cutoff: float = 1.4

    def __post_init__(self) -> None:
        check_choice("positives", self.positives, POSITIVES)
        check_choice("negatives", self.negatives, NEGATIVES)
        check_margin(self.margin)
        check_flag("within_margin", self.within_margin)
        check_choice("fallback", self.fallback, FALLBACKS)
        check_choice("distance", self.distance, DISTANCES)
        near, far = self.cutoff, self.nonzero_loss_cutoff
        if not (_is_number(near) and _is_number(far) and 0 < near < far <= 2):
            raise ValueError(
                "cutoff and nonzero_loss_cutoff: expected 0 < cutoff < nonzero_loss_cutoff <= 2, "
                f"got {near!r} and {far!r}"
            )
        for name in ("margin", "cutoff", "nonzero_loss_cutoff"):
            if type(value := getattr(self, name)) is not float:
                object.__setattr__(self, name, float(value))

    def arguments(self) -> tuple[Any, ...]:
        """The operators' arguments of a rule; they come after the batch and the seed."""
        return (
            self.positives,
            self.negatives,
            self.margin,
            self.within_margin,
            self.fallback,
            self.distance,
            self.cutoff,
            self.nonzero_loss_cutoff,
        )


RULE_OPTIONS = tuple(field.name for field in dataclasses.fields(TripletRule))
