"""What nvcc made of the kernels: registers, local memory and instructions, read from the library.

No GPU is needed: cuobjdump takes the machine code of every kernel and architecture out of
``libfacenet_ext_cuda.so``. The hot paths alone are compiled again, with source lines.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import facenet_ext
from facenet_ext import _info, _library

pytestmark = pytest.mark.ci

# The first entry that matches a kernel's name counts.
REGISTERS: list[tuple[str, int]] = [
    (r"double", 255),  # a float64 takes two
    (r"select_small", 128),  # one block of 512, for there are few
    (r"MmaLoop", 255),  # two blocks of 128 threads share a multiprocessor's 65,536
    (r"FmaLoop", 168),  # six of 64
    (r".", 96),
]

# Kernels that match have all these opcodes in their code for these architectures.
INSTRUCTIONS: list[tuple[str, range, set[str]]] = [
    (r"pair_stream<facenet::cuda::MmaLoop<", range(80, 1000), {"HMMA", "LDGSTS", "LDSM"}),
    (r"pair_stream<facenet::cuda::FmaLoop<float>", range(75, 1000), {"FFMA"}),
    (r"pair_stream<facenet::cuda::FmaLoop<double>", range(75, 1000), {"DFMA"}),
    # Addition and minimum in one. Without the suffix bounds of loops use it too; sm_120 has none.
    (r"SuccessorFewEpilogue", range(90, 120), {"VIADDMNMX.U32"}),
]

# The fast path of a tile in the searches: at most so many instructions of a warp, a few per
# cent more than they are, and at least so many blocks that share a multiprocessor.
HOT_PATHS: dict[str, tuple[int, int]] = {
    "successor few, bfloat16, D = 128": (985, 3),
    "successor few, bfloat16, D = 512": (2330, 2),
    "successor few, float32, D = 128": (2650, 2),
    "successor many, bfloat16, D = 128": (1235, 3),
    "successor many, float32, D = 128": (2890, 2),
}

# Microseconds that a small batch takes in a graph, and each of its kernels: a few per cent more
# than they are.
SMALL_BATCH = {"count_rows": 6.2, "select_small": 54.8, "gather_edges": 19.9, "all": 80.0}

# Kernels of the toolkit's CUB, as they are.
FOREIGN = r"^(void )?cub::"

# So that an empty reading does not pass for a good one.
LEAST_KERNELS = 10

# The architectures that .ci/run looks at; `make test-all` takes all there are.
FAST = ("75", "80", "90a")


@dataclass
class Kernel:
    name: str
    architecture: str
    registers: int = -1
    stack: int = -1
    local: int = -1
    opcodes: set[str] = field(default_factory=set)  # with their modifiers: "LDG.E.64"

    def has(self, opcode: str) -> bool:
        return any(o == opcode or o.startswith(opcode + ".") for o in self.opcodes)


def tool(name: str) -> Path | None:
    """A program of the CUDA toolkit: from PyPI, or on PATH."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob(f"*/bin/{name}"), reverse=True):
            return path
    found = shutil.which(name)
    return Path(found) if found else None


def lines_of(binary: Path, *arguments: str) -> Iterator[str]:
    """cuobjdump's output with C++ names in place of symbols."""
    cuobjdump, nvdisasm, demangle = tool("cuobjdump"), tool("nvdisasm"), shutil.which("c++filt")
    assert cuobjdump
    assert nvdisasm
    assert demangle
    path = f"{nvdisasm.parent}{os.pathsep}{os.environ['PATH']}"
    with (
        subprocess.Popen(
            [cuobjdump, *arguments, binary], stdout=subprocess.PIPE, env=os.environ | {"PATH": path}
        ) as dump,
        subprocess.Popen([demangle], stdin=dump.stdout, stdout=subprocess.PIPE, text=True) as names,
    ):
        assert dump.stdout
        assert names.stdout
        dump.stdout.close()
        yield from names.stdout
    assert dump.returncode == 0, f"{cuobjdump} {arguments} failed on {binary}"


_ARCHITECTURE = re.compile(r"arch = sm_(\w+)")
_FUNCTION = re.compile(r"\s*Function\s?:? (.*?):?$")
_USAGE = re.compile(r"\s*REG:(\d+) STACK:(\d+) .*LOCAL:(\d+)")
_INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)")


def read_kernels(binary: Path, architecture: str) -> list[Kernel]:
    """All kernels of a library or object file for one architecture ("90a")."""
    kernels: dict[str, Kernel] = {}
    here = name = ""
    for line in lines_of(binary, "-res-usage"):
        if found := _ARCHITECTURE.match(line):
            here = found[1]
        elif found := _FUNCTION.match(line):
            name = found[1]
        elif here == architecture and (found := _USAGE.match(line)):
            kernels[name] = Kernel(name, here, int(found[1]), int(found[2]), int(found[3]))
    name = ""
    for line in lines_of(binary, "-sass", "-arch", f"sm_{architecture}"):
        if found := _INSTRUCTION.match(line):
            kernels[name].opcodes.add(found[1])
        elif found := _FUNCTION.match(line):
            name = found[1]
    for kernel in kernels.values():
        assert kernel.opcodes, f"no code of {kernel.name} was found"
    return list(kernels.values())


