"""What to learn from, and what to verify on.

| file | what it does |
|---|---|
| `names.py` | the endings of archives, formats to write, the name of some data |
| `sources.py` | finds the image sets that `--data` means |
| `image_set.py` | what every image set offers, whatever its format |
| `sets/` | opens image sets in all formats, and converts them |
| `unpacking.py` | unpacks archives into the cache, within bounds |
| `image_list.py`, `listing.py` | lists the images under a folder or of a set |
| `images.py`, `metadata.py` | decodes images, even with damaged metadata |
| `placement.py` | chooses where decoded images are: in memory, in the cache, nowhere |
| `decoding.py`, `cache.py` | decodes a set into memory or a file, or the images of a batch |
| `loader.py` | makes batches ahead of time, in other processes |
| `unreadable.py` | what is said of images that cannot be read, and how many may be |
| `features.py` | reads precomputed features |
| `examples.py`, `listed.py` | images or features with their labels; listed images as a set |
| `pairs_file.py` | reads files that name pairs: LFW's, YouTube Faces', `.csv` |
| `insightface_bin.py` | reads InsightFace's `.bin` of pairs, and executes nothing in it |
| `pairs.py` | pairs to verify as tensors: all pairs of images, folds of people |
| `templates.py` | templates of images or utterances, as IJB's files and Kaldi's name them |
| `trials_file.py` | reads files of millions of trials, block by block |
"""

from typing import TYPE_CHECKING

from facenet_ext._lazy import lazily

if TYPE_CHECKING:
    from facenet_ext.data.image_set import ImageSet, Subset
    from facenet_ext.data.sets.opening import open_set
    from facenet_ext.data.sets.writing import write_set

__all__ = ["ImageSet", "Subset", "open_set", "write_set"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "image_set": ("ImageSet", "Subset"),
        "sets.opening": ("open_set",),
        "sets.writing": ("write_set",),
    },
)
