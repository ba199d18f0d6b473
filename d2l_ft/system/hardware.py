"""Read a request for devices, such as ``cpu:2`` or ``gpu:0,1``; count cores and free memory."""

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
    except OSError:  # no Linux: float32 is right everywhere
        return False
    return bool(BFLOAT16_FLAGS & set(text.split()))


def free_memory() -> int | None:
    """Return the bytes of memory that can be had, or None where the system does not tell.

    That is Linux' MemAvailable, or what a container's limit leaves (cgroup version 2), if less.
    """
    try:
        lines = Path('/proc/meminfo').read_text().splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith('MemAvail'))
    except (OSError, StopIteration):
        return None
    try:
        group = Path('/sys/fs/cgroup')
        limit = int((group / 'memory.max').read_text())  # 'max' without one
        return max(0, min(free, limit - int((group / 'memory.current').read_text())))
    except (OSError, ValueError):
        return free


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of settings, from glibc's malloc.h."""

KEPT_BLOCK = 1 << 27
"""Bytes of the largest block that is kept: larger ones gain no more, and cost memory."""


def keep_freed_memory() -> bool:
    """Have the process keep the memory that it frees, for the next step; tell whether it will.

    glibc gives large blocks back to the system, which has to clear and map them again in each step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
