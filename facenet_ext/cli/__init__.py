"""The ``facenet`` command: one subcommand per job."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import facenet_ext
from facenet_ext._extras import how_to_install
from facenet_ext.common.interrupts import loading

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

__all__ = ["COMMANDS", "build_parser", "main"]

COMMANDS = {
    "train": "train an embedding and report how well it verifies",
    "align": "find faces in photos and cut them out",
    "evaluate": "measure how well a model verifies, and report it",
    "compare": "tell which of two evaluations is better, and how surely",
    "embed": "store the embeddings of a folder of images",
    "verify": "tell whether two images are of one person",
    "identify": "tell who of a gallery is on images",
    "cluster": "group images by who is on them",
    "mine": "find triplets, and mistakes, in a whole training set",
    "harmonize": "train a new model to match an old one's gallery",
    "data": "describe images to train on, and convert their format",
    "models": "show what each network costs",
    "bench": "measure the kernels on this machine",
    "completion": "print what lets a shell complete all this",
    "export": "write a trained network as ONNX",
}
"""Each subcommand, and what it does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit status.

    ``cli/parsers.py`` reads the arguments after the name; only then ``commands/<name>.py`` is
    imported, and does what they say. ``train`` is ``python -m facenet_ext.train``.

    Args:
        argv: arguments; None takes the process's own.

    Returns:
        The exit status: 0, 2 where the input cannot be used, 130 where the user stopped it.

    Example:
        >>> main(["nonsense"])
        2
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in COMMANDS:
        return _explain(arguments)
    name, *rest = arguments
    prog = f"facenet {name}"
    try:
        if name == "train":
            with loading(prog):
                from facenet_ext.cli.train import main as train
            return train(rest, prog=prog)
        with loading(prog):
            from facenet_ext.cli.parsers import run_command
        return run_command(name, rest)
    except ModuleNotFoundError as missing:
        if arguments == ["models"]:  # without options it needs torch alone
            from facenet_ext.models.summary import as_text, summarise

            print(as_text(summarise()))
            return 0
        what = how_to_install(missing.name or "a package", "train")
        print(f"{prog}: error: {what}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # while libraries load; after that the command itself handles Ctrl-C
        print(f"{prog}: stopped", file=sys.stderr)
        return 130


def build_parser(name: str) -> ArgumentParser:
    """Return the parser of a subcommand's options."""
    if name == "train":
        from facenet_ext.cli.train_options import training_parser

        return training_parser("facenet train", None)
    from facenet_ext.cli import parsers

    return parsers.build_parser(name)


def _explain(arguments: list[str]) -> int:
    """Answer a command line without a subcommand."""
    listed = "\n".join(f"  {name:10} {does}" for name, does in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="facenet",
        usage="facenet COMMAND [options]",
        description="FaceNet-style embeddings: train them and use them.",
        epilog=f"commands:\n{listed}\n\n'facenet COMMAND --help' tells a command's options.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    known, rest = parser.parse_known_args(arguments)
    if known.version and not rest:
        print(f"facenet_ext {facenet_ext.__version__}")
        return 0
    wrong = f"unknown command {rest[0]!r}" if rest else "no command given"
    print(f"facenet: error: {wrong}; choose from: {', '.join(COMMANDS)}", file=sys.stderr)
    return 2
