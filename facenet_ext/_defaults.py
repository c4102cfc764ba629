"""Defaults that a function and the command line share: the latter reads them without torch."""

EMBEDDING_BATCH = 128
"""Images that are embedded at once."""

MINING_BLOCK = 4096
"""Anchors that are searched for together."""

MINING_CHUNK = 32_768
"""Candidates that are in memory at once, beside the block: 16 MiB with 128 dimensions, and as much
again in the order that the kernels read."""

DEFAULT_DETECTOR = "mtcnn"
"""What finds faces in photos."""

MIN_FACE_SIZE = 40
"""Pixels of the smallest face that is looked for: 20 takes three times as long in large photos."""

MIN_SCORE = 0.9
"""How sure the detector must be of a face."""
