"""``facenet export``: a trained network as ONNX."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from rich.console import Console

from facenet_ext.commands.command_line import make_parser, run
from facenet_ext.models import export_onnx
from facenet_ext.train.errors import InputError
from facenet_ext.train.loading import checkpoint_path, load_module

__all__ = ["build_parser", "main"]


def main(argv: Sequence[str] | None = None, prog: str = "facenet export") -> int:
    """Run the command and return its exit status."""
    return run(build_parser(prog), argv, _export)


def build_parser(prog: str) -> ArgumentParser:
    """Return the parser of the command's options."""
    parser = make_parser(
        prog,
        "Write the network of a checkpoint as ONNX, with its weights, for batches of any size. "
        "What it takes is the input of the network: floating-point images, cropped and scaled.",
        f"{prog} runs/faces-20260101-120000 faces.onnx",
    )
    parser.add_argument("checkpoint", help="a run's folder, or a .ckpt file")
    parser.add_argument("output", help="the .onnx file to write")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a sentence")
    return parser


def _export(found: Any) -> None:
    module = load_module(checkpoint_path(found.checkpoint))
    if Path(found.output).is_dir() or not Path(found.output).name:
        raise InputError(f"{found.output}: a folder; give the name of a file to write")
    try:
        export_onnx(module.network, found.output)
    except ModuleNotFoundError as missing:
        raise InputError(
            f"needs {missing.name}, which is not installed; pip install 'facenet-ext[onnx]'"
        ) from None
    except OSError as error:
        raise InputError(f"{found.output}: cannot be written ({error.strerror})") from None
    size = Path(found.output).stat().st_size / 1e6
    if found.json:
        figures = {
            "output": found.output,
            "bytes": Path(found.output).stat().st_size,
            "input": list(module.network.input_shape),
            "embedding_dim": module.network.embedding_dim,
        }
        print(json.dumps(figures, indent=2))
        return
    shape = "x".join(map(str, module.network.input_shape))
    Console().print(
        f"{found.output}: {size:.1f} MB, inputs of {shape}, embeddings of "
        f"{module.network.embedding_dim}",
        soft_wrap=True,
    )
