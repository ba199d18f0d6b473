"""The weights of a run as files that the frameworks' own nets load."""

import json
import sys

import numpy as np
import pytest
from conftest import run_config, says

from d2l_ft.backend.registry import get_backend
from d2l_ft.data.opencv import cv2
from d2l_ft.errors import CheckpointError, ModelError, OptionError
from d2l_ft.models.architectures import ARCHITECTURES, MEAN, STD
from d2l_ft.models.gluon_params import read_params
from d2l_ft.runs.directory import Run
from d2l_ft.runs.export import export_weights, gluon_arrays
from d2l_ft.training.metrics import Position

pytestmark = [pytest.mark.needs('mxnet', 'pytorch'), pytest.mark.slow]

ZOO = {
    'resnet18': 'resnet18_v1b', 'resnet34': 'resnet34_v1b', 'resnet50': 'resnet50_v1b',
    'vgg11': 'vgg11', 'densenet121': 'densenet121', 'squeezenet1_1': 'squeezenet1.1',
}  # fmt: skip
"""Architecture -> GluonCV's net of that function; MobileNet v2's there ends otherwise."""


def a_run(path, arch):
    """Return a run with a checkpoint of an untrained net of 3 classes."""
    backend = get_backend('pytorch')
    net = backend.build_net(arch, 3)
    state = backend.get_state(backend.place(net))
    run = Run(path, run_config(arch=arch, classes=('a', 'b', 'c')))
    path.mkdir()
    run.save_config()
    run.save('fine-tuned', state, {}, Position())
    return run, net.eval(), state


@pytest.mark.parametrize('arch', ARCHITECTURES)
def test_gluon_loads_what_a_run_has_learnt(arch, tmp_path):
    import mxnet as mx
    import torch
    from gluoncv.model_zoo import get_model

    run, net, state = a_run(tmp_path / 'run', arch)
    path = tmp_path / 'net.params'
    assert export_weights(run, path) == (
        f'{path}: the fine-tuned net of {run.path}, {arch} with 3 classes'
    )
    theirs = (
        get_model(ZOO[arch], classes=3) if arch in ZOO else get_backend('mxnet').build_net(arch, 3)
    )
    theirs.load_parameters(str(path))
    images = np.random.default_rng(0).standard_normal((2, 3, 224, 224), np.float32)
    with torch.no_grad():
        wanted = net(torch.from_numpy(images)).numpy()
    found = theirs(mx.nd.array(images)).asnumpy()
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()
    assert set(read_params(path)) == set(theirs._collect_params_with_prefix())
    assert set(gluon_arrays(state, arch)) == set(read_params(path))


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_torchvision_loads_what_a_run_has_learnt(suffix, tmp_path):
    import torch
    import torchvision
    from safetensors import safe_open
    from safetensors.torch import load_file

    run, net, _ = a_run(tmp_path / 'run', 'resnet18')
    path = tmp_path / f'net{suffix}'
    export_weights(run, path)
    if suffix == '.pth':
        state = torch.load(path, weights_only=True)
    else:
        state = load_file(path)
        with safe_open(path, 'pt') as file:  # other libraries refuse a file without the format
            assert file.metadata() == {'format': 'pt', 'arch': 'resnet18'}
    theirs = torchvision.models.resnet18(num_classes=3).eval()
    missing, unknown = theirs.load_state_dict(state, strict=False)
    assert not unknown
    assert all(name.endswith('num_batches_tracked') for name in missing)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(theirs(images), net(images))


@pytest.mark.parametrize('arch', ARCHITECTURES)
def test_opencv_computes_the_same_with_an_onnx_file(arch, tmp_path):
    import torch

    onnx = pytest.importorskip('onnx', reason='the package onnx is not installed here')
    run, net, _ = a_run(tmp_path / 'run', arch)
    path = tmp_path / 'net.onnx'
    export_weights(run, path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    told = {each.key: each.value for each in model.metadata_props}
    assert json.loads(told['classes']) == ['a', 'b', 'c']
    assert (json.loads(told['mean']), json.loads(told['std'])) == (list(MEAN), list(STD))
    read = cv2.dnn.readNetFromONNX(np.fromfile(path, np.uint8))
    for batch in (1, 3):
        images = torch.randn(batch, 3, run.config.image_size, run.config.image_size)
        with torch.no_grad():
            wanted = net(images).numpy()
        read.setInput(images.numpy())
        assert np.abs(read.forward() - wanted).max() < 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize(('old', 'new'), [(1, 7), (2, 7), (7, 7), (9, 7), (5, 2), (13, 6)])
def test_adaptive_pooling_by_products(old, new):
    import torch
    from d2l_ft_pytorch.model import PoolByProducts

    images = torch.randn(2, 3, old, old + 1)
    wanted = torch.nn.functional.adaptive_avg_pool2d(images, new)
    assert torch.allclose(PoolByProducts(new)(images), wanted, atol=1e-6)


def test_an_onnx_file_without_the_package(tmp_path, monkeypatch):
    run, _, _ = a_run(tmp_path / 'run', 'resnet18')
    monkeypatch.setitem(sys.modules, 'onnx', None)
    assert says(ModelError, export_weights, run, tmp_path / 'net.onnx') == (
        'an ONNX file needs the package onnx, which is not installed: run  '
        'pip install "d2l-ft[onnx]"'
    )
    assert not (tmp_path / 'net.onnx').exists()


def test_a_file_of_another_kind_and_a_run_without_a_checkpoint(tmp_path):
    run, _, _ = a_run(tmp_path / 'run', 'resnet18')
    with pytest.raises(OptionError) as error:
        export_weights(run, tmp_path / 'net.h5')
    assert str(error.value) == (
        f'{tmp_path / "net.h5"} is no file of weights by its name: '
        'use one of .params, .safetensors, .pth, .onnx'
    )
    with pytest.raises(CheckpointError) as error:
        export_weights(run, tmp_path / 'net.pth', 'scratch')
    assert str(error.value) == (
        f'{run.path} has no checkpoint of the scratch net: its nets are fine-tuned'
    )
