"""Read and write the .params files of MXNet and Gluon without MXNet, and without trusting them.

The layout is that of ``NDArray::Save`` in MXNet's src/ndarray/ndarray.cc: little-endian; a magic
number and a reserved one of 64 bits; the number of arrays and the arrays; the number of names and
the names. An array has a magic number that tells its version, a shape, its device, a type and its
bytes; a sparse one has the shape of what is stored and its indices as well. Every length is
compared with the bytes that are left before memory is allocated for it. MXNet 2 writes a zip of
.npy files instead.
"""

import io
import math
import mmap
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2l_ft.errors import ModelError
from d2l_ft.models.architectures import architecture, is_head
from d2l_ft.models.gluon_names import canonical_names
from d2l_ft.models.state import State
from d2l_ft.storage.atomic import write_atomic

LIST_MAGIC = 0x112
"""The magic number of a file."""

V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
"""Magic numbers of an array: 64-bit shapes; a storage type before the shape; shapes of NumPy."""

NO_ARRAY, DENSE, ROW_SPARSE, CSR = -1, 0, 1, 2
"""Storage types."""

INDICES = {ROW_SPARSE: 1, CSR: 2}
"""Storage type of a sparse array -> how many arrays of indices it has."""

BFLOAT16 = 12

TYPES = {
    0: '<f4', 1: '<f8', 2: '<f2', 3: '|u1', 4: '<i4', 5: '|i1', 6: '<i8', 7: '|b1', 8: '<i2',
    9: '<u2', 10: '<u4', 11: '<u8', BFLOAT16: '<u2',
}  # fmt: skip
"""mshadow's numbers of types -> NumPy's; from 8 on they are MXNet 2's. NumPy has no bfloat16: its
bits are read as integers and become a float32."""

MOST_DIMENSIONS = 32
"""As many as NumPy 1 allows."""

MOST_DENSE = 1 << 28
"""Bytes of a sparse array when it is made dense: far more than any layer's that is stored so."""

MOST_PACKED = 1000
"""Times that an entry of a zip may be larger than what is stored of it; more is no data."""

OTHER_HEADS = {'mobilenet_v2': 'output.0'}
"""Architecture -> Gluon's name of an output layer that is of another kind than ours: Gluon's
MobileNet v2 ends in a convolution, ours, like torchvision's, in a dense layer after dropout."""


class Damaged(Exception):
    """A file is damaged; the text says how."""


