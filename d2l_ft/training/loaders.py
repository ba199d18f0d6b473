"""Loader processes: how many by default."""

from typing import Any

from d2l_ft.system.hardware import usable_cores

MOST_WORKERS = 8


def on_gpu(devices: list[Any]) -> bool:
    """Tell whether a GPU is among the devices of either framework."""
    return any('cpu' not in str(device) for device in devices)


def default_workers(devices: list[Any]) -> int:
    """Return the number of loader processes: none on the CPU, where the net has all the cores."""
    return min(MOST_WORKERS, usable_cores()) if on_gpu(devices) else 0
