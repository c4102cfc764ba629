"""``facenet completion``: what lets a shell complete the command line."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from facenet_ext.cli.command_line import make_parser

__all__ = ["build_parser"]


def build_parser(prog: str) -> ArgumentParser:
    """Return the parser of the command's options."""
    parser = make_parser(
        prog,
        "Print what lets a shell complete the commands and options of 'facenet'.",
        f'eval "$({prog} bash)"\n'
        f'eval "$({prog} zsh)"\n'
        f"{prog} fish > ~/.config/fish/completions/facenet.fish",
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="whose language to print")
    return parser
