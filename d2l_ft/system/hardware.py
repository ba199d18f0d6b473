"""What the machine has: cores, bfloat16, free memory; and how the process keeps its memory."""

import ctypes
import os
from pathlib import Path


def usable_cores() -> int:
    """Return the number of cores this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity call
        return os.cpu_count() or 1


BFLOAT16_FLAGS = {'avx512_bf16', 'amx_bf16'}
"""Without one of these a processor emulates bfloat16, many times slower than float32."""


def has_bfloat16() -> bool:
    """Tell whether the processor has instructions for bfloat16."""
    try:
        text = Path('/proc/cpuinfo').read_text()
    except OSError:  # not Linux: float32 works everywhere
        return False
    return bool(BFLOAT16_FLAGS & set(text.split()))


def free_memory() -> int | None:
    """Return the bytes of memory that are available, or None where the system does not tell.

    That is Linux's MemAvailable, or what is left of a container's limit (cgroup version 2) if that
    is less.
    """
    try:
        lines = Path('/proc/meminfo').read_text().splitlines()
        # the file counts in KiB
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith('MemAvail'))
    except (OSError, StopIteration):
        return None
    try:
        group = Path('/sys/fs/cgroup')
        limit = int((group / 'memory.max').read_text())  # 'max' without a limit: a ValueError
        return max(0, min(free, limit - int((group / 'memory.current').read_text())))
    except (OSError, ValueError):
        return free


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of ``mallopt``, from glibc's malloc.h."""

KEPT_BLOCK = 1 << 27
"""Bytes of the largest block that is kept: keeping larger ones was not faster, and costs memory."""


def keep_freed_memory() -> bool:
    """Make the process keep the memory that it frees, for the next step; tell whether it will.

    By default glibc returns large blocks to the system, which then clears and maps them again in
    every step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library
        return False
    # the top of the heap is returned only when 2**31 - 1 bytes of it, the largest int, are free
    return bool(mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
