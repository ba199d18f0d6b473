"""What is no fault of an image."""

import os
import resource

import pytest

from d2l_ft.data.validation import inspect_image


def test_too_few_open_files_is_no_fault_of_an_image(folder):
    """Whichever file is being read when the limit is met."""
    path = str(next(folder.rglob('*.jpg')))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)  # the lowest number that is free
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        with pytest.raises(OSError, match='Too many open files'):
            inspect_image(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert inspect_image(path).problem == ''
