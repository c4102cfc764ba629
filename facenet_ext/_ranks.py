"""The processes of a ``torch.distributed`` group, and what they tell each other.

One process without a group is a group of one: nothing is sent, and the code is the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["Ranks"]

_MESSAGE = 4096  # bytes that are told of an error
_TOLD = (ValueError, TypeError, OSError)  # kinds that keep their type on other ranks
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Ranks:
    """The processes of a group, as one of them sees them.

    Attributes:
        rank: of this process in the group.
        size: how many there are.
        group: None: the default group, or no group at all where ``size`` is 1.
        device: where what is sent has to be; None where nothing is sent.
    """

    rank: int = 0
    size: int = 1
    group: ProcessGroup | None = None
    device: torch.device | None = None

    @classmethod
    def of(cls, group: ProcessGroup | None = None) -> Ranks:
        """The processes of a group; of the default one, where there is one, for None.

        Raises:
            ValueError: this process is not in the group.
        """
        # A group exists only where torch.distributed was imported. Importing it takes time.
        dist = sys.modules.get("torch.distributed")
        if dist is None or not dist.is_available() or not dist.is_initialized():
            return cls()
        rank = dist.get_rank(group)
        if rank < 0:
            raise ValueError("group: expected one that this process is in, got another")
        backend = dist.get_backend(group)
        device = torch.device("cuda" if "nccl" in backend else "cpu")
        return cls(rank, dist.get_world_size(group), group, device)

    @classmethod
    def among(cls, group: ProcessGroup | None) -> Ranks:
        """The processes that divide some work: those of a group; this one alone for None.

        Work is not divided unless the caller says so: what one rank calls alone, while others wait
        elsewhere, must not wait for them.
        """
        return cls() if group is None else cls.of(group)

    def all_gather(self, tensor: Tensor) -> Tensor:
        """``[size, ...]``: the tensor of each rank, all of one shape and dtype."""
        if self.size == 1:
            return tensor.unsqueeze(0)
        tensor = tensor.contiguous()
        gathered = tensor.new_empty((self.size * tensor.numel(),))
        _collective("all_gather_single", "all_gather_into_tensor")(
            gathered, tensor.view(-1), group=self.group
        )
        return gathered.view(self.size, *tensor.shape)

    def all_gather_rows(self, rows: Tensor) -> list[Tensor]:
        """The rows of each rank, ``[M_r, ...]``, where :attr:`device` is; M_r may differ."""
        if self.size == 1:
            return [rows]
        sizes = self.all_gather(torch.tensor(len(rows), device=self.device)).tolist()
        padded = rows.new_zeros((max(sizes), *rows.shape[1:]), device=self.device)
        padded[: len(rows)] = rows
        return [block[:size] for block, size in zip(self.all_gather(padded), sizes, strict=True)]

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, in place of ``tensor``; the same bits on every rank."""
        if self.size > 1:
            torch.distributed.all_reduce(tensor, group=self.group)
        return tensor

    def reduce_scatter(self, tensor: Tensor, counts: Sequence[int]) -> Tensor:
        """Of ``[sum of counts, ...]``, the sum over ranks of this rank's rows.

        Args:
            tensor: rows for each rank, in rank order.
            counts: how many rows are for each rank.
        """
        if self.size == 1:
            return tensor
        tensor = tensor.contiguous()
        mine = tensor.new_empty((counts[self.rank], *tensor.shape[1:]))
        if tensor.is_cpu:  # gloo's reduce-scatter is an all-reduce, which sends twice as much
            parts = tensor.new_empty((self.size * len(mine), *tensor.shape[1:]))
            torch.distributed.all_to_all_single(
                parts, tensor, [len(mine)] * self.size, list(counts), group=self.group
            )
            torch.sum(parts.view(self.size, *mine.shape), 0, out=mine)
        elif len(set(counts)) == 1:
            _collective("reduce_scatter_single", "reduce_scatter_tensor")(
                mine.view(-1), tensor.view(-1), group=self.group
            )
        else:
            torch.distributed.reduce_scatter(
                mine, list(torch.split(tensor, list(counts))), group=self.group
            )
        return mine

    def tell(self, text: str) -> list[str]:
        """What each rank says, cut to some thousand bytes."""
        data = text.encode()[:_MESSAGE]
        sent = torch.tensor(list(data.ljust(_MESSAGE, b"\0")), dtype=torch.uint8)
        told = self.all_gather(sent.to(self.device)).tolist()
        return [bytes(row).rstrip(b"\0").decode(errors="replace") for row in told]

    def all_to_all(self, tensor: Tensor) -> Tensor:
        """Of ``[size, ...]``, entry r goes to rank r; ``[size, ...]``: what each rank sent here."""
        if self.size == 1:
            return tensor
        tensor = tensor.contiguous()
        received = torch.empty_like(tensor)
        torch.distributed.all_to_all_single(received, tensor, group=self.group)
        return received

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Raises an error of one rank inside on all of them: see :meth:`raise_anywhere`."""
        error = None
        try:
            yield
        except Exception as caught:
            error = caught
        self.raise_anywhere(error)

    def raise_anywhere(self, error: Exception | None) -> None:
        """Raises on every rank where one has an error: its own, or the first other one's.

        All ranks have to call it, at the same place, so that none waits for one that is gone.

        Args:
            error: what this rank would raise; None where nothing is wrong.

        Raises:
            Exception: ``error`` itself; on the ranks without one a ValueError, TypeError or OSError
                where it is one, else a RuntimeError, with the number and the message of the first
                rank that has one, and with that number as the attribute ``of_rank``.
        """
        if self.size > 1:
            wrong = torch.tensor([error is not None], dtype=torch.uint8, device=self.device)
            if self.all_gather(wrong).any():
                self.raise_first(error)
        if error is not None:
            raise error

    def raise_first(self, error: Exception | None) -> None:
        """As :meth:`raise_anywhere`, where all ranks know that one of them has an error."""
        told = self.tell("" if error is None else f"{_built_in(error)}\n{error}")
        if error is not None:
            raise error
        kinds = {kind.__name__: kind for kind in _TOLD}
        for rank, text in enumerate(told):
            if text:
                name, _, message = text.partition("\n")
                relayed: Any = kinds.get(name, RuntimeError)(f"rank {rank}: {message}")
                relayed.of_rank = rank
                raise relayed

    def first(self, work: Callable[[], _T]) -> _T | None:
        """Lets rank 0 do something while the others wait; an error there is raised on all.

        Returns:
            What it returned; None on the other ranks.
        """
        with self.together():
            return work() if self.rank == 0 else None

    def number(self, of_first: int | None) -> int:
        """A whole number of rank 0, told to all; what the others give does not matter."""
        own = torch.tensor(of_first or 0, device=self.device)
        return int(self.all_gather(own)[0])


def _built_in(error: Exception) -> str:
    return next((kind.__name__ for kind in _TOLD if isinstance(error, kind)), "RuntimeError")


def _collective(name: str, before: str) -> Any:
    """A collective of torch.distributed, by its name or by the one it had before torch 2.13."""
    dist = torch.distributed
    return getattr(dist, name, None) or getattr(dist, before)
