"""The rungs of the ladder, from bytes to whole runs; each has ``trace`` and ``compare``."""

from types import ModuleType

from d2l_ft.parity.rungs import (
    backward,
    book,
    checkpoints,
    devices,
    forward,
    pixels,
    runs,
    samples,
    structure,
    trajectory,
    update,
)

RUNGS: dict[str, ModuleType] = {
    'samples': samples,
    'pixels': pixels,
    'structure': structure,
    'forward': forward,
    'backward': backward,
    'update': update,
    'trajectory': trajectory,
    'runs': runs,
    'checkpoints': checkpoints,
    'devices': devices,
    'book': book,
}
"""Name -> module, in the order of the ladder."""
