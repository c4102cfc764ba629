"""Runs planted kernels on 64 ints: ``run_planted.py libplanted.so right_missing_barrier ...``."""

from __future__ import annotations

import ctypes
import sys


def main() -> int:
    library, libc = ctypes.CDLL(sys.argv[1]), ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    failures = 0
    for name in sys.argv[2:]:
        # Not ctypes' own memory: AddressSanitizer knows the bounds of what malloc returns.
        data = ctypes.c_void_p(libc.malloc(256))
        ctypes.memmove(data, (ctypes.c_int * 64)(*range(64)), 256)
        failures += library[name](data)
    return failures


if __name__ == "__main__":
    sys.exit(main())
