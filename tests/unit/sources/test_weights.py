"""Weights files: read by what they are, whatever they are called and wrap."""

import argparse
import collections
import enum
import io
import json
import pathlib
import pickle
import random
import struct
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest
from conftest import says
from safetensors.numpy import save
from weights import fresh, renamed, wrapped

from d2l_ft.errors import CheckpointError, D2LFTError, ModelError
from d2l_ft.models.checkpoint import Checkpoint, save_checkpoint
from d2l_ft.models.gluon_params import write_params
from d2l_ft.models.layouts import layouts
from d2l_ft.models.state_dicts import flatten
from d2l_ft.runs.export import gluon_arrays
from d2l_ft.sources.load import load_source, pretrained_net
from d2l_ft.sources.weights import read_weights

SMALL = 'squeezenet1_1'
"""The architecture with the fewest parameters."""

SUFFIXES = ['.safetensors', '.pth', '.pt', '.ckpt', '.bin', '.params', '.npz', '.pth.tar', '']


def same(one, other):
    """Tell whether two states are equal to the bit."""
    return one.keys() == other.keys() and all(
        np.array_equal(array, other[name]) and array.dtype == other[name].dtype
        for name, array in one.items()
    )


def bfloat16_file(arrays):
    """Return a safetensors file of bfloat16, which NumPy cannot write."""
    header, parts, place = {}, [], 0
    for name, array in arrays.items():
        parts.append((array.view('<u4') >> 16).astype('<u2').tobytes())
        end = place + len(parts[-1])
        header[name] = {'dtype': 'BF16', 'shape': array.shape, 'data_offsets': [place, end]}
        place = end
    text = json.dumps(header).encode()
    return struct.pack('<Q', len(text)) + text + b''.join(parts)


def safetensors_file(loaded, dtype):
    """Return what a state becomes in safetensors, which nests nothing."""
    arrays = {name: np.array(array, order='C') for name, array in flatten(loaded).items()}
    if dtype == 'bfloat16':
        return bfloat16_file({name: array.astype(np.float32) for name, array in arrays.items()})
    return save({name: array.astype(dtype) for name, array in arrays.items()}, {'format': 'pt'})


def npz_file(loaded, dtype):
    """Return NumPy's file, which has no bfloat16."""
    stream = io.BytesIO()
    arrays = flatten(loaded)
    np.savez(stream, **{name: array.astype(dtype) for name, array in arrays.items()})
    return stream.getvalue()


def torch_file(loaded, dtype='float32', **options):
    """Return a file of torch.save."""
    import torch

    def tensors(each):
        if isinstance(each, dict):
            return {key: tensors(part) for key, part in each.items()}
        if isinstance(each, list):
            return [tensors(part) for part in each]
        if not isinstance(each, np.ndarray):
            return each
        tensor = torch.from_numpy(np.array(each))
        return tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor

    stream = io.BytesIO()
    torch.save(tensors(loaded), stream, **options)
    return stream.getvalue()


def old_torch_file(loaded, dtype='float32'):
    """Return a file as PyTorch wrote it before 1.6."""
    return torch_file(loaded, dtype, _use_new_zipfile_serialization=False)


FORMATS = [safetensors_file, npz_file, torch_file, old_torch_file]


@pytest.mark.parametrize('form', [
    pytest.param(form, marks=[pytest.mark.needs('pytorch')] if 'torch' in form.__name__ else [])
    for form in FORMATS
])  # fmt: skip
@pytest.mark.parametrize('arch', ['resnet18', 'mobilenet_v2', SMALL])
def test_any_file_of_a_state_gives_it_to_the_bit(form, arch, tmp_path):
    state, draw = fresh(arch, 3), random.Random(f'{form.__name__} {arch}')
    dtypes = ['float32', 'float16', 'float64', 'bfloat16']
    for _ in range(12):
        dtype = draw.choice(dtypes[:3] if form is npz_file else dtypes)
        loaded = wrapped(renamed(state, draw.choice(layouts(arch))), draw)
        path = tmp_path / f'x{draw.choice(SUFFIXES)}'
        path.write_bytes(form(loaded, dtype))
        kept = np.float64 if dtype == 'float64' else np.float32
        wanted = {name: array.astype(kept) for name, array in state.items()}
        assert same(read_weights(path, arch), wanted), (path.suffix, dtype)


