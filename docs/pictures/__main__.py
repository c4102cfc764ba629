"""Draws all pictures: ``python -m docs.pictures``."""

from contextlib import AbstractContextManager
from pathlib import Path

from matplotlib import style as matplotlib_style

from docs.pictures import PICTURES, style

IMAGES = Path(__file__).parents[1] / "images"


def settings() -> AbstractContextManager[None]:
    """The same look on every machine, and the same bytes on every run."""
    return matplotlib_style.context(["default", style.SETTINGS])


def main() -> None:
    """Write the pictures."""
    with settings():
        for name, draw in PICTURES.items():
            draw().savefig(IMAGES / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
