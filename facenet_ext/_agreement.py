"""What has to be the same on all ranks: they compare it before they send or divide anything."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from facenet_ext._gathering import Side
from facenet_ext._ranks import Ranks

__all__ = ["Agreement", "check_same"]

_MOST_SIDES = 2
_SAMPLE = 1024


def check_same(ranks: Ranks, **values: object) -> None:
    """Raises on every rank unless all of them have the same values, as these are printed.

    Args:
        ranks: the processes.
        values: by the argument's name; of a tensor the shape, the type and some rows are compared.

    Raises:
        ValueError: the message names the argument, the rank and both values.
    """
    if ranks.size > 1:
        facts = {
            name: _name(value) if isinstance(value, Tensor) else value
            for name, value in values.items()
        }
        codes = ranks.all_gather(torch.tensor(_code(facts), device=ranks.device)).tolist()
        if len(set(codes)) > 1:
            _raise_difference(ranks, facts)


def _name(tensor: Tensor) -> str:
    """A name for a tensor: its shape, its type, and a hash of evenly spaced rows."""
    rows = torch.linspace(0, max(0, len(tensor) - 1), min(len(tensor), _SAMPLE)).long()
    sample = tensor.detach()[rows.to(tensor.device)].cpu().contiguous().view(torch.uint8)
    hashed = hashlib.sha256(sample.numpy().tobytes()).hexdigest()[:16]
    return f"{list(tensor.shape)} {tensor.dtype} {hashed}"


class Agreement:
    """Makes sure that what the ranks are about to send fits together.

    Args:
        equal_rows: the caller's promise that all ranks always have as many rows as each other. Then
            only the first call with rows of a shape asks.
    """

    def __init__(self, equal_rows: bool) -> None:
        self.equal_rows = equal_rows
        self._agreed: dict[str, object] | None = None

    def __call__(
        self,
        ranks: Ranks,
        sides: Sequence[Side],
        options: Mapping[str, object],
        error: Exception | None,
    ) -> list[list[int]]:
        """Asks all ranks, by one all-gather of four numbers, and one more to tell what differs.

        Args:
            ranks: who has to agree.
            sides: what this rank has; not looked at where it has an error.
            options: what has to be the same besides, by its name.
            error: what this rank would raise.

        Returns:
            How many rows each rank has, ``[side][rank]``.

        Raises:
            ValueError: something differs; on every rank, with the rank and both values.
            Exception: the error of any rank, on every rank.
        """
        sizes = [len(side.rows) for side in sides]
        facts = {name: str(value) for name, value in options.items()}
        for side in sides:
            facts |= self._facts(side)
        if self.equal_rows and error is None and facts == self._agreed:
            return [[size] * ranks.size for size in sizes]
        numbers = [int(error is not None), _code(facts), *sizes]
        numbers += [0] * (2 + _MOST_SIDES - len(numbers))
        table = ranks.all_gather(torch.tensor(numbers, device=ranks.device)).tolist()
        if any(row[0] for row in table):
            ranks.raise_first(error)
        if any(row[1] != table[0][1] for row in table):
            _raise_difference(ranks, facts)
        self._agreed = dict(facts)
        return [[row[2 + at] for row in table] for at in range(len(sides))]

    def _facts(self, side: Side) -> dict[str, str]:
        needs = side.rows.requires_grad and torch.is_grad_enabled()
        rows = f"{len(side.rows)} rows of " if self.equal_rows else ""
        return {
            side.name: f"{rows}{side.rows.shape[1]} columns of {side.rows.dtype}",
            f"the gradient of {side.name}": "needed" if needs else "not needed",
        }


def _code(facts: Mapping[str, object]) -> int:
    """A hash, an int64, equal where the facts are."""
    text = "\n".join(f"{name}={value}" for name, value in facts.items())
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _raise_difference(ranks: Ranks, facts: Mapping[str, object]) -> None:
    """Raises an error that names what differs; the ranks send each other their facts for it."""
    own = "\n".join(f"{name}\t{' '.join(str(value).split())}" for name, value in facts.items())
    first, *others = (
        dict(line.partition("\t")[::2] for line in told.split("\n")) for told in ranks.tell(own)
    )
    for rank, other in enumerate(others, 1):
        for name in [*first, *other]:
            expected, got = first.get(name, "none"), other.get(name, "none")
            if got != expected:
                raise ValueError(
                    f"{name}: expected the same on every rank, got {expected} on rank 0 and {got} "
                    f"on rank {rank}"
                )
    raise ValueError("the ranks differ in options or shapes that are too long to show")
