"""How images are loaded by default: by how many processes, and to which device."""

from collections.abc import Sequence
from typing import Any

from d2l_ft.backend.protocol import Backend
from d2l_ft.data.image_cache import ImageCache
from d2l_ft.system.hardware import usable_cores

MOST_WORKERS = 8
"""More processes take memory and start-up time, and a GPU rarely needs them."""


def on_gpu(backend: Backend, devices: Sequence[Any]) -> bool:
    """Tell whether a GPU is among the devices."""
    return any(backend.is_gpu(device) for device in devices)


def default_workers(backend: Backend, devices: Sequence[Any]) -> int:
    """Return the number of loader processes: none on the CPU, where the net uses all cores."""
    return min(MOST_WORKERS, usable_cores()) if on_gpu(backend, devices) else 0


def loader_options(
    backend: Backend,
    devices: Sequence[Any],
    workers: int | None = None,
    cache: ImageCache | None = None,
) -> dict[str, Any]:
    """Return the options of ``Backend.loader`` for a net on some devices.

    Args:
        backend: The framework.
        devices: Where the net computes. Batches go to the first one if any of them is a GPU.
        workers: Loader processes; None is ``default_workers``.
        cache: Keeps images between epochs.
    """
    return {
        'workers': default_workers(backend, devices) if workers is None else workers,
        'cache': cache,
        'device': devices[0] if on_gpu(backend, devices) else None,
    }
