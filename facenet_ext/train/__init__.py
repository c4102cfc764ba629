"""The training script: ``python -m facenet_ext.train`` and ``facenet train``.

| file | what it does |
|---|---|
| `run.py` | the run from options to report |
| `fitting.py` | fits options to the data where nobody gave them, and refuses unfit given ones |
| `pace.py` | how many steps fit into `--max-minutes` |
| `data.py` | training batches and images to verify |
| `augmentation.py` | changes whole batches on the training device |
| `activation_checkpointing.py` | drops activations and computes them again |
| `draws.py` | random numbers that do not depend on the number of processes |
| `batch_norm.py` | batch normalisation over all processes |
| `processes.py` | how the processes of a run find each other |
| `module.py` | the training step and the validation, for Lightning |
| `offline_mining.py` | offline mining every n steps |
| `harmonic.py` | trains a new model to match an old one |
| `optimization.py` | optimizers, schedules, averaged weights |
| `checkpoints.py` | writes checkpoints, stops between two steps at Ctrl-C |
| `progress.py` | a progress bar or the lines of a log, and a line at each evaluation |
"""
