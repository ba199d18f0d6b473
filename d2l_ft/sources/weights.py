"""Read a weights file of either framework; what it is, its bytes say and not its name."""

from pathlib import Path
from typing import Any

import numpy as np

from d2l_ft.backend.registry import get_backend
from d2l_ft.errors import ModelError
from d2l_ft.models.architectures import ARCHITECTURES, architecture
from d2l_ft.models.checkpoint import load_checkpoint
from d2l_ft.models.file_kinds import KINDS, file_kind
from d2l_ft.models.gluon_params import gluon_state, read_params
from d2l_ft.models.state import State
from d2l_ft.models.state_dicts import as_state, find_nets, find_state, of_another
from d2l_ft.system.console import say

ADVICE = {
    'exported': 'save net.state_dict() with torch.save',
    'pickle': 'save net.state_dict() with torch.save',
    'symbol': 'give the .params file beside it',
    'torchscript': 'save net.state_dict() with torch.save',
}
"""Kind of a file -> what to do about it."""


def read_weights(path: Path, arch: str, *, verified: bool = False) -> State:
    """Return the canonical state in a weights file; code in it is never run.

    If the file has several states of the net, such as weights and their moving average, a line
    says which was taken.

    Args:
        path: A safetensors file, a file of torch.save, or of Gluon's save_parameters. Names may be
            torchvision's or timm's, and begin with anything.
        arch: Architecture.
        verified: Whether the file has the hash that its publisher lists.

    Returns:
        Canonical name -> array; the output layer only if it has the form of ours.

    Raises:
        ModelError: The file is damaged, of another net, or of another kind.
        CheckpointError: The safetensors file is damaged.
        BackendNotInstalled: A file of torch.save needs PyTorch.
    """
    kind = file_kind(path)
    if (definition := architecture(arch).definition) is not None:
        found = _own(path, arch, kind)
        return {name: array for name, array in found.items() if name not in definition.fixed}
    if kind == 'pytorch':
        reader: Any = get_backend('pytorch')
        found, note = reader.read_weights(str(path), arch, verified=verified)
    elif kind == 'safetensors':
        found, note = find_state(load_checkpoint(path).model, arch, path)
    elif kind in ('params', 'npz'):
        found, note = find_state(_renamed(path, arch), arch, path)
    else:
        what, _, advice = KINDS[kind].partition(': ')
        advice = advice or ADVICE.get(kind, 'give a file of safetensors, torch.save or Gluon')
        raise ModelError(f'{path} is {what}, and no weights file: {advice}')
    if note:
        say(note)
    return as_state(found, arch)


def _own(path: Path, arch: str, kind: str) -> State:
    """Return the state of a converted net: one file of safetensors with its own names.

    Raises:
        ModelError: It is of another kind.
        CheckpointError: It is damaged.
    """
    if kind != 'safetensors':
        raise ModelError(
            f'{path} is {KINDS[kind].partition(": ")[0]}: {arch} is a converted net, so give the '
            'folder of d2l-ft convert, or a checkpoint of a run that trained it'
        )
    state = load_checkpoint(path).model
    return {name: np.asarray(array, np.float32) for name, array in state.items()}


def _renamed(path: Path, arch: str) -> dict[str, Any]:
    """Return the arrays of a .params or .npz file under canonical names.

    Raises:
        ModelError: The file is damaged, or of another architecture of Gluon's.
    """
    arrays = read_params(path)
    if find_nets(arrays, arch):  # NumPy's savez of a state dict
        return dict(arrays)
    state = gluon_state(arrays, arch, path)
    if not find_nets(state, arch):
        for other in ARCHITECTURES:
            if find_nets(gluon_state(arrays, other, path), other):
                raise ModelError(of_another(path, other, arch))
    return dict(state)
