"""Fixtures for the tests of the MXNet backend, read in every leg: MXNet is imported late."""

import gc

import numpy as np
import pytest
from PIL import Image

from d2l_ft.data.image_folder import Sample


@pytest.fixture(params=['legacy', 'set_np'])
def arrays(request):
    """Run each test in both semantics; return the module that makes arrays in it."""
    import mxnet as mx

    mx.npx.set_np(request.param == 'set_np', request.param == 'set_np')
    yield mx.np if request.param == 'set_np' else mx.nd
    mx.npx.reset_np()
    if 'arch' in request.fixturenames:
        gc.collect()  # the nets of the zoo are large, and refer to themselves


@pytest.fixture
def samples(tmp_path):
    draws = np.random.default_rng(0)
    found = []
    for i in range(7):
        path = tmp_path / f'{i}.png'
        Image.fromarray(draws.integers(0, 256, (40 + i, 50, 3), dtype=np.uint8)).save(path)
        found.append(Sample(str(path), i % 2))
    return found
