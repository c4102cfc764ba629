"""docs/migration.md as test cases, so that neither it nor the tests can drift.

A table under "The same value" has calls: both cells are evaluated. One under "What differs" has a
test per row, found by the row's first cell.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "migration.md"


def _tables() -> dict[str, dict[str, list[list[str]]]]:
    """The page's rows by section ("## ...") and table ("### ...")."""
    tables: dict[str, dict[str, list[list[str]]]] = {}
    section = table = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            section = line[3:]
            tables[section] = {}
        elif line.startswith("### "):
            table = line[4:]
        elif line.startswith("|") and section:
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            tables[section].setdefault(table, []).append(cells)
    # The first two lines of a table are its head and the rule under it.
    return {
        section: {table: rows[2:] for table, rows in by_name.items()}
        for section, by_name in tables.items()
    }


TABLES = _tables()


class Section:
    """The rows of one library, and which of them are tested."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._tested: list[str] = []

    def calls(self) -> list[Any]:
        """(theirs, ours) of each row of "The same value", as pytest parameters."""
        return [
            pytest.param(*(cell.strip("`") for cell in row), id=row[1])
            for row in TABLES[self.title]["The same value"]
        ]

    def differs(self, case: str) -> Callable[[Any], Any]:
        """Passes a test the cells `theirs` and `ours` of the row that begins with `case`."""
        rows = [row for row in self._differences() if row[0].startswith(case)]
        assert len(rows) == 1, f"{self.title}: {len(rows)} rows begin with {case!r}"
        self._tested.append(rows[0][0])
        return pytest.mark.parametrize(("theirs", "ours"), [rows[0][1:]], ids=[case])

    def untested(self) -> list[str]:
        """Rows of "What differs" that no test has asked for."""
        return [row[0] for row in self._differences() if row[0] not in self._tested]

    def _differences(self) -> list[list[str]]:
        return TABLES[self.title]["What differs"]


def number(cell: str) -> float:
    """The number that a cell begins with."""
    found = re.match(r"NaN|[-+.\de]+", cell)
    assert found, f"no number in {cell!r}"
    return float(found.group())


def shown(value: Any, cell: str) -> bool:
    """Whether a value, printed with as many digits as the cell has, is what the cell shows."""
    digits = re.match(r"\d+\.(\d+)", cell)
    expected = pytest.approx(number(cell), abs=0.5 * 10.0 ** -len(digits[1]) if digits else 0)
    return bool(value != value if cell.startswith("NaN") else float(value) == expected)
