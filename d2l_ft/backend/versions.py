"""The versions of the packages that may influence a result."""

import importlib.metadata
import platform

from d2l_ft.backend.registry import BACKENDS


def versions() -> dict[str, str]:
    """Return package -> version, of Python and the packages that may influence a result."""
    found = {'python': platform.python_version()}
    names = ['d2l-ft', 'numpy', 'opencv-python-headless', 'pillow', 'safetensors']
    for package in [
        *names,
        *(package for record in BACKENDS.values() for package in record.packages),
    ]:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
