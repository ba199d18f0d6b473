"""A converted net as an architecture that both frameworks train: MXNet the graph, PyTorch the same.

A folder of ``d2l-ft convert`` has the graph in symbol.json; a run that trains the net keeps a
``NetRecord``. Both are untrusted: no code of theirs is run. PyTorch's module is written anew from
the graph.
"""

import json
import re
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2l_ft.convert.formats import MOST_JSON
from d2l_ft.convert.graph import Attributes, Graph, Node, read_graph
from d2l_ft.convert.package import SYMBOL, Package, read_package
from d2l_ft.convert.source import Source, translate
from d2l_ft.errors import ModelError
from d2l_ft.models.architectures import Architecture, Definition, add_architecture
from d2l_ft.storage.atomic import read_file
from d2l_ft.storage.typed_json import from_json
from d2l_ft.system.console import visible

PRELU_START = 0.25
"""Slope of a PReLU in a net from scratch: the default of MXNet and of PyTorch (He et al. 2015)."""

MOST_VALUES = 1 << 34
"""Values of all parameters together that are believed of a file: 64 GB in float32."""

LARGEST_IMAGE = 1 << 13
"""Side of an image in pixels, as of the option ``image_size``."""

HEAD = 'head'
"""The input of what comes after the output layer."""

IMAGE, CHANNELS = 3, 3
"""Dimensions and channels of an image."""

EVERY_SIZE = 1 << 30
"""Smallest image with which BatchNorm can train on one image, where it is not known: none."""


@dataclass(frozen=True)
class NetRecord:
    """What a run keeps of a converted net, next to its weights.

    Attributes:
        name: Of the architecture, without the hash.
        symbol: JSON of the symbol file; images are the only input, logits the only output.
        shapes: MXNet's name -> shape of each parameter and running statistic.
        image_size: Side of the images that the net is made for.
        mean, std: Channel means and deviations for pixels in [0, 1], RGB.
        bgr: Whether the net takes blue, green, red instead.
    """

    name: str
    symbol: str
    shapes: dict[str, list[int]]
    image_size: int
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    bgr: bool = False

    def to_json(self) -> str:
        """Return it as a file has it."""
        return json.dumps(vars(self), indent=1) + '\n'


def add_folder(name: str) -> Architecture:
    """Make an architecture of a folder of ``d2l-ft convert``, and let ``architecture`` know it.

    Raises:
        ModelError: It is no such folder, or is damaged; its net does not take colour images alone,
            or cannot get a new output layer; or model.py was changed by hand.
    """
    folder = Path(name).expanduser()
    package = read_package(folder)
    net = _architecture(_folder_record(folder, package))
    assert net.definition is not None
    if _code(net.definition.source) != _code(package.source):
        raise ModelError(
            f'{folder}/model.py is not what is written of its {SYMBOL}: train a net that you '
            'changed with a loop of your own, or convert it again'
        )
    add_architecture(net)
    return net


def _folder_record(folder: Path, package: Package) -> NetRecord:
    """Return the record of the net in a folder.

    Raises:
        ModelError: The folder is damaged, or the net does not take colour images alone.
    """
    if len(package.record['inputs']) != 1:
        raise ModelError(f'the net in {folder} takes several inputs, and images are one')
    ((_, shape),) = package.record['inputs'].items()
    if not isinstance(shape, list) or len(shape) != IMAGE or shape[0] != CHANNELS:
        sides = ' x '.join(map(str, shape)) if isinstance(shape, list) else str(shape)
        raise ModelError(
            f'the net in {folder} takes inputs of {visible(sides)}, and colour images have 3 '
            'channels: train it with a loop of your own'
        )
    names = package.record['names']
    if lost := sorted(set(package.state) - set(names)):
        raise ModelError(
            f'{folder} is damaged (names.json has no {lost[0]!r}): convert the net again'
        )
    values = {
        'name': re.sub(r'[^A-Za-z0-9_.]+', '-', folder.resolve().name).strip('-.') or 'net',
        'symbol': read_symbol(folder / SYMBOL),
        'shapes': {names[name]: list(each.shape) for name, each in sorted(package.state.items())},
        'image_size': shape[1],
    }
    try:
        return from_json(NetRecord, values | _prepared(package.preprocess.get('assumed', {})))
    except ValueError as error:
        raise ModelError(
            f"{folder}/preprocess.json is damaged ({error}): 'assumed' has channel_order (RGB or "
            'BGR), mean and std of three numbers'
        ) from None


def _prepared(assumed: Any) -> dict[str, Any]:
    """Return the fields of ``NetRecord`` that a user may have corrected in preprocess.json.

    Raises:
        ValueError: It is no object, or the order of the channels is neither RGB nor BGR.
    """
    if not isinstance(assumed, dict):
        raise ValueError("'assumed' is no JSON object")
    order = assumed.get('channel_order', 'RGB')
    if order not in ('RGB', 'BGR'):
        raise ValueError(f"'channel_order' is {visible(str(order))[:20]}")
    known = {name: assumed[name] for name in ('mean', 'std') if name in assumed}
    return known | {'bgr': order == 'BGR'}


def _code(text: str) -> str:
    """Return the source of a net without the line that names what goes in and comes out."""
    return re.sub(r'^    """Takes .*$', '', text, flags=re.MULTILINE)


