"""The ``facenet`` command: one subcommand per job."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

import facenet_ext
from facenet_ext._extras import how_to_install
from facenet_ext.cli.interrupts import loading

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "train": ("facenet_ext.train.command", "train an embedding and report how well it verifies"),
    "evaluate": (
        "facenet_ext.cli.evaluate",
        "measure how well a model verifies, and report it",
    ),
    "embed": ("facenet_ext.cli.embed", "store the embeddings of a folder of images"),
    "verify": ("facenet_ext.cli.verify", "tell whether two images are of one person"),
    "identify": ("facenet_ext.cli.identify", "tell who of a gallery is on images"),
    "cluster": ("facenet_ext.cli.cluster", "group images by who is on them"),
    "mine": ("facenet_ext.cli.mine", "find triplets, and mistakes, in a whole training set"),
    "harmonize": (
        "facenet_ext.cli.harmonize",
        "train a new model to match an old one's gallery",
    ),
    "models": ("facenet_ext.cli.models", "show what each network costs"),
    "bench": ("facenet_ext.cli.bench", "measure the kernels on this machine"),
    "completion": ("facenet_ext.cli.completion", "print what lets a shell complete all this"),
    "export": ("facenet_ext.cli.export", "write a trained network as ONNX"),
}
"""Each subcommand with its module, whose ``main(argv, prog)`` runs it, and what it does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit status.

    A module is imported only when its subcommand runs, and reads all arguments after its name.

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
    prog = f"facenet {arguments[0]}"
    try:
        with loading(prog):
            module = importlib.import_module(COMMANDS[arguments[0]][0])
        return int(module.main(arguments[1:], prog=prog))
    except ModuleNotFoundError as missing:
        what = how_to_install(missing.name or "a package", "train")
        print(f"{prog}: error: {what}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # while the libraries load; later on a command sees to it itself
        print(f"{prog}: stopped", file=sys.stderr)
        return 130


def _explain(arguments: list[str]) -> int:
    """Answer a command line without a subcommand."""
    listed = "\n".join(f"  {name:10} {does}" for name, (_, does) in COMMANDS.items())
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
