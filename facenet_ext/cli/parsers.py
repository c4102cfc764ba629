"""The parser of each command but ``train``, and how a command is run."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from inspect import cleandoc
from typing import Any

from jsonargparse import ArgumentParser

from facenet_ext.cli.arguments import add_arguments, read_arguments
from facenet_ext.cli.command_line import make_parser, run
from facenet_ext.commands import evaluation_options, options
from facenet_ext.commands.options import (
    CheckpointOptions,
    CommandOptions,
    PhotoOptions,
    ThresholdOptions,
)
from facenet_ext.common.interrupts import loading
from facenet_ext.common.launch import is_first
from facenet_ext.common.processes import join

_DIVIDED = {"align", "mine", "embed", "evaluate", "identify", "cluster", "harmonize"}
"""Commands whose work several processes divide; of the others the first process does all."""

_GROUPS = (CheckpointOptions, PhotoOptions, ThresholdOptions)
"""Options that several commands share, and that their help shows under a title."""


def build_parser(name: str) -> ArgumentParser:
    """Return the parser of a command's options."""
    cls = _options(name)
    parser = make_parser(f"facenet {name}", cleandoc(str(cls.__doc__)), cleandoc(cls.examples))
    names = [*vars(cls)["__annotations__"]]
    if issubclass(cls, CommandOptions):
        names += ["json"]
    add_arguments(parser, cls, names, flags=True)
    for base in _GROUPS:
        if issubclass(cls, base):
            group = parser.add_argument_group(str(base.__doc__).rstrip("."))
            add_arguments(group, base, vars(base)["__annotations__"], flags=True)
    return parser


def _options(name: str) -> type[Any]:
    """Return the class of a command's options: that of ``embed`` is ``EmbedOptions``."""
    module = evaluation_options if name in ("evaluate", "compare") else options
    cls: type[Any] = getattr(module, f"{name.capitalize()}Options")
    return cls


def run_command(name: str, argv: Sequence[str]) -> int:
    """Read the command line and run a command.

    What does the work is imported after the command line is read: that takes seconds, and neither
    ``--help`` nor a wrong option should wait for it.

    Args:
        name: of the command; the function ``execute`` of ``commands/<name>.py`` is called with its
            options, and returns the exit status, None for 0. ``completion`` reads the parsers of
            all commands, so its module is beside them: ``cli/completion.py``.
        argv: arguments.

    Returns:
        The exit status: see :func:`.command_line.run`.
    """
    prog = f"facenet {name}"
    divided = name in _DIVIDED
    package = "cli" if name == "completion" else "commands"

    def work() -> int | None:
        given = read_arguments(_options(name), build_parser(name).parse_args(argv))
        if not divided and not is_first():
            return 0
        with loading(prog):
            execute = importlib.import_module(f"facenet_ext.{package}.{name}").execute
            # harmonize trains, and training forms the group itself.
            if divided and name != "harmonize":
                join(getattr(given, "device", "cpu"))
        status: int | None = execute(given)
        return status

    stopped = "give the same command again to continue" if name == "harmonize" else ""
    return run(prog, work, stopped, divided=divided)
