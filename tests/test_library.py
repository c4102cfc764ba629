"""The compiled library: what it says of itself, and what it asks of torch and the processor."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import facenet_ext
from facenet_ext import _library


def test_build_info() -> None:
    info = facenet_ext.build_info()
    assert info["version"] == facenet_ext.__version__
    assert info["cpu_instruction_set"] in ("avx512", "avx2", "baseline")


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


def test_a_missing_library_says_what_to_do() -> None:
    with pytest.raises(ImportError, match=r"libmissing\.so is not beside .*pip install"):
        _library._find("libmissing.so")


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm of binutils")
def test_torch_is_asked_for_stable_abi_names_only() -> None:
    """One binary serves every torch from 2.10 on: C functions, no C++ names of torch or c10."""
    shown = subprocess.run(
        ["nm", "-D", "--undefined-only", _library._find("libfacenet_ext_cpu.so")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names = [line.split()[-1] for line in shown.splitlines()]
    assert any(name.startswith(("aoti_torch_", "torch_")) for name in names)
    assert [name for name in names if "N2at" in name or "3c10" in name or "5torch" in name] == []
