"""Draws photos of people who do not exist, to try ``facenet align`` and what follows.

``python -m examples.drawn_photos photos`` writes ``photos/<person>/<photo>``. A person has a shape
and colours of the face, a photo an angle, a size, a light and a background.
"""

from __future__ import annotations

import argparse
import colorsys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

FACE = 400
"""Height and width that a face is drawn with, pixels."""


class Drawn(NamedTuple):
    """A photo, and the points of its faces, [N, 5, 2], in the order of ``facenet align``."""

    photo: Image.Image
    points: NDArray[np.float64]


def draw_face(person: int) -> tuple[Image.Image, NDArray[np.float64]]:
    """Return a face, opaque on nothing, and its points [5, 2]."""
    draw = np.random.default_rng([person, 1])

    def colour(hue: float, saturation: float, value: float, shade: float = 1.0) -> tuple[int, ...]:
        rgb = colorsys.hsv_to_rgb(hue % 1, saturation, min(1.0, value * shade))
        return tuple(int(255 * channel) for channel in rgb)

    skin = (draw.uniform(0.05, 0.09), draw.uniform(0.25, 0.45), draw.uniform(0.82, 0.95))
    hair = colour(draw.uniform(0.0, 0.12), draw.uniform(0.2, 0.8), draw.uniform(0.1, 0.45))
    iris = colour(draw.uniform(0.0, 0.7), 0.6, draw.uniform(0.1, 0.4))
    lips = colour(draw.uniform(0.95, 1.02), draw.uniform(0.4, 0.65), draw.uniform(0.55, 0.75))
    width, apart = draw.uniform(27, 31), draw.uniform(13, 15.5)
    eyes, nose, mouth = draw.uniform(44, 46), draw.uniform(63, 66), draw.uniform(77, 80)
    lip, brow, fringe = draw.uniform(10, 13), draw.uniform(7, 9), draw.uniform(22, 32)
    long_hair, glasses, beard = draw.random(3) < (0.5, 0.3, 0.25)

    image = Image.new("RGBA", (FACE, FACE))
    pen = ImageDraw.Draw(image)
    unit = FACE / 100

    def ellipse(x: float, y: float, across: float, down: float, fill: tuple[int, ...]) -> None:
        sides = (x - across, y - down, x + across, y + down)
        pen.ellipse([unit * side for side in sides], fill=fill)

    def line(points: list[tuple[float, float]], fill: tuple[int, ...], thick: float) -> None:
        ends = [(unit * x, unit * y) for x, y in points]
        pen.line(ends, fill=fill, width=int(unit * thick), joint="curve")

    if long_hair:
        ellipse(50, 55, width + 8, 44, hair)
    ellipse(50, 42, width + 6, 40, hair)
    ellipse(50, 54, width, 44, colour(*skin))
    if beard:
        ellipse(50, 80, width * 0.75, 17, hair)
        ellipse(50, 72, width * 0.68, 14, colour(*skin))
    ellipse(50, fringe / 2, width + 2, fringe / 2, hair)
    for x in (50 - apart, 50 + apart):
        ellipse(x, eyes, 9, 7, colour(*skin, shade=0.82))
        ellipse(x, eyes, 7, 3.6, (240, 240, 240))
        ellipse(x, eyes, 3.2, 3.4, iris)
        ellipse(x, eyes, 1.5, 1.6, (15, 10, 10))
        line([(x - 9, eyes - brow), (x, eyes - brow - 2), (x + 9, eyes - brow)], hair, 2.5)
        if glasses:
            box = [unit * side for side in (x - 11, eyes - 7, x + 11, eyes + 8)]
            pen.rounded_rectangle(box, 4 * unit, outline=(40, 40, 45), width=int(1.2 * unit))
    sides = [(47, eyes + 5), (53, eyes + 5), (57, nose), (43, nose)]
    pen.polygon([(unit * x, unit * y) for x, y in sides], fill=colour(*skin, shade=0.9))
    for x in (46, 54):
        ellipse(x, nose, 2, 2, colour(*skin, shade=0.55))
    ellipse(50, mouth, lip, 4.2, lips)
    line([(50 - lip, mouth), (50 + lip, mouth)], (90, 30, 30), 1)

    points = [
        (50 - apart, eyes),
        (50 + apart, eyes),
        (50, nose),
        (50 - lip, mouth),
        (50 + lip, mouth),
    ]
    blurred = image.filter(ImageFilter.GaussianBlur(1.2 * unit))
    return blurred, np.array(points) * unit - 0.5


def draw_photo(
    people: list[int], number: int = 0, size: tuple[int, int] = (480, 360), turn: float = 12.0
) -> Drawn:
    """Draw people side by side.

    Args:
        people: their numbers; nobody for a background alone.
        number: of the photo; another one differs in all but the people.
        size: width and height, pixels.
        turn: the largest angle of a face, degrees.
    """
    draw = np.random.default_rng([number, 2, *people])
    colours = draw.integers(60, 200, (4, 5, 3)).astype(np.uint8)
    photo = Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)
    found = []
    room = size[0] / max(1, len(people))
    for place, person in enumerate(people):
        face, points = draw_face(person)
        side = draw.uniform(0.5, 0.75) * min(room, size[1])
        angle = np.radians(draw.uniform(-turn, turn))
        x, y = room * (place + 0.5), draw.uniform(0.45, 0.55) * size[1]
        scale = FACE / side
        # What affine maps take in Pillow: from the photo to the face.
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        forth = np.array([[cos, sin], [-sin, cos]])
        shift = np.array([FACE / 2, FACE / 2]) - forth @ [x, y]
        matrix = np.column_stack([forth, shift])
        small = face.filter(ImageFilter.GaussianBlur(scale / 3))
        laid = small.transform(
            size, Image.Transform.AFFINE, matrix.flatten().tolist(), Image.Resampling.BICUBIC
        )
        photo.paste(laid.convert("RGB"), mask=laid.getchannel("A"))
        found.append(np.linalg.solve(forth, (points + 0.5 - shift).T).T - 0.5)
    photo = ImageEnhance.Brightness(photo).enhance(draw.uniform(0.85, 1.1))
    noise = draw.normal(0, 3, (size[1], size[0], 3))
    pixels = np.clip(np.asarray(photo) + noise, 0, 255).astype(np.uint8)
    return Drawn(Image.fromarray(pixels), np.array(found).reshape(-1, 5, 2))


def main() -> None:
    """Write the photos."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", help="where to write")
    parser.add_argument("--people", type=int, default=12, help="people")
    parser.add_argument("--photos", type=int, default=6, help="photos of each")
    arguments = parser.parse_args()
    for person in range(arguments.people):
        folder = Path(arguments.folder, f"person_{person:02d}")
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(arguments.photos):
            drawn = draw_photo([person], number)
            drawn.photo.save(folder / f"{number:04d}.jpg", quality=92)


if __name__ == "__main__":
    main()
