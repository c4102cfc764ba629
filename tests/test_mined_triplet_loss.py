"""mined_triplet_loss is the loss of the triplets that select_triplets selects."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from helpers import (
    COLUMNS,
    DISTANCES,
    FALLBACKS,
    NEGATIVES,
    POSITIVES,
    RANDOM,
    REDUCTIONS,
    ROWS,
    SetThreads,
    assert_loss_and_gradients,
    made_on_cpu,
    make_batch,
    make_cloud,
    make_labels,
    on_cuda_kernels,
    seeded,
)
from tolerances import DTYPES, result_dtype

from facenet_ext.functional import mined_triplet_loss, select_triplets

RULES = [
    {"positives": p, "negatives": n, "fallback": f, "within_margin": w}
    for p, n, f, w in itertools.product(POSITIVES, NEGATIVES, FALLBACKS, (False, True))
]


def name(value: Any) -> str | None:
    return "-".join(str(v) for v in value.values()) if isinstance(value, dict) else None


def check(
    x: torch.Tensor,
    y: torch.Tensor,
    margin: float = 0.2,
    *,
    ref_emb: torch.Tensor | None = None,
    distance: str = "sqeuclidean",
    smooth: bool = False,
    reduction: str = "mean",
    **rules: Any,
) -> None:
    """Value and gradient are the oracle's for the triplets that select_triplets selects."""
    options: dict[str, Any] = {"distance": distance, "smooth": smooth, "reduction": reduction}

    def loss(x: torch.Tensor, ref_emb: torch.Tensor | None = None) -> torch.Tensor:
        return mined_triplet_loss(x, y, margin, ref_emb=ref_emb, **options, **rules)

    t = select_triplets(x, y, margin=margin, distance=distance, ref_emb=ref_emb, **rules)
    assert_loss_and_gradients(loss, t, margin, x, ref_emb, **options)


# --- golden values -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("distance", "loss"), [("euclidean", 0.625), ("sqeuclidean", 1.8125)])
def test_golden_values(distance: str, loss: float, dtype: torch.dtype) -> None:
    x, y = torch.tensor([[0.0], [1.0], [-1.0], [1.5]], dtype=dtype), torch.tensor([0, 0, 1, 1])
    assert mined_triplet_loss(x, y, 0.5, distance=distance).item() == loss


def test_without_negatives_the_loss_is_zero() -> None:
    x = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert mined_triplet_loss(x, torch.tensor([0, 0]), 0.5).item() == 0.0


# --- the oracle's, over a grid -------------------------------------------------------------------


@pytest.mark.parametrize("n", ROWS)
@pytest.mark.parametrize("layout", ["pairs", "quads", "uneven", "one_class", "all_different"])
def test_every_number_of_rows(n: int, layout: str) -> None:
    check(*make_batch(layout, n, 33))


@pytest.mark.parametrize("dim", COLUMNS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_of_columns(dim: int, dtype: torch.dtype) -> None:
    check(*make_batch("quads", 97, dim, dtype))


@pytest.mark.parametrize("rules", RULES, ids=name)
@pytest.mark.parametrize("distance", DISTANCES)
def test_every_rule(rules: dict[str, Any], distance: str) -> None:
    check(*make_batch("uneven", 97, 19), 0.1, distance=distance, **rules)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smooth", [False, True])
def test_every_loss(smooth: bool, reduction: str, distance: str, dtype: torch.dtype) -> None:
    x, y = make_batch("quads", 49, 33, dtype)
    check(x, y, distance=distance, reduction=reduction, smooth=smooth)


@pytest.mark.parametrize("rules", RULES, ids=name)
@pytest.mark.parametrize("with_ids", [False, True])
def test_every_rule_against_a_bank(rules: dict[str, Any], with_ids: bool) -> None:
    x, y = make_batch("uneven", 49, 19)
    c, z = make_batch("uneven", 141, 19, seed=1)
    c[:20], z[:20] = x[:20], y[:20]
    ids = {"anchor_ids": torch.arange(49), "ref_ids": torch.arange(141)} if with_ids else {}
    check(x, y, ref_emb=c, ref_labels=z, **ids, **rules)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_every_loss_against_a_bank(reduction: str, distance: str, dtype: torch.dtype) -> None:
    x, y = make_batch("quads", 49, 33, dtype)
    c, z = make_batch("quads", 97, 33, dtype, seed=1)
    check(x, y, ref_emb=c, ref_labels=z, distance=distance, reduction=reduction)


@pytest.mark.parametrize(("m", "n"), [(0, 0), (0, 5), (5, 0), (1, 1), (1, 2), (2, 1)])
def test_tiny_banks(m: int, n: int) -> None:
    x, y = make_batch("pairs", m, 3)
    c, z = make_batch("pairs", n, 3, seed=1)
    check(x, y, ref_emb=c, ref_labels=z)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distance", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize(
    "cloud",
    ["offset", "far", "steps", "collapsed", "tiny", "duplicates", "integers", "zeros"],
)
def test_difficult_clouds(cloud: str, distance: str, dtype: torch.dtype) -> None:
    check(*make_batch("quads", 97, 65, dtype, cloud), distance=distance)


