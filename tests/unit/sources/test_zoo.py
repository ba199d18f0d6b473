"""Weights of the zoos with 1000 classes, by the way of a download: the whole net is there."""

from dataclasses import replace

import mxnet as mx
import numpy as np
import pytest
import served
import torch
import torchvision

import d2l_ft as d2l
from d2l_ft.backend.registry import BACKENDS, get_backend
from d2l_ft.errors import ModelError
from d2l_ft.sources import zoo

pytestmark = pytest.mark.needs('mxnet', 'pytorch')

IMAGES = np.random.default_rng(1).normal(size=(2, 3, 224, 224)).astype(np.float32)


def close(ours, theirs):
    """Tell whether logits are the same but for roundings."""
    return np.abs(ours - theirs).max() <= 1e-5 * max(1.0, np.abs(theirs).max())


def in_pytorch(net):
    """Return the logits of a net of PyTorch."""
    with torch.no_grad():
        return net.eval()(torch.from_numpy(IMAGES)).numpy()


@pytest.mark.parametrize('arch', zoo.IMAGENET['mxnet'])
def test_a_gluon_zoos_net_keeps_its_head_in_both_frameworks(arch, tmp_path, monkeypatch):
    """What is downloaded computes what the zoo's own net computes, whatever kind its head is of."""
    theirs = served.gluon_net(arch)
    entry = served.write_gluon_weights(tmp_path, theirs, arch)
    monkeypatch.setitem(zoo.IMAGENET['mxnet'], arch, entry)
    wanted = theirs(mx.nd.array(IMAGES)).asnumpy()
    with served.serve(tmp_path) as url:
        monkeypatch.setitem(BACKENDS, 'mxnet', replace(BACKENDS['mxnet'], zoo=url))
        net = d2l.pretrained_net(arch, 'imagenet', get_backend('mxnet'))
    assert wanted.shape == (2, served.IMAGENET_CLASSES)
    assert close(net(mx.nd.array(IMAGES)).asnumpy(), wanted)
    path = zoo.imagenet_file(arch, 'mxnet')  # in the cache by now
    assert close(in_pytorch(d2l.pretrained_net(arch, str(path), get_backend('pytorch'))), wanted)


def test_a_torchvision_net_keeps_its_head(tmp_path, monkeypatch):
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18()
    digest = served.write_torchvision_weights(tmp_path, theirs, 'resnet18')
    monkeypatch.setitem(zoo.IMAGENET['pytorch'], 'resnet18', digest)
    with served.serve(tmp_path) as url:
        monkeypatch.setitem(BACKENDS, 'pytorch', replace(BACKENDS['pytorch'], zoo=url))
        net = d2l.pretrained_net('resnet18', 'imagenet', get_backend('pytorch'))
    assert np.array_equal(in_pytorch(net), in_pytorch(theirs))


def test_a_head_of_another_kind_is_left_out_and_named(tmp_path):
    """Its body is a source all the same."""
    backend = get_backend('mxnet')
    net = backend.build_net('resnet18', 3)
    arrays = {name: each.data() for name, each in net._collect_params_with_prefix().items()}
    arrays['fc.weight'] = mx.nd.zeros((3, 512, 7, 7))
    path = str(tmp_path / 'other.params')
    mx.nd.save(path, arrays)
    state = d2l.load_source(path, 'resnet18', backend)
    assert not any(name.startswith('fc.') for name in state)
    placed = backend.place(backend.build_net('resnet18', 2, state))
    assert len(backend.get_state(placed)) == len(state) + 2
    with pytest.raises(ModelError, match='has no output layer of resnet18'):
        d2l.pretrained_net('resnet18', path, backend)
