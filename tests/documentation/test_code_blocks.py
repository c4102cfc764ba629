"""Code in the pages: Python runs as doctests, what a shell would run exists.

`make test` collects README.md and docs/ as doctests. A block that is neither Python nor a shell's
has no language and shows no code.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from pages import PAGES, ROOT, blocks, inline_code

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = dict(re.findall(r"^([\w-]+):[^=\n]*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_are_doctests(page: Path) -> None:
    for where, language, text in blocks(page):
        assert language in ("", "python", "sh"), f"{where}: a language that nothing checks"
        if language == "python":
            assert text.startswith(">>> "), f"{where}: not a doctest, so nothing runs it"
            assert text.endswith("\n\n"), f"{where}: its last output needs an empty line"
        else:
            assert ">>> " not in text, f"{where}: say that it is python"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_shell_would_run_exists(page: Path) -> None:
    lines = [
        line
        for block in blocks(page)
        if block.language == "sh"
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    lines += [code for code in inline_code(page) if re.match(r"(make|facenet|python -m) ", code)]
    for line in lines:
        words = shlex.split(line, comments=True)
        while words and re.match(r"\w+=", words[0]):
            del words[0]
        if words:
            _check(line, Path(words[0]).name, words[1:])


def _check(line: str, program: str, words: list[str]) -> None:
    if program == "make":
        _check_make(line, words)
    elif program == "facenet":
        _check_options(line, ("facenet_ext.cli", *words[:1]), words[1:])
    elif program.startswith("python"):
        assert words[0] == "-m", f"{line}: what does it run?"
        assert importlib.util.find_spec(words[1]), f"{line}: there is no such module"
        if words[1] == "facenet_ext.cli":
            _check(line, "facenet", words[2:])
        else:
            _check_options(line, (words[1],), words[2:])
    elif program == "pip":
        pyproject = (ROOT / "pyproject.toml").read_text()
        for extra in re.findall(r"\.\[([\w,]+)\]", line):
            for name in extra.split(","):
                assert re.search(rf"^{name} = \[", pyproject, re.MULTILINE), f"{line}: {name}?"
    elif program == "torchrun":
        module = words.index("-m")
        _check_options(line, ("torch.distributed.run",), words[:module])
        _check(line, "python", words[module:])
    elif program == "sbatch":
        assert (ROOT / words[0]).is_file(), f"{line}: there is no such file"
    elif program == "export":
        assert "=" in words[0], f"{line}: what is the variable's value?"
    elif program == "eval":  # what a command prints
        inner = shlex.split(" ".join(words).removeprefix("$(").removesuffix(")"))
        _check(line, inner[0], inner[1:])
    else:
        assert program in ("cmake", "pre-commit", "run"), f"{line}: nothing checks {program}"


def _check_make(line: str, words: list[str]) -> None:
    for word in words:
        name, assigned, value = word.partition("=")
        if not assigned:
            assert name in TARGETS, f"{line}: the Makefile has no such target"
            continue
        assert f"$({name})" in MAKEFILE, f"{line}: the Makefile does not read {name}"
        if name == "ARGS":
            (module,) = re.findall(r"-m ([\w.]+)", TARGETS[words[0]])
            _check_options(line, (module,), value.split())


def _check_options(line: str, command: tuple[str, ...], words: list[str]) -> None:
    for option in (word.partition("=")[0] for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", _help(command)), f"{line}: there is no {option}"


@functools.cache
def _help(command: tuple[str, ...]) -> str:
    """What a module says with --help: of all options, also of those that training shows last."""
    module, *words = command
    of_training = words == ["train"] or module == "facenet_ext.train"
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(io.StringIO()) as said,
        contextlib.suppress(SystemExit),
    ):
        patch.setattr(sys, "argv", [module, *words, "--help-all" if of_training else "--help"])
        patch.syspath_prepend(ROOT)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    return said.getvalue()
