"""One checkpoint format for both frameworks: a safetensors file with JSON metadata.

Tensors are named ``model/<canonical name>`` and ``trainer/<canonical name>``. The metadata's
'd2l_ft' entry is a JSON object. Nothing is ever unpickled; any reader of safetensors opens it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from d2l_ft.errors import CheckpointError
from d2l_ft.models.state import State
from d2l_ft.storage.atomic import write_atomic

FORMAT = 1
"""Version of the format; a file with a higher one is refused."""

DAMAGE = (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What safetensors and json raise on damaged files."""

MODEL, TRAINER = 'model/', 'trainer/'


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file.

    Attributes:
        model: State of the net.
        trainer: State of the trainer; empty without momentum.
        meta: JSON values: architecture, classes, position in the run.
    """

    model: State
    trainer: State = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    tensors = _add_prefix(MODEL, checkpoint.model) | _add_prefix(TRAINER, checkpoint.trainer)
    meta = json.dumps(checkpoint.meta | {'format': FORMAT, 'sha256': tensors_digest(tensors)})
    write_atomic(path, to_bytes(tensors, metadata={'d2l_ft': meta}))


def tensors_digest(tensors: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 of tensors with their names, types and shapes.

    safetensors has no checksum: bytes that rotted on the disk would be loaded as weights.
    """
    digest = hashlib.sha256()
    for name, array in sorted(tensors.items()):
        digest.update(f'{name} {array.dtype.str} {array.shape}\n'.encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _add_prefix(prefix: str, state: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Put a prefix before each name."""
    return {prefix + name: np.ascontiguousarray(array) for name, array in state.items()}


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, or a plain safetensors file of canonical names (all of it is the model).

    Raises:
        CheckpointError: No such file, not readable, damaged, or of a newer format.
    """
    if not path.is_file():
        raise CheckpointError(f'there is no checkpoint {path}')
    try:
        with path.open('rb'):  # safetensors reports every file that it cannot open as missing
            pass
    except OSError as error:
        raise CheckpointError(f'cannot read {path}: {error.strerror}') from error
    try:
        with safe_open(str(path), framework='numpy') as file:
            tensors = _tensors(path, file)
            meta = json.loads((file.metadata() or {}).get('d2l_ft', '{}'))
        if not isinstance(meta, dict) or not isinstance(meta.get('format', FORMAT), int):
            raise ValueError('its metadata is not ours')
    except DAMAGE as error:
        raise CheckpointError(f'{path} is damaged or no safetensors file ({error})') from error
    if meta.get('format', FORMAT) > FORMAT:
        raise CheckpointError(f'{path} was written by a newer d2l_ft: update yours')
    if 'sha256' in meta and meta.pop('sha256') != tensors_digest(tensors):
        raise CheckpointError(f'{path} is damaged (its bytes are not those that were written)')
    if not meta:  # not written by d2l_ft, so its names have no prefix
        return Checkpoint(tensors)
    return Checkpoint(_strip_prefix(MODEL, tensors), _strip_prefix(TRAINER, tensors), meta)


def _tensors(path: Path, file: Any) -> State:
    """Return the tensors of an open file; those of bfloat16, which NumPy has not, as float32."""
    found: State = {}
    header: dict[str, Any] = {}
    with path.open('rb') as stream:
        for name in file.keys():  # noqa: SIM118
            if file.get_slice(name).get_dtype() != 'BF16':
                found[name] = file.get_tensor(name)
                continue
            if not header:
                size = int.from_bytes(stream.read(8), 'little')
                header = json.loads(stream.read(size))  # which has been checked
            begin, end = header[name]['data_offsets']
            stream.seek(8 + size + begin)
            bits = np.frombuffer(stream.read(end - begin), '<u2')
            wide = (bits.astype('<u4') << 16).view('<f4')
            found[name] = wide.reshape(header[name]['shape'])
    return found


def _strip_prefix(prefix: str, tensors: Mapping[str, NDArray[Any]]) -> State:
    """Return the tensors of a prefix, without it."""
    size = len(prefix)
    return {name[size:]: array for name, array in tensors.items() if name.startswith(prefix)}
