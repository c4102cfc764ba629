"""The compiled libraries: what they say of themselves, what they ask of torch and the machine."""

import os
import re
import shutil
import subprocess
import sys
import warnings
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

import facenet_ext
from facenet_ext import _info, _library

DRIVER_VERSION = _library._driver_version
LIBRARIES = ("libfacenet_ext_cpu.so", "libfacenet_ext_cuda.so")


def built(name: str) -> Path:
    """The library; without one for CUDA the test is skipped, as such a build is a choice."""
    if name == "libfacenet_ext_cuda.so" and not _info.cuda:
        pytest.skip("this build has no CUDA library")
    return _library._find(name)


def test_build_info() -> None:
    info = facenet_ext.build_info()
    assert info["version"] == facenet_ext.__version__
    assert info["cpu_instruction_set"] in ("avx512", "avx2", "baseline")
    assert info["cuda_loaded"] == (info["cuda_problem"] is None)
    if info["cuda"] is None:
        assert info["cuda_architectures"] == []
    else:
        assert re.fullmatch(r"\d+\.\d+(\.\d+)?", info["cuda"])
        assert info["cuda_architectures"]
        for architecture in info["cuda_architectures"]:
            assert re.fullmatch(r"\d+[a-z]?(\+PTX|-virtual)?", architecture)


def test_type_checkers_are_told_to_read_the_types() -> None:
    """PEP 561. Here, as wheels are tested here; what comes of it is in test_typing.py."""
    assert (Path(facenet_ext.__file__).parent / "py.typed").is_file()


def test_the_instruction_set_can_be_lowered(tmp_path: Path) -> None:
    code = "import facenet_ext; print(facenet_ext.build_info()['cpu_instruction_set'])"
    shown = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"FACENET_EXT_ISA": "baseline"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == "baseline"


def test_importing_does_not_initialise_cuda(tmp_path: Path) -> None:
    code = "import torch, facenet_ext.ops; print(torch.cuda.is_initialized())"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "False"
    assert shown.stderr == ""


def test_a_missing_library_says_what_to_do() -> None:
    with pytest.raises(ImportError, match=r"libmissing\.so is not beside .*pip install"):
        _library._find("libmissing.so")


class Machine:
    """A torch, a build and a driver other than those here, as ``_load_cuda`` sees them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch
        self.loaded: list[str] = []
        monkeypatch.setattr(torch.ops, "load_library", lambda path: self.loaded.append(path.name))
        monkeypatch.setattr(_library, "_find", Path)
        self.set(torch_cuda="13.0", torch_hip=None, toolkit="13.0.88", driver=13000)

    def set(self, **what: Any) -> None:
        places = {
            "torch_cuda": (torch.version, "cuda"),
            "torch_hip": (torch.version, "hip"),
            "toolkit": (_info, "cuda"),
            "driver": (_library, "_driver_version"),
        }
        for name, value in what.items():
            self.patch.setattr(*places[name], partial(int, value) if name == "driver" else value)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.mark.parametrize("driver", [13000, 13020, 14010])
@pytest.mark.parametrize("torch_cuda", ["12.6", "13.0", "13.2"])
def test_the_cuda_operators_are_loaded(machine: Machine, torch_cuda: str, driver: int) -> None:
    machine.set(torch_cuda=torch_cuda, driver=driver)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _library._load_cuda() is None
    assert machine.loaded == ["libfacenet_ext_cuda.so"]


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        ({"torch_cuda": None}, r"torch .* is a CPU build"),
        ({"torch_cuda": None, "torch_hip": "6.4"}, r"torch .* is a ROCm build"),
        ({"toolkit": ""}, r"built without its CUDA library: install .*FACENET_EXT_CUDA=ON"),
        ({"driver": 0}, r"no NVIDIA driver"),
    ],
)
def test_without_cuda_nothing_is_tried_or_warned_about(
    machine: Machine, what: dict[str, object], problem: str
) -> None:
    machine.set(**what)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert re.search(problem, _library._load_cuda() or "")
    assert machine.loaded == []


def test_a_driver_too_old_is_warned_about(machine: Machine) -> None:
    machine.set(driver=12080)
    told = r"CPU tensors only: the NVIDIA driver serves CUDA up to 12\.8 .*13\.0\.88: update"
    with pytest.warns(UserWarning, match=told):
        assert _library._load_cuda()
    assert machine.loaded == []


def make_driver(folder: Path, body: str) -> str:
    """A library whose cuDriverGetVersion(int* version) has this body."""
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("needs a C compiler")
    library = folder / "libcuda.so.1"
    (folder / "driver.c").write_text(f"int cuDriverGetVersion(int* version) {{ {body} }}")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, folder / "driver.c"], check=True)
    return str(library)


@pytest.mark.parametrize(
    ("body", "version"),
    [("*version = 12080; return 0;", 12080), ("*version = 13000; return 34;", 0)],
    ids=["driver", "stub"],
)
def test_the_driver_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, version: int
) -> None:
    """A toolkit's stub, which programs are linked with, answers with an error."""
    monkeypatch.setattr(_library, "_DRIVER", make_driver(tmp_path, body))
    assert _library._driver_version() == version


