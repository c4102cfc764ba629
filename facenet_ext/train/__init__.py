"""The reference training script: ``python -m facenet_ext.train`` and ``facenet train``.

| file | what it does |
|---|---|
| `command.py` | the command: exit status, one line for each thing that can go wrong |
| `options.py` | the options |
| `command_options.py` | their command line, with the defaults per kind of data |
| `fitting.py` | fits options that were not given to the data, and refuses what cannot be |
| `held_out.py` | which identities a run verifies on |
| `run.py` | the run from options to report |
| `pace.py` | how many steps fit into `--max-minutes` |
| `folders.py` | where runs and checkpoints lie |
| `sources.py` | finds the image files of each identity: folders, archives |
| `listing.py` | tells images from other files, and counts these |
| `images.py`, `metadata.py` | decodes images once, even with damaged metadata |
| `text.py` | reads a user's text files, and compares names |
| `features.py` | reads precomputed features |
| `pairs.py` | the pairs to verify: LFW's file format, or all pairs |
| `data.py` | training batches and images to verify |
| `crop_resize.py`, `augmentation.py` | changes whole batches on the training device |
| `embedder.py` | what embeds: the network, and all that is done to an example before it |
| `module.py` | the training step and the validation, for Lightning |
| `offline.py` | offline mining every n steps |
| `harmonic.py` | trains a new model to match an old one |
| `provenance.py`, `measuring.py` | what a checkpoint says about its training |
| `loading.py` | takes a trained network out of a checkpoint |
| `operating_points.py` | the thresholds that an evaluation measured |
| `optimization.py` | optimizers, schedules, averaged weights |
| `checkpoints.py` | reads and writes checkpoints, stops between two steps at Ctrl-C |
| `progress.py` | the progress bar or lines of a log, and a line at each evaluation |
| `evaluation.py` | distances of the pairs, and every metric of them |
| `report.py`, `pictures.py`, `fonts.py` | the table, `metrics.json` and pictures of a run |
| `console.py`, `counting.py` | what commands print to, and their progress bars |
| `plain_warnings.py` | prints the warnings of libraries as plain lines |
"""
