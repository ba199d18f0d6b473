"""The images that a user names: files, folders, patterns, a list on the standard input."""

import glob
import os
from collections.abc import Iterable
from typing import BinaryIO

from d2l_ft.data.image_folder import SUFFIXES


def find_images(names: Iterable[str], list_file: BinaryIO | None = None) -> list[tuple[str, str]]:
    """Return the images that a user names.

    Args:
        names: Files; folders, for all images in them; glob patterns; or '-'.
        list_file: A list of such names, one a line, that is read for '-'. With None '-' is the
            name of a file.

    Returns:
        (path, what is wrong with the name; '' if nothing is).
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
    """Return the images for one name."""
    matches = [name]
    if not os.path.lexists(name) and glob.has_magic(name):  # a file may be called a[1].jpg
        matches = sorted(glob.glob(name, recursive=True)) or matches
    found = []
    for match in matches:
        found += _list_below(match) if os.path.isdir(match) else [(match, '')]
    return found


def _list_below(folder: str) -> list[tuple[str, str]]:
    """Return the images in a folder and its subfolders, sorted by name, without hidden ones."""
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
