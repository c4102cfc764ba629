"""The command line of training: what was given, and what the data or a preset says otherwise."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]
from jsonargparse import ArgumentParser

from facenet_ext.cli.arguments import add_arguments, read_arguments
from facenet_ext.cli.command_line import HelpAll, make_parser, show_default
from facenet_ext.cli.parsing import ENDS
from facenet_ext.common.errors import InputError
from facenet_ext.common.text import read_text
from facenet_ext.embedding.folders import CONFIG, LAST, find_checkpoint, run_of
from facenet_ext.embedding.options import (
    Options,
    groups,
    is_features,
    read_options,
    spelled,
    text_of,
)

_CONFIGS = Path(__file__).parent / "configs"

_DISTILLED = {
    "members": 1,
    "loss": "triplet",
    "test_shift": 0.0,
    "test_flip": False,
    "fisher_step": 2,
    "dropout": 0.0,
    "mine_every": 0,
    "max_minutes": None,
    "output": None,
}
"""What a run with ``--distil`` has, in place of the options of the run that it learns from."""


class CommandLine(NamedTuple):
    """What a command line says.

    Attributes:
        options: of the run.
        resume: what ``--resume`` said: None, :data:`.folders.LAST`, or a path.
        given: the names of the options that a person gave, there or in a ``--config`` file, and
            "preset".
    """

    options: Options
    resume: str | None
    given: frozenset[str]


def parse(argv: Sequence[str] | None, prog: str) -> CommandLine:
    """Read the command line.

    Args:
        argv: arguments; None takes the process's own.
        prog: the command's name, for the help.

    Raises:
        InputError: an option is unknown or its value is not allowed.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _check_config(arguments)
    # The defaults depend on --data and --resume, so look at these first.
    first = training_parser(prog, None)
    given = first.parse_args(_without_exits(arguments), defaults=False)
    kind_is_open = {"data", "preset", "resume", "distil"}.isdisjoint(given.keys())
    parser = training_parser(prog, _defaults_file(given), kind_is_open)
    parsed = parser.parse_args([*_distilled(given), *arguments])
    options = {name: read_arguments(cls, parsed) for name, cls in groups().items()}
    names = frozenset(given.keys()) & {"preset", *Options().flat()}
    if "max_epochs" in names and "max_steps" not in names:  # a preset's steps would count instead
        options["run"] = dataclasses.replace(options["run"], max_steps=None)
    return CommandLine(Options(**options), parsed.resume, names)


def _check_config(argv: Sequence[str]) -> None:
    """Refuse a file that is no text, which jsonargparse does not expect."""
    for name, after in zip(argv, [*argv[1:], ""], strict=False):
        path = after if name == "--config" else name.removeprefix("--config=")
        if name.startswith("--config") and os.path.isfile(path):  # any other text is YAML itself
            read_text(Path(path), f"--config {path}:")


def training_parser(prog: str, defaults: Path | None, kind_is_open: bool = True) -> ArgumentParser:
    """Return the parser of all options.

    Args:
        prog: the command's name.
        defaults: a file of defaults, or None.
        kind_is_open: let the help show the defaults for every kind of data, where they differ.
    """
    parser = make_parser(
        prog,
        "Train an embedding with the FaceNet triplet loss and report how well it verifies "
        "identities it has never seen.",
        f"{prog}\n"
        f"{prog} --data faces --max-minutes 60\n"
        f"{prog} --preset paper --data faces --output runs/paper\n"
        f"{prog} --resume",
        usage=f"{prog} [options]",
        default_config_files=[str(defaults)] if defaults else [],
    )
    parser.add_argument(
        "--help-all", action=HelpAll, help="show all options, also rare ones, and exit"
    )
    parser.add_argument(
        "--preset",
        choices=_presets(),
        help="defaults to start from; unless given, those for the kind of data: digits, faces "
        "(images) or features (.npz)",
    )
    parser.add_argument("--config", action="config", help="YAML file of options")
    (printing,) = (a for a in parser._actions if "--print_config" in a.option_strings)
    printing.help = "print all options with their values, as a file for --config, and exit"
    by_kind = _defaults_by_kind() if kind_is_open else {}
    for cls in groups().values():
        section = parser.add_argument_group(str(cls.__doc__).rstrip("."))
        for action in add_arguments(section, cls, cls.__dataclass_fields__, flags=False):
            if action.dest in by_kind:
                show_default(action, by_kind[action.dest])
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=LAST,
        metavar="CHECKPOINT",
        help="continue a run, with its options; without a checkpoint, the latest run in runs/ or "
        "the one in --output",
    )
    return parser


def _without_exits(argv: Sequence[str] | None) -> list[str]:
    """Drop options that print and exit: the second parser, which has the defaults, answers them."""
    given = sys.argv[1:] if argv is None else argv
    return [a for a in given if a.partition("=")[0] not in ENDS]


def _distilled(given: Any) -> list[str]:
    """Return the options in which a model differs from the one that it learns from."""
    if given.get("distil") is None or given.get("resume") is not None:
        return []
    if "preset" in given:
        raise InputError(
            f"`preset` {given.preset}: with `distil` the options are those of the run to learn "
            "from; leave it out"
        )
    model = read_options(run_of(given.distil, "distil") / CONFIG).model
    values = {"embedding_dim": model.members * model.embedding_dim, **_DISTILLED}
    return [part for name, value in values.items() for part in spelled(name, value).split(" ", 1)]


def _defaults_file(given: Any) -> Path:
    """Return the file of defaults: of a run to resume or learn from, a preset, a kind of data."""
    resume = given.get("resume")
    if resume is not None:
        return find_checkpoint(resume, given.get("output")).parent.parent / CONFIG
    if given.get("distil") is not None:
        return run_of(given.distil, "distil") / CONFIG
    data = given.get("data", "digits")
    kind = "digits" if data == "digits" else "features" if is_features(data) else "faces"
    return _CONFIGS / f"{given.get('preset') or kind}.yaml"


def _defaults_by_kind() -> dict[str, str]:
    """Return in words the defaults of the options in which the presets differ."""
    presets = {
        name: yaml.safe_load((_CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
        for name in _presets()
    }
    shown = {}
    for name, own in Options().flat().items():
        others = {preset: v[name] for preset, v in presets.items() if v.get(name, own) != own}
        texts = [f"for {preset} {text_of(value)}" for preset, value in others.items()]
        if len(others) < len(presets):
            texts.insert(0, text_of(own))
        if others:
            shown[name] = ", ".join(texts)
    return shown


def _presets() -> list[str]:
    return sorted(path.stem for path in _CONFIGS.glob("*.yaml"))
