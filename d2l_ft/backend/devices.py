"""Read the user's requests for devices and precisions, without loading a framework."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from d2l_ft.errors import DeviceError

if TYPE_CHECKING:  # protocol imports NumPy, which --help need not load
    from d2l_ft.backend.protocol import Backend

Devices: TypeAlias = str | Sequence[Any]
"""A request as ``parse_devices`` reads it, or devices of the framework."""

PRECISIONS = ('auto', 'float32', 'bfloat16')
"""The precisions in which nets compute."""


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


def resolve_devices(backend: 'Backend', devices: Devices) -> list[Any]:
    """Return devices of the framework, from a request or as they were given.

    Raises:
        DeviceError: The request cannot be read, or a GPU in it does not exist.
    """
    return backend.devices(devices) if isinstance(devices, str) else list(devices)


def as_request(backend: 'Backend', devices: Devices) -> str:
    """Return the request that stands for these devices, to store it or pass it to a process.

    Raises:
        DeviceError: There are none, CPUs and GPUs are mixed, or a GPU has no number.
    """
    if isinstance(devices, str):
        return devices
    # a CPU has no number: n of them are n replicas
    on_gpu = [backend.is_gpu(each) for each in devices]
    if devices and not any(on_gpu):
        return f'cpu:{len(devices)}'
    known = {str(each): str(number) for number, each in enumerate(backend.devices('gpu'))}
    names = [str(each) for each in devices]
    if not names or not set(names) <= set(known):
        raise DeviceError(f'cannot train on {names}: give CPUs, or GPUs with their numbers')
    return f'gpu:{",".join(known[name] for name in names)}'
