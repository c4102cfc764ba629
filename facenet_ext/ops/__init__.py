"""The operators: a file each, with the call, the shapes without data (fake) and the gradient."""

from facenet_ext import _library as _library  # registers torch.ops.facenet_ext
from facenet_ext.ops.distance_histogram import distance_histogram as distance_histogram
from facenet_ext.ops.mined_triplet_loss import mined_triplet_loss as mined_triplet_loss
from facenet_ext.ops.nearest import nearest as nearest
from facenet_ext.ops.pairs_within import pairs_within as pairs_within
from facenet_ext.ops.pairwise_squared_distance import (
    pairwise_squared_distance as pairwise_squared_distance,
)
from facenet_ext.ops.select_triplets import select_triplets as select_triplets
from facenet_ext.ops.softmax_loss import softmax_loss as softmax_loss
from facenet_ext.ops.triplet_losses import triplet_losses as triplet_losses
from facenet_ext.ops.triplet_margin_loss import triplet_margin_loss as triplet_margin_loss
