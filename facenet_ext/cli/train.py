"""The command: reads the options, runs, and tells what went wrong in one line."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from facenet_ext.cli.command_line import run
from facenet_ext.cli.train_options import parse
from facenet_ext.common.console import make_console
from facenet_ext.common.errors import in_flags
from facenet_ext.common.interrupts import loading, terminable
from facenet_ext.common.launch import is_first, restarted
from facenet_ext.embedding.folders import CHECKPOINTS, LAST_FILE, METRICS, find_checkpoint


def main(argv: Sequence[str] | None = None, prog: str = "python -m facenet_ext.train") -> int:
    """Run the command and return its exit status.

    Args:
        argv: arguments; None takes the process's own.
        prog: the command's name, for messages.

    Returns:
        The exit status: see :func:`.command_line.run`.
    """
    started = time.monotonic()
    arguments = list(sys.argv[1:] if argv is None else argv)

    def work() -> None:
        with terminable():
            _run(arguments, prog, started)

    return run(
        prog,
        work,
        stopped="there is no checkpoint yet, start again",
        divided=True,
        again="unless all are started again by themselves, continue with --resume",
    )


def _run(arguments: list[str], prog: str, started: float) -> None:
    options, resume, given = parse(arguments, prog)
    if restarted() and resume is None and _begun(options.run.output):
        options, resume, given = parse([*arguments, "--resume"], prog)
    as_json = "--json" in arguments
    console = make_console(stderr=as_json)
    console.quiet = not is_first()
    with loading(prog):  # not for --help or a wrong option
        from facenet_ext.train.fitting import fit

    checkpoint = find_checkpoint(resume, options.run.output) if resume else None
    command = [*prog.split(), *arguments]
    options, fitted = fit(options, given, command=command, checkpoint=checkpoint)
    if fitted:
        console.print(in_flags(fitted), soft_wrap=True)
    with loading(prog):  # takes seconds
        from facenet_ext.train.progress import quiet
        from facenet_ext.train.run import train

    quiet()
    folder = train(options, checkpoint, console=console, given=given, started=started)
    if as_json and is_first():
        figures = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        print(json.dumps({"folder": str(folder)} | figures, indent=2))


def _begun(output: str | None) -> bool:
    """Return whether a run in this folder has a checkpoint."""
    return output is not None and (Path(output) / CHECKPOINTS / LAST_FILE).is_file()
