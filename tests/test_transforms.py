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
TWICE: dict[str, Callable[[Function], Any]] = {
    "hessian": lambda f: torch.func.hessian(f)(X, C),
    "jacrev of jacrev": lambda f: torch.func.jacrev(torch.func.jacrev(f))(X, C),
    "grad of jvp": lambda f: torch.func.grad(
        lambda x: torch.func.jvp(lambda x: f(x, C), (x,), (DX,))[1]
    )(X),
}


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
    assert_same(REVERSE[transform](ours), REVERSE[transform](oracle))


@pytest.mark.parametrize("transform", FORWARD)
@pytest.mark.parametrize("function", DISTANCES | MINED)
def test_forward_mode(function: str, transform: str) -> None:
    ours, oracle = ALL[function](F), ALL[function](reference)
    assert_same(FORWARD[transform](ours), FORWARD[transform](oracle))


@pytest.mark.parametrize("transform", FORWARD)
@pytest.mark.parametrize("function", GIVEN)
def test_given_triplets_refuse_forward_mode(function: str, transform: str) -> None:
    with pytest.raises(RuntimeError, match="given triplets has no forward-mode derivative"):
        FORWARD[transform](GIVEN[function](F))


@pytest.mark.parametrize("transform", TWICE)
@pytest.mark.parametrize("function", DISTANCES)
def test_distances_have_second_derivatives(function: str, transform: str) -> None:
    ours, oracle = ALL[function](F), ALL[function](reference)
    assert_same(TWICE[transform](ours), TWICE[transform](oracle))


@pytest.mark.parametrize("transform", TWICE)
@pytest.mark.parametrize("function", MINED | GIVEN)
def test_losses_refuse_second_derivatives(function: str, transform: str) -> None:
    with pytest.raises(RuntimeError, match=r"no second derivative|no forward-mode derivative"):
        TWICE[transform](ALL[function](F))


# --- vmap: a call for each entry of the batch ----------------------------------------------------

BATCH = torch.stack([X, X + 0.1 * DX, X - 0.1 * DX]), torch.stack([C, C + 0.1 * DC, -C])
MAPPED: dict[str, Callable[[Function], Any]] = {
    "the function": lambda f: f,
    "its gradient": lambda f: torch.func.grad(f, argnums=(0, 1)),
}


@pytest.mark.parametrize("mapped", MAPPED)
@pytest.mark.parametrize("function", ALL)
def test_vmap_is_a_loop(function: str, mapped: str) -> None:
    f = MAPPED[mapped](ALL[function](F))
    expected = [f(*entry) for entry in zip(*BATCH, strict=True)]
    whole = torch.func.vmap(f)(*BATCH)
    for entry, one in enumerate(expected):
        assert_same([leaf[entry] for leaf in tree_leaves(whole)], one)


@pytest.mark.parametrize("function", DISTANCES | MINED)
def test_the_gradient_of_a_vmap(function: str) -> None:
    ours, oracle = ALL[function](F), ALL[function](reference)

    def total(x: Tensor, c: Tensor) -> Tensor:
        return torch.func.vmap(ours, in_dims=(0, None))(x, c).sum()

    def loop(x: Tensor, c: Tensor) -> Tensor:
        return torch.stack([oracle(entry, c) for entry in x]).sum()

    by_transform = torch.func.grad(total, argnums=(0, 1))(BATCH[0], C)
    assert_same(by_transform, torch.func.grad(loop, argnums=(0, 1))(BATCH[0], C))
    leaves = [t.clone().requires_grad_() for t in (BATCH[0], C)]
    gradients = torch.autograd.grad(total(*leaves), leaves, allow_unused=True)
    for actual, expected in zip(gradients, by_transform, strict=True):
        assert_same(torch.zeros_like(expected) if actual is None else actual, expected)


