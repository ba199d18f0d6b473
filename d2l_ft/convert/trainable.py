"""A converted net as an architecture that both frameworks train: MXNet the graph, PyTorch the same.

A folder of ``d2l-ft convert`` has the graph in symbol.json, and so has a run that trains the net.
Both are untrusted: of neither any code is run. PyTorch's module is written anew from the graph.
"""

import json
import re
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2l_ft.convert.formats import MOST_JSON
from d2l_ft.convert.graph import Attributes, Graph, Node, read_graph
from d2l_ft.convert.package import SYMBOL, read_package
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


def folder_record(folder: Path) -> NetRecord:
    """Return the record of a net in a folder of ``d2l-ft convert``.

    Raises:
        ModelError: It is no such folder, or is damaged; its net does not end in a dense layer or
            does not take colour images alone; or model.py was changed by hand.
    """
    package = read_package(folder)
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
        record = from_json(NetRecord, values | _prepared(package.preprocess.get('assumed', {})))
    except ValueError as error:
        raise ModelError(
            f"{folder}/preprocess.json is damaged ({error}): 'assumed' has channel_order (RGB or "
            'BGR), mean and std of three numbers'
        ) from None
    source = _translate(record)
    if _code(source.text) != _code(package.source):
        raise ModelError(
            f'{folder}/model.py is not what is written of its {SYMBOL}: train a net that you '
            'changed with a loop of your own, or convert it again'
        )
    return record


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


def run_record(path: Path) -> NetRecord:
    """Return the record that a run keeps.

    Raises:
        ModelError: It cannot be read, or is damaged.
    """
    try:
        return record_from(read_file(path, MOST_JSON))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f'{path} is damaged ({error})') from None


def record_from(text: str) -> NetRecord:
    """Return the record in a JSON text.

    Raises:
        ValueError: It is none.
    """
    return from_json(NetRecord, json.loads(text))


def add_net(record: NetRecord) -> Architecture:
    """Make an architecture of a record and let ``architecture`` know it; nothing is run.

    Raises:
        ModelError: The net cannot be translated, or is not one that ends in a dense layer.
    """
    text = record.to_json()
    graph = read_graph(record.symbol)
    source = _translate(record)
    if not source.head:
        raise ModelError(
            f'{record.name} does not end in a dense layer or a convolution of one pixel, so it '
            'cannot get a new one: train it with a loop of your own'
        )
    weight = source.state[f'{source.head}.weight']
    made = Architecture(
        f'{record.name}-{sha256(text.encode()).hexdigest()[:8]}',
        source.head,
        int(weight.shape[1]),
        smallest=1,
        kernel=weight.shape[2:],
        alone=EVERY_SIZE if any(node.op == 'BatchNorm' for _, node in graph.walk()) else 0,
        image_size=record.image_size,
        bgr=record.bgr,
        definition=_definition(text, graph, source),
    )
    made = replace(made, **_normalization(record))
    add_architecture(made)
    return made


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


def _translate(record: NetRecord) -> Source:
    """Return the net as PyTorch, without its values.

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
    return translate(graph, arrays, shapes=dict.fromkeys(inputs, (1, 3, size, size)))


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
