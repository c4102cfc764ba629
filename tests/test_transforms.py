"""torch.func's transforms and forward mode: the oracle's derivatives, or an error that says which.

A function here is one of ours of embeddings x and a bank c, beside the oracle's of float64 rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from helpers import make_batch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._pytree import tree_leaves

from facenet_ext import functional as F  # noqa: N812
from facenet_ext import losses, reference

Function = Callable[[Tensor, Tensor], Tensor]

X, Y = make_batch("quads", 12, 5, torch.float64)
C, Z = make_batch("quads", 9, 5, torch.float64, seed=1)
DX, DC = make_batch("quads", 12, 5, torch.float64, seed=2)[0], torch.ones_like(C)
BANK = {"ref_labels": Z}
T = F.select_triplets(X, Y)[:3]
T_OF_BANK = F.select_triplets(X, Y, ref_emb=C, ref_labels=Z)[:3]

# A new operator is one more entry: what it computes from which module (ours or the oracle).
DISTANCES: dict[str, Callable[[Any], Function]] = {
    "distances": lambda m: lambda x, c: m.pairwise_squared_distance(x, c).sin().sum(),
    "distances of one set": lambda m: lambda x, c: m.pairwise_squared_distance(x).sin().sum(),
}
MINED: dict[str, Callable[[Any], Function]] = {
    "mined": lambda m: lambda x, c: m.mined_triplet_loss(x, Y, 1.0),
    "mined from a bank": lambda m: (
        lambda x, c: m.mined_triplet_loss(x, Y, 1.0, ref_emb=c, smooth=True, **BANK)
    ),
    "over all triplets": lambda m: lambda x, c: m.triplet_margin_loss(x, Y, 1.0),
    "over all triplets of a bank": lambda m: (
        lambda x, c: m.triplet_margin_loss(x, Y, 1.0, ref_emb=c, **BANK)
    ),
    "supcon": lambda m: lambda x, c: m.supcon_loss(x, Y),
    "ntxent from a bank": lambda m: lambda x, c: m.ntxent_loss(x, Y, ref_emb=c, **BANK),
}
GIVEN: dict[str, Callable[[Any], Function]] = {
    "given": lambda m: lambda x, c: m.triplet_loss(x, T, 1.0, distance="euclidean"),
    "given from a bank": lambda m: (
        lambda x, c: m.triplet_loss(x, T_OF_BANK, ref_emb=c, reduction="none").square().sum()
    ),
    "mined, none": lambda m: lambda x, c: m.mined_triplet_loss(x, Y, reduction="none").sum(),
    "swapped": lambda m: lambda x, c: m.triplet_loss(x, T_OF_BANK, 1.0, swap=True, ref_emb=c),
    "selected and given": lambda m: lambda x, c: m.triplet_loss(x, m.select_triplets(x, Y)),
}
ALL = DISTANCES | MINED | GIVEN
REVERSE: dict[str, Callable[[Function], Any]] = {
    "grad": lambda f: torch.func.grad(f, argnums=(0, 1))(X, C),
    "grad_and_value": lambda f: torch.func.grad_and_value(f)(X, C),
    "vjp": lambda f: torch.func.vjp(f, X, C)[1](torch.tensor(0.5, dtype=torch.float64)),
    "jacrev": lambda f: torch.func.jacrev(f)(X, C),
}
FORWARD: dict[str, Callable[[Function], Any]] = {
    "jvp": lambda f: torch.func.jvp(f, (X, C), (DX, DC)),
    "jacfwd": lambda f: torch.func.jacfwd(f)(X, C),
    "a dual number": lambda f: dual(f),
}
REVERSE_TWICE: dict[str, Callable[[Function], Any]] = {
    "jacrev of jacrev": lambda f: torch.func.jacrev(torch.func.jacrev(f))(X, C),
    "grad of grad": lambda f: torch.func.grad(lambda x: torch.func.grad(f)(x, C).square().sum())(X),
}
FORWARD_TWICE: dict[str, Callable[[Function], Any]] = {
    "hessian": lambda f: torch.func.hessian(f)(X, C),
    "grad of jvp": lambda f: torch.func.grad(
        lambda x: torch.func.jvp(lambda x: f(x, C), (x,), (DX,))[1]
    )(X),
    "jvp past a grad": lambda f: torch.func.jvp(
        lambda x: torch.func.grad_and_value(lambda c, x: c.sum() + f(x, C))(C, x)[1], (X,), (DX,)
    ),
}
NO_VMAP = r"facenet_ext::\w+: torch.func.vmap is not supported: call it for each entry instead"
NO_FORWARD = "no forward-mode derivative, .* use reverse mode"


def dual(f: Function) -> tuple[Tensor, Tensor | None]:
    with forward_ad.dual_level():
        out = forward_ad.unpack_dual(f(forward_ad.make_dual(X, DX), forward_ad.make_dual(C, DC)))
        return out.primal, out.tangent


def assert_same(actual: Any, expected: Any) -> None:
    for a, e in zip(tree_leaves(actual), tree_leaves(expected), strict=True):
        torch.testing.assert_close(a, e, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("transform", REVERSE)
@pytest.mark.parametrize("function", ALL)
def test_reverse_mode(function: str, transform: str) -> None:
    ours, oracle = ALL[function](F), ALL[function](reference)
    if function in GIVEN and transform == "jacrev":  # a vmap of an operator of its own
        with pytest.raises(RuntimeError, match=NO_VMAP):
            REVERSE[transform](ours)
    else:
        assert_same(REVERSE[transform](ours), REVERSE[transform](oracle))


@pytest.mark.parametrize("transform", FORWARD | FORWARD_TWICE)
@pytest.mark.parametrize("function", ALL)
def test_forward_mode_is_refused(function: str, transform: str) -> None:
    with pytest.raises(RuntimeError, match=NO_FORWARD):
        (FORWARD | FORWARD_TWICE)[transform](ALL[function](F))


@pytest.mark.parametrize("transform", REVERSE_TWICE)
@pytest.mark.parametrize("function", DISTANCES)
def test_distances_have_second_derivatives(function: str, transform: str) -> None:
    ours, oracle = ALL[function](F), ALL[function](reference)
    assert_same(REVERSE_TWICE[transform](ours), REVERSE_TWICE[transform](oracle))


@pytest.mark.parametrize("transform", REVERSE_TWICE)
@pytest.mark.parametrize("function", MINED | GIVEN)
def test_losses_refuse_second_derivatives(function: str, transform: str) -> None:
    with pytest.raises(RuntimeError, match=f"no second derivative|{NO_VMAP}"):
        REVERSE_TWICE[transform](ALL[function](F))


@pytest.mark.parametrize(
    "function", ["mined from a bank", "over all triplets of a bank", "swapped"]
)
def test_losses_refuse_the_derivative_by_a_bank_of_one_by_rows(function: str) -> None:
    f = ALL[function](F)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.func.grad(lambda c: torch.func.grad(f)(X, c).square().sum())(C)


# --- vmap ----------------------------------------------------------------------------------------

BATCH = torch.stack([X, X + 0.1 * DX, X - 0.1 * DX]), torch.stack([C, C + 0.1 * DC, -C])
VMAP: dict[str, Callable[[Function], Any]] = {
    "vmap": lambda f: torch.func.vmap(f)(*BATCH),
    "vmap of grad": lambda f: torch.func.vmap(torch.func.grad(f, argnums=(0, 1)))(*BATCH),
    "grad of vmap": lambda f: torch.func.grad(
        lambda x: torch.func.vmap(f, in_dims=(0, None))(x, C).sum()
    )(BATCH[0]),
    "vmap of a leaf": lambda f: torch.func.vmap(f)(BATCH[0].clone().requires_grad_(), BATCH[1]),
}


@pytest.mark.parametrize("transform", VMAP)
@pytest.mark.parametrize("function", ALL)
def test_vmap_is_refused(function: str, transform: str) -> None:
    with pytest.raises(RuntimeError, match=NO_VMAP):
        VMAP[transform](ALL[function](F))


@pytest.mark.parametrize("function", ALL)
def test_a_vmap_over_something_else_is_not_refused(function: str) -> None:
    f = ALL[function](F)
    mapped = torch.func.vmap(lambda scale: scale * f(X, C))(torch.tensor([1.0, 2.0]).double())
    assert_same(mapped, torch.stack([f(X, C), 2 * f(X, C)]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("function", ALL)
def test_a_batch_of_gradients_of_one_result(function: str, dtype: torch.dtype) -> None:
    x = X.to(dtype).requires_grad_()
    result = ALL[function](F)(x, C.to(dtype))
    weights = torch.tensor([0.5, 2.0])
    (each,) = torch.autograd.grad(result, x, weights, is_grads_batched=True, retain_graph=True)
    for actual, weight in zip(each, weights, strict=True):
        torch.testing.assert_close(actual, torch.autograd.grad(result, x, weight, True)[0])


def test_what_has_no_gradient_refuses_vmap_too() -> None:
    """Over labels and indices alone as well, which a function cannot look at there."""
    indices = torch.stack([T[0], T[2]])
    calls: list[Callable[[], Any]] = [
        lambda: torch.func.vmap(lambda x: F.select_triplets(x, Y))(BATCH[0]),
        lambda: torch.func.vmap(lambda y: F.mined_triplet_loss(X, y))(torch.stack([Y, Y])),
        lambda: torch.func.vmap(lambda a: F.triplet_loss(X, (a, *T[1:])))(indices),
        lambda: torch.func.vmap(lambda x: torch.ops.facenet_ext.nearest(x, None, 1, "cosine"))(
            BATCH[0]
        ),
        lambda: torch.func.vmap(
            lambda x: torch.ops.facenet_ext.pairs_within(x, None, 1.0, "cosine", 9)
        )(BATCH[0]),
        lambda: torch.func.vmap(
            lambda x: torch.ops.facenet_ext.distance_histogram(
                x, Y, None, None, "cosine", [0], 0, 9
            )
        )(BATCH[0]),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match=NO_VMAP):
            call()


# --- modules, and what is left as it was ---------------------------------------------------------


def test_functional_call_of_a_model_and_a_loss() -> None:
    model, loss = torch.nn.Linear(5, 3).double(), losses.TripletSemiHardLoss(margin=1.0)
    weights = dict(model.named_parameters())

    def step(weights: dict[str, Tensor], rows: Tensor) -> Tensor:
        return loss(torch.func.functional_call(model, weights, (rows,)), Y)

    gradients = torch.func.grad(step)(weights, X)
    expected = torch.autograd.grad(loss(model(X), Y), list(weights.values()))
    assert_same(list(gradients.values()), list(expected))
    with pytest.raises(RuntimeError, match=NO_VMAP):
        torch.func.vmap(torch.func.grad(step), in_dims=(None, 0))(weights, BATCH[0])


@pytest.mark.parametrize("function", ALL)
def test_functionalize(function: str) -> None:
    f = ALL[function](F)
    assert_same(torch.func.functionalize(f)(X, C), f(X, C))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("function", ALL)
def test_a_gradient_has_the_dtype_of_its_input(function: str, dtype: torch.dtype) -> None:
    x, c = X.to(dtype), C.to(dtype)
    by_transform = torch.func.grad(ALL[function](F), argnums=(0, 1))(x, c)
    leaves = x.requires_grad_(), c.requires_grad_()
    result = torch.autograd.grad(ALL[function](F)(*leaves), leaves, allow_unused=True)
    for actual, expected in zip(by_transform, result, strict=True):
        assert actual.dtype == dtype
        if expected is not None:
            torch.testing.assert_close(actual, expected)


def test_gradgradcheck_of_distances() -> None:
    leaves = X[:4].clone().requires_grad_(), C[:3].clone().requires_grad_()
    function = F.pairwise_squared_distance
    assert torch.autograd.gradcheck(function, leaves, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, leaves, check_batched_grad=True)


@pytest.fixture
def compiler() -> Iterator[None]:
    """Dynamo never looks again at a function that it has once left to eager mode."""
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("name", DISTANCES | MINED)
@pytest.mark.usefixtures("compiler")
def test_torch_compile_leaves_a_transform_to_eager_mode(name: str) -> None:
    f, run = ALL[name](F), REVERSE["grad"]
    compiled = torch.compile(lambda: run(f), backend="eager")
    assert_same(compiled(), run(f))
    with pytest.raises(torch._dynamo.exc.Unsupported, match="facenet_ext cannot be compiled"):
        torch.compile(lambda: run(f), backend="eager", fullgraph=True)()