# The gates: each returns what is wrong with a kernel.


def local_memory(kernel: Kernel) -> list[str]:
    problems = []
    if kernel.stack or kernel.local:
        problems.append(f"a stack frame of {kernel.stack} bytes, {kernel.local} of local memory")
    if traffic := [opcode for opcode in ("LDL", "STL") if kernel.has(opcode)]:
        problems.append(f"{traffic}: registers are spilled, or an array is indexed at run time")
    return problems


def too_many_registers(kernel: Kernel, caps: list[tuple[str, int]] = REGISTERS) -> list[str]:
    cap = next(cap for pattern, cap in caps if re.search(pattern, kernel.name))
    return [f"{kernel.registers} registers, {cap} allowed"] if kernel.registers > cap else []


def stray_float64(kernel: Kernel) -> list[str]:
    """Consumer GPUs have 1/64 of their float32 rate for float64: one unsuffixed 0.5 is felt.

    Totals are float64, so what is stored there may become it; nothing is computed with it.
    """
    if re.search(r"\bdouble\b", kernel.name):
        return []
    arithmetic = re.compile(r"D(ADD|MUL|FMA|SETP|MNMX|MMA)\b|.*\.F64|MUFU\.\w+64H")
    stored = re.compile(r"F2F\.F64\.F32|I2F\.F64")
    return [
        f"float64: {o}"
        for o in sorted(kernel.opcodes)
        if arithmetic.match(o) and not stored.match(o)
    ]


def missing_instructions(
    kernel: Kernel, expected: list[tuple[str, range, set[str]]] = INSTRUCTIONS
) -> list[str]:
    number = int(re.sub(r"\D", "", kernel.architecture))
    return [
        f"no {opcode}"
        for pattern, numbers, opcodes in expected
        if number in numbers and re.search(pattern, kernel.name)
        for opcode in sorted(opcodes)
        if not kernel.has(opcode)
    ]


GATES: list[Callable[[Kernel], list[str]]] = [
    local_memory,
    too_many_registers,
    stray_float64,
    missing_instructions,
]


BUILT_FOR: list[str] = facenet_ext.build_info()["cuda_architectures"]
# "120+PTX" has machine code, "90-virtual" does not.
ARCHITECTURES = [a.removesuffix("+PTX") for a in BUILT_FOR if not a.endswith("-virtual")]


@cache
def kernels_of_the_library(architecture: str) -> list[Kernel]:
    library = _library._find("libfacenet_ext_cuda.so")
    found = read_kernels(library, architecture)
    return [kernel for kernel in found if not re.search(FOREIGN, kernel.name)]


needs_tools = pytest.mark.skipif(
    not (tool("cuobjdump") and tool("nvdisasm") and shutil.which("c++filt")),
    reason="needs cuobjdump and nvdisasm (of the dev extra) and c++filt (of binutils)",
)
needs_library = pytest.mark.skipif(not _info.cuda, reason="this build has no CUDA library")

each_architecture = pytest.mark.parametrize(
    "architecture",
    [pytest.param(a, marks=() if a in FAST else pytest.mark.slow) for a in ARCHITECTURES],
)


@needs_tools
@needs_library
@each_architecture
@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.__name__)
def test_machine_code(gate: Callable[[Kernel], list[str]], architecture: str) -> None:
    kernels = kernels_of_the_library(architecture)
    assert len(kernels) >= LEAST_KERNELS
    problems = [f"{k.name}: {'; '.join(wrong)}" for k in kernels if (wrong := gate(k))]
    assert not problems, f"on sm_{architecture}:\n" + "\n".join(problems)


@needs_tools
@needs_library
@pytest.mark.skipif(not set(ARCHITECTURES) & {"80", "90a"}, reason="built for neither 80 nor 90a")
@pytest.mark.parametrize("pattern", [pattern for pattern, *_ in [*REGISTERS, *INSTRUCTIONS]])
def test_no_entry_of_the_tables_is_stale(pattern: str) -> None:
    architecture = next(a for a in ("80", "90a") if a in ARCHITECTURES)
    assert any(re.search(pattern, k.name) for k in kernels_of_the_library(architecture))


