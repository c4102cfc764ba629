"""The times that no implementation can beat, from what this GPU was measured to do."""

from collections.abc import Mapping

from benchmarks.cases import Case

VALUE_BYTES = 4  # of a distance or a loss


def bytes_moved(operator: str, case: Case) -> int:
    """Inputs read once and outputs written once."""
    if operator == "pairwise_squared_distance":
        return case.row_bytes + VALUE_BYTES * case.n**2
    gradient = case.row_bytes if operator == "mined_triplet_loss" else 0
    return case.input_bytes + VALUE_BYTES + gradient


def operations(case: Case) -> int:
    """One multiplication and one addition for each pair of numbers in the products of all rows."""
    return 2 * case.n * case.n * case.dim


def floor(operator: str, case: Case, ceilings: Mapping[str, float]) -> float | None:
    """Seconds for the bytes or for the operations, whichever take longer; None if neither is known.

    ``ceilings`` are bytes a second of a "copy", and operations a second by dtype.
    """
    times = []
    if "copy" in ceilings:
        times.append(bytes_moved(operator, case) / ceilings["copy"])
    if case.dtype in ceilings:
        times.append(operations(case) / ceilings[case.dtype])
    return max(times, default=None)
