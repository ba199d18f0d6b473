"""A run's net as a file for others: weights of Gluon, torchvision or safetensors, or ONNX."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from d2l_ft.backend.registry import get_backend
from d2l_ft.errors import CheckpointError, OptionError
from d2l_ft.models.architectures import architecture
from d2l_ft.models.gluon_names import NOT_STATE, gluon_names
from d2l_ft.models.gluon_params import write_params
from d2l_ft.models.state import State
from d2l_ft.runs.directory import Run
from d2l_ft.runs.settings import NETS
from d2l_ft.storage.atomic import write_atomic

SUFFIXES = ('.params', '.safetensors', '.pth', '.onnx')


def export_weights(run: Run, target: Path, net: str | None = None) -> str:
    """Write the weights of a run's net into a file, and return what was written.

    Args:
        run: The run.
        target: The file: .params has Gluon's structural names, as ``load_parameters`` reads them;
            .safetensors and .pth have torchvision's, as ``load_state_dict`` does; .onnx has the net
            itself, for images of the run's size, with classes and normalisation.
        net: 'fine-tuned' or 'scratch'; the best one otherwise.

    Raises:
        OptionError: The suffix is none of these.
        CheckpointError: The run has no good checkpoint.
        BackendNotInstalled: A .pth or .onnx file needs PyTorch.
        ModelError: An .onnx file needs the package onnx.
        StorageError: The file cannot be written.
    """
    if target.suffix not in SUFFIXES:
        raise OptionError(
            f'{target} is no file of weights by its name: use one of {", ".join(SUFFIXES)}'
        )
    name = net or run.best_net()
    found = run.load(name)
    if found is None:
        nets = ', '.join(each for each in NETS if run.checkpoints(each)) or 'none'
        raise CheckpointError(
            f'{run.path} has no checkpoint of the {name} net: its nets are {nets}'
        )
    arch = run.config.arch
    state = found[0].model | _fixed_scales(arch)
    if target.suffix == '.params':
        write_params(target, gluon_arrays(state, arch))
    elif target.suffix == '.safetensors':
        write_atomic(target, save(state, metadata={'format': 'pt', 'arch': arch}))
    else:
        pytorch: Any = get_backend('pytorch')
        if target.suffix == '.pth':
            pytorch.write_weights(str(target), state)
        else:
            write_onnx(run, found[0].model, target, pytorch)
    return f'{target}: the {name} net of {run.path}, {arch} with {len(run.config.classes)} classes'


def _fixed_scales(arch: str) -> State:
    """Return the scales of a converted net that are 1 and do not learn, which no state has."""
    definition = architecture(arch).definition
    if definition is None:
        return {}
    shapes = definition.shapes
    return {name: np.ones(shapes[name], np.float32) for name in sorted(definition.fixed)}


def write_onnx(run: Run, state: State, target: Path, pytorch: Any) -> None:
    """Write a net as an ONNX file that says its classes and how images are prepared."""
    config = run.config
    arch = architecture(config.arch)
    order = ', then BGR' if arch.bgr else ''
    net = pytorch.build_net(config.arch, len(config.classes))
    pytorch.set_state(pytorch.place(net), state)
    told = {
        'arch': config.arch,
        'classes': json.dumps(list(config.classes)),
        'mean': json.dumps(arch.mean),
        'std': json.dumps(arch.std),
        'images': f'RGB in [0, 1], then mean and std{order}; the centre of a square 256/224 as '
        'large',
    }
    pytorch.write_onnx(str(target), net, config.image_size, told)


def gluon_arrays(state: State, arch: str) -> State:
    """Return a state under Gluon's structural names, with what is fixed there.

    That of a converted net gets the names that its graph has.
    """
    definition = architecture(arch).definition
    if definition is not None:  # under the names of its graph, as an export of Gluon has them
        ends = ('running_mean', 'running_var')
        return {
            f'{"aux" if name.endswith(ends) else "arg"}:{definition.names.get(name, name)}': array
            for name, array in state.items()
        }
    renamed = {theirs: state[ours] for theirs, ours in gluon_names(state, arch).items()}
    for fixed in sorted(NOT_STATE.get(arch, ())):  # a scale of 1 and a shift of 0
        layer, _, suffix = fixed.rpartition('.')
        like = renamed[f'{layer}.running_mean']
        renamed[fixed] = np.ones_like(like) if suffix == 'gamma' else np.zeros_like(like)
    return renamed
