"""Runs kernels of ``planted/``, with their fault or without it.

run_planted.py libplanted.so wrong_missing_barrier right_missing_barrier ...
"""

from __future__ import annotations

import ctypes
import sys


def main() -> int:
    library, libc = ctypes.CDLL(sys.argv[1]), ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    failures = 0
    for name in sys.argv[2:]:
        # 64 ints from malloc, whose bounds AddressSanitizer knows, and not from ctypes.
        data = ctypes.c_void_p(libc.malloc(256))
        ctypes.memmove(data, (ctypes.c_int * 64)(*range(64)), 256)
        failures += library[name](data)
    return failures


if __name__ == "__main__":
    sys.exit(main())
