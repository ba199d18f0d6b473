"""A graph of MXNet that it does not compute in float64 is named, and its proof is undecided."""

import mxnet as mx
import numpy as np
import pytest
from conftest import says
from d2l_ft_mxnet.graph_net import GraphNet

from d2l_ft.convert.formats import read_model
from d2l_ft.convert.package import write_package
from d2l_ft.convert.verify_command import VerifyOptions, verify
from d2l_ft.errors import ModelError

pytestmark = pytest.mark.needs('mxnet')


def symbol():
    """Return a net with an operator that MXNet has in float32 alone."""
    x = mx.sym.LRN(mx.sym.var('data'), nsize=3, name='norm')
    return mx.sym.FullyConnected(x, num_hidden=2, name='fc')


def test_a_type_and_a_size_that_mxnet_does_not_compute():
    text = symbol().get_internals()['norm_output'].tojson()
    net = GraphNet(text, {}, {'data': (1, 4, 5, 5)}, ['norm'], 'float64')
    images = {'data': np.zeros((1, 4, 5, 5))}
    start = 'MXNet does not compute this net in float64 with data (1, 4, 5, 5): '
    assert says(ModelError, net.forward, images, train=False, nodes=False).startswith(start)
    pooled = mx.sym.Pooling(mx.sym.var('data'), kernel=(9, 9), name='pool').tojson()
    assert says(ModelError, GraphNet, pooled, {}, {'data': (1, 4, 5, 5)}, ['pool'], 'float64') == (
        f'{start}param.kernel[0] <= dshape_nchw[2] + 2 * param.pad[0]: kernel size (9) exceeds '
        'input (5 padded to 5)'
    )


@pytest.mark.needs('pytorch')
def test_a_proof_in_float32_alone_decides_nothing(tmp_path):
    net = symbol()
    shapes, _, _ = net.infer_shape(data=(1, 3, 4, 4))
    values = {
        f'arg:{name}': mx.nd.random.normal(shape=shape)
        for name, shape in zip(net.list_arguments(), shapes, strict=True)
        if name != 'data'
    }
    net.save(str(tmp_path / 'net-symbol.json'))
    mx.nd.save(str(tmp_path / 'net-0000.params'), values)
    write_package(read_model([tmp_path / 'net']), tmp_path / 'out', shape=(3, 4, 4))
    lines = []
    quick = VerifyOptions(steps=1)
    assert verify(tmp_path / 'out', [tmp_path / 'net'], quick, lines.append) == 3
    assert lines[-1].startswith('Undecided: ')
    assert any('only float32 was compared, which decides nothing' in line for line in lines)
