"""Batches on which the calls of docs/migration.md are compared, and the comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import make_batch
from tolerances import assert_gradient_close, assert_loss_close
from torch import Tensor
from torch.nn.functional import normalize

import facenet_ext

# Every class has two rows or more; ties are exact in every distance. At most 25 rows: beyond,
# torch.cdist takes the Gram matrix.
BATCHES = {
    "gaussian": lambda: make_batch("quads", 24, 7, torch.float64),
    "pairs": lambda: make_batch("pairs", 24, 3, torch.float64),
    "two classes": lambda: make_batch("halves", 25, 2, torch.float64),
    "ties": lambda: make_batch("quads", 24, 3, torch.float64, "axes"),
}

# Odd batches that the page quotes.
NO_NEGATIVES = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 0])
LONE_ANCHOR = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1])

OURS = {name: getattr(facenet_ext, name) for name in facenet_ext.__all__} | {
    "normalize": normalize,
    "torch": torch,
}


def batch(kind: str) -> tuple[Tensor, Tensor]:
    """Embeddings that ask for a gradient, and labels."""
    x, y = BATCHES[kind]()
    return x.requires_grad_(), y


on_batches = pytest.mark.parametrize("kind", BATCHES)


def assert_same_value(theirs: Any, ours: Tensor, x: Tensor) -> None:
    """The same loss, as good as float64 gives it."""
    scale = 10.0 * float(x.detach().square().sum(1).max()) + 10.0  # of distances, and of margins
    expected = torch.as_tensor(theirs).detach().double().to(ours.device)
    assert ours.shape == expected.shape
    assert_loss_close(ours.detach(), expected, torch.float64, scale)


def assert_same_gradient(theirs: Tensor, ours: Tensor, x: Tensor) -> None:
    """The same gradient of the embeddings."""
    expected, actual = (
        torch.autograd.grad(loss, x, torch.ones_like(loss)) for loss in (theirs, ours)
    )
    assert_gradient_close(actual[0], expected[0], torch.float64)


def compare(
    theirs: str, ours: str, kind: str, names: Callable[[Tensor, Tensor], dict[str, Any]]
) -> None:
    """Evaluates both calls on a batch. Where rows tie, the gradient may be another's."""
    x, y = batch(kind)
    scope = OURS | names(x, y) | {"x": x, "y": y}
    expected, actual = eval(theirs, scope), eval(ours, scope)
    assert_same_value(expected, actual, x)
    if kind != "ties":
        assert_same_gradient(expected, actual, x)


def some_triplets(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """`a`, `p`, `n`: given triplets, some with a hinge above 0 and some without."""
    triplets = facenet_ext.select_triplets(x.detach(), y, positives="all", negatives="hardest")
    far = facenet_ext.select_triplets(x.detach(), y, negatives="semihard", fallback="farthest")
    return {
        name: torch.cat([getattr(t, field) for t in (triplets, far)])
        for name, field in (("a", "anchor"), ("p", "positive"), ("n", "negative"))
    }
