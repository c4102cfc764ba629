"""Verification metrics: how well a threshold on a distance tells same from different.

A set of pairs is given as two tensors, the distance of each pair and whether the pair is of the
same identity. A pair is *accepted* when its distance is at most the threshold:

    VAL(t) = accepted same pairs / same pairs            (the true accept rate, 1 - FNMR)
    FAR(t) = accepted different pairs / different pairs  (the false accept rate, FMR)

Pairs at equal distances are accepted together or not at all, of either kind, and rates are not
interpolated between two measured ones. VAL and FAR are FaceNet's names, FMR and FNMR those of
ISO/IEC 19795-1.

A *distance* is smaller the more alike two items are, a *score* larger. Figures that depend on no
more than the order of the pairs take distances; for scores give ``-scores``. Only ``cllr`` and
``actual_dcf`` take log-likelihood ratios, and ``as_norm`` takes scores.

Source: Schroff, Kalenichenko, Philbin, *FaceNet: A Unified Embedding for Face Recognition and
Clustering*, CVPR 2015, section 4; ISO/IEC 19795-1, *Biometric performance testing and reporting*.
"""

from typing import TYPE_CHECKING

from facenet_ext._lazy import lazily

if TYPE_CHECKING:
    from facenet_ext.metrics.accuracy import KFoldAccuracy, kfold_accuracy
    from facenet_ext.metrics.costs import DetectionCost, actual_dcf, cllr, min_cllr, min_dcf
    from facenet_ext.metrics.groups import GroupRates, error_rates_by_group
    from facenet_ext.metrics.identification import (
        SearchErrorRates,
        fnir_at_fpir,
        fnir_at_rank,
        searches_as_comparisons,
    )
    from facenet_ext.metrics.intervals import Difference, Interval, interval_of, paired_difference
    from facenet_ext.metrics.normalization import as_norm
    from facenet_ext.metrics.resampling import Replicates, resample_identities
    from facenet_ext.metrics.summary import Figure, Summary, summarize
    from facenet_ext.metrics.thresholds import (
        DetCurve,
        ErrorRates,
        det_curve,
        error_rates,
        fnmr_at_fmr,
    )
    from facenet_ext.metrics.verification import (
        EqualErrorRate,
        OperatingPoint,
        Roc,
        auc,
        eer,
        eer_convex_hull,
        roc,
        val_far,
    )

__all__ = [
    "DetCurve",
    "DetectionCost",
    "Difference",
    "EqualErrorRate",
    "ErrorRates",
    "Figure",
    "GroupRates",
    "Interval",
    "KFoldAccuracy",
    "OperatingPoint",
    "Replicates",
    "Roc",
    "SearchErrorRates",
    "Summary",
    "actual_dcf",
    "as_norm",
    "auc",
    "cllr",
    "det_curve",
    "eer",
    "eer_convex_hull",
    "error_rates",
    "error_rates_by_group",
    "fnir_at_fpir",
    "fnir_at_rank",
    "fnmr_at_fmr",
    "interval_of",
    "kfold_accuracy",
    "min_cllr",
    "min_dcf",
    "paired_difference",
    "resample_identities",
    "roc",
    "searches_as_comparisons",
    "summarize",
    "val_far",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "accuracy": ("KFoldAccuracy", "kfold_accuracy"),
        "costs": ("DetectionCost", "actual_dcf", "cllr", "min_cllr", "min_dcf"),
        "thresholds": ("DetCurve", "ErrorRates", "det_curve", "error_rates", "fnmr_at_fmr"),
        "groups": ("GroupRates", "error_rates_by_group"),
        "identification": (
            "SearchErrorRates",
            "fnir_at_fpir",
            "fnir_at_rank",
            "searches_as_comparisons",
        ),
        "normalization": ("as_norm",),
        "intervals": ("Difference", "Interval", "interval_of", "paired_difference"),
        "resampling": ("Replicates", "resample_identities"),
        "summary": ("Figure", "Summary", "summarize"),
        "verification": (
            "EqualErrorRate",
            "OperatingPoint",
            "Roc",
            "auc",
            "eer",
            "eer_convex_hull",
            "roc",
            "val_far",
        ),
    },
)
