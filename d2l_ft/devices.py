"""Read a request for devices, such as ``cpu:2`` or ``gpu:0,1``; count cores and free memory."""

import ctypes
import os
import re
from pathlib import Path

from d2l_ft.errors import DeviceError

PRECISIONS = ('auto', 'float32', 'bfloat16')
"""In which nets compute."""


def parse_devices(request: str) -> tuple[str, list[int]]:
    """Split a request for devices into its kind and its numbers.

    Args:
        request: 'auto' (every GPU, otherwise the CPU), 'cpu', 'cpu:N' (N replicas of the
            net in the main memory), 'gpu' (every GPU) or 'gpu:I,J' (the GPUs I and J).

    Returns:
        ('auto', []), ('cpu', [0, ..., N - 1]), ('gpu', []) for every GPU, or ('gpu', [I, J]).

    Raises:
        DeviceError: The request cannot be read.
    """
    text = request.strip().lower()
    if text in ('auto', 'gpu'):
        return text, []
    if text == 'cpu':
        return 'cpu', [0]
    if match := re.fullmatch(r'cpu:([1-9]\d?)', text):
        return 'cpu', list(range(int(match[1])))
    if match := re.fullmatch(r'gpu:(\d{1,4}(?:,\d{1,4}){0,63})', text):
        numbers = [int(number) for number in match[1].split(',')]
        if len(set(numbers)) == len(numbers):
            return 'gpu', numbers
    raise DeviceError(
        f'cannot read the devices {request!r}: '
        'write auto, cpu, cpu:2 (two replicas), gpu or gpu:0,1'
    )


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
