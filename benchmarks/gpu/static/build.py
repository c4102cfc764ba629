"""Compiles the kernels of the cases for sm_90a, with source lines, and takes their machine code."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.gpu.static import multiprocessor
from benchmarks.gpu.static.kernels import CASES, CSRC, ELEMENTS, KERNELS, TILE_ROWS, Case
from benchmarks.gpu.static.listing import Block, functions
from benchmarks.gpu.static.small import NODES
from benchmarks.machine import cuda_tool

ARCHITECTURE = "sm_90a"
FLAGS = (f"-arch={ARCHITECTURE}", "-std=c++17", "-O3", "-DNDEBUG", "-lineinfo", f"-I{CSRC}")
_USAGE = re.compile(r" Function (\S+):\n\s*REG:(\d+)")


class BuildError(RuntimeError):
    """The kernels cannot be compiled or read."""


def tool(name: str) -> Path | None:
    """A program of the CUDA toolkit: of the packages nvidia-cuda-*, or where toolkits are."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob(f"*/bin/{name}"), reverse=True):
            return path
    found = cuda_tool(name)
    return Path(found) if found else None


@dataclass(frozen=True)
class Code:
    """What was compiled for one case."""

    blocks: list[Block]
    registers: int
    resident: bool  # whether the anchors stay in shared memory
    shared_bytes: int


class Build:
    """The kernels' machine code, in a folder. What is newer than the sources is not made again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        newest = max(p.stat().st_mtime for p in CSRC.rglob("*") if p.is_file())
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda kernel: self._compile(kernel, newest), KERNELS))
            list(pool.map(lambda node: self._compile_source(node.file, newest), NODES))

    def kernel(self, file: str, symbol: str) -> tuple[list[Block], int]:
        """Of a kernel in one of the sources: its blocks, and its registers."""
        found, registers = self._listing(self._folder / f"{file}.small.cubin")
        (name,) = (s for s in found if symbol in s)
        return found[name], registers[name]

    def code(self, case: Case) -> Code:
        functions, registers = self._listings[case.kernel]
        loop = ELEMENTS[case.element].cpp
        mangled = "f" if loop == "float" else f"{len(loop)}{loop}"
        (symbol,) = (s for s in functions if f"pair_streamINS0_7MmaLoopI{mangled}E" in s)
        found = (
            re.search(rf"residenceILi{CASES.index(case)}ELi(\d+)ELi(\d+)E", s) for s in functions
        )
        (memory,) = filter(None, found)
        return Code(functions[symbol], registers[symbol], int(memory[1]) > 0, int(memory[2]))

    @cached_property
    def _listings(self) -> dict[str, tuple[dict[str, list[Block]], dict[str, int]]]:
        return {kernel: self._listing(self._folder / f"{kernel}.cubin") for kernel in KERNELS}

    @staticmethod
    def _listing(cubin: Path) -> tuple[dict[str, list[Block]], dict[str, int]]:
        listing = _output("nvdisasm", "-c", "-gi", "-hex", cubin)
        usage = dict(_USAGE.findall(_output("cuobjdump", "-res-usage", cubin)))
        registers = {symbol: int(number) for symbol, number in usage.items()}
        return functions(listing.splitlines()), registers

    def _compile_source(self, file: str, newest: float) -> None:
        cubin = self._folder / f"{file}.small.cubin"
        if not cubin.exists() or cubin.stat().st_mtime <= newest:
            _output("nvcc", *FLAGS, "-cubin", "-o", cubin, CSRC / "cuda" / f"{file}.cu")

    def _compile(self, kernel: str, newest: float) -> None:
        source, cubin = (self._folder / f"{kernel}.{kind}" for kind in ("cu", "cubin"))
        text = "\n".join(_source(kernel))
        if cubin.exists() and cubin.stat().st_mtime > newest and source.read_text() == text:
            return
        source.write_text(text)
        torch = importlib.util.find_spec("torch")
        if torch is None or torch.origin is None:
            raise BuildError("the kernels' headers need torch's: pip install torch")
        flags = [*FLAGS, "-isystem", str(Path(torch.origin).parent / "include"), "-DUSE_CUDA"]
        flags += ["-DTORCH_TARGET_VERSION=0x020a000000000000"]
        _output("nvcc", *flags, "-cubin", "-o", cubin, source)


def _source(kernel: str) -> Iterator[str]:
    """The instances of the cases. The name of an empty kernel tells how much memory they take."""
    of = KERNELS[kernel]
    yield f'#include "cuda/epilogues/{of.header}"'
    yield '#include "cuda/mma_loop.cuh"'
    yield '#include "cuda/pair_stream.cuh"'
    yield "namespace facenet::cuda {"
    cases = [case for case in CASES if case.kernel == kernel]
    for element in dict.fromkeys(case.element for case in cases):
        loop = f"MmaLoop<{ELEMENTS[element].cpp}>"
        yield f"template __global__ void pair_stream<{loop}, {of.epilogue}>("
        yield f"    MmaArguments, {of.epilogue}::Arguments, Stripes, Guard, int32_t);"
    yield "template <int number, int resident, int bytes> __global__ void residence() {}"
    for case in cases:
        loop = f"MmaLoop<{ELEMENTS[case.element].cpp}>"
        rest = f"{of.epilogue}::shared_bytes({TILE_ROWS})"
        resident = f"{loop}::resident({case.dim}, {rest}, {multiprocessor.BLOCK_BYTES})"
        yield f"template __global__ void residence<{CASES.index(case)}, {resident},"
        yield f"    {loop}::shared_bytes({resident}) + {rest}>();"
    yield "}"


def _output(program: str, *arguments: str | Path) -> str:
    path = tool(program) if program != "nvcc" else shutil.which("nvcc") or cuda_tool("nvcc")
    if path is None:
        raise BuildError(f"{program} is not on this machine: install the CUDA toolkit")
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{program} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def nvcc_version() -> str:
    """The compiler, as it names itself."""
    return _output("nvcc", "--version").splitlines()[-1]
