"""What to learn from, and what to verify on.

| file | what it does |
|---|---|
| `names.py` | what archives and runs on some data are called |
| `sources.py` | finds the image files of each identity: folders, archives |
| `listing.py` | tells images from other files, and counts these |
| `image_list.py` | the images under a folder, to embed |
| `images.py`, `metadata.py` | decodes images, even with damaged metadata |
| `features.py` | reads precomputed features |
| `examples.py` | images or features in memory, with their labels |
| `pairs.py` | the pairs to verify: LFW's file format, or all pairs |
"""
