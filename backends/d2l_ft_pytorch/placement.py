"""Devices, precision, and the replicas of a net on several devices of one process."""

import copy
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from d2l_ft.backend.common import check_place, choose_devices
from d2l_ft.errors import DeviceError, ModelError
from d2l_ft.system.hardware import has_bfloat16, usable_cores

BFLOAT16_GPU = (8, 0)
"""Compute capability of the first GPUs with bfloat16 units."""


@dataclass(frozen=True, eq=False)
class Placed:
    """A net with its devices and precision; ``place`` makes it.

    Attributes:
        net: The net itself, which is the first replica.
        copies: The other replicas, one for each further device.
        devices: The devices of the replicas.
        precision: 'float32' or 'bfloat16'.
        memory_format: Layout of images and kernels in memory.
    """

    net: nn.Module
    copies: list[nn.Module]
    devices: list[torch.device]
    precision: str
    memory_format: torch.memory_format


def devices(request: str = 'auto') -> list[torch.device]:
    """Return the devices of a request as ``parse_devices`` reads it.

    Raises:
        DeviceError: The request cannot be read, or a GPU in it does not exist.
    """
    return choose_devices(
        request,
        'PyTorch',
        lambda number: torch.device('cpu'),
        lambda number: torch.device('cuda', number),
        lambda: torch.cuda.device_count() if torch.cuda.is_available() else 0,
    )


def is_gpu(device: torch.device) -> bool:
    """Tell whether a device is a GPU."""
    return bool(device.type == 'cuda')


def threads() -> int:
    """Return the number of threads on which PyTorch computes."""
    return int(torch.get_num_threads())


def restore_threads() -> None:
    """Use all cores again if MXNet, imported earlier, has halved the number of threads."""
    halved = 'mxnet' in sys.modules and 'OMP_NUM_THREADS' not in os.environ
    if halved and torch.get_num_threads() < usable_cores():
        torch.set_num_threads(usable_cores())


def seed(value: int) -> None:
    """Seed PyTorch's own random generators on every device (only dropout draws from them)."""
    torch.manual_seed(value)


def place(
    net: nn.Module,
    devices: Sequence[torch.device] | None = None,
    precision: str = 'float32',
    *,
    channels_last: bool | None = None,
) -> Placed:
    """Put the net on the first device and a copy of it on each other device.

    The parameters stay the same objects, so a trainer that was built before stays valid.

    Args:
        net: Any module.
        devices: One or more; the same device may occur twice. None is the net's present device.
        precision: 'float32' is strict: TF32 is switched off in the process if a GPU is used.
            'bfloat16' computes under autocast; 'auto' takes it if the hardware has instructions
            for it.
        channels_last: Whether images and kernels lie in memory with the channels last, which makes
            convolutions faster; sums are rounded differently. None is False for 'float32', else
            True.

    Raises:
        DeviceError: No device, or an unknown precision.
    """
    spots = (
        [device_and_dtype(net)[0]]
        if devices is None
        else [torch.device(device) for device in devices]
    )
    check_place(spots, precision)

    # Precision
    strict = precision == 'float32'
    if strict and any(spot.type == 'cuda' for spot in spots):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if precision == 'auto':
        fast = (
            all(computes_bfloat16(spot) for spot in spots)
            and device_and_dtype(net)[1] != torch.float64
        )
        precision = 'bfloat16' if fast else 'float32'

    # Layout, then the copies, which take it over
    last = not strict if channels_last is None else channels_last
    layout = torch.channels_last if last else torch.contiguous_format
    net.to(spots[0]).to(memory_format=layout)
    copies = [copy.deepcopy(net).to(device=spot) for spot in spots[1:]]
    return Placed(net, copies, spots, precision, layout)


@contextmanager
def explain_full_memory() -> Iterator[None]:
    """Turn PyTorch's error about full GPU memory into one of ours.

    Raises:
        DeviceError: The memory of a GPU is full.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise DeviceError(
            'the memory of the GPU is full: use a smaller batch size or image size, '
            'or stop other programs on it'
        ) from error


def computes_bfloat16(device: torch.device) -> bool:
    """Tell whether a device has instructions for bfloat16."""
    if device.type == 'cuda':
        return bool(torch.cuda.get_device_capability(device) >= BFLOAT16_GPU)
    return has_bfloat16()


def device_and_dtype(net: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Return the device and dtype of a module: those of its first floating-point tensor."""
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device('cpu'), torch.float32


def replicas(placed: Placed) -> list[nn.Module]:
    """Return the net and its copies.

    Raises:
        ModelError: The net's parameters have other shapes than when it was placed.
    """
    shapes = [parameter.shape for parameter in placed.net.parameters()]
    if any([each.shape for each in other.parameters()] != shapes for other in placed.copies):
        raise ModelError('the net was changed after it was placed: place it again')
    return [placed.net, *placed.copies]


@torch.no_grad()
def send_parameters(placed: Placed) -> None:
    """Copy the net's parameters, and which of them are trained, to every copy."""
    for other in replicas(placed)[1:]:
        for source, target in zip(placed.net.parameters(), other.parameters(), strict=True):
            target.copy_(source, non_blocking=True)
            target.requires_grad_(source.requires_grad)


@torch.no_grad()
def average_statistics(placed: Placed) -> None:
    """Set the running statistics of all replicas to their mean.

    In training each replica updates its own. As a moving average is linear, the mean at a later
    time does not depend on when it was taken before. Statistics that are equal keep their bits.
    """
    copies = replicas(placed)[1:]
    for name, buffer in placed.net.named_buffers():
        others = [other.get_buffer(name) for other in copies]
        if others and buffer.is_floating_point():
            # the first plus the mean difference: equal statistics then have no rounding error
            apart = [other.to(buffer.device) - buffer for other in others]
            # a buffer may be a mask with infinities, whose difference is not a number
            mean = sum(each.where(each.isfinite(), 0) for each in apart) / (1 + len(others))
            buffer += mean
            for other in others:
                other.copy_(buffer, non_blocking=True)