@pytest.mark.parametrize("file", ["libthere_is_none.so.1", "libc.so.6"])
def test_without_a_driver_build_info_says_so(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """Neither without the file nor with one that is no driver."""
    monkeypatch.setattr(_library, "_driver_version", DRIVER_VERSION)
    monkeypatch.setattr(_library, "_DRIVER", file)
    monkeypatch.setattr(_library, "_cuda_problem", _library._load_cuda())
    info = facenet_ext.build_info()
    assert not info["cuda_loaded"]
    assert info["cuda_problem"] == "there is no NVIDIA driver on this machine"
    assert machine.loaded == []


def test_operators_that_refuse_cuda_tensors_are_all_there_are() -> None:
    source = Path(__file__).resolve().parents[1] / "csrc" / "ops.cpp"
    if not source.exists():
        pytest.skip("csrc/ is not here: these are installed tests")
    schemas = re.findall(r'm\.def\(\s*"(\w+)\(', source.read_text())
    assert sorted(schemas) == sorted(_library._OPERATORS)


def test_a_library_that_cannot_be_loaded_is_warned_about(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(path: Path) -> None:
        raise OSError(f"{path}: undefined symbol: aoti_torch_something")

    monkeypatch.setattr(torch.ops, "load_library", load)
    told = r"CPU tensors only: .*undefined symbol: aoti_torch_something; reinstall facenet_ext"
    with pytest.warns(UserWarning, match=told):
        assert _library._load_cuda()
    # The same is fatal for the CPU library: nothing works without it.
    with pytest.raises(ImportError, match="undefined symbol"):
        _library._load("libfacenet_ext_cpu.so")


@pytest.mark.skipif(facenet_ext.build_info()["cuda_loaded"], reason="CUDA operators are loaded")
def test_cuda_tensors_are_refused_with_the_reason() -> None:
    call = torch.ops.facenet_ext.pairwise_squared_distance.default
    on_cuda = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
    x = torch.rand(3, 2)
    if torch.backends.cuda.is_built():  # refused since the import
        refusal, problem = None, str(_library._cuda_problem)
    else:
        refusal, problem = _library._refuse_cuda_tensors("it is a test"), "it is a test"
    try:
        with pytest.raises(NotImplementedError, match=f"CUDA tensors here: {re.escape(problem)}"):
            call.redispatch(on_cuda, x, None)
        assert call(x, None).shape == (3, 3)
    finally:
        if refusal is not None:
            refusal._destroy()


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm of binutils")
def test_torch_is_asked_for_stable_abi_names_only(name: str) -> None:
    """One binary serves every torch from 2.10 on: C functions, no C++ names of torch or c10.

    No CUDA runtime is asked for either: the library brings its own.
    """
    shown = subprocess.run(
        ["nm", "-D", "--undefined-only", built(name)], capture_output=True, text=True, check=True
    ).stdout
    names = [line.split()[-1] for line in shown.splitlines()]
    assert any(name.startswith(("aoti_torch_", "torch_")) for name in names)
    assert [name for name in names if "N2at" in name or "3c10" in name or "5torch" in name] == []
    assert [name for name in names if re.match(r"_*cu(da|[A-Z])", name)] == []


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_oldest_torch_has_all_that_is_asked_for(name: str) -> None:
    """A name newer than that torch, or one that no list of its names has, would not be found."""
    audit = pytest.importorskip("torch_abi_audit", reason="knows which torch has which name")
    requirements = " ".join(metadata.requires("facenet_ext") or [])
    (oldest,) = re.findall(r"\btorch>=(\d+)\.(\d+)", requirements)
    asked_for = audit.inspect_extension(built(name)).torch
    assert asked_for.stable
    assert not asked_for.unknown_shim_symbols
    newest_name = asked_for.min_torch_version.split(".")
    assert tuple(map(int, newest_name[:2])) <= tuple(map(int, oldest))


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.skipif(shutil.which("readelf") is None, reason="needs readelf of binutils")
def test_the_libraries_needed_are_those_of_any_torch(name: str) -> None:
    shown = subprocess.run(
        ["readelf", "--dynamic", "--wide", built(name)], capture_output=True, text=True, check=True
    ).stdout
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", shown))
    assert {"libtorch.so", "libtorch_cpu.so", "libc10.so"} <= needed
    assert {library for library in needed if "cuda" in library or "nvrtc" in library} == set()


@pytest.mark.parametrize("name", LIBRARIES)
def test_no_folder_of_the_builder_is_in_a_library(name: str) -> None:
    """Neither the project's nor torch's: they are where this machine has them."""
    content = built(name).read_bytes()
    source = Path(__file__).resolve().parents[1]
    torch_folder = Path(torch.__file__).parent
    for folder in (source / "csrc", torch_folder / "include"):
        assert os.fsencode(folder) not in content
