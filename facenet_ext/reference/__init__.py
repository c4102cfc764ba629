"""The semantics of :mod:`facenet_ext.functional` and ``neighbours`` in plain float64 PyTorch.

This package is the oracle of the tests and of the benchmarks, and it doubles as documentation: each
function says in a few lines what its fast counterpart computes. It is written for clarity. It loops
over anchors, keeps whole rows of distances, and takes its gradients from PyTorch's autograd.

Every input (float16, bfloat16, float32 or float64) is converted to float64 first, and every
distance and loss that comes out is float64. Arguments are not validated here.

Notation, used throughout: anchors ``x`` [M, D] with labels ``y``, candidates ``c`` [N, D] with
labels ``z``. In *self mode* the candidates are the anchors and the pair (i, i) is excluded. In
*bank mode* they are a bank (``ref_emb``, ``ref_labels``). Then no pair is excluded unless ids are
given:

    P(i) = { j : z_j = y_i, not excluded }      positives of anchor i
    N(i) = { j : z_j != y_i }                   negatives of anchor i

Papers: F. Schroff, D. Kalenichenko, J. Philbin, "FaceNet: A Unified Embedding for Face Recognition
and Clustering", CVPR 2015 (loss: section 3.1, selection: section 3.2); A. Hermans, L. Beyer,
B. Leibe, "In Defense of the Triplet Loss for Person Re-Identification", 2017 (batch hard and the
soft margin: section 2); C.-Y. Wu, R. Manmatha, A. J. Smola, P. Krähenbühl, "Sampling Matters in
Deep Embedding Learning", ICCV 2017 (distance-weighted negatives: section 4).
"""

from facenet_ext.reference.distances import pairwise_distance, pairwise_squared_distance
from facenet_ext.reference.losses import mined_triplet_loss, triplet_loss, triplet_margin_loss
from facenet_ext.reference.neighbours import nearest, within
from facenet_ext.reference.selection import select_triplets
from facenet_ext.reference.softmax import ntxent_loss, supcon_loss

__all__ = [
    "mined_triplet_loss",
    "nearest",
    "ntxent_loss",
    "pairwise_distance",
    "pairwise_squared_distance",
    "select_triplets",
    "supcon_loss",
    "triplet_loss",
    "triplet_margin_loss",
    "within",
]
