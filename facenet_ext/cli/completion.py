"""``facenet completion``: what lets a shell complete the command line."""

from __future__ import annotations

import argparse
from typing import Literal, get_args, get_origin

import shtab

from facenet_ext.cli import COMMANDS, build_parser
from facenet_ext.commands.options import CompletionOptions


def execute(options: CompletionOptions) -> None:
    """Print what the shell reads."""
    print(shtab.complete(_all_commands(), options.shell))


def _all_commands() -> argparse.ArgumentParser:
    """Return one parser of all commands, whose arguments say what completes them."""
    parser = argparse.ArgumentParser("facenet")
    parser.add_argument("--version", action="version", help="print the version and exit")
    commands = parser.add_subparsers()
    for name, does in COMMANDS.items():
        options = [build_parser(name)]
        command = commands.add_parser(name, help=does, parents=options, add_help=False)
        for action in command._actions:
            kind = getattr(action, "_typehint", action.type)
            choices = [k for k in (kind, *get_args(kind)) if get_origin(k) is Literal]
            if choices:
                action.choices = get_args(choices[0])
            elif kind is bool:
                action.choices = ("true", "false")
            elif not action.choices and action.nargs != 0 and kind in (None, str, str | None):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return parser