def read_symbol(path: Path) -> str:
    """Return the text of a symbol file.

    Raises:
        ModelError: It cannot be read.
    """
    try:
        return read_file(path, MOST_JSON)
    except FileNotFoundError:
        raise ModelError(f'{path.parent} has no {path.name}: convert the net again') from None
    except (OSError, ValueError) as error:
        raise ModelError(f'cannot read {path} ({error}): convert the net again') from None


def add_run_net(path: Path) -> None:
    """Let ``architecture`` know the net whose record a run keeps.

    Raises:
        ModelError: The record cannot be read or is damaged; or as ``add_net``.
    """
    try:
        add_net(read_file(path, MOST_JSON))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f'{path} is damaged ({error})') from None


def add_net(text: str) -> Architecture:
    """Return the architecture of a record, given as JSON, and let ``architecture`` know it.

    Raises:
        ValueError: It is no such JSON.
        ModelError: The net cannot be translated, or cannot get a new output layer.
    """
    net = _architecture(from_json(NetRecord, json.loads(text)))
    add_architecture(net)
    return net


def _architecture(record: NetRecord) -> Architecture:
    """Return the architecture of a record; nothing is run.

    Raises:
        ModelError: As ``add_net``.
    """
    text = record.to_json()
    graph, source = _translate(record)
    if not source.head:
        raise ModelError(
            f'{record.name} does not end in a dense layer or a convolution of one pixel, so it '
            'cannot get a new one: train it with a loop of your own'
        )
    weight = source.state[f'{source.head}.weight']
    return Architecture(
        f'{record.name}-{sha256(text.encode()).hexdigest()[:8]}',
        source.head,
        int(weight.shape[1]),
        smallest=1,
        kernel=weight.shape[2:],
        alone=EVERY_SIZE if any(node.op == 'BatchNorm' for _, node in graph.walk()) else 0,
        image_size=record.image_size,
        bgr=record.bgr,
        definition=_definition(text, graph, source),
        **_normalization(record),
    )


def _normalization(record: NetRecord) -> dict[str, Any]:
    """Return mean and deviation, if the record has them.

    Raises:
        ModelError: They are not three numbers each, or a deviation is 0.
    """
    found: dict[str, Any] = {}
    for name in ('mean', 'std'):
        values = getattr(record, name)
        if values == []:
            continue
        good = len(values) == 3 and all(np.isfinite(values))
        if not good or (name == 'std' and not all(each > 0 for each in values)):
            raise ModelError(f'{name!r} of {record.name} is {visible(str(values))[:80]}')
        found[name] = (float(values[0]), float(values[1]), float(values[2]))
    return found


def _translate(record: NetRecord) -> tuple[Graph, Source]:
    """Return the net's graph, and the net as PyTorch without its values.

    Raises:
        ModelError: It cannot be translated, or claims more values than any net has.
    """
    if not 0 < record.image_size <= LARGEST_IMAGE:
        raise ModelError(f'{record.name} has the image size {record.image_size}')
    arrays: dict[str, NDArray[Any]] = {}
    total = 0
    for name, shape in record.shapes.items():
        if any(type(side) is not int or not 0 < side <= MOST_VALUES for side in shape):
            raise ModelError(f'{record.name} has the shape {visible(str(shape))[:80]}')
        total += int(np.prod([float(side) for side in shape]))
        if total > MOST_VALUES:
            raise ModelError(f'{record.name} has more values than any net')
        arrays[name] = np.broadcast_to(np.float32(0), shape)
    graph = read_graph(record.symbol)
    inputs = [name for name in graph.variables() if name not in arrays]
    size = record.image_size
    shapes = dict.fromkeys(inputs, (1, CHANNELS, size, size))
    return graph, translate(graph, arrays, shapes=shapes)


def _definition(record: str, graph: Graph, source: Source) -> Definition:
    """Return what the backends make the net of."""
    ours = {theirs: name for name, theirs in reversed(source.names.items())}
    fixed, starts = set(), {}
    for _, node in graph.walk():
        attrs = Attributes(node)
        names = [graph.nodes[each.node].name for each in node.inputs]
        if node.op == 'BatchNorm' and attrs.truth('fix_gamma', default=True):
            fixed.add(names[1])
        if node.op == 'LeakyReLU' and attrs.text('act_type', 'leaky') == 'prelu':
            starts[names[1]] = PRELU_START
        if node.op in ('broadcast_mul', 'broadcast_div', 'elemwise_mul', 'elemwise_div'):
            starts |= {name: 1.0 for name in names if name in ours}
    weight = source.names[f'{source.head}.weight']
    ((place, top),) = (
        (number, node)
        for number, node in graph.walk()
        if len(node.inputs) > 1 and graph.nodes[node.inputs[1].node].name == weight
    )
    body = Graph(graph.nodes, [top.inputs[0]]).needed()
    for node in body.nodes:  # Gluon stores a type, and a net in another one could not be made
        node.attrs = {key: value for key, value in node.attrs.items() if key != '__dtype__'}
    rest = [*graph.nodes]
    rest[place] = Node('null', HEAD, {}, [], 'null')
    tail = Graph(rest, graph.heads).needed()
    return Definition(
        record,
        body.text(),
        '' if tail.nodes[-1].op == 'null' else tail.text(),
        source.inputs[0],
        source.text,
        source.names,
        {name: each.shape for name, each in source.state.items()},
        frozenset(ours[name] for name in fixed if name in ours),
        {ours[name]: value for name, value in starts.items()},
    )
