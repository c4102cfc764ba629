"""Reads command lines, and tells in plain words all that is wrong with one."""

from __future__ import annotations

import difflib
import re
import sys
from argparse import Action
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml  # type: ignore[import-untyped]
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from facenet_ext.common.errors import InputError

ENDS = ("-h", "--help", "--help-all", "--print_config", "--print_shtab")
"""What prints and exits: not where something else is wrong."""

_Problem = tuple[str, list[str] | None]
"""What is wrong, and the arguments without what causes it; None where that is not known."""

_UNKNOWN, _MISSING = "unrecognized arguments: ", "the following arguments are required: "
_BOUNDS = {"gt": "above", "ge": "of at least", "lt": "below", "le": "at most"}


class Parser(ArgumentParser):
    """A parser that takes no abbreviations and whose errors are sentences.

    ``parse_args`` raises an :class:`facenet_ext.InputError` that names everything that is wrong.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(exit_on_error=False, allow_abbrev=False, **options)
        # Of a run's defaults the help shows the values, not the file.
        self._action_groups = [
            group for group in self._action_groups if "config file" not in str(group.title)
        ]

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, *more: Any, **options: Any
    ) -> Namespace:
        """Parse arguments: see :meth:`jsonargparse.ArgumentParser.parse_args`.

        Raises:
            InputError: an option is unknown, its value is not allowed, or an argument is missing.
        """
        tokens = list(sys.argv[1:] if args is None else args)
        problems: list[str] = []
        unsure = False  # whether what is left of an unknown option is its value
        while True:
            try:
                parsed = super().parse_args(tokens, *more, **options)
            except ArgumentError as error:
                if unsure and str(error).startswith((_UNKNOWN, _MISSING)):
                    break
                problem, rest = self._explain(str(error), tokens)
                unsure = unsure or str(error).startswith(_UNKNOWN)
                problems.append(problem)
                if rest is None:
                    break
                tokens = [t for t in rest if t.partition("=")[0] not in ENDS]
            else:
                break
        if problems:
            raise InputError(f"{'; '.join(problems)}; see --help")
        return parsed

    def _explain(self, error: str, tokens: list[str]) -> _Problem:
        """Say in plain words what an error of the library is about."""
        if error.startswith(_UNKNOWN):
            return self._unknown(error.removeprefix(_UNKNOWN), tokens)
        if error.startswith(_MISSING):
            return f"{error.removeprefix(_MISSING)}: missing", None
        if match := re.match(r'(?:Parser key "|argument )([^":]+)"?: *(.*)', error, re.DOTALL):
            return self._bad_value(match[1], " ".join(match[2].split()), tokens)
        config, _ = self._config(tokens)
        if match := re.match(r"Option '(.*)' is not accepted", error):
            hint = closest(match[1], (action.dest for action in self._actions))
            return f"{config}: {match[1]}: no such option{hint}", None
        return f"{config}: not a YAML file of options ({' '.join(error.split())})", None

    def _unknown(self, arguments: str, tokens: list[str]) -> _Problem:
        options = [option for action in self._actions for option in action.option_strings]
        known = tokens[: tokens.index("--")] if "--" in tokens else tokens
        unknown = [
            place
            for place, token in enumerate(known)
            if token.startswith("-")
            and not _is_number(token)
            and " " not in token
            and token.partition("=")[0] not in options
        ]
        if not unknown:
            return f"{arguments}: not expected", None
        names = [tokens[place].partition("=")[0] for place in unknown]
        told = "; ".join(f"{name}: no such option{closest(name, options)}" for name in names)
        values = {place + 1 for place in unknown if "=" not in tokens[place]}
        rest = [
            token
            for place, token in enumerate(tokens)
            if place not in unknown and (place not in values or token.startswith("--"))
        ]
        return told, rest

    def _bad_value(self, name: str, reason: str, tokens: list[str]) -> _Problem:
        """Say what is wrong with the value of an option, which ``name`` or its key names."""
        action = next(a for a in self._actions if name == a.dest or name in a.option_strings)
        option = action.option_strings[0] if action.option_strings else name
        expected = f"expected {_expected(action)}"
        places = [i for i, token in enumerate(tokens) if token.partition("=")[0] == option]
        if not places and not action.option_strings:
            given = re.search(r"'(.*?)'", reason)
            return f"{name} {given[1] if given else ''}: {expected}", None
        if not places:
            file, in_file = self._config(tokens, action.dest)
            return f"{file}: {action.dest} {in_file}: {expected}", None
        place = places[-1]
        rest = tokens[:place] + tokens[place + 1 :]
        _, equals, value = tokens[place].partition("=")
        if action.nargs == 0:
            return f"{option}: takes no value", rest
        if not equals:
            value = "".join(rest[place : place + 1])
            if reason == "expected one argument" and not _is_number(value):
                return f"{option}: a value is missing", rest
            del rest[place]
        if name == "config":
            return f"{option} {value}: no such file that can be read", rest
        return f"{option} {value}: {expected}", rest

    def _config(self, tokens: list[str], key: str = "") -> tuple[str, Any]:
        """Return the file of options that is read last and has a key, and what it says there."""
        names = [str(name) for name in self.default_config_files or ()]
        for place, token in enumerate(tokens):
            option, equals, value = token.partition("=")
            if option == "--config":
                names += [value] if equals else tokens[place + 1 : place + 2]
        for name in names[::-1]:
            try:
                values = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
            except (OSError, ValueError, yaml.YAMLError):
                continue
            if isinstance(values, dict) and key in values:
                return name, values[key]
        return (names[-1] if names and names[-1] else "--config"), None


def closest(name: str, names: Iterable[str]) -> str:
    """Return a hint at the name that was probably meant, or nothing.

    Example:
        >>> closest("--max-minute", ["--max-minutes", "--lr"])
        '; did you mean --max-minutes?'
    """
    whole = list(names)
    near = [other for other in whole if other.startswith(name)][:1]
    near = near or difflib.get_close_matches(name.replace("_", "-"), whole, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _is_number(token: str) -> bool:
    try:
        float(token)
    except ValueError:
        return False
    return True


def _expected(action: Action) -> str:
    """Say in plain words what an option takes."""
    if action.choices:
        return f"one of {', '.join(map(str, action.choices))}"
    return _words(getattr(action, "_typehint", None) or action.type or str)


def _words(kind: Any) -> str:
    """Say in plain words what a type takes.

    Example:
        >>> from jsonargparse.typing import PositiveInt
        >>> _words(PositiveInt), _words(tuple[PositiveInt, ...])
        ('a whole number above 0', 'a list such as [1,2], each a whole number above 0')
    """
    origin, inner = get_origin(kind), [k for k in get_args(kind) if k not in (NoneType, Ellipsis)]
    if origin in (Union, UnionType):
        return ", or ".join(_words(one) for one in inner)
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin is tuple:
        return f"a list such as [1,2], each {_words(inner[0])}"
    if kind is bool:
        return "true or false"
    if isinstance(kind, type) and issubclass(kind, str) and kind is not str:
        return str(kind.__doc__)
    if not (isinstance(kind, type) and issubclass(kind, (int, float))):
        return "text"
    restrictions = getattr(kind, "_restrictions", ())
    bounds = [
        f"{_BOUNDS[compare.__name__]} {bound:g}"
        for compare, bound in restrictions
        if bound < sys.float_info.max
    ]
    number = "a whole number" if issubclass(kind, int) else "a number"
    if len(bounds) < len(restrictions):
        number = "a finite number"
    return " ".join([number, " and ".join(bounds)]).strip()
