"""Source models: pre-trained by us on the sample's source task, from a zoo, or from a file."""

import math
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

import d2l_ft.sample as sample
from d2l_ft.architectures import architecture
from d2l_ft.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from d2l_ft.datasets import SAMPLE_AREA, SAMPLE_SIZE, DataSet, sample_source_folder
from d2l_ft.errors import ModelError
from d2l_ft.files import cache_dir
from d2l_ft.folder import load_folders
from d2l_ft.hub import fetch
from d2l_ft.interface import Backend, State
from d2l_ft.recipe import SOURCE, SOURCE_BATCH_SIZE, SOURCE_EPOCHS
from d2l_ft.registry import get_backend
from d2l_ft.training import Fit, accuracy

TORCHVISION = 'https://download.pytorch.org/models/'
GLUON = 'https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/models/'
IMAGENET: dict[str, dict[str, Any]] = {
    'pytorch': {
        'resnet18': 'resnet18-f37072fd.pth',
        'resnet34': 'resnet34-b627a593.pth',
        'resnet50': 'resnet50-0676ba61.pth',
        'mobilenet_v2': 'mobilenet_v2-b0353104.pth',
        'vgg11': 'vgg11-8a719046.pth',
        'densenet121': 'densenet121-a639ec97.pth',
        'squeezenet1_1': 'squeezenet1_1-b8a52dc0.pth',
    },
    'mxnet': {
        'resnet18': ('resnet18_v1b', '2d9d980c990442f826f20781ed039851e78dabe3'),
        'resnet34': ('resnet34_v1b', '8e16b84814e84f64d897854003f049872991eaa6'),
        'resnet50': ('resnet50_v1b', '0ecdba34691be172036ddf244ff1b2eade75ffde'),
        'resnet18_v2': ('resnet18_v2', 'a81db45fd7b7a2d12ab97cd88ef0a5ac48b8f657'),
        'mobilenet_v2': ('mobilenetv2_1.0', 'f9952bcde7a7982947ac5240546e1c1c8f057370'),
        'vgg11': ('vgg11', 'dd221b160977f36a53f464cb54648d227c707a05'),
        'densenet121': ('densenet121', 'f27dbf2dbd5ce9a80b102d89c7483342cd33cb31'),
        'squeezenet1_1': ('squeezenet1.1', '33ba0f93753c83d86e1eb397f38a667eaf2e9376'),
    },
}
"""ImageNet weights as torchvision 0.27 and GluonCV 0.10 list them. torchvision's file names hold
the first digits of the SHA-256; Gluon's hash is the SHA-1 of the .params file in the archive."""

READERS = {'.pth': 'pytorch', '.pt': 'pytorch', '.params': 'mxnet'}
"""Suffix of a weights file -> the backend that reads it."""

OFFLINE = 'use the built-in  --source sample'


def load_source(
    source: str, arch: str, backend: Backend, devices: str = 'auto', bar: bool = True
) -> State | None:
    """Return the state to fine-tune from.

    Args:
        source: 'sample' (pre-trained at first use, then cached), 'imagenet', 'none' (random
            weights), or a file: .safetensors with canonical names, .pth or .pt of torchvision's
            net, .params of Gluon's.
        arch: Architecture.
        backend: The framework that pre-trains, if that is needed.
        devices: Where it pre-trains.
        bar: Whether to show progress.

    Raises:
        DataError: The download failed or is not what it should be.
        ModelError: There is no such source.
        CheckpointError: The file is damaged.
        BackendNotInstalled: The file needs a framework that is not installed.
    """
    if source == 'none':
        return None
    if source == 'sample':
        return sample_source(arch, backend, devices, bar).model
    if source == 'imagenet':
        return read_weights(imagenet_file(arch, backend.NAME), arch)
    path = Path(source).expanduser()
    if not path.is_file():
        raise ModelError(f'there is no source {source!r}: give sample, imagenet, none or a file')
    return read_weights(path, arch)


def pretrained_net(arch: str, source: str = 'sample', backend: Backend | None = None) -> Any:
    """Return a source model as a net of the framework, its output layer included.

    Args:
        arch: Architecture.
        source: 'sample', 'imagenet' or a file, as ``load_source`` takes it.
        backend: The framework; None is that of D2L_FT_BACKEND.

    Raises:
        D2LFTError: As ``load_source``; and ModelError for the source 'none'.
    """
    backend = backend or get_backend()
    state = load_source(source, arch, backend)
    if state is None:
        raise ModelError("the source 'none' is no model: give sample, imagenet or a file")
    net = backend.build_net(arch, len(state[f'{architecture(arch).head}.weight']))
    backend.set_state(net, state)
    return net


