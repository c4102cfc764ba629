"""The reference training script: ``python -m facenet_ext.train`` and ``facenet train``.

| file | what it does |
|---|---|
| `options.py` | the options, their defaults per kind of data, and the command line |
| `run.py` | the run from options to report |
| `sources.py` | finds the image files of each identity: folders, archives |
| `images.py` | decodes them once into one uint8 tensor |
| `pairs.py` | the pairs to verify: LFW's file format, or all pairs |
| `data.py` | training batches and images to verify |
| `augmentation.py` | changes whole batches on the training device |
| `module.py` | the training step and the validation, for Lightning |
| `optimization.py` | optimizers, schedules, averaged weights |
| `checkpoints.py` | reads and writes checkpoints, stops at Ctrl-C |
| `evaluation.py` | distances of the pairs, and every metric of them |
| `report.py`, `pictures.py` | what a run leaves behind |
"""