@pytest.mark.parametrize('arch', ['resnet18', 'resnet18_v2', 'mobilenet_v2', SMALL])
@pytest.mark.parametrize('suffix', ['.params', '.pth', ''])
def test_a_file_of_gluon_by_any_name(arch, suffix, tmp_path):
    state = fresh(arch, 3)
    write_params(tmp_path / f'x{suffix}', gluon_arrays(state, arch))
    assert same(read_weights(tmp_path / f'x{suffix}', arch), state)
    other = 'resnet34' if arch == 'resnet18' else 'resnet18'
    assert says(ModelError, read_weights, tmp_path / f'x{suffix}', other) == (
        f'{tmp_path / f"x{suffix}"} has weights of {arch}, not of {other}: give `arch={arch}`'
    )


def test_a_checkpoint_of_ours_by_any_name(tmp_path):
    state = fresh(SMALL, 3)
    save_checkpoint(tmp_path / 'x.pth', Checkpoint(state, trainer=state, meta={'arch': SMALL}))
    assert same(read_weights(tmp_path / 'x.pth', SMALL), state)


def test_a_file_of_torchvision_starts_either_framework(framework, tmp_path):
    state = fresh('resnet18', 3)
    path = tmp_path / 'pytorch_model.bin'
    path.write_bytes(safetensors_file(wrapped(renamed(state, {}), random.Random(1)), 'bfloat16'))
    net = pretrained_net('resnet18', str(path), framework)
    assert same(framework.get_state(framework.place(net)), state)
    body = framework.build_net('resnet18', 2, load_source(str(path), 'resnet18', framework))
    found = framework.get_state(framework.place(body))
    assert found['fc.weight'].shape == (2, 512)
    assert all(np.array_equal(found[name], state[name]) for name in state if name[:3] != 'fc.')


@pytest.mark.needs('pytorch')
# PyTorch 2.12 warns of itself when compile is first used
@pytest.mark.filterwarnings('ignore:`torch.jit:DeprecationWarning')
def test_nets_of_torchvision_in_every_form(tmp_path):
    """A state dict, a net as a whole, the same under DataParallel and compile."""
    import torch
    import torchvision

    path = tmp_path / 'x.pth'
    for arch in ('resnet18', 'densenet121', SMALL):
        net = getattr(torchvision.models, arch)(num_classes=5)
        state = {name: each.numpy() for name, each in net.state_dict().items()
                 if each.is_floating_point()}  # fmt: skip
        around = torch.nn.DataParallel(net)
        for saved in (
            net.state_dict(),
            net,
            around.state_dict(),
            around,
            {'model': net},
            torch.compile(net).state_dict(),
            torch.compile(around).state_dict(),
        ):
            torch.save(saved, path)
            assert same(read_weights(path, arch), state)
    parts = torch.nn.Sequential(*list(torchvision.models.resnet18().children())[:-1])
    torch.save({'state_dict': {f'extractor.{k}': v for k, v in parts.state_dict().items()}}, path)
    found = read_weights(path, 'resnet18')
    assert np.array_equal(found['layer4.1.conv2.weight'], parts[7][1].conv2.weight.detach())
    assert len(found) == 100
    torch.save(net, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ModelError, match=r'more than data \(Only persistent_load of storage'):
        read_weights(path, arch)


class Colour(enum.Enum):
    """A setting of a user's."""

    RED = 1


@dataclass
class Settings:
    """Settings of a user's."""

    rate: float

    class Inner:
        """A class in a class."""


class Attributes(dict):
    """A mapping with a class of its own, as Lightning keeps settings in."""


