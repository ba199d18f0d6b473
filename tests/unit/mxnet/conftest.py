"""Fixtures for the tests of the MXNet backend, read in every leg: MXNet is imported late."""

import gc

import pytest


@pytest.fixture(params=['legacy', 'set_np'])
def arrays(request):
    """Run each test in both semantics; return the module that makes arrays in it."""
    import mxnet as mx

    mx.npx.set_np(request.param == 'set_np', request.param == 'set_np')
    yield mx.np if request.param == 'set_np' else mx.nd
    mx.npx.reset_np()
    if 'arch' in request.fixturenames:
        gc.collect()  # the nets of the zoo are large, and refer to themselves
