"""Run ``python -m facenet_ext.train``."""

import sys

from facenet_ext.common.interrupts import loading

with loading("python -m facenet_ext.train"):
    from facenet_ext.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
