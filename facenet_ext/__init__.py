"""FaceNet embedding learning with fused kernels.

Triplet selection, the triplet loss and its gradient stream tiles of distances and never hold an
N x N matrix. ``losses`` and ``miners`` are modules, ``functional`` the functions behind them,
``reference`` the same semantics in plain float64 PyTorch.

Everything here is imported when it is first used: a module such as ``facenet_ext.models`` too. The
operators are in ``torch.ops.facenet_ext`` from then on. A program that uses nothing else of this
package, such as one that runs what ``torch.export`` saved, imports ``facenet_ext.ops``.

Example:
    >>> import torch, facenet_ext
    >>> loss = facenet_ext.TripletSemiHardLoss(margin=0.2)
    >>> embeddings = torch.nn.functional.normalize(torch.randn(32, 128), dim=1).requires_grad_()
    >>> loss(embeddings, torch.arange(32) // 4).backward()
"""

from typing import TYPE_CHECKING

from facenet_ext import _info
from facenet_ext._lazy import lazily

if TYPE_CHECKING:
    from facenet_ext import (  # isort: skip
        all_pairs as all_pairs,
        data as data,
        distributed as distributed,
        embedding as embedding,
        evaluation as evaluation,
        faces as faces,
        functional as functional,
        losses as losses,
        memory as memory,
        metrics as metrics,
        micro_batches as micro_batches,
        miners as miners,
        mining as mining,
        models as models,
        neighbours as neighbours,
        ops as ops,
        quantization as quantization,
        recognition as recognition,
        reference as reference,
        samplers as samplers,
        sentence_transformers as sentence_transformers,
        train as train,
    )
    from facenet_ext._library import build_info
    from facenet_ext._rule import TripletRule
    from facenet_ext._types import TripletCounts, Triplets
    from facenet_ext.common.errors import InputError
    from facenet_ext.functional import (
        mined_triplet_loss,
        ntxent_loss,
        pairwise_squared_distance,
        select_triplets,
        supcon_loss,
        triplet_loss,
        triplet_margin_loss,
    )
    from facenet_ext.losses import (
        HarmonicTripletLoss,
        NTXentLoss,
        SupConLoss,
        TripletHardLoss,
        TripletLoss,
        TripletMarginLoss,
        TripletSemiHardLoss,
    )
    from facenet_ext.memory import CrossBatchMemory
    from facenet_ext.miners import TripletMiner
    from facenet_ext.samplers import MPerClassSampler

__version__ = _info.version

__all__ = [
    "CrossBatchMemory",
    "HarmonicTripletLoss",
    "InputError",
    "MPerClassSampler",
    "NTXentLoss",
    "SupConLoss",
    "TripletCounts",
    "TripletHardLoss",
    "TripletLoss",
    "TripletMarginLoss",
    "TripletMiner",
    "TripletRule",
    "TripletSemiHardLoss",
    "Triplets",
    "build_info",
    "functional",
    "losses",
    "memory",
    "metrics",
    "mined_triplet_loss",
    "miners",
    "ntxent_loss",
    "pairwise_squared_distance",
    "reference",
    "samplers",
    "select_triplets",
    "supcon_loss",
    "triplet_loss",
    "triplet_margin_loss",
]

_MODULES = (
    "all_pairs",
    "data",
    "distributed",
    "embedding",
    "evaluation",
    "faces",
    "functional",
    "losses",
    "memory",
    "metrics",
    "micro_batches",
    "miners",
    "mining",
    "models",
    "neighbours",
    "ops",
    "quantization",
    "recognition",
    "reference",
    "samplers",
    "sentence_transformers",
    "train",
)
"""Those that need more than torch and NumPy are no part of ``from facenet_ext import *``."""

_HOMES = {
    "_library": ("build_info",),
    "_rule": ("TripletRule",),
    "_types": ("TripletCounts", "Triplets"),
    "common.errors": ("InputError",),
    "functional": (
        "mined_triplet_loss",
        "ntxent_loss",
        "pairwise_squared_distance",
        "select_triplets",
        "supcon_loss",
        "triplet_loss",
        "triplet_margin_loss",
    ),
    "losses": (
        "HarmonicTripletLoss",
        "NTXentLoss",
        "SupConLoss",
        "TripletHardLoss",
        "TripletLoss",
        "TripletMarginLoss",
        "TripletSemiHardLoss",
    ),
    "memory": ("CrossBatchMemory",),
    "miners": ("TripletMiner",),
    "samplers": ("MPerClassSampler",),
}
"""The names that are no modules, by the module that has them."""


__getattr__, __dir__ = lazily(__name__, _HOMES, _MODULES)