def read_weights(path: Path, arch: str) -> State:
    """Return the canonical state in a weights file of either framework; nothing is unpickled."""
    if path.suffix in READERS:
        reader: Any = get_backend(READERS[path.suffix])
        state: State = reader.read_weights(str(path), arch)
        return state
    return load_checkpoint(path).model


def imagenet_file(arch: str, backend: str) -> Path:
    """Return the verified file of ImageNet weights, from the zoo of the backend's framework.

    Raises:
        ModelError: The zoo has none of this architecture.
        DataError: No network, or another hash.
    """
    entry = IMAGENET.get(backend, {}).get(arch)
    if entry is None:
        names = ', '.join(IMAGENET.get(backend, {})) or 'none'
        raise ModelError(f'{backend} has no ImageNet weights of {arch}; it has: {names}')
    folder = cache_dir() / 'imagenet'
    if isinstance(entry, str):
        digest = entry.rsplit('-', 1)[-1].partition('.')[0]
        return fetch(TORCHVISION + entry, digest, folder / entry, OFFLINE)
    name, digest = entry
    url = f'{GLUON}{name}-{digest[:8]}.zip'
    return fetch(url, digest, folder / f'{name}-{digest[:8]}.params', OFFLINE, member=True)


def source_path(arch: str) -> Path:
    """Return where the sample's source model of an architecture is cached.

    One file serves both frameworks, whichever wrote it.
    """
    return cache_dir() / 'models' / f'sample-v{sample.VERSION}-{arch}-{SAMPLE_SIZE}px.safetensors'


def sample_source(
    arch: str, backend: Backend, devices: str = 'auto', bar: bool = True
) -> Checkpoint:
    """Return the model that was pre-trained on the sample's source task; train it at first use."""
    path = source_path(arch)
    if not path.is_file():
        checkpoint = pretrain(arch, backend, devices, bar)
        if not path.is_file():  # another process may have been faster: the first one stays
            save_checkpoint(path, checkpoint)
    return load_checkpoint(path)


def pretrain(arch: str, backend: Backend, devices: str = 'auto', bar: bool = True) -> Checkpoint:
    """Train an architecture from scratch on the sample's source task.

    The rate falls along half a cosine (Loshchilov and Hutter 2017), epoch by epoch; a new rate
    needs a new trainer, which the velocity survives.

    Raises:
        KeyboardInterrupt: After Ctrl-C; nothing is kept.
    """
    tell(f'pre-training {arch} on the source task of the sample (once; it is cached)')
    train, test = load_folders(sample_source_folder(bar))
    data = DataSet('sample-source', train, test, SAMPLE_SIZE, area=SAMPLE_AREA)
    train_iter, test_iter = data.loaders(backend, SOURCE_BATCH_SIZE)
    net = backend.build_net(arch, len(data.classes))
    backend.place(net, backend.devices(devices))
    velocity: State = {}
    fit = Fit(backend, net, None, train_iter, None, 0, name=f'source {arch}', seed=0, bar=bar)
    for epoch in range(SOURCE_EPOCHS):
        rate = SOURCE.learning_rate * (1 + math.cos(math.pi * epoch / SOURCE_EPOCHS)) / 2
        fit.trainer = backend.build_trainer(net, SOURCE.at_rate(rate))
        backend.set_trainer_state(net, fit.trainer, velocity)
        fit.num_epochs = epoch + 1
        fit.run()
        if fit.interrupted:
            raise KeyboardInterrupt
        velocity = backend.get_trainer_state(net, fit.trainer)
    reached = accuracy(backend.evaluate(net, test_iter))
    tell(f'source model: accuracy {reached:.3f} on {len(data.classes)} classes')
    meta = {
        'arch': arch, 'classes': data.classes, 'image_size': SAMPLE_SIZE,
        'trained_with': backend.NAME, 'test_acc': reached,
    }  # fmt: skip
    return Checkpoint(backend.get_state(net), meta=meta)


def tell(text: str) -> None:
    """Print a line above the progress bar; nothing in a notebook, whose output would vary by it."""
    if 'ipykernel' not in sys.modules:
        tqdm.write(text)
