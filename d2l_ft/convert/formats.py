"""Find out what a file of weights or a net is, by its bytes, and read MXNet's nets.

A net of MXNet comes as a pair of files, ``NAME-symbol.json`` and ``NAME-0010.params``, where the
number is the epoch; in a folder; or in an archive, as Amazon SageMaker writes it.
"""

import json
import mmap
import re
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from d2l_ft.convert.graph import Graph, read_graph
from d2l_ft.errors import ModelError
from d2l_ft.models.gluon_params import LIST_MAGIC, Damaged, map_file, parse_params
from d2l_ft.storage.archives import extract
from d2l_ft.storage.atomic import read_file

MOST_JSON = 512 * 2**20
"""Bytes of a symbol file; the largest of the zoos has one."""

PARAMS_NAME = re.compile(r'(?P<prefix>.*)-(?P<epoch>\d{4,})\.params')


@dataclass
class Model:
    """A trained net of MXNet.

    Attributes:
        arrays: Name -> array, without the marks ``arg:`` and ``aux:``.
        graph: What its symbol file says, or None if there is none.
        text: The symbol file's JSON.
        files: Each file that was read -> the SHA-256 of its bytes.
        shapes: Input -> shape, where a file beside the net says it.
        notes: What was chosen or noticed, a line each.
        style: How the arrays are named.
    """

    arrays: dict[str, NDArray[np.generic]]
    graph: Graph | None = None
    text: str = ''
    files: dict[Path, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    style: str = ''


def kind_of(data: bytes, size: int) -> str:
    """Return what a file is, by its first bytes.

    Args:
        data: The first 512 bytes, or all.
        size: Of the whole file.

    Returns:
        'params', 'params of MXNet 2', 'symbol', 'safetensors', 'pickle of PyTorch', 'archive',
        'zip', 'HDF5', 'ONNX', 'empty' or ''.
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
        return 'HDF5 file, as Keras writes'
    if data[:1] == b'\x80' and data[1:2] in (b'\x02', b'\x03', b'\x04', b'\x05'):
        return 'pickle of PyTorch'
    if data.lstrip()[:1] == b'{':
        return 'symbol'
    length = int.from_bytes(data[:8], 'little')
    if 2 <= length <= size - 8 and data[8:9] == b'{':
        return 'safetensors'
    if data[:1] == b'\x08' and (b'onnx' in data or b'\x12' in data[:4]):
        return 'ONNX'
    if data.lstrip()[:1] == b'<':
        return 'page of HTML, as a download that failed leaves'
    if data.startswith(b'version https://git-lfs'):
        return 'pointer of Git LFS, not the file itself'
    return ''


def file_kind(path: Path) -> str:
    """Return what a file is, as ``kind_of``; a zip is told apart by its entries.

    Raises:
        ModelError: It cannot be read.
    """
    try:
        with path.open('rb') as stream:
            kind = kind_of(stream.read(512), path.stat().st_size)
        if kind == 'zip':
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
            if any(name.endswith('data.pkl') for name in names):
                return 'pickle of PyTorch'
            return (
                'params of MXNet 2' if all(each.endswith('.npy') for each in names) else 'archive'
            )
    except (OSError, zipfile.BadZipFile) as error:
        raise ModelError(f'cannot read {path}: {getattr(error, "strerror", "") or error}') from None
    return kind


def read_model(paths: Sequence[Path], folder: Path | None = None) -> Model:
    """Return the net in files of MXNet.

    Args:
        paths: A symbol file and a file of parameters, in any order; one of them; a folder; an
            archive; or the prefix of both files' names.
        folder: Where an archive is unpacked to.

    Raises:
        ModelError: A file is damaged, is something else, or there are several nets.
        DataError: An archive is not to be trusted.
    """
    if len(paths) == 1 and not paths[0].exists():
        return _from_prefix(paths[0])
    if len(paths) == 1 and paths[0].is_dir():
        return _from_folder(paths[0])
    kinds = {path: file_kind(path) for path in paths}
    if len(paths) == 1 and kinds[paths[0]] in ('archive', 'zip'):
        with tempfile.TemporaryDirectory() as temporary:
            model = _from_folder(extract(paths[0], Path(temporary) / 'model'))
            model.files = {paths[0]: digest(map_file(paths[0]))}
            return model
    symbols = [path for path, kind in kinds.items() if kind == 'symbol']
    params = [path for path, kind in kinds.items() if kind.startswith('params')]
    for path, kind in kinds.items():
        if path not in symbols + params:
            raise ModelError(
                f'{path} is {_a(kind)}: a symbol file (-symbol.json) and parameters (.params) of '
                'MXNet are read'
            )
    if len(symbols) > 1 or len(params) > 1:
        raise ModelError(
            f'{len(symbols)} symbol files and {len(params)} files of parameters: name one of each'
        )
    return _read(symbols[0] if symbols else None, params[0] if params else None)


def _a(kind: str) -> str:
    """Return what is said of a file of another kind."""
    return f'a {kind}' if kind else 'of an unknown kind'


def _from_prefix(prefix: Path) -> Model:
    """Return the net whose files' names begin so."""
    folder, name = prefix.parent, prefix.name
    symbol = folder / f'{name}-symbol.json'
    epochs = _epochs(folder.glob(f'{_literal(name)}-*.params')) if folder.is_dir() else {}
    if not symbol.is_file() and not epochs:
        raise ModelError(
            f'there is no {prefix}, and no {symbol.name} beside it: give the files of a net, '
            'a folder, an archive or the prefix of its files'
        )
    return _newest(symbol if symbol.is_file() else None, epochs)


def _literal(name: str) -> str:
    """Return a name as a pattern that it alone fits."""
    return re.sub(r'([\[\]*?])', r'[\1]', name)


def _epochs(paths: Iterable[Path]) -> dict[int, Path]:
    """Return epoch -> file of parameters."""
    found = ((PARAMS_NAME.fullmatch(path.name), path) for path in paths)
    return {int(match['epoch']): path for match, path in found if match}


def _newest(symbol: Path | None, epochs: Mapping[int, Path]) -> Model:
    """Return the net of the last epoch, and say so if there are others."""
    if not epochs:
        return _read(symbol, None)
    last = max(epochs)
    model = _read(symbol, epochs[last])
    if len(epochs) > 1:
        model.notes.append(
            f'parameters of {len(epochs)} epochs are there: those of the last, {last}, are taken'
        )
    return model


def _from_folder(folder: Path) -> Model:
    """Return the only net of a folder, or of the only folder in it."""
    symbols = sorted(folder.rglob('*-symbol.json'))
    params = sorted(path for path in folder.rglob('*.params'))
    if len(symbols) > 1:
        names = ', '.join(str(path.relative_to(folder)) for path in symbols[:4])
        raise ModelError(f'{folder} has {len(symbols)} nets: name one, such as {names}')
    if not symbols and len(params) != 1:
        raise ModelError(f'{folder} has no -symbol.json and {len(params)} files of parameters')
    if not symbols:
        return _read(None, params[0])
    symbol = symbols[0]
    prefix = symbol.name.removesuffix('-symbol.json')
    epochs = _epochs(each for each in params if each.name.startswith(f'{prefix}-'))
    alone = not epochs and len(params) == 1  # whatever it is called
    model = _read(symbol, params[0]) if alone else _newest(symbol, epochs)
    beside = symbol.with_name('model-shapes.json')
    if beside.is_file():
        model.shapes = _shapes(beside)
    return model


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return input -> shape of what SageMaker writes beside a net."""
    try:
        entries = json.loads(path.read_text())
        return {str(each['name']): tuple(int(side) for side in each['shape']) for each in entries}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # only a hint


def _read(symbol: Path | None, params: Path | None) -> Model:
    """Return the net of two files, one of which may be missing."""
    model = Model({})
    if symbol is not None:
        try:
            model.text = read_file(symbol, MOST_JSON)
            model.files[symbol] = digest(model.text.encode())
            model.graph = read_graph(model.text)
        except OSError as error:
            raise ModelError(f'cannot read {symbol}: {error.strerror}') from error
        except (ValueError, ModelError) as error:
            raise ModelError(f'{symbol} is no symbol file: {error}') from None
    if params is not None:
        try:
            mapped = map_file(params)
            model.files[params] = digest(mapped)
            stored = parse_params(mapped)
        except Damaged as error:
            raise ModelError(f'{params} is damaged or no .params file ({error})') from None
        except OSError as error:
            raise ModelError(f'cannot read {params}: {error.strerror}') from error
        model.style = style(stored)
        model.arrays = {name.split(':', 1)[-1] if ':' in name[:4] else name: array
                        for name, array in stored.items()}  # fmt: skip
        if len(model.arrays) < len(stored):
            raise ModelError(f'{params} has a name both as arg: and as aux:')
    return model


def style(names: Iterable[str]) -> str:
    """Return how the arrays of a file are named."""
    some = list(names)
    if all(name.isdigit() for name in some):
        return 'a list without names'
    if any(name.startswith(('arg:', 'aux:')) for name in some):
        return 'names of nodes with arg: and aux: (Module, or an export)'
    if all('.' in name for name in some):
        return "structural names (Gluon's save_parameters)"
    return "names of nodes (Gluon's save_params)"


def digest(data: bytes | mmap.mmap) -> str:
    """Return the SHA-256 of bytes."""
    return sha256(data).hexdigest()
