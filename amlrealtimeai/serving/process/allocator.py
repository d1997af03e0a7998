"""How the C library keeps the memory that decoded images leave behind."""

import ctypes

_M_MMAP_THRESHOLD = -3  # malloc.h of glibc
_LARGE = 4 << 20


def give_large_blocks_back() -> bool:
    """From now on return freed blocks of 4 MiB and more to the system at once; False where malloc has no such setting.

    By default glibc raises its threshold to the largest block freed so far, up to 32 MiB, and keeps what lies below it
    in the heap of each thread (mallopt(3)): a few large images then cost the server 50 to 100 MiB as long as it runs.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE))
