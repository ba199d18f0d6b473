"""Read the .params files of MXNet and Gluon without MXNet, and without trusting them.

The layout is that of ``NDArray::Save`` in MXNet's src/ndarray/ndarray.cc: little-endian; a magic
number and a reserved one of 64 bits; the number of arrays and the arrays; the number of names and
the names. An array has a magic number that tells its version, a shape, its device, a type and its
bytes. Every length is compared with the bytes that are left before memory is allocated for it.
"""

import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2l_ft.errors import ModelError
from d2l_ft.models.architectures import architecture, is_head
from d2l_ft.models.gluon_names import canonical_names
from d2l_ft.models.state import State

LIST_MAGIC = 0x112
"""The magic number of a file."""

V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
"""Magic numbers of an array: 64-bit shapes; a storage type before the shape; shapes of NumPy."""

DENSE = 0
"""The storage type of an array that is not sparse."""

TYPES = {0: '<f4', 1: '<f8', 2: '<f2', 3: '|u1', 4: '<i4', 5: '|i1', 6: '<i8'}
"""mshadow's numbers of types -> NumPy's."""

MOST_DIMENSIONS = 32
"""As many as NumPy 1 allows."""

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
        Arrays of the types that are stored, which share no memory; names as they are stored.

    Raises:
        ModelError: The file is damaged, or has sparse arrays or a list without names.
    """
    try:
        reader = Reader(_mapped(Path(path)))
        if reader.number('Q') != LIST_MAGIC:
            raise Damaged('it does not begin like one')
        reader.number('Q')  # reserved
        arrays = [_array(reader) for _ in range(reader.count(8))]
        names = [str(reader.take(reader.count(1)), 'utf-8') for _ in range(reader.count(8))]
        if len(set(names)) != len(arrays) or len(names) != len(arrays):
            raise Damaged(f'it has {len(arrays)} arrays and {len(names)} names')
    except (Damaged, UnicodeDecodeError) as error:
        raise ModelError(f'{path} is damaged or no .params file ({error})') from None
    except OSError as error:
        raise ModelError(f'cannot read {path}: {error.strerror}') from error
    return dict(zip(names, arrays, strict=True))


def _mapped(path: Path) -> bytes | mmap.mmap:
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
    """Return the next array."""
    magic = reader.number('I')
    if magic in (V2, V3) and reader.number('i') != DENSE:
        raise Damaged('it has a sparse array')
    shape = _shape(reader, magic)
    reader.take(8)  # the device's type and number
    kind = reader.number('i')
    if kind not in TYPES:
        raise Damaged(f'it has an array of an unknown type ({kind})')
    dtype = np.dtype(TYPES[kind])
    values = 1  # Python's integers: NumPy's product could overflow and pass the check
    for side in shape:
        values *= side
    flat = np.frombuffer(reader.take(values * dtype.itemsize), dtype)
    array: NDArray[Any] = flat.reshape(shape).copy()
    return array


def _shape(reader: Reader, magic: int) -> tuple[int, ...]:
    """Return the next array's shape; in the oldest format its length replaces the magic number."""
    known = magic in (V1, V2, V3)
    count = reader.number('i' if magic == V3 else 'I') if known else magic
    if not 0 < count <= MOST_DIMENSIONS:
        raise Damaged('it has an array without a shape')
    shape = tuple(reader.number('q' if known else 'I') for _ in range(count))
    if min(shape) < 1:
        raise Damaged('it has an array without values')
    return shape


def gluon_state(path: str | Path, arch: str) -> State:
    """Return the canonical state in a file of Gluon's ``save_parameters``.

    An output layer that does not fit ours is left out: the body is enough to fine-tune from.

    Returns:
        Canonical name -> array, float64 if it is stored in float64, float32 otherwise.

    Raises:
        ModelError: As ``read_params``; or the names are not Gluon's structural ones.
    """
    architecture(arch)
    arrays = read_params(path)
    if not arrays or not all('.' in name for name in arrays):
        raise ModelError(f'{path} has no structural names: write it with net.save_parameters()')
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
