"""What the errors of the PyTorch backend say."""

import zipfile

import pytest
from conftest import says

from d2l_ft.backend.registry import get_backend
from d2l_ft.errors import DeviceError, ModelError, OptionError
from d2l_ft.sources.weights import read_weights


@pytest.mark.needs('pytorch')
def test_an_architecture_that_is_unknown_to_a_file_of_pytorch(tmp_path):
    text = says(OptionError, get_backend('pytorch').read_weights, str(tmp_path), 'resnet19')
    assert text.startswith("unknown architecture 'resnet19': choose one of resnet18, ")


@pytest.mark.needs('pytorch')
def test_a_gpu_whose_memory_is_full():
    import torch

    def full(*_):
        raise torch.cuda.OutOfMemoryError

    backend = get_backend('pytorch')
    placed = backend.place(torch.nn.Linear(4, 2))
    trainer = torch.optim.SGD(placed.net.parameters(), 0.1)
    batch = torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64)
    assert says(DeviceError, backend.train_step, placed, trainer, batch, full) == (
        'the memory of the GPU is full: use a smaller batch size or image size, or stop other '
        'programs on it'
    )


@pytest.mark.needs('pytorch')
def test_an_old_pytorch_and_a_file_that_nobody_has_verified(tmp_path, monkeypatch):
    monkeypatch.setattr('torch.__version__', '2.5.1')
    text = says(
        ModelError, get_backend('pytorch').read_weights, str(tmp_path / 'a.pth'), 'resnet18'
    )
    assert text.startswith('a .pth file can make PyTorch 2.5.1 run arbitrary code (CVE-')
    assert text.endswith(': update to 2.10, or convert it to .safetensors')


@pytest.mark.needs('pytorch')
def test_features_of_a_net_of_pytorch_that_ends_with_a_convolution():
    import torch

    net = torch.nn.Sequential()
    net.fc = torch.nn.Conv2d(3, 2, 1)
    batch = torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 8, dtype=torch.int64)
    backend = get_backend('pytorch')
    assert says(ModelError, backend.features, backend.place(net), [batch]) == (
        'the head does not see vectors: leave out `cache_features`'
    )


@pytest.mark.needs('pytorch')
def test_a_file_of_pytorch_without_weights(tmp_path):
    import torch

    path = tmp_path / 'a.pth'
    torch.save({'epoch': 3}, path)
    assert says(ModelError, read_weights, path, 'resnet18') == (
        f'{path} has no arrays of floats: save net.state_dict()'
    )
    torch.save({'state_dict': {}, 'x': 2**100}, path, pickle_protocol=4)
    assert says(ModelError, read_weights, path, 'resnet18') == (
        f'{path} is damaged, or more than data (Unsupported operand 149): '
        'save net.state_dict() alone'
    )
    torch.save({'fc.weight': torch.zeros(10**6)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    assert says(ModelError, read_weights, path, 'resnet18') == (
        f'{path} is damaged (its parts claim {sum(map(len, entries.values()))} bytes)'
    )
    torch.save({'state_dict': {}, 'x': print}, path)
    assert says(ModelError, read_weights, path, 'resnet18') == (
        f'{path} asks for builtins.print, which no data need: save net.state_dict() alone'
    )
