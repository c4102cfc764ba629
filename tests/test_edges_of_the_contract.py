"""Claims at the edges: second derivatives, odd tuples, underflow, classes without negatives."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from helpers import made_on_cpu

import facenet_ext
from facenet_ext import functional, reference

LABELS = torch.arange(12) // 3


@made_on_cpu
def rows(dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(12, 5, generator=torch.Generator().manual_seed(0), dtype=dtype)


def embeddings(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return rows(dtype).requires_grad_()


# Only the first comes by every leaf; the others go nowhere but to x.
WAYS: dict[str, Callable[[torch.Tensor, torch.Tensor], object]] = {
    "backward": lambda total, x: total.backward(),
    "backward to the inputs": lambda total, x: total.backward(inputs=[x]),
    "grad": torch.autograd.grad,
    "grad, unused allowed": lambda total, x: torch.autograd.grad(total, x, allow_unused=True),
}
LOSSES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mined": lambda x: functional.mined_triplet_loss(x, LABELS, 1.0),
    "over all triplets": lambda x: functional.triplet_margin_loss(x, LABELS, 1.0),
    "supcon": lambda x: functional.supcon_loss(x, LABELS),
    "against a bank": lambda c: functional.mined_triplet_loss(
        rows(c.dtype), LABELS, 1.0, ref_emb=c, ref_labels=LABELS
    ),
    "given": lambda x: functional.triplet_loss(x, functional.select_triplets(x, LABELS), 1.0),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("loss", LOSSES)
def test_second_derivatives_are_refused_not_wrong(loss: str, way: str) -> None:
    """Beside a term that has them, too: a penalty must not lose a part of its gradient."""
    x = embeddings(torch.float64)
    (grad,) = torch.autograd.grad(LOSSES[loss](x), x, create_graph=True)
    penalty = grad.square().sum() + x.square().sum()
    with pytest.raises(RuntimeError, match="no second derivative"):
        WAYS[way](penalty, x)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("derivative", ["hessian", "jvp"])
def test_derivatives_by_way_of_a_second_are_refused(loss: str, derivative: str) -> None:
    """jvp there is a gradient's gradient in what comes in from above."""
    x = embeddings(torch.float64)
    arguments = (x, torch.ones_like(x)) if derivative == "jvp" else (x,)
    with pytest.raises(RuntimeError, match="no second derivative"):
        getattr(torch.autograd.functional, derivative)(LOSSES[loss], *arguments)


def test_a_gradient_with_a_graph_may_be_zeroed_in_place() -> None:
    x = torch.nn.Parameter(embeddings())
    optimizer = torch.optim.SGD([x], lr=1.0)
    LOSSES["mined"](x).backward(create_graph=True)
    assert x.grad.any()
    torch.nn.utils.clip_grad_norm_([x], 0.1)
    optimizer.zero_grad(set_to_none=False)
    assert not x.grad.any()


@pytest.mark.parametrize("entries", [2, 4, 5])
def test_triplets_are_three_tensors(entries: int) -> None:
    index = torch.tensor([0])
    with pytest.raises(ValueError, match=rf"triplets: expected .*, got {entries} entries"):
        functional.triplet_loss(embeddings(), (index,) * entries)


def test_every_softplus_counts_as_nonzero() -> None:
    """Softplus is positive; in float32 it rounds to 0 from about -104 on."""
    x = torch.tensor([[0.0], [1.0], [20.0], [21.0]])
    labels = torch.tensor([0, 0, 1, 1])
    options = {"margin": 0.0, "smooth": True}
    for reduction in ("mean", "mean_nonzero"):
        ours = functional.mined_triplet_loss(x, labels, reduction=reduction, **options)
        oracle = reference.mined_triplet_loss(x, labels, reduction=reduction, **options)
        assert ours.item() == pytest.approx(oracle.item(), abs=1e-12)


def test_margins_may_be_any_real_number() -> None:
    numpy = pytest.importorskip("numpy")
    expected = functional.mined_triplet_loss(embeddings(), LABELS, margin=0.25)
    assert (
        functional.mined_triplet_loss(embeddings(), LABELS, margin=numpy.float32(0.25)) == expected
    )
    with pytest.raises(ValueError, match="margin: expected a finite number"):
        functional.mined_triplet_loss(embeddings(), LABELS, margin=10**400)


def test_the_modules_are_there_after_one_import() -> None:
    for name in ("functional", "losses", "metrics", "miners", "reference", "samplers"):
        assert hasattr(facenet_ext, name)


def test_a_class_without_negatives_takes_no_memory(cpu_only: None) -> None:
    """6,000 rows of one class have 36 million pairs and not one triplet."""
    code = (
        "import resource, torch, facenet_ext\n"
        "x, y = torch.randn(6000, 8, requires_grad=True), torch.zeros(6000, dtype=torch.int64)\n"
        "facenet_ext.mined_triplet_loss(x[:100], y[:100]).backward()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "loss = facenet_ext.mined_triplet_loss(x, y)\n"
        "loss.backward()\n"
        "assert loss == 0 and not x.grad.any()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    unit = 1024 if sys.platform == "linux" else 1
    assert int(shown.stdout) * unit < 16 * 2**20
