"""A trained model: what a run leaves on disk, and what embeds with it.

| file | what it does |
|---|---|
| `options.py` | the options of a run |
| `folders.py` | where a run and its checkpoints lie |
| `loading.py` | reads checkpoints, and takes the network out of one |
| `embedder.py` | the network, and all that is done to an example before it |
| `crop_resize.py` | cuts and scales whole batches on the device |
| `provenance.py` | what a checkpoint says about its training |
| `operating_points.py` | the thresholds that an evaluation measured |
| `suitability.py` | warns where a model cannot judge what it is given |
"""
