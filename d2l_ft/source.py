"""Source models: pre-trained by us on the sample's source task, from a zoo, or from a file."""

import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import d2l_ft.sample as sample
from d2l_ft.architectures import architecture, unusable
from d2l_ft.archive import extract_only_member
from d2l_ft.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from d2l_ft.datasets import SAMPLE_AREA, SAMPLE_SIZE, DataSet, sample_source_folder
from d2l_ft.downloads import fetch
from d2l_ft.errors import D2LFTError, ModelError
from d2l_ft.files import cache_dir, locked, remove_leftovers
from d2l_ft.folder import load_folders
from d2l_ft.interface import Backend, State
from d2l_ft.messages import safe_streams, say, tell, warn
from d2l_ft.params import gluon_state
from d2l_ft.recipe import SOURCE, SOURCE_BATCH_SIZE, SOURCE_EPOCHS, scheduled
from d2l_ft.registry import get_backend
from d2l_ft.signals import ENDING, Stopped, end_with_parent, exit_code, handled, stop
from d2l_ft.training import Fit, accuracy

TORCHVISION = 'https://download.pytorch.org/models/'
GLUON = 'https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/models/'
IMAGENET: dict[str, dict[str, Any]] = {
    'pytorch': {
        'resnet18': 'f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec',
        'resnet34': 'b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f',
        'resnet50': '0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a',
        'mobilenet_v2': 'b0353104',
        'vgg11': '8a719046',
        'densenet121': 'a639ec97d7c33b07ae66f0b5fb7d0192f95a3b11b7576c66c0126c2a727c4395',
        'squeezenet1_1': 'b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b',
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
the first digits of the SHA-256, which is whole here where several projects have published it;
Gluon's hash is the SHA-1 of the .params file in the archive."""

FAILED = 'failed: '
"""What begins the line in which the process that pre-trains tells its error."""

SOURCES = ('sample', 'imagenet', 'none')
"""Names of sources; any other is a file."""

INSTEAD = 'give your weights,  --source FILE , or train from scratch,  --source none'


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
        return read_weights(imagenet_file(arch, backend.NAME), arch, verified=True)
    path = Path(source).expanduser()
    if not path.is_file():
        raise ModelError(f'there is no source {source!r}: give sample, imagenet, none or a file')
    state = read_weights(path, arch)
    if problem := unusable(state):
        raise ModelError(f'{problem} in {path}: give other weights')
    return state


def pretrained_net(arch: str, source: str = 'sample', backend: Backend | None = None) -> Any:
    """Return a source model as a net of the framework, its output layer included.

    Args:
        arch: Architecture.
        source: 'sample', 'imagenet' or a file, as ``load_source`` takes it.
        backend: The framework; None is that of D2L_FT_BACKEND.

    Raises:
        D2LFTError: As ``load_source``; and ModelError for the source 'none' or without an output
            layer.
    """
    backend = backend or get_backend()
    state = load_source(source, arch, backend)
    if state is None:
        raise ModelError("the source 'none' is no model: give sample, imagenet or a file")
    weight = state.get(f'{architecture(arch).head}.weight')
    if weight is None:
        raise ModelError(
            f'{source} has no output layer of {arch}, which is needed here: '
            'd2l.load_source reads the rest, to fine-tune from'
        )
    net = backend.build_net(arch, len(weight))
    backend.set_state(net, state)
    return net


def read_weights(path: Path, arch: str, verified: bool = False) -> State:
    """Return the canonical state in a weights file; no code in it is run.

    Args:
        path: .safetensors with canonical names, .params of Gluon's net, .pth or .pt of
            torchvision's.
        arch: Architecture.
        verified: Whether the file's hash was found to be its publisher's.

    Raises:
        ModelError: The file is damaged, of another net, or of an unknown kind.
        CheckpointError: The .safetensors file is damaged.
        BackendNotInstalled: A .pth file needs PyTorch.
    """
    if path.suffix in ('.pth', '.pt'):
        reader: Any = get_backend('pytorch')
        state: State = reader.read_weights(str(path), arch, verified)
        return state
    if path.suffix == '.params':
        return gluon_state(path, arch)
    if path.suffix != '.safetensors':
        raise ModelError(
            f'{path} is no weights file by its name: .safetensors, .pth, .pt and .params are read'
        )
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
        raise ModelError(f'{backend} has no ImageNet weights of {arch}; it has: {names}; {INSTEAD}')
    folder = cache_dir() / 'imagenet'
    if isinstance(entry, str):
        name = f'{arch}-{entry[:8]}.pth'
        return fetch(TORCHVISION + name, entry, folder / name, INSTEAD)
    name = f'{entry[0]}-{entry[1][:8]}'
    target = folder / f'{name}.params'
    return fetch(f'{GLUON}{name}.zip', entry[1], target, INSTEAD, extract_only_member)


def source_path(arch: str) -> Path:
    """Return where the sample's source model of an architecture is cached.

    One file serves both frameworks, whichever wrote it.
    """
    return cache_dir() / 'models' / f'sample-v{sample.VERSION}-{arch}-{SAMPLE_SIZE}px.safetensors'


def sample_source(
    arch: str, backend: Backend, devices: str = 'auto', bar: bool = True
) -> Checkpoint:
    """Return the model that was pre-trained on the sample's source task; train it at first use.

    Raises:
        ModelError: The training failed; the line of its error.
    """
    path = source_path(arch)
    if not path.is_file():
        with locked(path, lambda: warn(f'another process pre-trains {arch}; waiting for it')):
            if not path.is_file():
                remove_leftovers(path.parent, f'.{path.name}.*')
                pretrain_apart(arch, backend.NAME, devices, bar)
    return load_checkpoint(path)


def pretrain_apart(arch: str, backend: str, devices: str, bar: bool) -> None:
    """Pre-train in a process of its own and write the model into the cache.

    In this process it would leave the framework's generators elsewhere (MXNet's state cannot be
    kept), and what the caller draws next would depend on whether the cache was warm.

    Raises:
        ModelError: The training failed; the line of its error.
    """
    words = [arch, backend, devices, '' if bar else 'quiet']
    command = [sys.executable, '-m', 'd2l_ft.source', *words]
    # its input is a pipe, whose end tells it that this process has died
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors='replace'
    ) as child:
        try:
            for line in child.stdout or ():
                if line.startswith(FAILED):
                    raise ModelError(line.removeprefix(FAILED).strip())
                tell(line.rstrip())
        except BaseException:
            child.terminate()  # the signal may have met this process alone
            raise
    if child.returncode < 0:
        raise ModelError(
            f'the process that pre-trains {arch} was killed by signal {-child.returncode} '
            '(out of memory?): free some memory, then run the command again'
        )
    if child.returncode:
        raise ModelError(
            f'the process that pre-trains {arch} ended with code {child.returncode}: '
            'what it printed tells why'
        )


def pretrain(arch: str, backend: Backend, devices: str = 'auto', bar: bool = True) -> Checkpoint:
    """Train an architecture from scratch on the sample's source task.

    The rate falls along half a cosine, epoch by epoch.

    Raises:
        KeyboardInterrupt: After Ctrl-C; nothing is kept.
    """
    tell(f'pre-training {arch} on the source task of the sample (once; it is cached)')
    train, test = load_folders(sample_source_folder(bar))
    data = DataSet('sample-source', train, test, SAMPLE_SIZE, area=SAMPLE_AREA)
    train_iter, test_iter = data.loaders(backend, SOURCE_BATCH_SIZE)
    net = backend.build_net(arch, len(data.classes))
    backend.place(net, backend.devices(devices))
    trainer = backend.build_trainer(net, SOURCE)
    fit = Fit(
        backend, net, trainer, train_iter, None, SOURCE_EPOCHS, name=f'source {arch}', seed=0,
        rate=lambda epoch, _: scheduled('cosine', SOURCE.learning_rate, epoch / SOURCE_EPOCHS),
        bar=bar,
    )  # fmt: skip
    fit.run()
    if fit.interrupted:
        raise Stopped(fit.interrupted)
    reached = accuracy(backend.evaluate(net, test_iter))
    tell(f'source model: accuracy {reached:.3f} on {len(data.classes)} classes')
    meta = {
        'arch': arch, 'classes': data.classes, 'image_size': SAMPLE_SIZE,
        'trained_with': backend.NAME, 'test_acc': reached,
    }  # fmt: skip
    return Checkpoint(backend.get_state(net), meta=meta)


def stop_once(number: int, frame: FrameType | None) -> None:
    """Stop on the first signal, and leave the others aside until all is tidied up.

    The parent's word, the end of its pipe and Ctrl-C in a terminal may come together.
    """
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)
    stop(number, frame)


def main() -> None:
    """Be the process of ``pretrain_apart``."""
    arch, backend, devices, quiet = sys.argv[1:]
    end_with_parent()
    try:
        with handled(stop_once), safe_streams():
            checkpoint = pretrain(arch, get_backend(backend), devices, not quiet)
            save_checkpoint(source_path(arch), checkpoint)
    except D2LFTError as error:
        say(f'{FAILED}{error}')
    except KeyboardInterrupt as error:
        sys.exit(exit_code(error))


if __name__ == '__main__':
    main()
