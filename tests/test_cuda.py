"""What only a GPU shows: agreement with the CPU, streams, graphs, synchronisation, memory.

The operators' own tests run on a GPU with ``pytest --device cuda``.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import pytest
import torch
from helpers import (
    DISTANCES,
    FALLBACKS,
    NEGATIVES,
    POSITIVES,
    assert_same_triplets,
    make_batch,
    make_cloud,
)
from tolerances import (
    DTYPES,
    assert_distances_close,
    assert_gradient_close,
    assert_loss_close,
)
from torch import Tensor

import facenet_ext
from facenet_ext.functional import (
    mined_triplet_loss,
    pairwise_squared_distance,
    select_triplets,
    triplet_loss,
)
from facenet_ext.losses import TripletHardLoss, TripletSemiHardLoss
from facenet_ext.memory import CrossBatchMemory

if not torch.cuda.is_available():
    pytest.skip("torch sees no CUDA device", allow_module_level=True)
if not facenet_ext.build_info()["cuda_loaded"]:
    pytest.skip(facenet_ext.build_info()["cuda_problem"], allow_module_level=True)

# On both sides of the edges of 64 and 128 rows, some of a tile, and many tiles.
EDGES = (63, 64, 65, 127, 128, 129, 300, 1800)
RULES: list[dict[str, Any]] = [
    {"positives": p, "negatives": n, "fallback": f, "within_margin": w}
    for p, n, f, w in itertools.product(POSITIVES, NEGATIVES, FALLBACKS, (False, True))
]


def per_class(n: int, size: int, seed: int = 0) -> Tensor:
    """`n` shuffled labels, `size` of each, on the GPU."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed), device="cpu")
    return (torch.arange(n, device="cpu") // size)[order].cuda()


def on_both(
    layout: str, n: int, dim: int, dtype: torch.dtype, cloud: str
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The same batch on the CPU and on the GPU."""
    x, y = (t.cpu() for t in make_batch(layout, n, dim, dtype, cloud))
    return (x, y), (x.cuda(), y.cuda())


def loss_and_gradient(x: Tensor, y: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    x = x.detach().clone().requires_grad_()
    loss = mined_triplet_loss(x, y, **options)
    (gradient,) = torch.autograd.grad(loss, x)
    return loss.detach(), gradient


def assert_same_bits(results: tuple[Any, ...], others: tuple[Any, ...]) -> None:
    for a, b in zip(results, others, strict=True):
        assert torch.equal(a, b)


# --- the CPU's results ---------------------------------------------------------------------------


@pytest.mark.parametrize("n", EDGES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distance", DISTANCES)
def test_the_selection_is_the_cpus(n: int, dtype: torch.dtype, distance: str) -> None:
    """Where distances are exact there is one right answer, down to the last tie."""
    cloud = "axes" if distance == "cosine" else "integers"
    for layout, dim in (("uneven", 5), ("quads", 67)):
        cpu, gpu = on_both(layout, n, dim, dtype, cloud)
        # At the largest size every rule in every dtype would take a minute.
        for rules in RULES if n < 1000 else (RULES[0], {"positives": "hardest"}):
            options = rules | {"distance": distance, "margin": 2.0}
            expected, actual = select_triplets(*cpu, **options), select_triplets(*gpu, **options)
            assert actual.anchor.is_cuda
            assert_same_triplets(actual, expected)
            for a, e in ((actual.d_ap, expected.d_ap), (actual.d_an, expected.d_an)):
                assert_distances_close(a.cpu(), e.double(), dtype, distance)


@pytest.mark.parametrize(("m", "n"), [(63, 300), (129, 64), (300, 1800)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_selection_from_a_bank_is_the_cpus(m: int, n: int, dtype: torch.dtype) -> None:
    (x, y), (gpu_x, gpu_y) = on_both("uneven", m, 33, dtype, "integers")
    (c, z), (gpu_c, gpu_z) = on_both("quads", n, 33, dtype, "integers")
    for rules in RULES:
        expected = select_triplets(x, y, ref_emb=c, ref_labels=z, **rules)
        actual = select_triplets(gpu_x, gpu_y, ref_emb=gpu_c, ref_labels=gpu_z, **rules)
        assert_same_triplets(actual, expected)


@pytest.mark.parametrize("n", EDGES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distance", DISTANCES)
def test_loss_and_gradient_are_the_cpus(n: int, dtype: torch.dtype, distance: str) -> None:
    """The CPU's in float64, whose gradient is not rounded to the dtype."""
    cloud = "axes" if distance == "cosine" else "integers"
    cpu, gpu = on_both("uneven", n, 19, dtype, cloud)
    for rules in RULES[:4] if n < 1000 else RULES[:1]:
        options = rules | {"distance": distance, "margin": 2.0}
        loss, gradient = loss_and_gradient(cpu[0].double(), cpu[1], **options)
        gpu_loss, gpu_gradient = loss_and_gradient(*gpu, **options)
        scale = 2.0 + 2.0 * 19 * 16
        assert_loss_close(gpu_loss.cpu(), loss, dtype, scale)
        assert_gradient_close(gpu_gradient.cpu(), gradient, dtype)


@pytest.mark.parametrize("n", EDGES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("distance", DISTANCES)
def test_the_loss_of_given_triplets_is_the_cpus(n: int, dtype: torch.dtype, distance: str) -> None:
    """Of real-valued rows: the triplets are given, so that no near tie decides."""
    (x, y), (gpu_x, _) = on_both("quads", n, 128, dtype, "gaussian")
    triplets = select_triplets(x, y, distance=distance)
    x = x.double().requires_grad_()
    gpu_x.requires_grad_()
    loss = triplet_loss(x, triplets, distance=distance)
    gpu_loss = triplet_loss(gpu_x, tuple(i.cuda() for i in triplets[:3]), distance=distance)
    assert_loss_close(gpu_loss.detach().cpu(), loss.detach(), dtype, 10.0)
    (gradient,), (gpu_gradient,) = (
        torch.autograd.grad(*pair) for pair in ((loss, x), (gpu_loss, gpu_x))
    )
    assert_gradient_close(gpu_gradient.cpu(), gradient, dtype)


@pytest.mark.parametrize("n", EDGES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [1, 128, 131])
def test_distances_are_the_cpus(n: int, dtype: torch.dtype, dim: int) -> None:
    x = make_cloud("gaussian", n, dim, dtype).cpu()
    d = pairwise_squared_distance(x.cuda())
    assert_distances_close(d.cpu(), pairwise_squared_distance(x.double()), dtype)
    assert torch.equal(d, d.T)
    y = x[: n // 2 + 1]
    against = pairwise_squared_distance(x.cuda(), y.cuda()).cpu()
    assert_distances_close(against, pairwise_squared_distance(x.double(), y.double()), dtype)


# --- determinism ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bound", [None, 40])
def test_two_runs_give_the_same_bits(dtype: torch.dtype, bound: int | None) -> None:
    x, y = make_cloud("gaussian", 1800, 128, dtype).cuda(), per_class(1800, 40)
    first = loss_and_gradient(x, y, max_per_class=bound)
    for _ in range(5):
        assert_same_bits(loss_and_gradient(x, y, max_per_class=bound), first)
    selection = select_triplets(x, y)
    for _ in range(5):
        assert_same_bits(select_triplets(x, y), selection)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bound", [40, 41, 1800])
def test_a_bound_on_the_class_size_changes_nothing(dtype: torch.dtype, bound: int) -> None:
    x, y = make_cloud("gaussian", 1800, 128, dtype).cuda(), per_class(1800, 40)
    loss, gradient = loss_and_gradient(x, y)
    bounded_loss, bounded_gradient = loss_and_gradient(x, y, max_per_class=bound)
    assert_loss_close(bounded_loss, loss.double(), dtype, 10.0)
    assert_gradient_close(bounded_gradient, gradient, dtype)


# --- streams, devices, graphs --------------------------------------------------------------------


@pytest.mark.parametrize("bound", [None, 4])
def test_the_current_stream_is_used(bound: int | None) -> None:
    """The inputs are filled late, on the same stream: kernels on another would read zeros."""
    source = make_cloud("gaussian", 300, 64).cuda()
    labels = per_class(300, 4)
    expected = loss_and_gradient(source, labels, max_per_class=bound)
    d = pairwise_squared_distance(source)
    x, y = torch.zeros_like(source), torch.zeros_like(labels)
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)  # some 50 ms
        x.copy_(source)
        y.copy_(labels)
        late_d = pairwise_squared_distance(x)
        late = loss_and_gradient(x, y, max_per_class=bound)
    stream.synchronize()
    assert_same_bits(late, expected)
    assert torch.equal(late_d, d)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_a_device_that_is_not_current() -> None:
    x, y = make_cloud("gaussian", 300, 64).cuda(), per_class(300, 4)
    expected = loss_and_gradient(x, y)
    assert torch.cuda.current_device() == 0
    loss, gradient = loss_and_gradient(x.to("cuda:1"), y.to("cuda:1"))
    assert loss.device == gradient.device == torch.device("cuda:1")
    assert_same_bits((loss.cpu(), gradient.cpu()), tuple(t.cpu() for t in expected))
    assert torch.cuda.current_device() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("n", "size", "make"),
    [(300, 4, TripletSemiHardLoss), (1800, 40, TripletSemiHardLoss), (1800, 40, TripletHardLoss)],
)
def test_a_step_replays_from_a_graph(n: int, size: int, make: Any, dtype: torch.dtype) -> None:
    loss_of = make(margin=0.2, max_per_class=size)
    x = make_cloud("gaussian", n, 128, dtype).cuda().requires_grad_()
    y = per_class(n, size)

    def step(x: Tensor) -> tuple[Tensor, Tensor]:
        loss = loss_of(x, y)
        return loss, torch.autograd.grad(loss, x)[0]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss, gradient = step(x)
    for seed in range(3):
        with torch.no_grad():
            x.copy_(make_cloud("gaussian", n, 128, dtype, seed=seed))
        y.copy_(per_class(n, size, seed))
        graph.replay()
        eager_loss, eager_gradient = step(x.detach().clone().requires_grad_())
        assert_same_bits((loss, gradient), (eager_loss, eager_gradient))
        assert loss.item() > 0


# --- synchronisation -----------------------------------------------------------------------------

WAITS = (
    "cudaStreamSynchronize",
    "cudaEventSynchronize",
    "cudaMemcpy",
    "cuStreamSynchronize",
    "cuEventSynchronize",
    "cuCtxSynchronize",
)


def calls_of_the_runtime(x: Tensor, y: Tensor, **options: Any) -> Counter[str]:
    """How often a step calls each function of the CUDA runtime, as the profiler sees it."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    loss_and_gradient(x, y, **options)
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=activities) as profile:
        loss_and_gradient(x, y, **options)
    return Counter(event.name for event in profile.events())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_host_waits_once_and_with_a_bound_never(dtype: torch.dtype) -> None:
    x, y = make_cloud("gaussian", 1800, 128, dtype).cuda(), per_class(1800, 40)
    names = calls_of_the_runtime(x, y)
    waits = {name: names[name] for name in WAITS if names[name]}
    if not waits:
        pytest.skip(f"the profiler does not see the library's calls: {sorted(names)[:30]}")
    assert sum(waits.values()) == 1, waits
    names = calls_of_the_runtime(x, y, max_per_class=40)
    assert {name: names[name] for name in WAITS if names[name]} == {}


def test_torch_sees_no_synchronisation_with_a_bound() -> None:
    x, y = make_cloud("gaussian", 300, 64).cuda(), per_class(300, 4)
    loss_and_gradient(x, y, max_per_class=4)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss_and_gradient(x, y, max_per_class=4)
    finally:
        torch.cuda.set_sync_debug_mode(before)


def test_torch_sees_no_synchronisation_with_a_memory() -> None:
    memory = CrossBatchMemory(TripletSemiHardLoss(max_per_class=16), 64, 700).cuda()
    batches = [
        (make_cloud("gaussian", 300, 64, seed=k).cuda().requires_grad_(), per_class(300, 4, k))
        for k in range(4)
    ]
    memory(*batches[0]).backward()
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for x, y in batches[1:]:
            memory(x, y).backward()
    finally:
        torch.cuda.set_sync_debug_mode(before)


# --- memory --------------------------------------------------------------------------------------


def test_peak_memory_is_linear_in_the_inputs(record_property: Any) -> None:
    """Forward and backward of 65,536 rows; the matrix alone would be 16 GiB."""
    n = 65536
    order = torch.Generator(device="cuda").manual_seed(0)
    x = torch.randn(n, 128, generator=order, device="cuda", dtype=torch.bfloat16)
    x, y = x.requires_grad_(), per_class(n, 4)
    loss_of = TripletSemiHardLoss(max_per_class=4)
    loss_of(x, y).backward()  # what is allocated once and kept
    x.grad = None
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    loss_of(x, y).backward()
    growth = torch.cuda.max_memory_allocated() - before
    inputs = x.nbytes + y.nbytes
    record_property("peak_growth_bytes", growth)
    record_property("input_bytes", inputs)
    print(f"peak memory over the inputs: {growth / 2**20:.1f} MiB, {growth / inputs:.2f} of them")
    assert growth <= 3 * inputs


# --- how it is called ----------------------------------------------------------------------------


def test_labels_and_indices_may_be_on_the_cpu() -> None:
    x, y = make_cloud("gaussian", 300, 64).cuda(), per_class(300, 4)
    assert torch.equal(mined_triplet_loss(x, y.cpu()), mined_triplet_loss(x, y))
    triplets = select_triplets(x, y.cpu())
    assert_same_triplets(triplets, select_triplets(x, y))
    on_cpu = tuple(index.cpu() for index in triplets[:3])
    assert torch.equal(triplet_loss(x, on_cpu), triplet_loss(x, triplets))


def test_a_bank_on_the_cpu_is_refused() -> None:
    x, y = make_cloud("gaussian", 12, 8).cuda(), per_class(12, 4)
    for function in (select_triplets, mined_triplet_loss):
        with pytest.raises(ValueError, match=r"ref_emb: expected it on cuda:0 .* got cpu"):
            function(x, y, ref_emb=x.cpu(), ref_labels=y)
    with pytest.raises(ValueError, match=r"ref_emb: expected it on cuda:0 .* got cpu"):
        triplet_loss(x, select_triplets(x, y), ref_emb=x.cpu())
    with pytest.raises(ValueError, match=r"y: expected it on cuda:0 .* got cpu"):
        pairwise_squared_distance(x, x.cpu())


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_class_beyond_the_bound_makes_the_loss_nan(dtype: torch.dtype) -> None:
    x, y = make_cloud("gaussian", 300, 64, dtype).cuda(), per_class(300, 4)
    assert mined_triplet_loss(x, y, max_per_class=4).isfinite()
    assert mined_triplet_loss(x, y, max_per_class=3).isnan()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bound", [None, 4])
@pytest.mark.parametrize("row", [0, 150, 299])
def test_a_nan_anywhere_makes_the_loss_nan(row: int, bound: int | None, dtype: torch.dtype) -> None:
    x, y = make_cloud("gaussian", 300, 64, dtype).cuda(), per_class(300, 4)
    x[row, 63] = math.nan
    loss, gradient = loss_and_gradient(x, y, max_per_class=bound)
    assert loss.isnan()
    assert not gradient.isfinite().all()


def test_many_small_calls_in_a_row() -> None:
    """Workspaces go back to torch's allocator while kernels still run: it must keep them apart."""
    x, y = make_cloud("gaussian", 129, 16).cuda(), per_class(129, 4)
    expected = loss_and_gradient(x, y, max_per_class=4)
    results = [loss_and_gradient(x, y, max_per_class=4) for _ in range(200)]
    for result in results:
        assert_same_bits(result, expected)
