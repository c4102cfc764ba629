"""The host emulation of the CUDA kernels: that it is right, and the operators' tests on it.

docs/emulation.md says what it is.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from emulation import emulator
from torch import Tensor

pytestmark = pytest.mark.ci

HERE = Path(__file__).resolve().parent
EMULATION = HERE / "emulation"

# The operators' tests that run on the emulated kernels: files, and what pytest selects of them.
OPERATORS = (
    "test_pairwise.py",
    "test_select_triplets.py",
    "test_near_thresholds.py",
    "test_triplet_loss.py",
    "test_anchor_swap.py",
    "test_mined_triplet_loss.py",
    "test_triplet_margin_loss.py",
    "test_softmax_losses.py",
    "test_all_pairs.py",
    "test_neighbours.py",
    "test_memory.py",
    "test_random_rules.py",
    "test_random_draws.py",
    "test_inputs.py",
    "test_amp.py",
)
# Quick, and enough to notice most barriers of the kernels missing.
QUICK = (
    "every_dtype_and_cloud or integers_of_every_dtype or golden or every_number_of_columns "
    "or hundred_positives or labels_of_every_size or extreme_labels or every_rule_against_a_bank "
    "or difficult_clouds or bound or every_number_of_thresholds or matrix_units or anchor_swap "
    "or last_rows or every_random_rule or first_of_all_sorted or within_are_those "
    "or all_rows_equal or at_the_ends_of_their_type or zero_columns or autocast_with_a_bank "
    "or softmax_against_a_bank or (at_random and quads and dtype0 and sqeuclidean) "
    "or (distance_of_a_positive and dtype0) "
    "or (near_parallel and 1024 and sqeuclidean and not dtype2) or order_of_blocks"
)
# "far" is an offset too, and a larger one. 72 rows cross a tile's edge as 520 do, in less time.
QUICK = f"({QUICK}) and not offset and not 520"
# Each kernel once: where there are no matrix units fewer of them differ. Float64 on a newer device
# touches memory as they do, so that AddressSanitizer's turn at them is in test_operators_in_full.
OLDER = "golden or every_dtype_and_cloud or hundred_positives or every_rule_against_a_bank "
OLDER += "or anchor_swap or within_are_those or every_random_rule"
SELECTED = {75: f"({OLDER}) and not offset", 90: QUICK}
# The CPU library's own: the emulated device knows no threads of torch.
NOT_OF_KERNELS = "number_of_threads"
# What small batches take other kernels for. The limits of a GPU, or more: every test is small.
SMALL = "golden or labels_of_every_size or difficult_clouds or every_rule_against_a_bank "
SMALL += (
    "or hundred_positives or every_number_of_columns or tiny_banks or all_rows_equal or many_tiles "
)
SMALL += "or every_number_of_thresholds or bound or non_finite or last_rows or zero_rows"
SMALL = f"triplet and not margin_loss and not offset and ({SMALL})"
SMALL += " or (distance_of_a_positive and dtype0) or every_random_rule"
SMALL += " or gradient_is_that_of_the_draws or gradient_against_a_bank or order_of_blocks"
ALL_SMALL = {"counted_rows": 4096, "small_work": 1_000_000_000}
CAPABILITIES = tuple(SELECTED)

RACE = r"data race on bytes .* thread \d+ .* faults.cu:\d+, thread \d+ .* faults.cu:\d+, and no "
OUT_OF_ARRAY = "out of bounds: faults.cu:.* in no array"

# What each kernel of planted/faults.cu does wrong: the flavours that notice, and what they say.
FAULTS: dict[str, tuple[tuple[str, ...], str]] = {
    "missing_barrier": (("race",), RACE),
    "missing_barrier_static": (("race",), RACE),
    "missing_second_barrier": (("race",), RACE + "__syncthreads"),
    "atomic_and_plain": (("race",), RACE),
    "atomic_load_and_plain_store": (("race",), RACE),
    "plain_scalar": (("race",), RACE),
    "blocks_write_the_same": (("race",), "data race of blocks .* writes it at faults.cu"),
    "last_block_sums": (("race",), "data race of blocks .* this block reads it at faults.cu"),
    "written_after_release": (("race",), "data race of blocks .* this block reads it at faults.cu"),
    "missing_syncwarp": (("race",), RACE + "__syncwarp"),
    "shuffle_for_barrier": (("race",), RACE + "__syncwarp"),
    "syncwarp_of_some": (("race",), RACE + "__syncwarp"),
    "halves_of_words": (("race",), RACE),
    "shared_out_of_bounds": (("race", "address"), "(out of bounds: |in .*)faults.cu:.*"),
    "shared_below_bounds": (("race", "address"), "(out of bounds: |in .*)faults.cu:.*"),
    "static_out_of_bounds": (("address",), "faults.cu:.* index 64 out of bounds"),
    "global_out_of_bounds": (("address",), "heap-buffer-overflow"),
    "atomic_out_of_bounds": (("address",), OUT_OF_ARRAY),
    "misaligned_vector": (("address",), "misaligned address"),
    "divergent_barrier": (emulator.FLAVOURS, "divergent barrier: .* in __syncthreads_or at"),
    "missing_lanes": (emulator.FLAVOURS, r"deadlock, .* have exited, .* in __shfl_sync \(mask"),
    "mask_without_self": (emulator.FLAVOURS, "faults.cu:.* mask leaves out the lane itself"),
    "different_masks": (emulator.FLAVOURS, r"deadlock, .* __shfl_sync \(mask 0xffffffff\) at"),
    "copy_before_wait": (("race",), "cp.async: .* faults.cu:.* before the wait"),
    "copy_without_barrier": (("race",), RACE),
    "copy_misaligned": (emulator.FLAVOURS, "cp.async: its source is not aligned"),
    "copy_out_of_bounds": (("address",), OUT_OF_ARRAY),
    "trap": (emulator.FLAVOURS, r"__trap\(\) at faults.cu"),
}


def planted(flavour: str) -> Path:
    try:
        return emulator.build(flavour, "planted") / "libplanted.so"
    except emulator.UnavailableError as reason:
        pytest.skip(f"no emulation of the CUDA kernels: {reason}")


def run_planted(flavour: str, *names: str, **settings: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EMULATION / "run_planted.py"), str(planted(flavour)), *names]
    environment = emulator.environment(flavour, **settings)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def plain() -> ctypes.CDLL:
    return ctypes.CDLL(str(planted("plain")))


def pointer(tensor: Tensor) -> ctypes.c_void_p:
    assert tensor.is_contiguous()
    return ctypes.c_void_p(tensor.data_ptr())


@pytest.mark.parametrize(
    ("flavour", "name"), [(flavour, name) for name in FAULTS for flavour in FAULTS[name][0]]
)
def test_a_planted_fault_is_reported(flavour: str, name: str) -> None:
    result = run_planted(flavour, f"wrong_{name}")
    said = result.stdout + result.stderr
    assert result.returncode != 0, "not noticed"
    assert re.search(FAULTS[name][1], said), said
    # Whose fault: the kernel, the block, the thread.
    where = rf"in kernel .*{name}<true>\(int\*\), block \(\d, 0, 0\) of \(\d, 1, 1\), thread \("
    assert re.search(where, said), said


@pytest.mark.parametrize("flavour", emulator.FLAVOURS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_without_the_fault_nothing_is_reported(flavour: str, seed: int) -> None:
    result = run_planted(flavour, *(f"right_{name}" for name in FAULTS), seed=seed)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_copy_used_too_early_is_poison(plain: ctypes.CDLL) -> None:
    data = torch.arange(64, dtype=torch.int32)
    assert plain.wrong_copy_before_wait(pointer(data)) == 0
    assert data.tolist() == [-1] * 64


def test_fragments_are_those_of_cute(tmp_path: Path) -> None:
    package = importlib.util.find_spec("cutlass_library")
    if package is None or package.submodule_search_locations is None:
        pytest.skip("nvidia-cutlass is not installed")
    root = Path(next(iter(package.submodule_search_locations)))
    headers = next((p.parents[2] for p in root.rglob("cute/atom/mma_traits_sm80.hpp")), None)
    if headers is None:
        pytest.skip("nvidia-cutlass has no headers")
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc, which has the CUDA headers that CuTe needs")
    program = tmp_path / "fragments"
    # As C++ for the host: nvcc is there for its headers.
    command = ["nvcc", "-std=c++17", "-O0", "-w", "-cudart", "none", "-o", str(program)]
    command += [f"-I{headers}", f"-I{EMULATION / 'runtime'}"]
    command += [str(EMULATION / "planted" / "fragments_of_cute.cpp")]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stderr
    result = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert result.stdout.split("\n") == ["bf16", "f16", "tf32", "ldmatrix", "0 differences", ""]


@pytest.mark.parametrize(
    ("dtype", "name", "depth"),
    [
        (torch.bfloat16, "multiply_bf16", 16),
        (torch.float16, "multiply_f16", 16),
        (torch.float32, "multiply_tf32", 8),
    ],
)
def test_matrix_product(plain: ctypes.CDLL, dtype: torch.dtype, name: str, depth: int) -> None:
    generator = torch.Generator().manual_seed(depth)
    a, b = (torch.randn(16, depth, generator=generator).to(dtype) for _ in range(2))
    c = torch.randn(16, 16, generator=generator)
    exact_a, exact_b = a.double(), b.double()
    if dtype == torch.float32:  # the lower 13 bits are not read
        exact_a, exact_b = ((t.view(torch.int32) & -0x2000).view(dtype).double() for t in (a, b))
    expected = c.double() + exact_a @ exact_b.T
    pointers = (ctypes.c_void_p * 3)(*(t.data_ptr() for t in (a, b, c)))
    assert getattr(plain, name)(pointers) == 0
    torch.testing.assert_close(c.double(), expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(("capability", "bits"), [(80, 24), (86, 24), (90, 25), (100, 25)])
def test_matrix_units_cut_summands_off(
    plain: ctypes.CDLL,
    capability: int,
    bits: int,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beside an accumulator of 1 each product keeps only so many bits behind the point."""
    monkeypatch.setenv("FACENET_EMULATED_CAPABILITY", str(capability))
    names = {torch.bfloat16: "multiply_bf16", torch.float16: "multiply_f16"}
    depth = 8 if dtype == torch.float32 else 16
    for product in (2**-24, 1.75 * 2**-24, 2**-25, 1.5 * 2**-26):
        a, b = (torch.full((16, depth), x, dtype=dtype) for x in (2**-12, product * 2**12))
        c = torch.ones(16, 16)
        pointers = (ctypes.c_void_p * 3)(*(t.data_ptr() for t in (a, b, c)))
        assert getattr(plain, names.get(dtype, "multiply_tf32"))(pointers) == 0
        kept = product // 2**-bits * 2**-bits
        assert (c == 1 + depth * kept).all(), product


