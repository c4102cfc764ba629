"""``facenet export``: a trained network as ONNX."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from facenet_ext.cli.command_line import make_parser

__all__ = ["build_parser"]


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
