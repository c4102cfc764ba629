"""What to learn from, and what to verify on.

| file | what it does |
|---|---|
| `names.py` | the endings of archives, and the name of some data |
| `sources.py` | finds the folders that `--data` means, and unpacks archives |
| `image_list.py` | lists the images under a folder, and counts the files that are none |
| `images.py`, `metadata.py` | decodes images, even with damaged metadata |
| `features.py` | reads precomputed features |
| `examples.py` | images or features in memory, with their labels |
| `pairs_file.py` | reads files that name pairs: LFW's, YouTube Faces', `.csv` |
| `pairs.py` | pairs to verify as tensors: all pairs of images, folds of people |
"""
