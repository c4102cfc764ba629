"""The commands ``evaluate`` and ``compare``: their help, and the options they are called with.

See :mod:`facenet_ext.commands.options`.
"""

from __future__ import annotations

from dataclasses import dataclass

from jsonargparse.typing import NonNegativeInt, PositiveFloat

from facenet_ext.commands.options import CheckpointOptions, CommandOptions
from facenet_ext.common.options import argument, option
from facenet_ext.embedding.folders import EVALUATION


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(CheckpointOptions):
    """Verify pairs with a model, and write what comes of it.

    That is metrics.json, which 'verify', 'identify' and 'cluster' take their thresholds from,
    pairs.parquet, which 'compare' reads, and report.html.
    """

    examples = """
        facenet evaluate
        facenet evaluate --data lfw --checkpoint runs/faces-20260101-120000
        facenet evaluate --data YouTubeFaces/frame_images_DB --pairs YouTubeFaces/splits.txt
        facenet evaluate --data photos --pairs pairs.csv --quality 0 --json
        facenet evaluate --groups people.csv --group-by sex,age
        facenet evaluate --data IJBC/loose_crop --pairs IJBC/meta/ijbc_template_pair_label.txt
        facenet evaluate --data IJBC/loose_crop --pairs IJBC/meta/ijbc_1N_probe_mixed.csv
        facenet evaluate --data voices.npz --pairs trials --enrol spk2utt
        facenet evaluate --data faces/val --all-pairs --far 0.0001"""

    data: str | None = option(
        None,
        "'lfw', images as for train, InsightFace's .bin, or an .npz of features and names; by "
        "default the run's",
    )
    pairs: str | None = option(
        None,
        "LFW's pairs.txt, YouTube Faces' splits.txt, a .csv first,second,same[,fold], pairs of "
        "templates or probes of IJB-B and IJB-C, or speaker trials of VoxCeleb or Kaldi",
    )
    enrol: str | None = option(
        None, "Kaldi's spk2utt: the utterances that enrol each model, the first name of a trial"
    )
    groups: str | None = option(
        None,
        "a .csv whose first column names images or people: error rates for each value of its other "
        "columns, and for pairs of values",
    )
    group_by: str | None = option(None, "columns of --groups, with commas; by default all")
    all_pairs: bool = option(False, "VAL and FAR over all pairs of the images too")
    far: float = option(1e-3, "false accept rate of --all-pairs", PositiveFloat)
    quality: int = option(
        600, "how many images to verify again, compressed and shrunk; 0: none", NonNegativeInt
    )
    output: str | None = option(None, f"folder to write; by default {EVALUATION}/ in the run's")


@dataclass(frozen=True, kw_only=True)
class CompareOptions(CommandOptions):
    """Tell which of two evaluations of the same pairs is better, and how sure that is.

    The people of the pairs are drawn anew, 1,000 times, the same for both. Where the interval of
    the difference has 0 in it, one cannot tell. Both runs must have been evaluated, by 'facenet
    evaluate' with the same --data and --pairs.
    """

    examples = """
        facenet compare runs/old runs/new
        facenet compare runs/old runs/new --fmr 0.0001 --output compared
        facenet compare runs/new/evaluation one_view --json"""

    run_a: str = argument("a run's folder, or the --output of its evaluation")
    run_b: str = argument("another one")
    fmr: float | None = option(
        None,
        "tell by FNMR at this false match rate which is better; by default at the strictest of "
        "0.001, 0.01 and 0.1 with 30 errors of each kind, else by EER",
        PositiveFloat,
    )
    output: str | None = option(None, "a folder for report.html and comparison.json")
