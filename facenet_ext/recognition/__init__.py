"""Uses a trained embedding: embeds, recognises and clusters images, out of core."""

from typing import TYPE_CHECKING

from facenet_ext._lazy import lazily

if TYPE_CHECKING:
    from facenet_ext.data.image_list import ImageList, list_tree
    from facenet_ext.recognition.clustering import (
        Clusters,
        ClusterScores,
        cluster,
        score_clusters,
    )
    from facenet_ext.recognition.embedding import embed_images
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

__getattr__, __dir__ = lazily(
    __name__,
    {
        "clustering": ("ClusterScores", "Clusters", "cluster", "score_clusters"),
        "embedding": ("embed_images",),
        "facenet_ext.data.image_list": ("ImageList", "list_tree"),
        "identification": (
            "Identification",
            "OpenSetPoint",
            "cumulative_matches",
            "identify",
            "open_set_rates",
        ),
        "store": (
            "ModelName",
            "StoredEmbeddings",
            "check_one_model",
            "read_embeddings",
            "write_embeddings",
        ),
    },
)
