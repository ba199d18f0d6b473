"""Read a weights file of either framework."""

from pathlib import Path
from typing import Any

from d2l_ft.backend.registry import get_backend
from d2l_ft.errors import ModelError
from d2l_ft.models.checkpoint import load_checkpoint
from d2l_ft.models.gluon_params import gluon_state
from d2l_ft.models.state import State


def read_weights(path: Path, arch: str, *, verified: bool = False) -> State:
    """Return the canonical state in a weights file; code in it is never run.

    Args:
        path: .safetensors with canonical names, .params of Gluon's net, .pth or .pt of
            torchvision's.
        arch: Architecture.
        verified: Whether the file has the hash that its publisher lists.

    Raises:
        ModelError: The file is damaged, of another net, or of an unknown kind.
        CheckpointError: The .safetensors file is damaged.
        BackendNotInstalled: A .pth file needs PyTorch.
    """
    if path.suffix in ('.pth', '.pt'):
        reader: Any = get_backend('pytorch')
        state: State = reader.read_weights(str(path), arch, verified=verified)
        return state
    if path.suffix == '.params':
        return gluon_state(path, arch)
    if path.suffix != '.safetensors':
        raise ModelError(
            f'{path} is no weights file by its name: .safetensors, .pth, .pt and .params are read'
        )
    return load_checkpoint(path).model
