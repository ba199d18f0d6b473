"""Source models: pre-trained here on the sample's source task, from a zoo, or from a file."""

from pathlib import Path
from typing import Any

from d2l_ft.backend.devices import Devices, as_request
from d2l_ft.backend.protocol import Backend
from d2l_ft.backend.registry import get_backend
from d2l_ft.errors import ModelError, OptionError
from d2l_ft.models.architectures import architecture
from d2l_ft.models.state import State, find_problem
from d2l_ft.sources.pretrain import sample_source
from d2l_ft.sources.weights import read_weights
from d2l_ft.sources.zoo import imagenet_file


def load_source(
    source: str,
    arch: str,
    backend: Backend | str | None = None,
    *,
    devices: Devices = 'auto',
    bar: bool = True,
) -> State | None:
    """Return the state to fine-tune from.

    Args:
        source: 'sample' (pre-trained at first use, then cached), 'imagenet', 'none' (random
            weights), a file of weights of any kind and name that ``read_weights`` reads, or the
            folder of the converted net that ``arch`` is.
        arch: Architecture.
        backend: The framework that pre-trains if necessary, as ``get_backend`` takes it.
        devices: The devices for that, as ``train_ch13`` takes them.
        bar: Whether to show progress.

    Raises:
        DataError: The download failed or has the wrong hash.
        OptionError: There is no such source.
        ModelError: It is of another net, or has values that are not finite.
        CheckpointError: The file is damaged.
        BackendNotInstalled: The file needs a framework that is not installed.

    Example:
        >>> source = d2l.load_source('sample', 'resnet18')
        >>> source['fc.weight'].shape
        (18, 512)
    """
    if source == 'none':
        return None
    if source in ('sample', 'imagenet') and architecture(arch).definition is not None:
        raise OptionError(
            f'{arch} is a converted net, of which there are no weights named {source!r}: leave out '
            '`source` for its own'
        )
    if source in ('sample', 'imagenet'):
        chosen = get_backend(backend)
    if source == 'sample':
        return sample_source(arch, chosen, as_request(chosen, devices), bar=bar).model
    if source == 'imagenet':
        return read_weights(imagenet_file(arch, chosen.NAME), arch, verified=True)
    path = Path(source).expanduser()
    if not path.exists():
        raise OptionError(f'there is no source {source!r}: give sample, imagenet, none or a file')
    if path.is_dir():
        path = path / 'model.safetensors'  # of a converted net
    state = read_weights(path, arch)
    if problem := find_problem(state):
        raise ModelError(f'{problem} in {path}: give other weights')
    return state


def pretrained_net(arch: str, source: str = 'sample', backend: Backend | str | None = None) -> Any:
    """Return a source model as a net of the framework, its output layer included.

    Args:
        arch: Architecture.
        source: 'sample', 'imagenet' or a file, as ``load_source`` takes it.
        backend: As ``get_backend`` takes it.

    Raises:
        D2LFTError: As ``load_source``; and OptionError for the source 'none', ModelError without an
            output layer.

    Example:
        >>> net = d2l.pretrained_net('resnet18', 'sample')
        >>> net.fc.out_features
        18
    """
    chosen = get_backend(backend)
    state = load_source(source, arch, chosen)
    if state is None:
        raise OptionError("the source 'none' is no model: give sample, imagenet or a file")
    weight = state.get(f'{architecture(arch).head}.weight')
    if weight is None:
        raise ModelError(
            f'{source} has no output layer of {arch}, which is needed here: '
            'd2l.load_source reads the rest, to fine-tune from'
        )
    # with as many outputs as the source, so that set_state sets all of it
    net = chosen.build_net(arch, len(weight))
    chosen.set_state(chosen.place(net), state)
    return net
