"""The options of the commands that use a trained model."""

from __future__ import annotations

from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveFloat, PositiveInt

from facenet_ext._defaults import EMBEDDING_BATCH

__all__ = ["add_model_options", "add_threshold_options"]


def add_model_options(parser: ArgumentParser) -> None:
    """Add the options that say which model embeds, and how."""
    parser.add_argument(
        "--checkpoint",
        type=str | None,
        default=None,
        help="a run's folder or .ckpt file; by default the latest run in runs/",
    )
    parser.add_argument(
        "--views",
        choices=("all", "one"),
        default="all",
        help="passes through the network per image: all that the run verified with, or one, which "
        "is faster and less accurate",
    )
    parser.add_argument("--device", default="cpu", help="where to compute: cpu, cuda")
    parser.add_argument("--batch", type=PositiveInt, default=EMBEDDING_BATCH, help="images at once")


def add_threshold_options(parser: ArgumentParser) -> None:
    """Add the options that say how close is close enough."""
    parser.add_argument(
        "--threshold",
        type=PositiveFloat | None,
        default=None,
        help="squared distance; by default the one that the model's accuracy was measured with",
    )
    parser.add_argument(
        "--far",
        type=PositiveFloat | None,
        default=None,
        help="take the threshold with this false accept rate at the model's evaluation",
    )
