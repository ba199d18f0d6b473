"""Find out what a file of weights or a net is, by its bytes; its name says nothing."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

from d2l_ft.errors import ModelError
from d2l_ft.models.gluon_params import LIST_MAGIC

KINDS = {
    '': 'of an unknown kind',
    'archive': 'an archive: unpack it',
    'empty': 'an empty file',
    'exported': 'an exported program of PyTorch',
    'hdf5': 'an HDF5 file, as Keras writes',
    'html': 'a page of HTML, as a download that failed leaves',
    'lfs': 'a pointer of Git LFS, not the file itself: run  git lfs pull',
    'npz': 'an .npz file, as NumPy and MXNet 2 write',
    'onnx': 'an ONNX file',
    'params': 'a .params file of MXNet',
    'pickle': 'a pickle of Python, not of torch.save',
    'pytorch': 'a file of torch.save',
    'safetensors': 'a safetensors file',
    'symbol': 'a file of JSON, such as a symbol file of MXNet',
    'torchscript': 'an archive of TorchScript',
    'zip': 'a damaged zip file: fetch it again',
}
"""Kind of a file -> what is said of it, and what to do about some."""

FIRST = 512
"""Bytes that tell a kind."""

PICKLES = tuple(b'\x80' + bytes([protocol]) for protocol in (2, 3, 4, 5))

TORCH_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, 'little')
"""The number with which files of torch.save began before PyTorch 1.6; a pickle of its own."""


def kind_of(data: bytes, size: int) -> str:
    """Return what a file is, by its first bytes.

    Args:
        data: The first 512 bytes, or all.
        size: Of the whole file.

    Returns:
        A key of ``KINDS``; 'zip' for any zip file.
    """
    if not size:
        return 'empty'
    if int.from_bytes(data[:8], 'little') == LIST_MAGIC:
        return 'params'
    if data[:4] == b'PK\x03\x04':
        return 'zip'
    if data[:2] == b'\x1f\x8b' or data[257:262] == b'ustar':
        return 'archive'
    if data[:8] == b'\x89HDF\r\n\x1a\n':
        return 'hdf5'
    if data.startswith(PICKLES):
        return 'pytorch' if TORCH_MAGIC in data[:32] else 'pickle'
    if data.lstrip()[:1] == b'{':
        return 'symbol'
    length = int.from_bytes(data[:8], 'little')
    if 2 <= length <= size - 8 and data[8:9] == b'{':
        return 'safetensors'
    if data[:1] == b'\x08' and (b'onnx' in data or b'\x12' in data[:4]):
        return 'onnx'
    if data.lstrip()[:1] == b'<':
        return 'html'
    if data.startswith(b'version https://git-lfs'):
        return 'lfs'
    return ''


def kind_of_zip(names: Sequence[str]) -> str:
    """Return what a zip file is, by the names of its entries."""
    ends = {name.rpartition('/')[2] for name in names}
    if 'constants.pkl' in ends:
        return 'torchscript'
    if ends & {'serialized_exported_program.json', 'archive_format', 'model.json'}:
        return 'exported'
    if 'data.pkl' in ends:
        return 'pytorch'
    return 'npz' if names and all(name.endswith('.npy') for name in names) else 'archive'


def file_kind(path: Path) -> str:
    """Return what a file is: a key of ``KINDS``, 'zip' for a damaged zip file.

    Raises:
        ModelError: It cannot be read.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for a writer
            what = 'a folder' if path.is_dir() else 'no regular file'
            raise ModelError(f'{path} is {what}: give the file itself')
        with path.open('rb') as stream:
            kind = kind_of(stream.read(FIRST), path.stat().st_size)
    except OSError as error:
        raise ModelError(f'cannot read {path}: {error.strerror}') from None
    if kind != 'zip':
        return kind
    try:
        with zipfile.ZipFile(path) as archive:
            return kind_of_zip(archive.namelist())
    except Exception:  # whatever the parts of a zip make of damage
        return kind