@needs_tools
@needs_library
@pytest.mark.skipif(BUILT_FOR == ARCHITECTURES, reason="the library has no PTX")
def test_the_library_has_no_line_tables_which_would_name_folders_of_the_builder() -> None:
    lines = list(lines_of(_library._find("libfacenet_ext_cuda.so"), "-ptx"))
    assert any(line.startswith(".version") for line in lines)
    assert [line for line in lines if line.startswith(".file")] == []


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `python -m benchmarks.gpu.static` makes of the sources: a prediction for each case."""
    reason = "needs the sources"
    static = pytest.importorskip("benchmarks.gpu.static.__main__", reason=reason)
    if not (shutil.which("nvcc") and tool("cuobjdump") and tool("nvdisasm")):
        pytest.skip("needs nvcc, and cuobjdump and nvdisasm (of the dev extra)")
    folder = tmp_path_factory.mktemp("static")
    output = folder / "predicted.json"
    assert static.main(["--build", str(folder / "build"), "--output", str(output)]) == 0
    nodes = {p.node: p for p in static.report.recorded_nodes(output)}
    return {p.case: p for p in static.report.recorded(output)} | {"small batch": nodes}


@pytest.fixture(scope="module")
def predicted_nodes(predicted: dict[str, Any]) -> dict[str, Any]:
    """Of a small batch, a prediction for each node."""
    nodes: dict[str, Any] = predicted["small batch"]
    return nodes


@pytest.mark.parametrize("case", HOT_PATHS)
def test_hot_path(case: str, predicted: dict[str, Any]) -> None:
    most, least_blocks = HOT_PATHS[case]
    p = predicted[case]
    assert p.instructions <= most
    assert p.blocks >= least_blocks
    # Neither the path nor the time is nonsense: no less than the matrix units take, no more than a
    # warp that waits for everything.
    assert sum(p.units.values()) == p.instructions
    assert 4 * p.units["tensor"] < p.cycles < 8 * p.instructions


def test_a_small_batch(predicted_nodes: dict[str, Any]) -> None:
    from benchmarks.gpu.static import small

    assert list(predicted_nodes) == [*SMALL_BATCH][:-1]
    assert small.total(predicted_nodes.values()) <= SMALL_BATCH["all"]
    for name, node in predicted_nodes.items():
        assert node.microseconds <= SMALL_BATCH[name]
        # No less than its instructions take, on a scheduler that issues one in a cycle.
        assert node.cycles > node.instructions


def test_the_recorded_predictions_are_of_these_sources(predicted: dict[str, Any]) -> None:
    from benchmarks.gpu.static import report
    from benchmarks.gpu.static.build import nvcc_version

    recorded = {p.case: p for p in report.recorded()}
    assert list(HOT_PATHS) == list(recorded)
    if report.recorded_by() != nvcc_version():
        pytest.skip("they were recorded with another nvcc")
    stale = [
        case
        for case, p in recorded.items()
        if predicted[case].cycles != pytest.approx(p.cycles, rel=0.03)
        or predicted[case].instructions != pytest.approx(p.instructions, rel=0.03)
    ]
    stale += [
        p.node
        for p in report.recorded_nodes()
        if predicted["small batch"][p.node].cycles != pytest.approx(p.cycles, rel=0.03)
    ]
    assert not stale, "run python -m benchmarks.gpu.static and python -m benchmarks.pages"


PLANTED = r"""
__global__ void clean(float* x) { x[threadIdx.x] = x[threadIdx.x] * 2.0f + 1.0f; }

__global__ void indexes_an_array(float* x, int n) {
  float values[64];
  for (int i = 0; i < n; ++i) values[(i * 7) % 64] = x[i];
  x[threadIdx.x] = values[threadIdx.x % 64];
}

// 96 sums at 64 registers per thread.
__global__ void __launch_bounds__(1024, 1) spills(float* x, const float* y, int n) {
  float sums[96] = {};
  for (int k = 0; k < n; ++k) {
#pragma unroll
    for (int i = 0; i < 96; ++i) sums[i] = sums[i] * y[k + i] + sums[(i + 1) % 96] + y[k];
  }
#pragma unroll
  for (int i = 0; i < 96; ++i) x[96 * threadIdx.x + i] = sums[i];
}

__global__ void multiplies_by_a_double(float* x) { x[threadIdx.x] = x[threadIdx.x] * 0.3; }

template <class T>
__global__ void scale(T* x) { x[threadIdx.x] *= T(0.3); }
template __global__ void scale<double>(double*);
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kernel]:
    """Kernels with faults, by name."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "planted.cu").write_text(PLANTED)
    subprocess.run(
        ["nvcc", "-arch=sm_80", "-c", "planted.cu", "-o", "planted.o"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    kernels = read_kernels(folder / "planted.o", "80")
    return {re.sub(r"^void |\(.*", "", kernel.name): kernel for kernel in kernels}


@needs_tools
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_the_gates_reject_what_they_are_for(planted: dict[str, Kernel]) -> None:
    clean = planted["clean"]
    assert [problem for gate in GATES for problem in gate(clean)] == []
    assert too_many_registers(clean, [("clean", clean.registers)]) == []
    assert too_many_registers(clean, [("clean", clean.registers - 1)])
    ampere, hopper = range(80, 90), range(90, 100)
    expected = [("clean", ampere, {"FFMA"}), ("clean", hopper, {"HMMA"}), ("other", ampere, {"X"})]
    assert missing_instructions(clean, expected) == []
    assert missing_instructions(clean, [("clean", ampere, {"FFMA", "HMMA"})]) == ["no HMMA"]

    assert local_memory(planted["indexes_an_array"])
    assert local_memory(planted["spills"])
    assert planted["spills"].registers == 64
    assert stray_float64(planted["multiplies_by_a_double"])
    assert planted["scale<double>"].has("DMUL")
    assert stray_float64(planted["scale<double>"]) == []
    assert len(planted) == 5
