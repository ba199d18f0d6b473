"""Read the files of MXNet's nets.

A net of MXNet comes as a pair of files, ``NAME-symbol.json`` and ``NAME-0010.params``, where the
number is the epoch; in a folder; or in an archive, as Amazon SageMaker writes it.
"""

import json
import mmap
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from d2l_ft.convert.graph import LARGEST, Graph, read_graph, tell_apart
from d2l_ft.convert.zoo import find, zoo_graph
from d2l_ft.errors import ModelError
from d2l_ft.models.file_kinds import KINDS, file_kind
from d2l_ft.models.gluon_params import Damaged, map_file, parse_params
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


def read_model(paths: Sequence[Path], arch: str | None = None) -> Model:
    """Return the net in files of MXNet.

    Args:
        paths: A symbol file and a file of parameters, in any order; one of them; a folder; an
            archive; or the prefix of both files' names.
        arch: The net of Gluon's or GluonCV's zoo that parameters without a symbol file are of; it
            is found out where only one fits.

    Raises:
        ModelError: A file is damaged, is something else, there are several nets, or parameters
            without a symbol file are of no net of the zoos.
        DataError: An archive is not to be trusted.
    """
    model = read_files(paths)
    take_graph(model, arch)
    return model


def take_graph(model: Model, arch: str | None) -> None:
    """Give a model without a symbol file the graph of the zoo's net that its parameters fit.

    Raises:
        ModelError: None fits, or several do; or the model has a graph and ``arch`` is given.
    """
    if model.graph is not None and arch is not None:
        raise ModelError(
            '`arch` is for parameters without a symbol file, and here is one: leave it out'
        )
    if model.graph is None:
        name, model.arrays = find(model.arrays, arch)
        model.graph = zoo_graph(name, model.arrays)
        model.text = model.graph.text()
        model.notes.append(f'by its names and shapes it is {name}, whose graph is taken')


def read_files(paths: Sequence[Path]) -> Model:
    """Return what files have, without a graph if there is none."""
    if len(paths) == 1 and not paths[0].exists():
        return _from_prefix(paths[0])
    if len(paths) == 1 and paths[0].is_dir():
        return _from_folder(paths[0])
    kinds = {path: file_kind(path) for path in paths}
    if len(paths) == 1 and kinds[paths[0]] == 'archive':
        return _from_archive(paths[0])
    symbols = [path for path, kind in kinds.items() if kind == 'symbol']
    params = [path for path, kind in kinds.items() if kind in ('params', 'npz')]
    for path, kind in kinds.items():
        if path not in symbols + params:
            raise ModelError(f'{path} is {KINDS[kind]}; give a symbol file and parameters of MXNet')
    if len(symbols) > 1 or len(params) > 1:
        raise ModelError(
            f'{len(symbols)} symbol files and {len(params)} files of parameters: name one of each'
        )
    return _read(symbols[0] if symbols else None, params[0] if params else None)


def _from_archive(archive: Path) -> Model:
    """Return the only net of an archive."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / 'model'
        extract(archive, folder)
        try:
            model = _from_folder(folder)
        except ModelError as error:  # says where in the archive
            raise ModelError(str(error).replace(str(folder), str(archive))) from None
    model.files = {archive: digest(map_file(archive))}
    return model


def _from_prefix(prefix: Path) -> Model:
    """Return the net whose files' names begin so."""
    folder, name = prefix.parent, prefix.name
    symbol = folder / f'{name}-symbol.json'
    epochs = _epochs(folder.glob('*.params'), name)
    if not symbol.is_file() and not epochs:
        raise ModelError(
            f'there is no {prefix}, and no {symbol.name} beside it: give the files of a net, '
            'a folder, an archive or the prefix of its files'
        )
    return _newest(symbol if symbol.is_file() else None, epochs)


def _epochs(paths: Iterable[Path], prefix: str) -> dict[int, Path]:
    """Return epoch -> file of a net's parameters."""
    found = ((PARAMS_NAME.fullmatch(path.name), path) for path in paths)
    return {
        int(match['epoch']): path for match, path in found if match and match['prefix'] == prefix
    }


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
    files = sorted(path for path in folder.rglob('*') if not path.name.startswith('.'))
    symbols = [path for path in files if path.name.endswith('-symbol.json')]
    params = [path for path in files if path.suffix == '.params']
    if len(symbols) > 1:
        names = ', '.join(str(path.relative_to(folder)) for path in symbols[:4])
        raise ModelError(f'{folder} has {len(symbols)} nets: name one, such as {names}')
    if not symbols and len(params) != 1:
        raise ModelError(
            f'{folder} has no -symbol.json and {len(params)} files of parameters: give a folder '
            'with one net'
        )
    if not symbols:
        return _read(None, params[0])
    symbol = symbols[0]
    prefix = symbol.name.removesuffix('-symbol.json')
    beside = [path for path in params if path.parent == symbol.parent]
    epochs = _epochs(beside or params, prefix)
    if not epochs and len(params) > 1:
        raise ModelError(
            f'{folder} has {len(params)} files of parameters, none of them {prefix}-0000.params or '
            'of another epoch: name one beside the -symbol.json'
        )
    alone = not epochs and len(params) == 1  # whatever it is called
    model = _read(symbol, params[0]) if alone else _newest(symbol, epochs)
    model.shapes = _shapes(symbol.with_name('model-shapes.json'), model.graph)
    return model


def _shapes(path: Path, graph: Graph | None) -> dict[str, tuple[int, ...]]:
    """Return input -> shape of what SageMaker writes beside a net; {} where it is no such thing."""
    try:
        entries = json.loads(read_file(path, MOST_JSON))
        found = {each['name']: tuple(each['shape']) for each in entries}
        sides = [side for shape in found.values() for side in shape[1:]]
        fits = all(len(shape) > 1 for shape in found.values()) and all(
            type(side) is int and 0 < side <= LARGEST for side in sides
        )
        return found if graph and fits and set(found) <= set(graph.variables()) else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}  # only a hint


def _read(symbol: Path | None, params: Path | None) -> Model:
    """Return the net of two files, one of which may be missing."""
    model = Model({})
    if symbol is not None:
        try:
            model.text = read_file(symbol, MOST_JSON)
            model.files[symbol] = digest(model.text.encode())
            model.graph = read_graph(model.text)
            model.text, model.notes = tell_apart(model.text)
            if model.notes:
                model.graph = read_graph(model.text)
        except OSError as error:
            raise ModelError(f'cannot read {symbol}: {error.strerror}') from error
        except (ValueError, ModelError) as error:
            raise ModelError(
                f'{symbol} is no symbol file ({error}): give the -symbol.json of a net'
            ) from None
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
        model.arrays = {re.sub('^(arg|aux):', '', name): array for name, array in stored.items()}
        if len(model.arrays) < len(stored):
            raise ModelError(f'{params} has a name both as arg: and as aux:; save the net again')
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