class Reader:
    """Reads numbers and pieces of the bytes of a file, never beyond its end."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self.data, self.place = memoryview(data), 0

    def take(self, size: int) -> memoryview:
        """Return the next ``size`` bytes.

        Raises:
            Damaged: Fewer are left.
        """
        if size > len(self.data) - self.place:
            raise Damaged('it ends too early')
        self.place += size
        return self.data[self.place - size : self.place]

    def number(self, code: str) -> int:
        """Return the next number; ``code`` is its format in the struct module."""
        value: int = struct.unpack(f'<{code}', self.take(struct.calcsize(f'<{code}')))[0]
        return value

    def count(self, least: int) -> int:
        """Return the next 64-bit count, of items that have at least ``least`` bytes each.

        Raises:
            Damaged: The file is too short for that many.
        """
        number = self.number('Q')
        if number * least > len(self.data) - self.place:
            raise Damaged(f'it claims {number} entries')
        return number


def read_params(path: str | Path) -> dict[str, NDArray[np.generic]]:
    """Return name -> array of a file that ``save_parameters`` or ``mx.nd.save`` wrote.

    Returns:
        Arrays of the types that are stored, which share no memory; bfloat16 as float32, sparse
        ones as dense. Names as they are stored; those of a list without names are '0', '1' ...

    Raises:
        ModelError: The file is damaged.
    """
    try:
        data = map_file(Path(path))
    except Damaged as error:
        raise ModelError(f'{path} is damaged or no .params file ({error})') from None
    except OSError as error:
        raise ModelError(f'cannot read {path}: {error.strerror}') from error
    try:
        return parse_params(data)
    except Damaged as error:
        raise ModelError(f'{path} is damaged or no .params file ({error})') from None


def parse_params(data: bytes | mmap.mmap) -> dict[str, NDArray[np.generic]]:
    """Return what ``read_params`` returns of a file's bytes.

    Raises:
        Damaged: What is wrong.
    """
    if data[:4] == b'PK\x03\x04':
        return _unzipped(data)
    reader = Reader(data)
    if reader.number('Q') != LIST_MAGIC:
        raise Damaged('it does not begin like one')
    reader.number('Q')  # reserved
    arrays = [_array(reader) for _ in range(reader.count(4))]
    try:
        names = [str(reader.take(reader.count(1)), 'utf-8') for _ in range(reader.count(8))]
    except UnicodeDecodeError as error:
        raise Damaged(str(error)) from None
    names = names or [str(number) for number in range(len(arrays))]
    if len(set(names)) != len(arrays) or len(names) != len(arrays):
        raise Damaged(f'it has {len(arrays)} arrays and {len(names)} names')
    return dict(zip(names, arrays, strict=True))


def _unzipped(data: bytes | mmap.mmap) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of MXNet 2's zip."""
    found: dict[str, NDArray[np.generic]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                if entry.file_size > MOST_PACKED * (entry.compress_size + 1):
                    raise Damaged(f'{entry.filename} claims {entry.file_size} bytes')
                stream = io.BytesIO(archive.read(entry))
                array = np.lib.format.read_array(stream, allow_pickle=False)
                name = entry.filename.removesuffix('.npy')
                if array.dtype.kind not in 'biuf' or name in found:
                    raise Damaged(f'{name!r} is no array of numbers, or is there twice')
                found[name] = array
    except Damaged:
        raise
    except Exception as error:  # whatever the many parts of a zip and of .npy make of damage
        raise Damaged(str(error) or type(error).__name__) from None
    return found


def map_file(path: Path) -> bytes | mmap.mmap:
    """Return the bytes of a file, of which only those that are looked at are read.

    Raises:
        Damaged: It is empty, a pipe or a device.
        OSError: It cannot be read.
    """
    if not path.is_file():
        if path.exists() and not path.is_dir():
            raise Damaged('it is no regular file')
        return path.read_bytes()  # which says why it cannot be
    if not path.stat().st_size:
        raise Damaged('it is empty')
    with path.open('rb') as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def _array(reader: Reader) -> NDArray[np.generic]:
    """Return the next array; one that was never given a shape is empty."""
    magic = reader.number('I')
    storage = reader.number('i') if magic in (V2, V3) else DENSE
    if storage not in (NO_ARRAY, DENSE, *INDICES):
        raise Damaged(f'it has an array of an unknown storage ({storage})')
    stored = _shape(reader, magic) if storage in INDICES else None
    shape = _shape(reader, magic)
    if shape is None:
        return np.zeros(0, np.float32)
    reader.take(8)  # the device's type and number
    kind = _kind(reader)
    if storage not in INDICES:
        return _values(reader, kind, shape)
    indices = [(_kind(reader), _shape(reader, magic) or (0,)) for _ in range(INDICES[storage])]
    if not math.prod(indices[0][1]):  # zeros alone, of which nothing is stored
        return _dense(storage, shape, np.zeros(0, TYPES[kind]), [])
    values = _values(reader, kind, stored or (0,))
    return _dense(storage, shape, values, [_values(reader, *each) for each in indices])


def _kind(reader: Reader) -> int:
    """Return the next number of a type."""
    kind = reader.number('i')
    if kind not in TYPES:
        raise Damaged(f'it has an array of an unknown type ({kind})')
    return kind


def _shape(reader: Reader, magic: int) -> tuple[int, ...] | None:
    """Return the next shape, or None for none; before the first version the magic is its length."""
    versioned = magic in (V1, V2, V3)
    count = reader.number('i') if versioned else magic
    if count == (-1 if magic == V3 else 0):
        return None
    if not 0 <= count <= MOST_DIMENSIONS:
        raise Damaged('it has an array without a shape')
    shape = tuple(reader.number('q' if versioned else 'I') for _ in range(count))
    if min(shape, default=0) < 0:
        raise Damaged('it has an array with a side below 0')
    return shape


def _values(reader: Reader, kind: int, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Return the next array's values."""
    dtype = np.dtype(TYPES[kind])
    if 0 in shape and math.prod(each for each in shape if each) > MOST_DENSE:
        raise Damaged(f'it has an array of the shape {shape}')
    flat: NDArray[Any] = np.frombuffer(reader.take(math.prod(shape) * dtype.itemsize), dtype)
    if kind == BFLOAT16:
        flat = (flat.astype('<u4') << 16).view('<f4')
    return flat.reshape(shape).copy()


def _dense(
    storage: int,
    shape: tuple[int, ...],
    values: NDArray[np.generic],
    places: list[NDArray[np.generic]],
) -> NDArray[np.generic]:
    """Return a sparse array with its zeros.

    Args:
        storage: ``ROW_SPARSE``: the values are rows, the places their numbers. ``CSR``: the places
            are where each row begins among the values, and each value's column.
        shape: Of the whole array.
        values: What is not zero.
        places: Where that is.
    """
    if math.prod(max(each, 1) for each in shape) * values.dtype.itemsize > MOST_DENSE:
        raise Damaged(f'it has a sparse array of the shape {shape}')
    dense: NDArray[np.generic] = np.zeros(shape, values.dtype)
    try:
        where = [np.asarray(each, np.int64) for each in places]
        if any((each < 0).any() for each in where):
            raise Damaged('a sparse array has places below 0')
        if storage == ROW_SPARSE and where:
            dense[where[0]] = values
        elif where:
            counts = np.diff(where[0])
            if len(where[0]) != shape[0] + 1 or counts.min(initial=0) < 0:
                raise Damaged('a sparse array has rows that do not fit')
            dense[np.repeat(np.arange(shape[0]), counts), where[1]] = values
    except (IndexError, ValueError) as error:
        raise Damaged(f'a sparse array has places that do not fit ({error})') from None
    return dense


def write_params(path: str | Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write a file that ``mx.nd.load`` and ``load_parameters`` read, of MXNet 1 and later.

    Args:
        path: The file; it is replaced as a whole.
        arrays: Name -> array, with the types that ``read_params`` gives.

    Raises:
        ModelError: An array has a type that MXNet has not.
        StorageError: The file cannot be written.
    """
    numbers = {np.dtype(code): number for number, code in TYPES.items() if number != BFLOAT16}
    parts = [struct.pack('<QQQ', LIST_MAGIC, 0, len(arrays))]
    for name, array in arrays.items():
        number = numbers.get(array.dtype.newbyteorder('<'))
        if number is None:
            raise ModelError(
                f'{name!r} is {array.dtype}, which a .params file cannot have: '
                'convert it to float32'
            )
        empty = 0 in array.shape or not array.shape  # only the third version has these
        head = struct.pack('<Ii', V3 if empty else V2, DENSE)
        sides = struct.pack(f'<i{array.ndim}q', array.ndim, *array.shape)
        parts += [head + sides, struct.pack('<iii', 1, 0, number)]  # as from the first CPU
        parts.append(np.ascontiguousarray(array, array.dtype.newbyteorder('<')).tobytes())
    parts.append(struct.pack('<Q', len(arrays)))
    for name in arrays:
        encoded = name.encode()
        parts.append(struct.pack('<Q', len(encoded)) + encoded)
    write_atomic(Path(path), b''.join(parts))


def gluon_state(arrays: Mapping[str, NDArray[Any]], arch: str, file: object) -> State:
    """Return the canonical state of what Gluon's ``save_parameters`` wrote.

    An output layer that does not fit ours is left out: the body is enough to fine-tune from.

    Args:
        arrays: As ``read_params`` returns them.
        arch: Architecture.
        file: For the error.

    Returns:
        Canonical name -> array, float64 if it is stored in float64, float32 otherwise.

    Raises:
        ModelError: The names are not Gluon's structural ones.
    """
    architecture(arch)
    if not arrays or not all('.' in name for name in arrays):
        raise ModelError(
            f'{file} has no structural names: write it with net.save_parameters(), or convert it '
            f'with  d2l-ft convert {quote(str(file))} --to FOLDER  and give `source=FOLDER`'
        )
    state = {
        ours: np.ascontiguousarray(arrays[theirs], _float(arrays[theirs].dtype))
        for ours, theirs in canonical_names(arrays, arch).items()
    }
    tops = {architecture(arch).head, OTHER_HEADS.get(arch, ''), 'output'}
    body = {
        name: array
        for name, array in state.items()
        if not any(is_head(name, each) for each in tops)
    }
    return body | _head(state, arch)


def _head(state: State, arch: str) -> State:
    """Return the output layer of a state in our form, or {} if it does not fit.

    A 1 x 1 convolution of averaged features computes the same as a dense layer; a layer without a
    bias has bias 0.
    """
    wanted = architecture(arch)
    for name in (wanted.head, OTHER_HEADS.get(arch, '')):
        weight = state.get(f'{name}.weight')
        if weight is None or weight.ndim not in (2, 4):
            continue
        classes = len(weight)
        bias = state.get(f'{name}.bias', np.zeros(classes, weight.dtype))
        fits = weight.shape[1:] in ((wanted.features,), (wanted.features, 1, 1))
        if fits and bias.shape == (classes,):
            weight = weight.reshape(classes, wanted.features, *wanted.kernel)
            return {f'{wanted.head}.weight': weight, f'{wanted.head}.bias': bias}
    return {}


def _float(dtype: np.dtype[np.generic]) -> type[np.floating[Any]]:
    """Return the type in which a state keeps values of a stored type."""
    return np.float64 if dtype == np.float64 else np.float32
