"""What all subcommands share: how they read their options and how they end."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
import traceback
from argparse import Action, _HelpAction
from collections.abc import Callable
from typing import Any, TextIO

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from facenet_ext.cli.parsing import Parser
from facenet_ext.common import processes
from facenet_ext.common.errors import InputError, InterruptedRunError, in_flags
from facenet_ext.common.plain_warnings import tell_warnings


def make_parser(prog: str, description: str, examples: str, **more: Any) -> ArgumentParser:
    """Return a parser whose help ends with examples.

    Args:
        prog: the command's name.
        description: what it does.
        examples: a command line each.
        more: what else the parser takes.
    """
    lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    return Parser(
        prog=prog,
        description=description,
        epilog=f"examples:\n{lines}",
        formatter_class=_Formatter,
        **more,
    )


def show_default(action: Action, text: str) -> None:
    """Let the help say this of an option's default."""
    action.shown_default = text  # type: ignore[attr-defined]


class HelpAll(_HelpAction):
    """``--help-all``: the help, with the options that ``--help`` leaves out."""

    def __call__(self, parser: argparse.ArgumentParser, *more: Any) -> None:
        """Print it, and exit."""
        for action in parser._actions:
            action.rare = False  # type: ignore[attr-defined]
        super().__call__(parser, *more)


class _Formatter(DefaultHelpFormatter):
    """Leaves the lines of the examples as they are, and out what types are called in Python."""

    def add_argument(self, action: Action) -> None:
        if not getattr(action, "rare", False):
            super().add_argument(action)

    def _get_type_str(self, action: Action) -> None:
        return None

    def _get_help_string(self, action: Action) -> str:
        if action.nargs == 0 or action.required:  # there is no default to tell of
            return action.help or ""
        text = super()._get_help_string(action)
        return text.replace("%(default)s", getattr(action, "shown_default", "%(default)s"))

    def _expand_help(self, action: Action) -> str:
        return super()._expand_help(action).replace(" (default: null)", "")

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:\n"):
            return text
        return super()._fill_text(text, width, indent)


def run(
    prog: str,
    work: Callable[[], int | None],
    stopped: str = "",
    *,
    divided: bool = False,
    again: str = "start the command again",
) -> int:
    """Do the work of a command, and tell in one line what ended it early.

    With ``FACENET_TRACEBACK=1`` in the environment a traceback stands above that line.

    Args:
        prog: the command's name.
        work: returns the exit status, None for 0.
        stopped: what to do after Ctrl-C.
        divided: whether processes that torchrun started divide the work. If so, the first one alone
            prints, and an error that ends all of them is told once.
        again: what to do after another process has ended.

    Returns:
        The exit status: that of the work; 2 where the input cannot be used; 130 where the user
        stopped it; 1 where another process has ended.
    """
    end = functools.partial(_end, prog, sys.stderr, divided)
    with processes.others_silent() if divided else contextlib.nullcontext():
        try:
            with tell_warnings(lambda text: print(text, file=sys.stderr)):
                status = work() or 0
            sys.stdout.flush()
            return status
        except BrokenPipeError:  # whoever read it has seen enough
            _end_output()
            return 2
        except OSError as error:
            _end_output()
            return end(error, 2, f"error: {error}")
        except InputError as error:
            return end(error, 2, f"error: {in_flags(' '.join(str(error).split()))}")
        except InterruptedRunError as stop:
            how = f"continue with {prog} --resume {stop.checkpoint}" if stop.checkpoint else stopped
            return end(stop, 130, f"stopped; {how}")
        except KeyboardInterrupt as stop:
            return end(stop, 130, f"stopped; {stopped}" if stopped else "stopped")
        except Exception as error:  # a fault of this program, or of another process
            if not (divided and processes.is_one_of_many()):
                raise
            if processes.is_lost(error):
                return end(error, 1, f"error: another process has ended; {again}")
            return end(error, 1, "".join(traceback.format_exception(error)))
        finally:
            processes.leave()


def _end(
    prog: str, stderr: TextIO, divided: bool, error: BaseException, status: int, told: str
) -> int:
    def tell() -> None:
        if os.environ.get("FACENET_TRACEBACK", "0") != "0":
            traceback.print_exception(error, file=stderr)
        print(f"{prog}: {told}", file=stderr, flush=True)

    if divided:
        processes.tell_once(error, tell)
    else:
        tell()
    return status


def _end_output() -> None:
    """Write what is left of the output, or nowhere if it cannot be: Python tries again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
