"""What the site's build does beyond MkDocs: formulas, and a check of its own.

Formulas become MathML, which browsers draw themselves: no script, no network.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import latex2mathml.converter
from mkdocs.exceptions import PluginError

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
_FETCHED = re.compile(
    r'<(?:script|img|iframe|source)\b[^>]*\bsrc="https?:[^>]*>'
    r'|<link\b(?=[^>]*\brel="(?:stylesheet|preconnect|preload|icon)")[^>]*\bhref="https?:[^>]*>'
    r"|@import[^;]*https?:"
)
_LEFT_OVER = re.compile(r":(?:func|class|meth|mod|data):|\.\. math::|={4,} ={4,}|--8<--")


def on_page_content(html: str, **context: Any) -> str:
    """Turn every formula into MathML."""
    return _FORMULA.sub(_mathml, html)


def on_post_build(config: Any, **context: Any) -> None:
    """Refuse a site that would fetch anything from elsewhere, or shows what nothing rendered."""
    for page in Path(config.site_dir).rglob("*.html"):
        text = page.read_text()
        if fetched := _FETCHED.search(text):
            raise PluginError(f"{page.name} fetches from another site: {fetched[0]}")
        if left_over := _LEFT_OVER.search(text):
            raise PluginError(f"{page.name} shows {left_over[0]!r} as it is")


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
