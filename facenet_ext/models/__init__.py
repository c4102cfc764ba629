"""Networks that turn images, or precomputed features, into embeddings.

| file | what it does |
|---|---|
| `network.py` | what all networks share |
| `layers.py` | layers of several networks that torch does not have |
| `zeiler_fergus.py`, `inception.py` | the FaceNet paper's networks |
| `iresnet.py` | ArcFace's networks |
| `small.py`, `alignment.py` | this project's network, and the layer that straightens its images |
| `vectors.py` | networks for features |
| `wrapped.py`, `registry.py` | networks of one's own: how they are used, how they are named |
| `committee.py` | several networks as one |
| `head.py`, `wccn.py`, `cohort.py` | what follows a network and is fitted, not learned |
| `fisher.py` | embeds images by their patches, beside a network |
| `cost.py`, `summary.py` | what networks cost |
| `export.py` | writes ONNX |
"""

from facenet_ext.models.alignment import Alignment
from facenet_ext.models.cohort import Cohort
from facenet_ext.models.committee import Committee, members_of
from facenet_ext.models.cost import LayerCost, layer_costs, milliseconds_per_image
from facenet_ext.models.export import export_onnx
from facenet_ext.models.fisher import FisherVectors
from facenet_ext.models.head import Head
from facenet_ext.models.inception import nn2, nn3, nn4, nns1, nns2
from facenet_ext.models.iresnet import IResNet, iresnet18, iresnet50, iresnet100
from facenet_ext.models.network import EmbeddingNetwork, NormalizedNetwork
from facenet_ext.models.registry import build_own, register, registered
from facenet_ext.models.small import SmallNet
from facenet_ext.models.vectors import conv1d, conv2d, mlp
from facenet_ext.models.wccn import WCCN
from facenet_ext.models.wrapped import WrappedNetwork
from facenet_ext.models.zeiler_fergus import nn1

__all__ = [
    "IRESNETS",
    "PAPER",
    "WCCN",
    "Alignment",
    "Cohort",
    "Committee",
    "EmbeddingNetwork",
    "FisherVectors",
    "Head",
    "IResNet",
    "LayerCost",
    "NormalizedNetwork",
    "SmallNet",
    "WrappedNetwork",
    "build_own",
    "conv1d",
    "conv2d",
    "export_onnx",
    "iresnet18",
    "iresnet50",
    "iresnet100",
    "layer_costs",
    "members_of",
    "milliseconds_per_image",
    "mlp",
    "nn1",
    "nn2",
    "nn3",
    "nn4",
    "nns1",
    "nns2",
    "register",
    "registered",
]

PAPER = {"nn1": nn1, "nn2": nn2, "nn3": nn3, "nn4": nn4, "nns1": nns1, "nns2": nns2}
"""The paper's networks by name; each is called as ``nn1(embedding_dim, in_channels=3)``."""

IRESNETS = {"iresnet18": iresnet18, "iresnet50": iresnet50, "iresnet100": iresnet100}
"""ArcFace's networks by name; each is called as ``iresnet50(embedding_dim, in_channels=3)``."""
