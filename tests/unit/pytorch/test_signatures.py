"""The PyTorch backend has the functions of the protocol."""

import inspect

import d2l_ft_pytorch as backend
import pytest

from d2l_ft.backend.protocol import Backend

pytestmark = pytest.mark.needs('mxnet', 'pytorch')


def test_signatures_are_those_of_the_protocol():
    for name, function in inspect.getmembers(Backend, inspect.isfunction):
        if name.startswith('_'):
            continue
        wanted = list(inspect.signature(function).parameters.values())[1:]
        found = inspect.signature(getattr(backend, name)).parameters.values()
        assert [(p.name, p.default, p.kind) for p in found] == [
            (p.name, p.default, p.kind) for p in wanted
        ], name
    assert (backend.NAME, backend.FRAMEWORK) == ('pytorch', 'torch')
