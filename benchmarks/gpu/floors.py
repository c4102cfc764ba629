"""The times that no implementation can beat, from what this GPU was measured to do."""

from dataclasses import dataclass
from typing import Any

from benchmarks.gpu.cases import Case

VALUE_BYTES = 4  # distances and losses


@dataclass
class Ceilings:
    """Measured on this GPU, in this run; None where that failed."""

    bandwidth: float | None = None  # bytes a second, read and written
    rates: dict[str, float] | None = None  # operations a second of a large product, by dtype

    def as_dict(self) -> dict[str, Any]:
        return {"bandwidth": self.bandwidth, "rates": self.rates or {}}


def bytes_moved(operator: str, case: Case) -> int:
    """Inputs read once and outputs written once."""
    if operator == "distances":
        return case.row_bytes + VALUE_BYTES * case.n**2
    gradient = case.row_bytes if operator == "step" else 0
    return case.input_bytes + VALUE_BYTES + gradient


def operations(case: Case) -> int:
    """Of all products of rows, a multiplication and an addition each."""
    return 2 * case.n * case.n * case.dim


def floors(operator: str, case: Case, ceilings: Ceilings) -> dict[str, float]:
    """Seconds: "bytes", "operations" and the larger, "floor"; those that are known."""
    found = {}
    if ceilings.bandwidth:
        found["bytes"] = bytes_moved(operator, case) / ceilings.bandwidth
    rate = (ceilings.rates or {}).get(case.dtype)
    if rate:
        found["operations"] = operations(case) / rate
    if found:
        found["floor"] = max(found.values())
    return found
