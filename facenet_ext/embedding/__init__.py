"""A trained model: its options, its files on disk, and the network that embeds.

| file | what it does |
|---|---|
| `options.py` | the options of a run |
| `folders.py` | finds the folders of runs and their checkpoints |
| `loading.py` | reads checkpoints, and builds their embedders |
| `networks.py` | builds the network that the options describe |
| `embedder.py` | prepares examples and embeds them |
| `examples.py` | embeds the examples of a run, batch by batch |
| `crop_resize.py` | cuts and scales whole batches on the device |
| `speed.py` | changes the speed of spectrograms |
| `provenance.py` | what a checkpoint says about its training |
| `operating_points.py` | looks up the thresholds that an evaluation measured |
| `suitability.py` | warns where a model is a bad judge of its images |
"""
