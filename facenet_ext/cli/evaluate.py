"""``facenet evaluate``: how well a model verifies, and a report of it."""

from __future__ import annotations

from jsonargparse import ArgumentParser
from jsonargparse.typing import NonNegativeInt, PositiveFloat

from facenet_ext.cli.command_line import make_parser
from facenet_ext.cli.model_options import add_model_options
from facenet_ext.embedding.folders import EVALUATION

__all__ = ["build_parser"]


def build_parser(prog: str) -> ArgumentParser:
    """Return the parser of the command's options."""
    parser = make_parser(
        prog,
        "Verify pairs with a model, and write what comes of it: metrics.json, which 'verify', "
        "'identify' and 'cluster' take their thresholds from, and report.html.",
        f"{prog}\n"
        f"{prog} --data lfw --checkpoint runs/faces-20260101-120000\n"
        f"{prog} --data YouTubeFaces/frame_images_DB --pairs YouTubeFaces/splits.txt\n"
        f"{prog} --data photos --pairs pairs.csv --quality 0 --json\n"
        f"{prog} --data faces/val --all-pairs --far 0.0001",
    )
    parser.add_argument(
        "--data",
        type=str | None,
        default=None,
        help="'lfw', a folder <identity>/<image>, or an archive; by default the run's",
    )
    parser.add_argument(
        "--pairs",
        type=str | None,
        default=None,
        help="LFW's pairs.txt, YouTube Faces' splits.txt, or a .csv first,second,same[,fold]",
    )
    parser.add_argument(
        "--all-pairs", action="store_true", help="VAL and FAR over all pairs of the images too"
    )
    parser.add_argument(
        "--far", type=PositiveFloat, default=1e-3, help="false accept rate of --all-pairs"
    )
    parser.add_argument(
        "--quality",
        type=NonNegativeInt,
        default=600,
        help="images to verify compressed and small as well; 0: none",
    )
    parser.add_argument(
        "--output",
        type=str | None,
        default=None,
        help=f"folder to write; by default {EVALUATION}/ in the run's",
    )
    add_model_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    return parser
