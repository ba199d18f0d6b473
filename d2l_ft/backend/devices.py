"""What the user asks for, before a framework is loaded: devices and precisions."""

import re

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
