"""The weights of a run as files that the frameworks' own nets load."""

import numpy as np
import pytest
from conftest import run_config

from d2l_ft.backend.registry import get_backend
from d2l_ft.errors import CheckpointError, OptionError
from d2l_ft.models.architectures import ARCHITECTURES
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
    from safetensors.torch import load_file

    run, net, _ = a_run(tmp_path / 'run', 'resnet18')
    path = tmp_path / f'net{suffix}'
    export_weights(run, path)
    state = torch.load(path, weights_only=True) if suffix == '.pth' else load_file(path)
    theirs = torchvision.models.resnet18(num_classes=3).eval()
    missing, unknown = theirs.load_state_dict(state, strict=False)
    assert not unknown
    assert all(name.endswith('num_batches_tracked') for name in missing)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(theirs(images), net(images))


def test_a_file_of_another_kind_and_a_run_without_a_checkpoint(tmp_path):
    run, _, _ = a_run(tmp_path / 'run', 'resnet18')
    with pytest.raises(OptionError) as error:
        export_weights(run, tmp_path / 'net.onnx')
    assert str(error.value) == (
        f'{tmp_path / "net.onnx"} is no file of weights by its name: '
        'use one of .params, .safetensors, .pth'
    )
    with pytest.raises(CheckpointError) as error:
        export_weights(run, tmp_path / 'net.pth', 'scratch')
    assert str(error.value) == (
        f'{run.path} has no checkpoint of the scratch net: its nets are fine-tuned'
    )
