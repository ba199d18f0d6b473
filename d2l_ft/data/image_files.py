"""The images that a user names: files, folders, patterns, a list on the standard input."""

import glob
import os
from collections.abc import Iterable
from typing import BinaryIO

from d2l_ft.data.image_folder import SUFFIXES


def find_images(names: Iterable[str], list_file: BinaryIO | None = None) -> list[tuple[str, str]]:
    """Return the images that a user names, each with what is wrong with its name.

    Args:
        names: Files; folders, of which all images are taken; patterns of ``glob``; or '-'.
        list_file: Has such names, one a line; read for '-', which is a file without it.
    """
    found = []
    for name in names:
        if name == '-' and list_file is not None:
            lines = (os.fsdecode(line.rstrip(b'\r\n')) for line in list_file)
            found += [each for line in lines if line for each in _expand(line)]
        else:
            found += _expand(name)
    return found


def _expand(name: str) -> list[tuple[str, str]]:
    """Return the images that one name stands for."""
    matches = [name]
    if not os.path.lexists(name) and glob.has_magic(name):
        matches = sorted(glob.glob(name, recursive=True)) or matches
    found = []
    for match in matches:
        found += _list_below(match) if os.path.isdir(match) else [(match, '')]
    return found


def _list_below(folder: str) -> list[tuple[str, str]]:
    """Return the images of a folder and of those in it, by name, without what is hidden."""
    found, problems = [], []

    def note_error(error: OSError) -> None:
        problems.append((error.filename, f'cannot be listed ({error.strerror})'))

    for place, folders, files in os.walk(folder, onerror=note_error):
        folders[:] = sorted(each for each in folders if not each.startswith('.'))
        found += [
            (os.path.join(place, each), '')
            for each in sorted(files)
            if not each.startswith('.') and os.path.splitext(each)[1].lower() in SUFFIXES
        ]
    if not found and not problems:
        problems = [(folder, f'has no image ({", ".join(SUFFIXES)})')]
    return found + problems
