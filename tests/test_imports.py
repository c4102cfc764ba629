"""What is imported when: nobody waits for what is not used."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys

import pytest

import facenet_ext
from facenet_ext.cli import COMMANDS

# Each takes longer to import than a command that does not need it should take at all.
TORCH = ("torch", "numpy", "scipy", "matplotlib", "PIL", "pandas", "pyarrow")
COMPILER = ("torch._dynamo", "torch._inductor", "sympy")
TRAINING = ("lightning", "pytorch_lightning", "kornia", "tensorboard", "torchmetrics", "jinja2")
PEERS = ("sklearn", "transformers", "sentence_transformers", "pytorch_metric_learning", "onnx")
ALL = (*TORCH, *COMPILER, *TRAINING, *PEERS)


def loaded(code: str) -> set[str]:
    """The modules that a new Python has loaded after a piece of code."""
    ending = "\nimport json, sys; print('\\n' + json.dumps(sorted(sys.modules)))"
    shown = subprocess.run(
        [sys.executable, "-c", code + ending], capture_output=True, text=True, check=True
    )
    return set(json.loads(shown.stdout.splitlines()[-1]))


def test_the_package_loads_nothing_heavy() -> None:
    assert not loaded("import facenet_ext; dir(facenet_ext); facenet_ext.__version__") & set(ALL)


def test_a_step_of_training_loads_torch_alone() -> None:
    """``from facenet_ext import *`` too: all that the core needs are torch and NumPy."""
    code = """
import torch
before = set(__import__("sys").modules)
from facenet_ext import *
x = torch.randn(8, 4, requires_grad=True)
y = torch.arange(8) // 2
TripletSemiHardLoss()(x, y).backward()
TripletMarginLoss()(x, y).backward()
CrossBatchMemory(TripletLoss(), 4)(x, y).backward()
"""
    allowed = (
        {"torch", "numpy", "sympy"} if "sympy" in loaded("import torch") else {"torch", "numpy"}
    )
    assert not loaded(code) & set(ALL) - allowed


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_needs_no_torch(command: str) -> None:
    code = f"""
import contextlib, io
from facenet_ext.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main({[command, "--help"] if command else ["--help"]!r})
"""
    assert not loaded(code) & set(ALL)


def test_what_verifies_needs_no_training() -> None:
    """``verify``, ``identify`` and ``embed``: a service that uses a model imports no trainer."""
    code = """
import facenet_ext.commands.verify, facenet_ext.commands.identify, facenet_ext.commands.embed
import facenet_ext.embedding.loading
"""
    assert not loaded(code) & {*COMPILER, *TRAINING}
    heavy = {*COMPILER, *TRAINING, *PEERS, "scipy", "matplotlib", "pyarrow"}
    assert not loaded("import facenet_ext.commands.verify") & heavy


def test_every_public_name_is_there_and_completed() -> None:
    public = {
        module.name
        for module in pkgutil.iter_modules(facenet_ext.__path__)
        if not module.name.startswith(("_", "lib"))
        and module.name not in ("cli", "commands", "common")
    }
    assert public <= set(dir(facenet_ext))
    for package in ("", ".metrics", ".mining", ".recognition"):
        module = importlib.import_module(f"facenet_ext{package}")
        assert set(module.__all__) <= set(dir(module))
        for name in dir(module):
            getattr(module, name)
    with pytest.raises(AttributeError, match="'facenet_ext' has no attribute 'nonsense'"):
        _ = facenet_ext.nonsense