def test_tensor_cores_need_their_capability(
    plain: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FACENET_EMULATED_CAPABILITY", "75")
    data = torch.zeros(64, dtype=torch.int32)
    assert plain.right_copy_before_wait(pointer(data)) == 1
    assert "cp.async on a device of capability 75" in capfd.readouterr().out


def test_collectives(plain: ctypes.CDLL) -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.randint(0, 1000, (15, 32), generator=generator, dtype=torch.int32)
    v = data[0].tolist()
    assert plain.run_collectives(pointer(data)) == 0

    def signed(bits: int) -> int:
        return bits - (bits & 1 << 31) * 2

    def of_half(function: Callable[[list[int]], int]) -> list[int]:
        return [function(v[:16])] * 16 + [function(v[16:])] * 16

    def bitwise_or(values: list[int]) -> int:
        result = 0
        for value in values:
            result |= value
        return result

    lanes = range(32)
    expected: list[Any] = [
        [v[7 * i % 32] for i in lanes],
        [v[i // 8 * 8 + 3] for i in lanes],
        [v[i - 5] if i >= 5 else v[i] for i in lanes],
        [v[i + 2] if i % 8 + 2 < 8 else v[i] for i in lanes],
        [v[i ^ 9] for i in lanes],
        [v[i ^ 1] for i in lanes],
        [signed(sum(v[i] % 2 << i for i in lanes))] * 32,
        of_half(lambda half: v[20] in half),
        of_half(lambda half: min(half) >= v[0]),
        [signed(sum((v[j] % 3 == v[i] % 3) << j for j in lanes)) for i in lanes],
        of_half(sum),
        [min(v)] * 32,
        [max(v)] * 32,
        of_half(bitwise_or),
    ]
    for row, (actual, wanted) in enumerate(zip(data[1:].tolist(), expected, strict=True)):
        assert actual == wanted, row


def test_atomics(plain: ctypes.CDLL) -> None:
    data = torch.tensor([0, 1 << 30, 0, 0, 0], dtype=torch.int32)
    assert plain.run_atomics(pointer(data)) == 0
    values = [(i * 2654435761 & 0xFFFFFFFF) >> 8 for i in range(1280)]
    total = sum(value % 1000 for value in values)
    assert data.tolist() == [total, min(values), max(values), 1280, 86 + 1000]


def test_the_order_of_threads(plain: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    last = set()
    for seed in range(1, 9):
        monkeypatch.setenv("FACENET_EMULATED_SEED", str(seed))
        data = torch.arange(258, dtype=torch.int32)
        assert plain.run_sum(pointer(data)) == 0
        assert data[256] == 255 * 128
        last.add(int(data[257]))
    assert len(last) > 2, "seeds do not change the order"


def test_shared_memory_is_fresh_for_every_block(plain: ctypes.CDLL) -> None:
    data = torch.zeros(256, dtype=torch.int32)
    assert plain.run_fresh(pointer(data)) == 0
    assert data.tolist() == [1] * 256


@pytest.mark.parametrize(("capability", "most"), [(75, 64), (80, 163), (86, 99), (90, 227)])
def test_the_size_of_shared_memory(
    plain: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, capability: int, most: int
) -> None:
    monkeypatch.setenv("FACENET_EMULATED_CAPABILITY", str(capability))
    assert plain.run_large(most * 1024 + 1, 1) == 1
    assert plain.run_large(most * 1024, 1) == 0
    assert plain.run_large(most * 1024, 0) == 0  # remembered
    assert plain.run_large(most * 1024 + 1, 0) == 1


def test_conversions(plain: ctypes.CDLL) -> None:
    bits = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16)
    bf16, f16 = torch.empty(1 << 16), torch.empty(1 << 16)
    count = ctypes.c_longlong(1 << 16)
    plain.widen(pointer(bits), count, pointer(bf16), pointer(f16))
    torch.testing.assert_close(
        bf16, bits.view(torch.bfloat16).float(), equal_nan=True, rtol=0, atol=0
    )
    torch.testing.assert_close(
        f16, bits.view(torch.float16).float(), equal_nan=True, rtol=0, atol=0
    )

    generator = torch.Generator().manual_seed(0)
    words = torch.randint(-(1 << 31), 1 << 31, (1 << 18,), generator=generator).to(torch.int32)
    # Half ways between two neighbours too, and numbers of ordinary size.
    words = torch.cat([words, words & -0x8000, words & -0x1000, words % (1 << 24) + 0x38000000])
    x = words.view(torch.float32)
    b, f = (torch.empty(len(x), dtype=torch.int16) for _ in range(2))
    plain.convert(pointer(x), ctypes.c_longlong(len(x)), pointer(b), pointer(f))
    for actual, dtype in ((b, torch.bfloat16), (f, torch.float16)):
        torch.testing.assert_close(
            actual.view(dtype).float(), x.to(dtype).float(), equal_nan=True, rtol=0, atol=0
        )


@pytest.mark.parametrize(("begin", "end"), [(0, 64), (0, 8), (8, 20), (60, 64), (5, 5)])
def test_sort(plain: ctypes.CDLL, begin: int, end: int) -> None:
    generator = torch.Generator().manual_seed(end)
    keys = torch.randint(-(1 << 62), 1 << 62, (1000,), generator=generator)
    keys[500:] = torch.randint(-5, 5, (500,), generator=generator)
    values = torch.arange(1000, dtype=torch.int32)
    sorted_keys, order = torch.empty_like(keys), torch.empty_like(values)
    tensors = [pointer(t) for t in (keys, sorted_keys, values, order)]
    assert plain.sort_pairs(*tensors, 1000, begin, end) == 0
    # The sign bit turned over orders signed numbers as unsigned ones.
    digits = [((k + (1 << 63)) >> begin) % (1 << (end - begin)) for k in keys.tolist()]
    expected = sorted(range(1000), key=lambda i: digits[i])
    assert order.tolist() == expected
    assert torch.equal(sorted_keys, keys[order.long()])


def test_scan(plain: ctypes.CDLL) -> None:
    values = torch.randint(0, 9, (777,), generator=torch.Generator().manual_seed(0)).int()
    exclusive, inclusive = (torch.empty(777, dtype=torch.int64) for _ in range(2))
    assert plain.scan(pointer(values), pointer(exclusive), pointer(inclusive), 777) == 0
    assert torch.equal(inclusive, values.cumsum(0))
    assert torch.equal(exclusive, values.cumsum(0) - values)


def run_operators(flavour: str, capability: int, *options: str, **settings: object) -> None:
    try:
        environment = emulator.operators_environment(flavour, capability=capability, **settings)
    except emulator.UnavailableError as reason:
        pytest.skip(f"no emulation of the CUDA kernels: {reason}")
    files = (str(HERE / name) for name in OPERATORS)
    command = emulator.pytest_command("-q", "-x", *options, *files)
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]


@pytest.mark.parametrize(("flavour", "capability"), [("address", 90), ("race", 90), ("race", 75)])
def test_operators(flavour: str, capability: int) -> None:
    run_operators(flavour, capability, "-k", SELECTED[capability])


@pytest.mark.parametrize("flavour", ["address", "race"])
def test_operators_of_small_batches(flavour: str) -> None:
    run_operators(flavour, 90, "-k", SMALL, **ALL_SMALL)


def test_matrix_units_that_cut_off_most() -> None:
    run_operators("plain", 80, "-k", "near_parallel and sqeuclidean")


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("flavour", emulator.FLAVOURS)
def test_operators_in_full(flavour: str, capability: int) -> None:
    run_operators(flavour, capability, "-m", "not slow", "-k", f"not {NOT_OF_KERNELS}")


@pytest.mark.slow
@pytest.mark.parametrize("flavour", emulator.FLAVOURS)
def test_operators_of_small_batches_in_full(flavour: str) -> None:
    run_operators(flavour, 90, "-m", "not slow", "-k", f"not {NOT_OF_KERNELS}", **ALL_SMALL)