@pytest.mark.needs('pytorch')
@pytest.mark.parametrize('modern', [True, False])
def test_a_checkpoint_of_lightning_with_objects_of_classes(modern, tmp_path):
    import torch

    state = fresh(SMALL, 3)
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=5)
    loaded = {
        'epoch': 1, 'global_step': 2, 'pytorch-lightning_version': '2.5.0',
        'state_dict': collections.OrderedDict(
            (f'model.{name}', torch.from_numpy(array)) for name, array in state.items()
        ),
        'loops': {'fit_loop': {'state_dict': {}}},
        'callbacks': {Settings: {'best': np.float64(0.5)}, 'ModelCheckpoint': {'k': np.ones(3)}},
        'optimizer_states': [optimizer.state_dict()], 'lr_schedulers': [schedule.state_dict()],
        'hparams_name': 'args', 'hparams_type': Attributes,
        'hyper_parameters': {
            'args': argparse.Namespace(lr=0.1, where=pathlib.PurePosixPath('x')),
            'colour': Colour.RED, 'settings': Settings(0.1), 'more': Attributes(a=1),
            'dtype': np.dtype('float32'), 'scalar': np.float32(3), 'array': np.arange(3),
            'default': collections.defaultdict(list, a=[1]), 'last': collections.deque([1, 2]),
            'frozen': frozenset([1]), 'range': range(3), 'slice': slice(2), 'bytes': b'x',
            'inner': Settings.Inner(), 'method': Settings(0.1).__init__,
            'type': float, 'device': torch.device('cpu'),
        },
    }  # fmt: skip
    if modern:
        loaded['loss'] = torch.nn.CrossEntropyLoss()
    path = tmp_path / 'last.ckpt'
    torch.save(loaded, path, _use_new_zipfile_serialization=modern)
    assert same(read_weights(path, SMALL), state)


