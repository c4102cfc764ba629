"""``facenet completion``: what lets a shell complete the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NamedTuple

from facenet_ext.cli import COMMANDS, build_parser

__all__ = ["execute"]


class _Command(NamedTuple):
    """A subcommand with its options, and what some of these can be."""

    name: str
    does: str
    choices: dict[str, list[str]]


def execute(found: Any) -> None:
    """Print what the shell reads."""
    commands = [_describe(name) for name in COMMANDS]
    print({"bash": _bash, "zsh": _zsh, "fish": _fish}[found.shell](commands))


def _describe(name: str) -> _Command:
    parser = build_parser(name)
    choices: dict[str, list[str]] = {}
    for action in parser._actions:
        for option in action.option_strings:
            if option.startswith("--") and action.help != argparse.SUPPRESS:
                choices[option] = [str(choice) for choice in action.choices or ()]
    return _Command(name, COMMANDS[name], choices)


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
