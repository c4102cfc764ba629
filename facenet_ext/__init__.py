"""FaceNet embedding learning with fused kernels.

Triplet selection, the triplet loss and its gradient stream tiles of distances and never hold an
N x N matrix. ``losses`` and ``miners`` are modules, ``functional`` the functions behind them,
``reference`` the same semantics in plain float64 PyTorch.

Example:
    >>> import torch, facenet_ext
    >>> loss = facenet_ext.TripletSemiHardLoss(margin=0.2)
    >>> embeddings = torch.nn.functional.normalize(torch.randn(32, 128), dim=1).requires_grad_()
    >>> loss(embeddings, torch.arange(32) // 4).backward()
"""

from facenet_ext import functional, losses, memory, metrics, miners, reference, samplers
from facenet_ext._library import build_info
from facenet_ext._types import Triplets
from facenet_ext.functional import (
    mined_triplet_loss,
    pairwise_squared_distance,
    select_triplets,
    triplet_loss,
    triplet_margin_loss,
)
from facenet_ext.losses import (
    HarmonicTripletLoss,
    TripletHardLoss,
    TripletLoss,
    TripletMarginLoss,
    TripletSemiHardLoss,
)
from facenet_ext.memory import CrossBatchMemory
from facenet_ext.miners import TripletMiner
from facenet_ext.samplers import MPerClassSampler

__version__ = build_info()["version"]

__all__ = [
    "CrossBatchMemory",
    "HarmonicTripletLoss",
    "MPerClassSampler",
    "TripletHardLoss",
    "TripletLoss",
    "TripletMarginLoss",
    "TripletMiner",
    "TripletSemiHardLoss",
    "Triplets",
    "build_info",
    "functional",
    "losses",
    "memory",
    "metrics",
    "mined_triplet_loss",
    "miners",
    "pairwise_squared_distance",
    "reference",
    "samplers",
    "select_triplets",
    "triplet_loss",
    "triplet_margin_loss",
]