class Call:
    """What pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


@pytest.mark.needs('pytorch')
@pytest.mark.parametrize('modern', [True, False])
def test_a_call_is_never_made(modern, tmp_path):
    """Of a function, a class or a method; and nothing stays trusted afterwards."""
    import torch

    state = {name: torch.from_numpy(each) for name, each in fresh(SMALL, 3).items()}
    marker, path = tmp_path / 'marker', tmp_path / 'x.pth'
    trusted = {*torch.serialization.get_safe_globals()}
    for call in (Call(np.save, str(marker), np.ones(1)), Call(torch.save, 3, str(marker)),
                 Call(zipfile.ZipFile, str(marker), 'w'), Call(marker.mkdir)):  # fmt: skip
        torch.save({'state_dict': state, 'x': call}, path, _use_new_zipfile_serialization=modern)
        assert read_weights(path, SMALL).keys() == state.keys()
        assert not marker.exists()
    assert {*torch.serialization.get_safe_globals()} == trusted


@pytest.mark.needs('pytorch')
def test_functions_that_no_data_need_are_refused(tmp_path):
    import os
    import subprocess

    import torch

    path = tmp_path / 'x.pth'
    for function, name in ((eval, 'builtins.eval'), (os.mkdir, f'{os.mkdir.__module__}.mkdir'),
                           (os.makedirs, 'os.makedirs'),
                           (subprocess.run, 'subprocess.run')):  # fmt: skip
        for modern in (True, False):
            torch.save([Call(function, 'x')], path, _use_new_zipfile_serialization=modern)
            assert says(ModelError, read_weights, path, SMALL) == (
                f'{path} asks for {name}, which no data need: save net.state_dict() alone'
            )


@pytest.mark.needs('pytorch')
def test_a_tensor_that_is_not_in_the_file(tmp_path):
    import torch

    path = tmp_path / 'x.pth'
    state = {name: torch.from_numpy(each) for name, each in fresh('resnet18', 3).items()}
    del state['fc.bias']  # so that any number of classes fits
    for weight in (torch.zeros(1).expand(10**12, 512), torch.ones(3, 512, device='meta'),
                   torch.eye(512)[:3].to_sparse()):  # fmt: skip
        torch.save(state | {'fc.weight': weight}, path)
        with pytest.raises(ModelError, match=r'fc\.weight claims more'):
            read_weights(path, 'resnet18')
    turned = torch.arange(3.0 * 512).reshape(512, 3).t()
    torch.save(state | {'fc.weight': turned}, path)
    assert np.array_equal(read_weights(path, 'resnet18')['fc.weight'], turned)


def test_a_line_says_which_of_several_nets_was_taken(tmp_path, capsys):
    state, mean = fresh(SMALL, 3), fresh(SMALL, 3, seed=1)
    path = tmp_path / 'x.bin'
    path.write_bytes(safetensors_file({'net': state}, 'float32'))
    assert same(read_weights(path, SMALL), state)
    assert capsys.readouterr().out == ''
    path.write_bytes(safetensors_file({'net': state, 'net_ema': mean}, 'float32'))
    assert same(read_weights(path, SMALL), mean)
    assert capsys.readouterr().out == (
        f"{path} has 2 nets, whose names begin with 'net.', 'net_ema.': 'net_ema.' is taken\n"
    )


def test_damage_is_said_of_what_is_damaged(tmp_path):
    path = tmp_path / 'weights.safetensors'
    path.write_bytes(b'\x08\0\0\0\0\0\0\0{"a": 1}')
    with pytest.raises(CheckpointError, match='damaged'):
        read_weights(path, 'resnet18')


@pytest.mark.slow
@pytest.mark.parametrize('form', [
    pytest.param(form, marks=[pytest.mark.needs('pytorch')] if 'torch' in form.__name__ else [])
    for form in FORMATS
])  # fmt: skip
def test_a_damaged_file_is_refused_in_one_line_or_has_the_same_names(form, tmp_path):
    state, draw, refused = fresh(SMALL, 3), random.Random(form.__name__), []
    good = form({'state_dict': state}, 'float32')
    path = tmp_path / 'x'
    for number in range(100):
        data = bytearray(good)
        if cut := number % 2:
            # near the ends, where the structure is, as often as anywhere
            place = draw.choice((draw.randrange(2000), draw.randrange(len(data)), -1))
            del data[place:]
        else:
            for _ in range(draw.choice((1, 4, 30))):
                place = draw.choice((draw.randrange(20000), draw.randrange(-20000, 0)))
                data[place] = draw.randrange(256)
        path.write_bytes(data)
        try:
            found = read_weights(path, SMALL)
        except D2LFTError as error:
            refused.append(str(error))
        else:
            assert not cut
            assert found.keys() <= state.keys()
            assert all(found[name].shape == state[name].shape for name in found)
    assert len(refused) >= 50
    assert all('\n' not in line and len(line) < 1000 for line in refused)


@pytest.mark.slow
@pytest.mark.needs('pytorch')
def test_a_changed_pickle_in_a_good_zip_is_refused_in_one_line(tmp_path):
    """What no checksum catches; some still name the function that the file had asked for."""
    import torch

    marker, path, draw = tmp_path / 'marker', tmp_path / 'x', random.Random(0)
    state = {name: torch.from_numpy(each) for name, each in fresh(SMALL, 3).items()}
    torch.save({'state_dict': state, 'x': [Call(np.save, str(marker), np.ones(1)), {}]}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = (name for name in entries if name.endswith('data.pkl'))
    refused = []
    for _ in range(150):
        changed = bytearray(entries[pickled])
        for _ in range(draw.choice((1, 1, 2, 8))):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        with zipfile.ZipFile(path, 'w') as archive:
            for name, data in entries.items():
                archive.writestr(name, bytes(changed) if name == pickled else data)
        try:
            found = read_weights(path, SMALL)
        except D2LFTError as error:
            refused.append(str(error))
        else:
            assert found.keys() <= state.keys()
    assert 50 < len(refused) < 150
    assert all('\n' not in line and len(line) < 1000 for line in refused)
    assert [each.name for each in tmp_path.iterdir()] == ['x'], 'nothing was written'


def test_files_that_are_no_weights(tmp_path):
    path = tmp_path / 'x.safetensors'
    tell = 'and no weights file: give a file of safetensors, torch.save or Gluon'
    for data, what in (
        (b'', f'an empty file, {tell}'),
        (b'no weights', f'of an unknown kind, {tell}'),
        (b'<html>', f'a page of HTML, as a download that failed leaves, {tell}'),
        (b'version https://git-lfs.github.com/spec/v1\n',
         'a pointer of Git LFS, not the file itself, and no weights file: run  git lfs pull'),
        (b'{"nodes": []}',
         'a file of JSON, such as a symbol file of MXNet, and no weights file: '
         'give the .params file beside it'),
        (pickle.dumps({}),
         'a pickle of Python, not of torch.save, and no weights file: '
         'save net.state_dict() with torch.save'),
        (b'\x1f\x8b', 'an archive, and no weights file: unpack it'),
        (b'PK\x03\x04', 'a damaged zip file, and no weights file: fetch it again'),
    ):  # fmt: skip
        path.write_bytes(data)
        assert says(ModelError, read_weights, path, 'resnet18') == f'{path} is {what}'
