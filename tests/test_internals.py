"""Without torch's private names everything still works: they may go with any of its versions."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from helpers import make_batch
from torch import Tensor

import facenet_ext
from facenet_ext import _internals, reference

X, Y = make_batch("quads", 12, 5)
CALLS = {
    "mined": lambda m, x: m.mined_triplet_loss(x, Y, 1.0),
    "all": lambda m, x: m.triplet_margin_loss(x, Y, 1.0),
    "supcon": lambda m, x: m.supcon_loss(x, Y),
    "given": lambda m, x: m.triplet_loss(x, m.select_triplets(x.detach(), Y), 1.0),
    "distances": lambda m, x: m.pairwise_squared_distance(x).sum(),
}


@pytest.fixture
def without_internals(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``_internals`` has with a torch that has none of the names."""
    nothing = _internals.internal("_C._there_is_no_such_name")
    assert nothing is None
    monkeypatch.setattr(_internals, "transforms_active", nothing)
    monkeypatch.setattr(_internals, "is_functional", nothing or (lambda _: False))
    monkeypatch.setattr(_internals, "below_autograd", nothing or nullcontext)
    monkeypatch.setattr(_internals, "never_compiled", nothing or torch.compiler.disable)


@pytest.mark.usefixtures("without_internals")
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients(name: str, dtype: torch.dtype) -> None:
    x = X.to(dtype).requires_grad_()
    exact = x.detach().double().requires_grad_()
    loss, expected = CALLS[name](facenet_ext, x), CALLS[name](reference, exact)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    (gradient,), (expected,) = torch.autograd.grad(loss, x), torch.autograd.grad(expected, exact)
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 0.02}[dtype]
    torch.testing.assert_close(
        gradient.double(), expected, rtol=tolerance, atol=tolerance * float(expected.abs().max())
    )


@pytest.mark.usefixtures("without_internals")
@pytest.mark.parametrize("name", ["mined", "all", "distances"])
def test_transforms(name: str) -> None:
    def ours(x: Tensor) -> Tensor:
        result: Tensor = CALLS[name](facenet_ext, x)
        return result

    x = X.double()
    expected = torch.func.grad(lambda x: CALLS[name](reference, x))(x)
    torch.testing.assert_close(torch.func.grad(ours)(x), expected)
    with pytest.raises(RuntimeError, match=r"vmap is not supported"):
        torch.func.vmap(ours)(torch.stack([x, x.flip(0)]))
    with pytest.raises(RuntimeError, match="no forward-mode derivative"):
        torch.func.jvp(ours, (x,), (x,))


@pytest.mark.usefixtures("without_internals")
@pytest.mark.parametrize("name", ["mined", "all", "distances"])
def test_compilation(name: str) -> None:
    x = X.clone().requires_grad_()
    compiled = torch.compile(lambda x: CALLS[name](facenet_ext, x), backend="eager", fullgraph=True)
    (gradient,) = torch.autograd.grad(compiled(x), x)
    (expected,) = torch.autograd.grad(CALLS[name](facenet_ext, x), x)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.usefixtures("without_internals")
def test_a_function_that_the_compiler_leaves_alone() -> None:
    traced = []

    @_internals.never_compiled
    def inner(x: Tensor) -> Tensor:
        traced.append(torch.compiler.is_compiling())
        return x + 1

    outer = torch.compile(lambda x: inner(2 * x), backend="eager")
    assert outer(torch.ones(2)).tolist() == [3, 3]
    assert traced == [False]


def test_no_other_module_uses_a_private_name_of_torch() -> None:
    private = re.compile(r"\btorch\._(?!_)\w+|from torch[\w.]* import \(?_\w+|forward_ad\._\w+")
    for source in Path(facenet_ext.__file__).parent.rglob("*.py"):
        if source.name != "_internals.py":
            assert private.findall(source.read_text()) == [], source.name
