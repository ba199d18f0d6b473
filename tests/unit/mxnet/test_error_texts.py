"""What the errors of the MXNet backend say."""

import sys

import pytest
from conftest import says

from d2l_ft.backend.registry import BACKENDS, get_backend
from d2l_ft.errors import BackendNotInstalled, ModelError


@pytest.mark.needs('mxnet')
def test_a_gluoncv_that_cannot_be_imported(monkeypatch):
    backend = get_backend('mxnet')
    monkeypatch.setitem(sys.modules, 'gluoncv', None)
    text = says(BackendNotInstalled, backend.build_net, 'resnet18', 2)
    assert text.startswith('GluonCV cannot be imported (')
    assert text.endswith(f': run  {BACKENDS["mxnet"].install}')


@pytest.mark.needs('mxnet')
def test_an_imported_graph_cannot_be_frozen():
    import mxnet as mx

    backend = get_backend('mxnet')
    body, images = mx.gluon.nn.Flatten(), mx.sym.var('data', dtype='float32')
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.SymbolBlock(body(images), images))
    net.output = mx.gluon.nn.Dense(2)
    assert says(ModelError, backend.freeze, net) == (
        'an imported SymbolBlock cannot be frozen: build the net from its layers'
    )


@pytest.mark.needs('mxnet')
def test_features_of_a_net_of_gluon_that_ends_with_a_convolution():
    import mxnet as mx

    net = mx.gluon.nn.HybridSequential()
    net.output = mx.gluon.nn.Conv2D(2, 1, in_channels=3)
    net.initialize()
    backend = get_backend('mxnet')
    assert says(ModelError, backend.features, backend.place(net), []) == (
        'the net does not end with a Dense layer: leave out `cache_features`'
    )
