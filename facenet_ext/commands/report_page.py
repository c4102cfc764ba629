"""The page of a report: one HTML file that needs no other."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jinja2
from matplotlib.figure import Figure

from facenet_ext.common.fonts import draw_png

_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 2rem auto;
         max-width: 62rem; padding: 0 1rem; }
  h1 { font-size: 1.7rem; line-height: 1.2; margin-bottom: .2rem; overflow-wrap: anywhere; }
  h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; }
  .note, .date { color: #595959; margin: .2rem 0 .8rem; }
  .verdict { font-size: 1.15rem; margin: 1.2rem 0; padding: .8rem 1.1rem; background: #eef4f9;
             border-left: .35rem solid #0072b2; border-radius: .2rem; }
  .warning { margin: .5rem 0; padding: .5rem 1.1rem; background: #fdf1e7;
             border-left: .35rem solid #d55e00; border-radius: .2rem; overflow-wrap: anywhere; }
  .cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(13.5rem, 1fr));
           gap: .8rem; }
  .card { border: 1px solid #ddd; border-radius: .4rem; padding: .7rem 1rem; }
  .card strong { display: block; font-size: 1.45rem; font-weight: 600; line-height: 1.4;
            font-variant-numeric: tabular-nums; white-space: nowrap; }
  .card small { display: block; color: #595959; line-height: 1.35; }
  dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.4rem; margin: 0; }
  dt { color: #595959; } dd { margin: 0; overflow-wrap: anywhere; }
  pre { background: #f5f5f5; border-radius: .3rem; padding: .7rem 1rem; margin: .8rem 0 0;
        white-space: pre-wrap; overflow-wrap: anywhere; font-size: .88rem; }
  img { max-width: 100%; } .two { display: flex; flex-wrap: wrap; gap: 1rem; }
  .two img { flex: 1 1 26rem; min-width: 0; max-width: 30rem; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p class="date">{{ date }}</p>
<p class="verdict">{{ verdict }}</p>
{% for text in warnings %}
<p class="warning">{{ text }}</p>
{% endfor %}
{% for section in sections %}
<h2 id="{{ section.title|lower|replace(' ', '-') }}">{{ section.title }}</h2>
{% if section.note %}<p class="note">{{ section.note }}</p>{% endif %}
{% if section.cards %}
<div class="cards">
{% for card in section.cards %}
<div class="card">{{ card.name }}<strong>{{ card.value }}</strong>
<small>{{ card.note }}</small></div>
{% endfor %}
</div>
{% endif %}
{% if section.facts %}
<dl>
{% for name, value in section.facts %}
<dt>{{ name }}</dt><dd>{{ value }}</dd>
{% endfor %}
</dl>
{% endif %}
{% if section.command %}
<pre>{{ section.command }}</pre>
{% endif %}
{% if section.pictures %}
<div{% if section.pictures|length > 1 %} class="two"{% endif %}>
{% for alt, picture in section.pictures %}
<img alt="{{ alt }}" src="data:image/png;base64,{{ picture|png }}">
{% endfor %}</div>
{% endif %}
{% endfor %}
</body>
</html>
"""


class Card(NamedTuple):
    """A figure to see at a glance.

    Attributes:
        name: of the figure.
        value: as it is shown.
        note: what it means.
    """

    name: str
    value: str
    note: str


@dataclass
class Section:
    """A heading, and what is below it.

    Attributes:
        title: the heading.
        note: a sentence or two.
        cards: figures.
        facts: names with what they are.
        command: a command line.
        pictures: each with words for who cannot see it.
    """

    title: str
    note: str = ""
    cards: Sequence[Card] = ()
    facts: Sequence[tuple[str, str]] = ()
    command: str = ""
    pictures: Sequence[tuple[str, Figure]] = ()


def render(
    title: str, date: str, verdict: str, warnings: Sequence[str], sections: Sequence[Section]
) -> str:
    """Return the page as HTML."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["png"] = _encode
    return environment.from_string(_TEMPLATE).render(
        title=title, date=date, verdict=verdict, warnings=warnings, sections=sections
    )


def _encode(figure: Figure) -> str:
    return base64.b64encode(draw_png(figure, dpi=110)).decode("ascii")
