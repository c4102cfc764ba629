"""Automatic mixed precision: half precision is read as it is, accumulated in float32, and no
overflow passes unnoticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import make_batch, make_cloud, random_like
from tolerances import HALF, assert_gradient_close, assert_loss_close
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from facenet_ext import functional, losses, reference

DEVICE = torch.get_default_device().type
X, Y = make_batch("quads", 49, 17)
C, Z = make_batch("quads", 33, 17, seed=1)
# A new loss is one more entry: of embeddings x, a bank c, and the module that computes it.
LOSSES: dict[str, Callable[[Any, Tensor, Tensor], Tensor]] = {
    "mined": lambda m, x, c: m.mined_triplet_loss(x, Y, 0.3),
    "mined from a bank": lambda m, x, c: m.mined_triplet_loss(
        x, Y, 0.3, ref_emb=c, ref_labels=Z, distance="cosine"
    ),
    "mined, none": lambda m, x, c: m.mined_triplet_loss(x, Y, reduction="none").sum(),
    "over all triplets": lambda m, x, c: m.triplet_margin_loss(x, Y, 0.3),
    "supcon": lambda m, x, c: m.supcon_loss(x, Y),
    "ntxent from a bank": lambda m, x, c: m.ntxent_loss(x, Y, ref_emb=c, ref_labels=Z),
    "given": lambda m, x, c: m.triplet_loss(x, functional.select_triplets(x, Y), 0.3),
    "given from a bank": lambda m, x, c: m.triplet_loss(
        x, functional.select_triplets(x, Y, ref_emb=c, ref_labels=Z), ref_emb=c
    ),
}
DISTANCES = {"distances": lambda m, x, c: m.pairwise_squared_distance(x, c).sum()}


def autocast(dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(DEVICE, dtype)


class Copies(TorchDispatchMode):
    """What is copied to another dtype, under a name: (from, to)."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[torch.dtype, torch.dtype]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket is torch.ops.aten._to_copy:
            self.made.append((args[0].dtype, result.dtype))
        return result


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("loss", LOSSES)
def test_under_autocast_no_copy_is_upcast(loss: str, dtype: torch.dtype) -> None:
    x, c = X.to(dtype).requires_grad_(), C.to(dtype).requires_grad_()
    with Copies() as copies:
        with autocast(dtype):
            value = LOSSES[loss](functional, x, c)
        value.backward()
    assert value.dtype == torch.float32
    assert [pair for pair in copies.made if pair[0] == dtype] == []
    assert x.grad is not None
    assert x.grad.dtype == dtype


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("inputs", [torch.float32, *HALF])
@pytest.mark.parametrize("loss", LOSSES | DISTANCES)
def test_autocast_changes_no_bit(loss: str, inputs: torch.dtype, dtype: torch.dtype) -> None:
    """Not of the loss and not of the gradient, though its products are of autocast's liking."""
    function = (LOSSES | DISTANCES)[loss]
    results = []
    for enabled in (False, True):
        leaves = [t.to(inputs, copy=True).requires_grad_() for t in (X, C)]
        with torch.autocast(DEVICE, dtype, enabled=enabled):
            value = function(functional, *leaves)
            gradients = torch.autograd.grad(value, leaves, allow_unused=True)
        results.append([value, *(g for g in gradients if g is not None)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("bank", [torch.float32, torch.float64, *HALF])
def test_autocast_with_a_bank_of_another_dtype(bank: torch.dtype, dtype: torch.dtype) -> None:
    x, c = (t.to(d, copy=True).requires_grad_() for t, d in ((X, dtype), (C, bank)))
    with autocast(dtype):
        value = functional.mined_triplet_loss(x, Y, 1.0, ref_emb=c, ref_labels=Z)
    value.backward()
    exact = [t.detach().double().requires_grad_() for t in (x, c)]
    oracle = reference.mined_triplet_loss(exact[0], Y, 1.0, ref_emb=exact[1], ref_labels=Z)
    wider = torch.promote_types(dtype, bank)
    assert_loss_close(value, oracle, wider, scale=10.0)
    for leaf, of_oracle in zip((x, c), torch.autograd.grad(oracle, exact), strict=True):
        assert_gradient_close(leaf.grad, of_oracle, leaf.dtype)


@pytest.mark.parametrize("distance", ["sqeuclidean", "euclidean", "cosine"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_float16_rows_of_large_norm_do_not_overflow(distance: str, reduction: str) -> None:
    """Squared distances of 1e9 and more, which float16 itself ends far below, at 65504."""
    x = (make_cloud("gaussian", 49, 17) * 3e4).clamp(-6e4, 6e4).half()
    options = {"distance": distance, "reduction": reduction}
    with autocast(torch.float16):
        value = functional.mined_triplet_loss(x, Y, **options)
    oracle = reference.mined_triplet_loss(x, Y, **options)
    assert value.isfinite()
    assert_loss_close(value, oracle, x.dtype, scale=float(oracle) + 1)


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(17, 8, bias=False)
        torch.nn.init.constant_(self.layer.weight, 0.0)
        with torch.no_grad():
            self.layer.weight[:, :8] = torch.eye(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


@pytest.mark.parametrize("spread", [1.0, 3e4])
@pytest.mark.parametrize("loss", [losses.TripletSemiHardLoss(), losses.TripletHardLoss(soft=True)])
def test_a_grad_scaler_skips_a_step_that_overflows(loss: torch.nn.Module, spread: float) -> None:
    """Gradients in float16 are infinite beyond 65504: it sees them, and lowers its scale."""
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler(DEVICE, init_scale=64.0)
    before = model.layer.weight.detach().clone()
    with autocast(torch.float16):
        embeddings = model(X * spread)
        value = loss(embeddings, Y)
    assert embeddings.dtype == torch.float16
    assert value.isfinite()
    scaler.scale(value).backward()
    scaler.step(optimizer)
    scaler.update()
    overflows = spread > 1
    assert torch.equal(model.layer.weight, before) == overflows
    assert scaler.get_scale() == (32.0 if overflows else 64.0)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_grad_scaler_skips_a_batch_that_is_not_finite(loss: str, value: float) -> None:
    x = torch.nn.Parameter(X.clone())
    optimizer = torch.optim.SGD([x], lr=1.0)
    scaler = torch.amp.GradScaler(DEVICE)
    rows = torch.zeros_like(X)
    rows[7, 3] = value
    with autocast(torch.float16):
        result = LOSSES[loss](functional, (x + rows).half(), C.half())
    scaler.scale(result).backward()
    scaler.step(optimizer)
    assert torch.equal(x, X)


def test_the_weight_of_a_loss_scale_is_random_like_any() -> None:
    """A scaled loss has the scaled gradient, rounded once."""
    x = X.half().requires_grad_()
    value = functional.mined_triplet_loss(x, Y)
    scale = random_like(value, torch.rand) * 1000
    (gradient,) = torch.autograd.grad(value * scale, x)
    exact = x.detach().double().requires_grad_()
    (oracle,) = torch.autograd.grad(reference.mined_triplet_loss(exact, Y) * scale.double(), exact)
    assert_gradient_close(gradient, oracle, x.dtype)
