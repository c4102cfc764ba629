"""The package's docstrings as Markdown: they are written as Sphinx and editors read them.

A Griffe extension, see ``mkdocs.yml``. It knows what the docstrings use: math, roles, simple
tables, literal blocks and the section "Example".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from griffe import Extension, Module, Object

_MATH = re.compile(r"^( *)\.\. math::(.*(?:\n(?:\1 +\S.*| *(?=\n\1 +\S)))*)", re.MULTILINE)
_ROLE = re.compile(r":(?:func|class|meth|mod):`~?([\w.]+)`")
_TABLE = re.compile(r"^( *)(=+(?: +=+)+)\n((?:.*\n)+?)\1\2\n((?:.*\n)+?)\1\2$", re.MULTILINE)


class MarkdownDocstrings(Extension):
    """Rewrites every docstring of a package once all of it is read."""

    def on_package(self, *, pkg: Module, **kwargs: Any) -> None:
        """Rewrite the docstrings of a package, with links to what its public names stand for."""
        names = {name: target.canonical_path for name, target in _public(pkg)}
        self._rewrite(pkg, names)

    def _rewrite(self, item: Object, names: dict[str, str]) -> None:
        own = {name: member.canonical_path for name, member in _public(item.module)}
        if item.docstring:
            found = {**names, **own}
            item.docstring.value = to_markdown(item.docstring.value, found.get)
        for member in item.members.values():
            if not member.is_alias:
                self._rewrite(member, names)  # type: ignore[arg-type]


def _public(module: Object) -> list[tuple[str, Any]]:
    return [
        (name, member.final_target if member.is_alias else member)  # type: ignore[union-attr]
        for name, member in module.members.items()
        if name in (module.exports or ())
    ]


def to_markdown(text: str, find: Callable[[str], str | None]) -> str:
    """A docstring as Markdown.

    Args:
        text: the docstring.
        find: the full name of what a short name stands for, or None.

    Returns:
        The text, with ``$$`` around formulas, links for roles, and tables of bars.
    """
    text = _MATH.sub(lambda m: f"{m[1]}$$\n{m[1]}{' '.join(m[2].split())}\n{m[1]}$$", text)
    text = _ROLE.sub(lambda m: _link(m[1], find), text)
    text = _TABLE.sub(_table, text)
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
    return re.sub(r"::$", ":", text, flags=re.MULTILINE)


def _link(name: str, find: Callable[[str], str | None]) -> str:
    path = name if name.startswith("facenet_ext.") else find(name)
    return f"[`{name}`][{path}]" if path else f"`{name}`"


def _table(match: re.Match[str]) -> str:
    indent, rule, head, body = match.groups()
    edges = [(part.start(), part.end()) for part in re.finditer("=+", rule)]
    starts = [start for start, _ in edges]

    def cells(line: str) -> list[str]:
        line = line[len(indent) :]
        return [
            line[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)
        ]

    rows: list[list[str]] = []
    for line in body.splitlines():
        row = cells(line)
        if row[0] or not rows:
            rows.append(row)
        else:  # the cells above go on
            rows[-1] = [
                f"{above} {more}".strip() for above, more in zip(rows[-1], row, strict=True)
            ]
    table = [cells(head.splitlines()[0]), ["---"] * len(edges), *rows]
    return "\n".join(f"{indent}| {' | '.join(row)} |" for row in table)
