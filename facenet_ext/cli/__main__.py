"""Run ``python -m facenet_ext.cli``."""

import sys

from facenet_ext.cli import main

if __name__ == "__main__":
    sys.exit(main())
