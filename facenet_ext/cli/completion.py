"""``facenet completion``: what lets a shell complete the command line."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from jsonargparse import ArgumentParser

from facenet_ext.cli.command_line import make_parser, run

__all__ = ["build_parser", "execute", "main"]

SHELLS = ("bash", "zsh", "fish")


class _Command(NamedTuple):
    """A subcommand with its options, and what some of these can be."""

    name: str
    does: str
    choices: dict[str, list[str]]


def main(argv: Sequence[str] | None = None, prog: str = "facenet completion") -> int:
    """Run the command and return its exit status."""
    return run(build_parser(prog), argv, "facenet_ext.cli.completion")


def build_parser(prog: str) -> ArgumentParser:
    """Return the parser of the command's options."""
    parser = make_parser(
        prog,
        "Print what lets a shell complete the commands and options of 'facenet'.",
        f"source <({prog} bash)\n"
        f"source <({prog} zsh)\n"
        f"{prog} fish > ~/.config/fish/completions/facenet.fish",
    )
    parser.add_argument("shell", choices=SHELLS, help="whose language to print")
    return parser


def execute(found: Any) -> None:
    """Print what the shell reads."""
    commands = [_describe(name) for name in _commands()]
    print({"bash": _bash, "zsh": _zsh, "fish": _fish}[found.shell](commands))


def _commands() -> dict[str, tuple[str, str]]:
    from facenet_ext.cli import COMMANDS

    return COMMANDS


def _describe(name: str) -> _Command:
    module, does = _commands()[name]
    parser = importlib.import_module(module).build_parser(f"facenet {name}")
    choices: dict[str, list[str]] = {}
    for action in parser._actions:
        for option in action.option_strings:
            if option.startswith("--") and action.help != argparse.SUPPRESS:
                choices[option] = [str(choice) for choice in action.choices or ()]
    return _Command(name, does, choices)


def _bash(commands: Sequence[_Command]) -> str:
    options, values = [], []
    for command in commands:
        options.append(f"    {command.name}) words='{' '.join(command.choices)}' ;;")
        values += [
            f"    {command.name}:{option}) words='{' '.join(choices)}' ;;"
            for option, choices in command.choices.items()
            if choices
        ]
    names = " ".join(command.name for command in commands)
    return "\n".join(
        [
            "_facenet() {",
            '  local now="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"',
            '  local command="${COMP_WORDS[1]}" words=""',
            '  if [ "$COMP_CWORD" -eq 1 ]; then',
            f"    words='{names} --help --version'",
            "  else",
            '    case "$command:$before" in',
            *values,
            "    esac",
            '    if [ -z "$words" ] && [[ "$now" == -* ]]; then',
            '      case "$command" in',
            *(f"  {line}" for line in options),
            "      esac",
            "    fi",
            "  fi",
            '  COMPREPLY=($(compgen -W "$words" -- "$now"))',
            "}",
            "complete -o default -F _facenet facenet",
        ]
    )


def _zsh(commands: Sequence[_Command]) -> str:
    """Zsh completes by bash's way, and files where that has nothing to say."""
    return "autoload -U +X bashcompinit && bashcompinit\n" + _bash(commands)


def _fish(commands: Sequence[_Command]) -> str:
    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    lines = []
    for command in commands:
        start = "complete -c facenet -n __fish_use_subcommand -f"
        lines.append(f"{start} -a {command.name} -d {quoted(command.does)}")
        for option, choices in command.choices.items():
            line = f"complete -c facenet -n '__fish_seen_subcommand_from {command.name}'"
            line += f" -l {option.removeprefix('--')}"
            lines.append(line + (f" -x -a {quoted(' '.join(choices))}" if choices else ""))
    return "\n".join(lines)
