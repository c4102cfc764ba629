"""What the site's build does beyond MkDocs: formulas, and docstrings as Markdown.

Formulas become MathML, which browsers draw themselves: no script, no network.
"""

from __future__ import annotations

import html
import re
from typing import Any

import latex2mathml.converter
from griffe import Extension, Object
from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
_FETCHED = re.compile(
    r'<(script|img|iframe|source) [^>]*src="https?:|@import[^;]*https?:'
    r'|<link (?=[^>]*rel="(stylesheet|preconnect|preload|icon)")[^>]*href="https?:'
)
_MARKUP = re.compile(r".*(:(func|class|meth|mod|data):|\.\. math::|={4,} ={4,}|--8<--).*")
_MATH = re.compile(r"^( *)\.\. math::(.*(?:\n(?:\1 +\S.*| *(?=\n\1 +\S)))*)", re.MULTILINE)


class MarkdownDocstrings(Extension):
    """Turns what docstrings have for Sphinx and editors into Markdown: see ``mkdocs.yml``."""

    def on_object(self, *, obj: Object, **context: Any) -> None:
        """Rewrite formulas, roles and the name of the examples."""
        if obj.docstring:
            text = _MATH.sub(r"\1$$\n\1\2\n\1$$", obj.docstring.value)
            text = re.sub(r":(?:func|class|meth|mod):`\.?([\w.]+)`", r"[`\1`][\1]", text)
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)


def on_page_content(html: str, **context: Any) -> str:
    """Turn every formula into MathML."""
    return _FORMULA.sub(_mathml, html)


def on_post_page(output: str, page: Page, **context: Any) -> str:
    """Refuse a page that fetches from elsewhere, or has markup left as it was written."""
    for pattern in (_FETCHED, _MARKUP):
        if match := pattern.search(output):
            raise PluginError(f"{page.file.src_uri}: {match[0]}")
    return output


def _mathml(match: re.Match[str]) -> str:
    display = "block" if match[1] == "div" else "inline"
    # What the converter does not know, or would let grow beside an exponent.
    formula = re.sub(
        r"\\arg\s*\\(min|max)", r"\\operatorname{arg\1}", html.unescape(match[2]).strip()
    )
    mathml = latex2mathml.converter.convert(formula, display=display)
    mathml = mathml.replace("<mi>log</mi>", '<mi>log</mi><mspace width="0.167em" />')
    mathml = mathml.replace("<mo>&#x02016;</mo>", '<mo stretchy="false">&#x02016;</mo>')
    if "\\" in mathml:
        raise PluginError(f"a formula has a command that nothing renders: {formula}")
    return f'<{match[1]} class="formula">{mathml}</{match[1]}>'
