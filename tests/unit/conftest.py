"""Fixtures for many folders: places where nothing can be written, a run, some images."""

import contextlib
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from conftest import run_config
from PIL import Image

from d2l_ft.data.image_folder import Sample
from d2l_ft.runs.directory import Run


@pytest.fixture
def blocked(tmp_path):
    """Return a path below what is a file, so that no user can write there."""
    (tmp_path / 'file').write_text('')
    return tmp_path / 'file' / 'below'


@pytest.fixture
def closed():
    """Return a folder, and what takes from this process the right to write there for a moment."""
    with tempfile.TemporaryDirectory(dir='/tmp') as name:  # those of pytest are closed already

        @contextlib.contextmanager
        def as_another():
            root = os.geteuid() == 0  # who may read and write everything
            os.chmod(name, 0o555)
            try:
                if root:
                    os.seteuid(65534)
                yield
            finally:
                if root:
                    os.seteuid(0)
                os.chmod(name, 0o755)

        yield Path(name), as_another


@pytest.fixture
def run(tmp_path):
    """Return a run without checkpoints."""
    found = Run(tmp_path / 'run', run_config())
    found.save_config()
    return found


@pytest.fixture
def samples(tmp_path):
    """Return seven images of different heights, of two classes in turn."""
    draws = np.random.default_rng(0)
    found = []
    for i in range(7):
        path = tmp_path / f'{i}.png'
        Image.fromarray(draws.integers(0, 256, (40 + i, 50, 3), dtype=np.uint8)).save(path)
        found.append(Sample(str(path), i % 2))
    return found
