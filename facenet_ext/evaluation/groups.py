"""Error rates by groups: who is in which group, and what the common threshold does to each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facenet_ext.common.errors import InputError
from facenet_ext.common.files import without_nan
from facenet_ext.common.text import comparable, counted, printable
from facenet_ext.data.groups_file import GroupsFile
from facenet_ext.evaluation.compared import Compared, percent
from facenet_ext.metrics import GroupRates
from facenet_ext.metrics.groups import rates_of_groups

__all__ = ["GroupedRates", "Grouping", "divide", "rates_by_group"]

_MOST = 12
"""Most groups of a column: twelve make 78 pairs of groups."""

_NUMBERS = 8
"""A column with more different numbers is cut into quarters."""


class Grouping(NamedTuple):
    """A column of a file of groups.

    Attributes:
        column: its name.
        names: of the groups.
        groups: [items] int64, the group of each item; -1 where it is not known.
    """

    column: str
    names: list[str]
    groups: Tensor

    def among(self, kept: Sequence[int]) -> Grouping:
        """Return the groups of some items, in that order."""
        return self._replace(groups=self.groups[torch.tensor(kept, dtype=torch.int64)])


class GroupedRates(NamedTuple):
    """Error rates at one threshold, by the groups of a column.

    Attributes:
        column: its name.
        names: of the groups.
        items: how many images, videos or templates each group has.
        unknown: how many are in no group.
        threshold: of the distance.
        rates: of each group and of each pair of groups.
    """

    column: str
    names: list[str]
    items: list[int]
    unknown: int
    threshold: float
    rates: tuple[GroupRates, ...]

    def name_of(self, rates: GroupRates) -> str:
        """Return what a group or a pair of groups is called."""
        first, second = (self.names[number] for number in rates.groups)
        return first if first == second else f"{first} with {second}"

    @property
    def in_short(self) -> str:
        """Which groups surely differ, in a sentence; "" where there are no intervals."""
        told, compared = [], False
        for key, name in (("fnmr", "FNMR"), ("fmr", "FMR")):
            own = [
                (getattr(one, key), getattr(one, f"{key}_interval"), self.name_of(one))
                for one in self.rates
                if one.groups[0] == one.groups[1]
                and math.isfinite(getattr(one, f"{key}_interval").low)
            ]
            if len(own) < 2:
                continue
            compared = True
            best, worst = min(own), max(own)
            if best[1].high < worst[1].low:
                told.append(
                    f"{name} is {percent(worst[0])} for {worst[2]} and {percent(best[0])} for "
                    f"{best[2]}"
                )
        if told:
            return f"By {self.column}, {'; '.join(told)}: chance alone does not explain that."
        return f"By {self.column}, no two groups surely differ." if compared else ""

    def as_dict(self) -> dict[str, Any]:
        """Return the rates as JSON has them: None where there is no number."""
        rates = [
            dataclasses.asdict(one)
            | {
                "groups": [self.names[number] for number in one.groups],
                "fmr_interval": list(one.fmr_interval),
                "fnmr_interval": list(one.fnmr_interval),
                "fmr_remark": one.fmr_remark,
                "fnmr_remark": one.fnmr_remark,
            }
            for one in self.rates
        ]
        found = self._asdict() | {"items": dict(zip(self.names, self.items, strict=True))}
        del found["names"]
        return dict(without_nan(found | {"rates": rates}))


def divide(
    file: GroupsFile,
    columns: Sequence[str],
    items: Sequence[Sequence[int]],
    ids: Sequence[str],
    people: Sequence[str],
) -> tuple[list[Grouping], list[str]]:
    """Divide items into the groups of each column.

    The first column of the file has names of images, or else of people. An item of several images
    is in a group that all of them are in. Of numbers there are as many groups, or four, with as
    many items each: an item then has the mean of its images.

    Args:
        file: says which groups there are.
        columns: of the file to use; all where there are none.
        items: the images of each item, as positions in ``ids``.
        ids: what images are called.
        people: the identity of each image.

    Returns:
        A :class:`Grouping` for each column; and what was passed over, in sentences.

    Raises:
        InputError: the file has no such column, or names none of the images or people, or no
            column makes groups.
    """
    if unknown := [name for name in columns if name not in file.columns]:
        raise InputError(
            f"`group_by` {unknown[0]}: {file.path} has no such column; it has "
            f"{', '.join(file.columns)}"
        )
    called = [comparable(name) for name in ids]
    if not any(name in file.lines for name in called):
        called = list(people)
    if not any(name in file.lines for name in called):
        raise InputError(
            f"{file.path}: names none of the images or people: its first column has "
            f"{printable(next(iter(file.lines)))!r}, and an image is {printable(ids[0])!r}, of "
            f"{printable(people[0])!r}"
        )
    found, passed_over = [], []
    for column in columns or file.columns:
        values = [file.columns[column].get(name, "") for name in called]
        of_items = [[values[row] for row in rows if values[row]] for rows in items]
        grouping = _by_quarters(column, of_items) or _by_value(column, of_items)
        if 2 <= len(grouping.names) <= _MOST:
            found.append(grouping)
        else:
            passed_over.append(
                f"column {printable(column)} of {file.path} makes "
                f"{counted(len(grouping.names), 'group')}: 2 to {_MOST} can be compared"
            )
    if not found:
        raise InputError(f"{file.path}: {'; '.join(passed_over)}")
    return found, passed_over


def _by_value(column: str, of_items: Sequence[Sequence[str]]) -> Grouping:
    chosen = [values[0] if len({*values}) == 1 else "" for values in of_items]
    names = sorted({*chosen} - {""}, key=lambda name: (_number(name), name))
    place = {name: at for at, name in enumerate(names)}
    return Grouping(column, names, torch.tensor([place.get(name, -1) for name in chosen]))


def _by_quarters(column: str, of_items: Sequence[Sequence[str]]) -> Grouping | None:
    """Return quarters of the items by a number; None where it is none, or has few values."""
    distinct = {value for values in of_items for value in values}
    if len(distinct) <= _NUMBERS or not all(map(math.isfinite, map(_number, distinct))):
        return None
    means: NDArray[np.float64] = np.array(
        [sum(map(_number, values)) / len(values) if values else math.nan for values in of_items]
    )
    known = np.isfinite(means)
    edges = np.unique(np.quantile(means[known], (0.25, 0.5, 0.75)))
    quarter = np.where(known, np.searchsorted(edges, means), -1)
    names = list[str]()
    groups = np.full(len(means), -1)
    for number in np.unique(quarter[known]):
        inside = quarter == number
        groups[inside] = len(names)
        names.append(f"{means[inside].min():.4g} to {means[inside].max():.4g}")
    return Grouping(column, names, torch.from_numpy(groups))


def _number(text: str) -> float:
    """Return a number; infinity for what is none, which so comes last."""
    try:
        number = float(text)
    except ValueError:
        return math.inf
    return math.inf if math.isnan(number) else number


def rates_by_group(compared: Compared, grouping: Grouping) -> GroupedRates:
    """Measure FMR and FNMR of each group and pair of groups, at the threshold of all.

    Raises:
        ValueError: there is no threshold.
    """
    groups = grouping.groups
    used = torch.zeros(len(groups), dtype=torch.bool)
    some = compared.pairs.used
    used[: len(some)] = torch.from_numpy(some)
    items = [int((used & (groups == number)).sum()) for number in range(len(grouping.names))]
    return GroupedRates(
        grouping.column,
        grouping.names,
        items,
        int((used & (groups < 0)).sum()),
        compared.threshold,
        rates_of_groups(compared.pairs, compared.labels, groups, compared.threshold),
    )
