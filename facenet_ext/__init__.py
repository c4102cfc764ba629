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
    from facenet_ext import (
        all_pairs as all_pairs,
    )
    from facenet_ext import (
        data as data,
    )
    from facenet_ext import (
        distributed as distributed,
    )
    from facenet_ext import (
        embedding as embedding,
    )
    from facenet_ext import (
        evaluation as evaluation,
    )
    from facenet_ext import (
        functional as functional,
    )
    from facenet_ext import (
        losses as losses,
    )
    from facenet_ext import (
        memory as memory,
    )
    from facenet_ext import (
        metrics as metrics,
    )
    from facenet_ext import (
        micro_batches as micro_batches,
    )
    from facenet_ext import (
        miners as miners,
    )
    from facenet_ext import (
        mining as mining,
    )
    from facenet_ext import (
        models as models,
    )
    from facenet_ext import (
        neighbours as neighbours,
    )
    from facenet_ext import (
        ops as ops,
    )
    from facenet_ext import (
        quantization as quantization,
    )
    from facenet_ext import (
        recognition as recognition,
    )
    from facenet_ext import (
        reference as reference,
    )
    from facenet_ext import (
        samplers as samplers,
    )
    from facenet_ext import (
        sentence_transformers as sentence_transformers,
    )
    from facenet_ext import (
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
    "CrossBatchMemory": "memory",
    "HarmonicTripletLoss": "losses",
    "InputError": "common.errors",
    "MPerClassSampler": "samplers",
    "NTXentLoss": "losses",
    "SupConLoss": "losses",
    "TripletHardLoss": "losses",
    "TripletLoss": "losses",
    "TripletMarginLoss": "losses",
    "TripletMiner": "miners",
    "TripletRule": "_rule",
    "TripletSemiHardLoss": "losses",
    "TripletCounts": "_types",
    "Triplets": "_types",
    "build_info": "_library",
    "mined_triplet_loss": "functional",
    "ntxent_loss": "functional",
    "pairwise_squared_distance": "functional",
    "select_triplets": "functional",
    "supcon_loss": "functional",
    "triplet_loss": "functional",
    "triplet_margin_loss": "functional",
}
"""The module of each name that is none itself."""


__getattr__, __dir__ = lazily(__name__, _HOMES, _MODULES)
