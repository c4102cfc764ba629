"""Random numbers that depend on a row's place in the whole batch, not on who works on the row."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Rows(NamedTuple):
    """Consecutive rows of a batch.

    Attributes:
        begin: the first.
        end: behind the last.
        total: rows of the whole batch.
    """

    begin: int
    end: int
    total: int

    def of(self, drawn: Tensor) -> Tensor:
        """These rows of what was drawn for the whole batch."""
        return drawn[self.begin : self.end]

    def part(self, begin: int, end: int) -> Rows:
        """Some of these rows, counted from the first of them."""
        return Rows(self.begin + begin, self.begin + end, self.total)


class BatchDropout(nn.Dropout):
    """Dropout by a mask drawn for the whole batch, of which each part takes its rows.

    So neither the number of processes nor the size of micro-batches changes what is dropped.

    Attributes:
        rows: those that come next; None: a batch of its own.
    """

    rows: Rows | None = None
    _mask: Tensor | None = None

    def begin(self) -> None:
        """Draw anew for the next batch."""
        self._mask = None

    def forward(self, input: Tensor) -> Tensor:
        """Return the shape of the input, ``[N, ...]``."""
        if not self.training or self.rows is None or self.rows.total == len(input):
            return super().forward(input)
        if self._mask is None:
            ones = torch.ones(self.rows.total, *input.shape[1:], dtype=input.dtype)
            self._mask = super().forward(ones.to(input.device))
        return input * self.rows.of(self._mask)


def all_dropout(network: nn.Module) -> list[BatchDropout]:
    """Replace the dropout layers of a network, and return what replaces them.

    Args:
        network: its state does not change, as dropout has none. Other layers that draw at random,
            such as ``nn.Dropout2d``, stay as they are.
    """
    layers = []
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                layers.append(BatchDropout(child.p))
                setattr(module, name, layers[-1])
    return layers


def params_of(step: Any, shape: tuple[int, ...], rows: Rows) -> dict[str, Tensor]:
    """Draw the parameters of one of kornia's augmentations for the whole batch, and take rows.

    Args:
        step: the augmentation.
        shape: of the images of these rows, ``[N, C, H, W]``.
        rows: those of the images.
    """
    drawn = step.forward_parameters(torch.Size((rows.total, *shape[1:])))
    drawn.pop("forward_input_shape")
    applied = drawn["batch_prob"] > 0.5
    # Before kornia 0.9 only the images that a step is applied to have parameters.
    begin, end = (int(applied[:border].sum()) for border in (rows.begin, rows.end))
    return {
        name: rows.of(value) if len(value) == rows.total else value[begin:end]
        for name, value in drawn.items()
    } | {"forward_input_shape": torch.tensor(shape)}
