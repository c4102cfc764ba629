"""Images that cannot be read: how many may be left out, and what is said of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any

from facenet_ext.common.errors import InputError
from facenet_ext.common.text import counted, printable

__all__ = ["Unreadable", "most_unreadable", "tell_left_out", "too_many"]

_NAMED = 10
"""How many unreadable images are named one by one."""


def most_unreadable(count: int) -> int:
    """Return how many of ``count`` images may be left out: ten or one percent, but not half."""
    return min(max(_NAMED, count // 100), (count - 1) // 2)


def too_many(errors: Collection[str], number: int, count: int) -> InputError:
    """Return the error for more unreadable images than may be left out.

    Args:
        errors: what is wrong, the first ones at least.
        number: of unreadable images.
        count: of all images.
    """
    named = [printable(error) for error in list(errors)[:_NAMED]]
    more = number - len(named)
    return InputError(
        f"{number:,} of {counted(count, 'image')} cannot be read, more than the "
        f"{most_unreadable(count)} that may be left out; repair or remove them: {'; '.join(named)}"
        + (f"; and {more} more" if more else "")
    )


def tell_left_out(errors: Collection[str], count: int, tell: Callable[[str], None]) -> None:
    """Name the unreadable images that are left out from the beginning.

    Raises:
        InputError: they are too many.
    """
    if len(errors) > most_unreadable(count):
        raise too_many(errors, len(errors), count)
    for error in list(errors)[:_NAMED]:
        tell(f"skipped, cannot be read: {printable(error)}")
    if errors:
        tell(f"skipped {len(errors):,} of {counted(count, 'image')} that cannot be read")


class Unreadable:
    """Tells of images that turn out to be unreadable while they are used, each once.

    Of several processes the first one that finds an image tells of it.

    Args:
        count: how many images there are.
        tell: prints a line.
    """

    def __init__(self, count: int, tell: Callable[[str], None]) -> None:
        self.count = count
        self.tell = tell
        self._errors: dict[str, str] = {}
        self._number = 0

    def add(self, errors: Mapping[str, str]) -> None:
        """Tell of images, but not of those that it was told of before.

        Args:
            errors: by the image's name, what is wrong with it.

        Raises:
            InputError: they are more than may be left out.
        """
        for name, error in errors.items():
            if name in self._errors:
                continue
            self._errors[name] = error
            number = self._count(name)
            if number is None:
                continue
            self._number = number
            if self._number > most_unreadable(self.count):
                raise too_many(self._errors.values(), self._number, self.count)
            self.tell(
                f"cannot be read, another image takes its place: {printable(error)} (so far "
                f"{self._number:,} of {counted(self.count, 'image')})"
            )

    def _count(self, name: str) -> int | None:
        """Return how many were found with this one; None where another process has found it."""
        store = _store()
        if store is None:
            return self._number + 1
        if store.add(f"facenet_ext/unreadable/{name}", 1) > 1:
            return None
        return int(store.add("facenet_ext/unreadable", 1))


def _store() -> Any:
    """What the processes of a group have in common; None for one process."""
    dist = sys.modules.get("torch.distributed")
    if dist is None or not dist.is_available() or not dist.is_initialized():
        return None
    return dist.group.WORLD.get_group_store()