@pytest.mark.parametrize("n", [98, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_negative_that_all_anchors_share(dtype: torch.dtype, n: int) -> None:
    """Rows lie around one, which so has an edge of every anchor but those of its class."""
    x, y = make_batch("pairs", n, 130, dtype)
    x[0] = 0
    t = select_triplets(x, y, negatives="hardest", margin=3.0)
    assert (t.negative == 0).sum() >= n - 2
    check(x, y, 3.0, negatives="hardest")


@pytest.mark.parametrize("n", [240, 141])
def test_more_than_a_hundred_positives_per_anchor(n: int) -> None:
    check(*make_batch("halves", n, 33))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_gradcheck(distance: str, reduction: str) -> None:
    x, y = make_batch("pairs", 6, 3, torch.float64)
    c, z = make_batch("pairs", 7, 3, torch.float64, seed=1)
    x.requires_grad_()
    c.requires_grad_()

    def loss(x: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        return mined_triplet_loss(
            x,
            y,
            0.7,
            distance=distance,
            reduction=reduction,
            ref_emb=c,
            ref_labels=None if c is None else z,
        )

    assert torch.autograd.gradcheck(loss, (x,))
    assert torch.autograd.gradcheck(loss, (x, c))


def test_non_contiguous_inputs() -> None:
    wide, labels = make_cloud("gaussian", 96, 66), make_labels("quads", 192)[::2]
    for x in (wide[:, ::2], wide.T, wide[5:50, 1:8], wide[:, :1].expand(96, 5)):
        check(x, labels[: len(x)])


@pytest.mark.parametrize("bank_dtype", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_bank_of_another_dtype(dtype: torch.dtype, bank_dtype: torch.dtype) -> None:
    """Both are read in the wider dtype; each gradient has the dtype of its own input."""
    x, y = make_batch("quads", 49, 33, dtype)
    c, z = make_batch("quads", 97, 33, bank_dtype, seed=1)
    wider = torch.promote_types(dtype, bank_dtype)
    loss, wide = (
        mined_triplet_loss(a.requires_grad_(), y, ref_emb=b.requires_grad_(), ref_labels=z)
        for a, b in ((x, c), (x.detach().to(wider), c.detach().to(wider)))
    )
    assert torch.equal(loss, wide)
    loss.backward()
    assert x.grad is not None
    assert c.grad is not None
    assert (x.grad.dtype, c.grad.dtype) == (dtype, bank_dtype)


# --- nothing selected, non-finite ----------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 5])
@pytest.mark.parametrize("with_bank", [False, True])
def test_no_triplets(with_bank: bool, n: int, dtype: torch.dtype, reduction: str) -> None:
    x, y = make_batch("one_class", n, 3, dtype)
    x.requires_grad_()
    c = make_cloud("gaussian", 4, 3, dtype).requires_grad_()
    bank = {"ref_emb": c, "ref_labels": torch.zeros(4, dtype=torch.int64)} if with_bank else {}
    loss = mined_triplet_loss(x, y, reduction=reduction, **bank)
    assert loss.requires_grad
    assert loss.dtype == result_dtype(dtype)
    assert loss.shape == ((0,) if reduction == "none" else ())
    loss.sum().backward()
    assert loss.sum().item() == 0.0
    for leaf in (x, c) if with_bank else (x,):
        assert leaf.grad is not None
        assert not leaf.grad.any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "rule", [("all", "semihard"), ("hardest", "hardest"), ("easiest", "semihard")]
)
def test_a_non_finite_row_anywhere_makes_the_loss_non_finite(
    rule: tuple[str, str], value: float, dtype: torch.dtype
) -> None:
    """Row by row: anchors, positives, and rows that could only ever be a negative."""
    positives, negatives = rule
    x, y = make_batch("uneven", 49, 17, dtype)
    for row in range(49):
        spoiled = x.clone()
        spoiled[row, row % 17] = value
        options = {"distance": DISTANCES[row % 3], "fallback": FALLBACKS[row % 2]}
        options |= {"positives": positives, "negatives": negatives}
        for bound in (None, 1000):  # a GPU tells what is wrong with a row in another way
            loss = mined_triplet_loss(spoiled, y, max_per_class=bound, **options)
            assert not loss.isfinite(), (row, bound, options)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_non_finite_row_of_a_bank_makes_the_loss_non_finite(value: float) -> None:
    x, y = make_batch("quads", 12, 5)
    c, z = make_batch("quads", 30, 5, seed=1)
    for row in range(30):
        spoiled = c.clone()
        spoiled[row, 2] = value
        for bound in (None, 30):
            loss = mined_triplet_loss(x, y, ref_emb=spoiled, ref_labels=z, max_per_class=bound)
            assert not loss.isfinite(), (row, bound)


# --- how it is called ----------------------------------------------------------------------------


def test_a_loss_scale_reaches_the_gradient_before_it_is_rounded() -> None:
    """Mixed precision multiplies the loss so that small float16 gradients are not lost."""
    x, y = make_batch("quads", 200, 33, torch.float16)
    x.requires_grad_()
    scale, tiny = 2.0**12, 2.0**-18
    (mined_triplet_loss(x, y) * tiny * scale).backward()
    assert x.grad is not None
    wide = x.detach().float().requires_grad_()
    mined_triplet_loss(wide, y).backward()
    assert wide.grad is not None
    expected = (wide.grad * (tiny * scale)).half()
    torch.testing.assert_close(x.grad, expected, rtol=2**-10, atol=2**-24)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_gradients_the_loss_is_the_same(context: Any) -> None:
    x, y = make_batch("quads", 49, 7)
    x.requires_grad_()
    expected = mined_triplet_loss(x, y)
    with context():
        loss = mined_triplet_loss(x, y)
    assert not loss.requires_grad
    assert torch.equal(loss, expected)
    assert torch.equal(mined_triplet_loss(x.detach(), y), expected)


def test_one_loss_may_be_differentiated_twice_over() -> None:
    """Once for each of two losses that share it: the graph is kept and nothing is spoiled."""
    x, y = make_batch("quads", 49, 7)
    x.requires_grad_()
    loss = mined_triplet_loss(x, y)
    (first,) = torch.autograd.grad(loss, x, retain_graph=True)
    (second,) = torch.autograd.grad(3.0 * loss, x)
    torch.testing.assert_close(second, 3.0 * first)


def test_the_inputs_are_left_alone() -> None:
    x, y = make_batch("quads", 49, 7)
    before = x.clone(), y.clone()
    x.requires_grad_()
    mined_triplet_loss(x, y).backward()
    assert torch.equal(x.detach(), before[0])
    assert torch.equal(y, before[1])


# --- determinism and memory ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["quads", "uneven"])
@pytest.mark.parametrize("rule", [("all", "semihard"), ("hardest", "hardest")])
def test_the_number_of_threads_does_not_change_a_bit(
    rule: tuple[str, str], layout: str, dtype: torch.dtype, set_threads: SetThreads
) -> None:
    x, y = make_batch(layout, 500, 65, dtype)
    x.requires_grad_()
    results = []
    for threads in (1, 2, 2, 3):
        set_threads(threads)
        loss = mined_triplet_loss(x, y, positives=rule[0], negatives=rule[1])
        results.append((loss.detach(), *torch.autograd.grad(loss, x)))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("n", [97, 150])
@pytest.mark.parametrize(
    "rule", [("all", "semihard"), ("hardest", "hardest"), ("all", "random_semihard")]
)
@pytest.mark.parametrize("bound", [None, 75])
def test_the_order_of_blocks_does_not_change_a_bit(
    bound: int | None, rule: tuple[str, str], n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emulation of the CUDA kernels runs blocks, warps and lanes in an order of the seed's."""
    x, y = make_batch("uneven", n, 33)
    x.requires_grad_()
    results = []
    for seed in range(5):
        monkeypatch.setenv("FACENET_EMULATED_SEED", str(seed))
        generator = seeded(3) if rule[1] in RANDOM else None
        loss = mined_triplet_loss(
            x, y, positives=rule[0], negatives=rule[1], generator=generator, max_per_class=bound
        )
        results.append((loss.detach(), *torch.autograd.grad(loss, x)))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


PEAK_GROWTH = """
import torch
from facenet_ext.functional import mined_triplet_loss, supcon_loss

def status(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(field))

def step(n):
    generator = torch.Generator().manual_seed(0)
    x = torch.nn.functional.normalize(torch.randn(n, 128, generator=generator)).requires_grad_()
    y = torch.arange(n) // 4
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")
    before = status("VmRSS:")
    LOSS.backward()
    return (status("VmHWM:") - before) / 1024

torch.set_num_threads(2)
step(512)
print(step(16384))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
@pytest.mark.parametrize("loss", ["mined_triplet_loss(x, y, 0.2)", "supcon_loss(x, y)"])
def test_memory_is_linear_in_the_number_of_rows(cpu_only: None, loss: str) -> None:
    """Forward and backward at N=16384, D=128, 4 per class; the matrix alone would be 1 GiB."""
    result = subprocess.run(
        [sys.executable, "-c", PEAK_GROWTH.replace("LOSS", loss)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(result.stdout) < 96.0, f"{result.stdout} MiB"


# --- a bound on the rows of a class ---------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("layout", "largest"), [("quads", 4), ("uneven", 70), ("halves", 65)])
def test_a_bound_on_the_classes_changes_nothing(
    layout: str, largest: int, dtype: torch.dtype
) -> None:
    x, y = make_batch(layout, 129, 24, dtype)
    x.requires_grad_()
    expected = mined_triplet_loss(x, y)
    (gradient,) = torch.autograd.grad(expected, x)
    for bound in (largest, largest + 1, 1000):
        loss = mined_triplet_loss(x, y, max_per_class=bound)
        assert loss.item() == expected.item()
        assert torch.equal(torch.autograd.grad(loss, x)[0], gradient)


def test_a_bound_against_a_bank_is_of_its_classes() -> None:
    x, y = make_batch("quads", 65, 24)
    c, z = make_batch("uneven", 129, 24, seed=1)
    expected = mined_triplet_loss(x, y, ref_emb=c, ref_labels=z)
    assert mined_triplet_loss(x, y, ref_emb=c, ref_labels=z, max_per_class=70) == expected


def test_a_class_beyond_the_bound_does_not_pass_unnoticed() -> None:
    """A CPU has counted it and says so; a GPU, which waits for no count, answers NaN."""
    x, y = make_batch("uneven", 129, 24)
    if on_cuda_kernels():
        assert math.isnan(mined_triplet_loss(x, y, max_per_class=69).item())
    else:
        with pytest.raises(RuntimeError, match="max_per_class: expected classes of at most 69"):
            mined_triplet_loss(x, y, max_per_class=69)


# --- tiles and thresholds of the CUDA kernels -----------------------------------------------------


@made_on_cpu
def shuffled_labels(n: int, per_class: int) -> torch.Tensor:
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    return (torch.arange(n) // per_class)[order]


@pytest.mark.parametrize("per_class", [2, 3, 4, 5, 6, 7, 33, 64, 65])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_number_of_thresholds(per_class: int, dtype: torch.dtype) -> None:
    """Up to four there is a kernel of their own; 32 and 64 are a warp's, and a tile's, width."""
    x = make_cloud("gaussian", 260, 40, dtype)
    y = shuffled_labels(260, per_class)
    for fallback in FALLBACKS:
        check(x, y, fallback=fallback)


@pytest.mark.parametrize("dim", [8, 32, 40, 64, 72, 520])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("distance", DISTANCES)
def test_rows_that_matrix_units_take(dim: int, dtype: torch.dtype, distance: str) -> None:
    """Multiples of 16 bytes, on and beside the 128 bytes that are brought at a time."""
    check(*make_batch("uneven", 150, dim, dtype), distance=distance)