@pytest.mark.parametrize("transform", ["jvp", "jacfwd"])
@pytest.mark.parametrize("function", DISTANCES | MINED)
def test_the_forward_mode_of_a_vmap(function: str, transform: str) -> None:
    ours, oracle = ALL[function](F), ALL[function](reference)

    def derivative(f: Function) -> Any:
        if transform == "jvp":
            return torch.func.jvp(f, BATCH, (BATCH[0].flip(1), BATCH[1].flip(1)))
        return torch.func.jacfwd(f)(*BATCH)

    def loop(x: Tensor, c: Tensor) -> Tensor:
        return torch.stack([oracle(*entry) for entry in zip(x, c, strict=True)])

    assert_same(derivative(torch.func.vmap(ours)), derivative(loop))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("function", ALL)
def test_a_batch_of_gradients_of_one_result(function: str, dtype: torch.dtype) -> None:
    x = X.to(dtype).requires_grad_()
    result = ALL[function](F)(x, C.to(dtype))
    weights = torch.tensor([0.5, 2.0])
    (each,) = torch.autograd.grad(result, x, weights, is_grads_batched=True, retain_graph=True)
    for actual, weight in zip(each, weights, strict=True):
        torch.testing.assert_close(actual, torch.autograd.grad(result, x, weight, True)[0])


def test_vmap_over_another_dimension_and_over_labels() -> None:
    x, y = torch.stack([X, -X], dim=2), torch.stack([Y, Y.flip(0)])
    mapped = torch.func.vmap(F.mined_triplet_loss, in_dims=(2, 0))(x, y)
    assert_same(mapped[1], F.mined_triplet_loss(-X, Y.flip(0)))
    selected = torch.func.vmap(F.select_triplets, in_dims=(2, 0))(x, y)
    assert_same([leaf[1] for leaf in selected], F.select_triplets(-X, Y.flip(0)))


def test_vmap_of_selections_of_different_sizes_says_so() -> None:
    labels = torch.stack([Y, torch.arange(12) // 2])
    with pytest.raises(ValueError, match=r"same number of triplets .* got \[12, \d+\]; loop"):
        torch.func.vmap(F.select_triplets)(BATCH[0][:2], labels)


def test_indices_may_be_mapped_too() -> None:
    """Nobody can look at them then but the operator."""
    indices = torch.stack([T[0], T[2]])
    mapped = torch.func.vmap(lambda a: F.triplet_loss(X, (a, T[1], T[2])))(indices)
    assert_same(mapped[1], F.triplet_loss(X, (T[2], T[1], T[2])))


# --- modules, and what is left as it was ---------------------------------------------------------


def test_functional_call_of_a_model_and_a_loss() -> None:
    model, loss = torch.nn.Linear(5, 3).double(), losses.TripletSemiHardLoss(margin=1.0)
    weights = dict(model.named_parameters())

    def step(weights: dict[str, Tensor], rows: Tensor) -> Tensor:
        return loss(torch.func.functional_call(model, weights, (rows,)), Y)

    gradients = torch.func.grad(step)(weights, X)
    expected = torch.autograd.grad(loss(model(X), Y), list(weights.values()))
    assert_same(list(gradients.values()), list(expected))
    per_batch = torch.func.vmap(torch.func.grad(step), in_dims=(None, 0))(weights, BATCH[0])
    assert_same(per_batch["weight"][0], gradients["weight"])


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
    options = {"check_forward_ad": True, "check_batched_grad": True}
    assert torch.autograd.gradcheck(F.pairwise_squared_distance, leaves, **options)
    assert torch.autograd.gradgradcheck(
        F.pairwise_squared_distance, leaves, check_fwd_over_rev=True, check_batched_grad=True
    )


@pytest.fixture
def compiler() -> Iterator[None]:
    """Dynamo never looks again at a function that it has once left to eager mode."""
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("transform", ["grad", "jvp"])
@pytest.mark.usefixtures("compiler")
def test_torch_compile_leaves_a_transform_to_eager_mode(transform: str) -> None:
    f, run = MINED["mined"](F), {**REVERSE, **FORWARD}[transform]
    compiled = torch.compile(lambda: run(f), backend="eager")
    assert_same(compiled(), run(f))
    with pytest.raises(torch._dynamo.exc.Unsupported, match="facenet_ext cannot be compiled"):
        torch.compile(lambda: run(f), backend="eager", fullgraph=True)()
