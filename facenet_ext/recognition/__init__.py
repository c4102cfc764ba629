"""What a trained embedding is for: embed, recognise and cluster images, out of core."""

from facenet_ext.recognition.clustering import (
    Clusters,
    ClusterScores,
    cluster,
    score_clusters,
)
from facenet_ext.recognition.embedding import ImageList, embed_images, list_tree
from facenet_ext.recognition.identification import (
    Identification,
    OpenSetPoint,
    cumulative_matches,
    identify,
    open_set_rates,
)
from facenet_ext.recognition.store import (
    ModelName,
    StoredEmbeddings,
    check_one_model,
    read_embeddings,
    write_embeddings,
)

__all__ = [
    "ClusterScores",
    "Clusters",
    "Identification",
    "ImageList",
    "ModelName",
    "OpenSetPoint",
    "StoredEmbeddings",
    "check_one_model",
    "cluster",
    "cumulative_matches",
    "embed_images",
    "identify",
    "list_tree",
    "open_set_rates",
    "read_embeddings",
    "score_clusters",
    "write_embeddings",
]
