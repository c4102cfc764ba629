"""Warnings of the commands that judge images."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from facenet_ext.common.errors import in_flags


class Warnings:
    """One-line warnings: told once each before the answer, and no line of a refusal.

    Args:
        console: where they are told.

    Attributes:
        texts: the sentences, for ``--json``.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.texts: list[str] = []

    def add(self, *texts: str) -> None:
        """Add sentences that are not there yet."""
        named = dict.fromkeys(map(in_flags, texts))
        self.texts += [text for text in named if text not in self.texts]

    def tell(self) -> None:
        """Print them all."""
        for text in self.texts:
            line = Text.assemble(("warning", "yellow"), f": {text}")
            self.console.print(line, soft_wrap=True)
