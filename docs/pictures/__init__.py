"""The pictures of the documentation, drawn from what the library selects and differentiates.

``python -m docs.pictures`` draws them all into ``docs/images``.
"""

from docs.pictures.gradients import draw_gradients
from docs.pictures.selections import draw_kinds, draw_negatives, draw_positives

PICTURES = {
    "negatives": draw_negatives,
    "positives": draw_positives,
    "kinds": draw_kinds,
    "gradients": draw_gradients,
}
