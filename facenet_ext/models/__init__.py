"""Networks that turn images into embeddings."""

from facenet_ext.models.small import SmallNet

__all__ = ["SmallNet"]
