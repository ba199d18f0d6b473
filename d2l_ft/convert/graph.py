"""The graph in a symbol file of MXNet, of every age of the format, without MXNet.

A symbol file is JSON: a list of nodes, each with an operator, a name, attributes as text and inputs
as (node, output) pairs, and the heads. What changed over the years, after MXNet's
src/nnvm/legacy_json_util.cc: attributes stood under ``param``, then ``attr``, now ``attrs``; inputs
and heads had two numbers, now three; an operator's own states, such as BatchNorm's running
statistics, were no inputs.
"""

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from d2l_ft.errors import ModelError
from d2l_ft.system.console import list_names, visible

MOST_NODES = 200_000
"""More than any net has: a file with more is no net, and would only take memory."""

STATES = {'BatchNorm': ('gamma', 'beta', 'moving_mean', 'moving_var')}
"""Operator -> what its inputs after the first are called; old files leave the last out."""

OTHER_NAMES = {
    'elemwise_add': ('_Plus', '_plus', '_add', '_grad_add'),
    'elemwise_sub': ('_Minus', '_minus', '_sub'),
    'elemwise_mul': ('_Mul', '_mul'),
    'elemwise_div': ('_Div', '_div'),
    '_plus_scalar': ('_PlusScalar', '_npi_add_scalar'),
    '_minus_scalar': ('_MinusScalar', '_npi_subtract_scalar'),
    '_rminus_scalar': ('_RMinusScalar', '_npi_rsubtract_scalar'),
    '_mul_scalar': ('_MulScalar', '_npi_multiply_scalar'),
    '_div_scalar': ('_DivScalar', '_npi_true_divide_scalar'),
    '_rdiv_scalar': ('_RDivScalar',),
    '_power_scalar': ('_PowerScalar',),
    '_maximum_scalar': ('_MaximumScalar',),
    '_minimum_scalar': ('_MinimumScalar',),
    'broadcast_maximum': ('_Maximum', '_maximum'),
    'broadcast_minimum': ('_Minimum', '_minimum'),
    'broadcast_power': ('_Power', '_power'),
    'broadcast_add': ('broadcast_plus', '_npi_add'),
    'broadcast_sub': ('broadcast_minus', '_npi_subtract'),
    'add_n': ('ElementWiseSum',),
    'sum': ('_sum', 'sum_axis'),
    'max': ('max_axis',),
    'min': ('min_axis',),
    'SwapAxis': ('swapaxes',),
    'Concat': ('concat', '_npi_concatenate'),
    'Reshape': ('reshape',),
    'Flatten': ('flatten', '_npx_batch_flatten'),
    'Cast': ('cast',),
    'SliceChannel': ('split',),
    'Pad': ('pad',),
    'slice': ('crop',),
    '_copy': ('identity', '_npi_copy', '_np_copy'),
    'BlockGrad': ('stop_gradient',),
    'SoftmaxOutput': ('Softmax',),
    'BatchNorm': ('BatchNorm_v1', 'CuDNNBatchNorm', '_contrib_SyncBatchNorm', '_npx_batch_norm'),
    'Convolution': ('Convolution_v1', '_npx_convolution'),
    'Pooling': ('Pooling_v1', '_npx_pooling'),
    'AdaptiveAvgPooling2D': ('_contrib_AdaptiveAvgPooling2D',),
    'BilinearResize2D': ('_contrib_BilinearResize2D',),
    'Deconvolution': ('_npx_deconvolution',),
    'Activation': ('_npx_activation',),
    'FullyConnected': ('_npx_fully_connected',),
    'Dropout': ('_npx_dropout',),
    'LeakyReLU': ('_npx_leaky_relu',),
    'LayerNorm': ('_npx_layer_norm',),
    'relu': ('_npx_relu',),
    'sigmoid': ('_npx_sigmoid',),
    'softmax': ('_npx_softmax',),
    'log_softmax': ('_npx_log_softmax',),
    'broadcast_mul': ('_npi_multiply',),
    'broadcast_div': ('_npi_true_divide',),
}  # fmt: skip
"""Operator, as the rules go by it -> its other names: those of older versions, of ``mx.np`` and
of variants that compute the same."""

ALIASES = {other: op for op, others in OTHER_NAMES.items() for other in others}


def canonical_op(op: str) -> str:
    """Return the name by which the rules know an operator."""
    return ALIASES.get(op, op)


@dataclass(frozen=True)
class Value:
    """One output of a node."""

    node: int
    output: int = 0


@dataclass
class Node:
    """An operator with its attributes, or a variable (``op`` 'null')."""

    op: str
    name: str
    attrs: Mapping[str, str] = field(default_factory=dict)
    inputs: list[Value] = field(default_factory=list)
    stored_op: str = ''
    """The operator as the file names it."""


@dataclass
class Graph:
    """Nodes in an order in which each comes after its inputs, and the values that come out."""

    nodes: list[Node]
    heads: list[Value]

    def walk(self) -> Iterator[tuple[int, Node]]:
        """Yield (number, node) of all that the heads need, in order."""
        needed = self._needed(self.heads)
        for number, node in enumerate(self.nodes):
            if number in needed:
                yield number, node

    def _needed(self, heads: Iterable[Value]) -> set[int]:
        found: set[int] = set()
        todo = [head.node for head in heads]
        while todo:
            number = todo.pop()
            if number not in found:
                found.add(number)
                todo.extend(each.node for each in self.nodes[number].inputs)
        return found

    def variables(self) -> list[str]:
        """Return the names of the variables that the heads need."""
        return [node.name for _, node in self.walk() if node.op == 'null']

    def text(self) -> str:
        """Return the graph as a symbol file of MXNet 1.9."""
        nodes = [
            {
                'op': node.stored_op,
                'name': node.name,
                **({'attrs': attrs} if (attrs := _plain(node.attrs)) else {}),
                'inputs': [[each.node, each.output, 0] for each in node.inputs],
            }
            for node in self.nodes
        ]
        variables = [number for number, node in enumerate(self.nodes) if node.op == 'null']
        heads = [[each.node, each.output, 0] for each in self.heads]
        version = {'mxnet_version': ['int', 10901]}
        return json.dumps(
            {'nodes': nodes, 'arg_nodes': variables, 'heads': heads, 'attrs': version}
        )

    def ending(self, names: Iterable[str]) -> 'Graph':
        """Return the graph that ends in values, without the nodes that they do not need.

        Args:
            names: Of nodes, or of one of several outputs of a node, such as 'split_output1'.
        """
        numbers = sorted(range(len(self.nodes)), key=lambda each: self.nodes[each].op != 'null')
        places = {self.nodes[number].name: number for number in numbers}  # operators come last
        heads = []
        for name in names:
            node, _, output = name.rpartition('_output')
            heads.append(
                Value(places[name]) if name in places else Value(places[node], int(output))
            )
        return Graph(self.nodes, heads).needed()

    def needed(self) -> 'Graph':
        """Return the graph without the nodes that its heads do not need."""
        places: dict[int, int] = {}
        nodes: list[Node] = []
        for number, node in self.walk():
            places[number] = len(nodes)
            inputs = [Value(places[each.node], each.output) for each in node.inputs]
            nodes.append(replace(node, inputs=inputs))
        return Graph(nodes, [Value(places[each.node], each.output) for each in self.heads])

    def until(self, name: str) -> 'Graph':
        """Return the graph that ends in a node.

        Raises:
            ModelError: There is no such node.
        """
        for number, node in enumerate(self.nodes):
            if name in (node.name, f'{node.name}_output') and node.op != 'null':
                return Graph(self.nodes, [Value(number)])
        near = list_names([node.name for node in self.nodes if node.op != 'null'][-5:])
        raise ModelError(f'the graph has no node {name!r}: choose one, such as the last: {near}')


OLD_HINTS = re.compile(r'((weight|bias)_)?(lr|wd)_mult|ctx_group|force_mirroring|mirror_stage|name')
"""Attributes in old files that no operator takes, and that say nothing of the result."""


def _plain(attrs: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes that MXNet 1.9 takes: of old files, without the hints."""
    return {key: value for key, value in attrs.items() if not OLD_HINTS.fullmatch(key)}


def read_graph(text: str) -> Graph:
    """Return the graph of a symbol file.

    Args:
        text: The file's JSON.

    Raises:
        ModelError: It is no symbol file, or a damaged one; the reason alone, without the name of
            the file.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f'it is no JSON ({error})') from None
    if not isinstance(data, dict) or not isinstance(data.get('nodes'), list):
        raise ModelError('it has no list of nodes, as a symbol file has')
    if not 0 < len(data['nodes']) <= MOST_NODES:
        raise ModelError(f'it has {len(data["nodes"])} nodes')
    nodes: list[Node] = []
    for number, entry in enumerate(data['nodes']):
        nodes.append(_node(entry, number))
    heads = data.get('heads') or [[len(nodes) - 1, 0]]
    graph = Graph(nodes, [_value(each, len(nodes)) for each in _list(heads, 'heads')])
    _add_states(graph)
    return graph


def tell_apart(text: str) -> tuple[str, list[str]]:
    """Return a symbol file in which no two operators have one name, and a line for each renamed.

    Args:
        text: The JSON of a file that ``read_graph`` reads.
    """
    data = json.loads(text)
    operators = [node for node in data['nodes'] if node['op'] != 'null']
    taken = {node['name'] for node in data['nodes']}
    counts = Counter(node['name'] for node in operators)
    numbers: dict[str, int] = {}
    lines = []
    for node in operators:
        name = node['name']
        if counts[name] < 2:
            continue
        numbers[name] = number = numbers.get(name, 0) + 1
        if number == 1:
            continue
        while f'{name}_{number}' in taken:
            number += 1
        node['name'] = f'{name}_{number}'
        if numbers[name] == 2:
            lines.append(
                f'{counts[name]} nodes are named {name}: the second is called {node["name"]} here'
            )
        numbers[name] = number
    return (json.dumps(data) if lines else text), lines


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ModelError(f'its {what} are no list')
    return value


def _value(pair: Any, limit: int) -> Value:
    """Return an input or a head; the third number, a version, says nothing of the result."""
    numbers = _list(pair, 'inputs or heads')
    if not 2 <= len(numbers) <= 3 or not all(type(each) is int for each in numbers):
        raise ModelError('an input or a head is not two or three numbers')
    if not 0 <= numbers[0] < limit or not 0 <= numbers[1] < 1000:
        raise ModelError(f'an input or a head names node {numbers[0]}, which is not before it')
    return Value(numbers[0], numbers[1])


def _node(entry: Any, number: int) -> Node:
    if not isinstance(entry, dict):
        raise ModelError(f'node {number} is no object')
    op, name = entry.get('op'), entry.get('name')
    if not isinstance(op, str) or not isinstance(name, str):
        raise ModelError(f'node {number} has no operator or no name')
    attrs: dict[str, str] = {}
    for key in ('attr', 'param', 'attrs'):  # the later overrides: ``attr`` was also the user's own
        some = entry.get(key) or {}
        if not isinstance(some, dict):
            raise ModelError(f'node {name!r} has attributes that are no object')
        attrs |= {each: str(value) for each, value in some.items()}
    inputs = [_value(each, number) for each in _list(entry.get('inputs') or [], 'inputs')]
    if op == 'null' and inputs:
        raise ModelError(f'the variable {name!r} has inputs')
    return Node(canonical_op(op), name, attrs, inputs, visible(op))


def _add_states(graph: Graph) -> None:
    """Give BatchNorms of old files their states, and what a builder left out: as MXNet does."""
    order: list[Node] = []
    place: dict[int, int] = {}
    for number, node in enumerate(graph.nodes):
        node.inputs = [Value(place[each.node], each.output) for each in node.inputs]
        for missing in STATES.get(node.op, ())[max(len(node.inputs) - 1, 0) :]:
            order.append(Node('null', f'{node.name}_{missing}', {}, [], 'null'))
            node.inputs.append(Value(len(order) - 1))
        place[number] = len(order)
        order.append(node)
    graph.heads = [Value(place[each.node], each.output) for each in graph.heads]
    graph.nodes = order


LARGEST = 2**31
"""The largest integer of an attribute: MXNet's own are of 32 bits."""

LARGEST_FLOAT = 3.4028234663852886e38
"""The largest number of an attribute: MXNet's own are of float32."""

MOST_AXES = 32

NUMBER = re.compile(r'(?<=\d)[Ll](?![\w.])')
"""The mark of a long integer, which Python 2 wrote."""


class Attributes:
    """A node's attributes as numbers, tuples and truths, with MXNet's defaults.

    Attributes:
        used: The names that were asked for; another one that is there is not understood.
    """

    IGNORED = frozenset({
        'workspace', 'cudnn_tune', 'cudnn_off', 'name', 'ctx_group', 'lr_mult', 'wd_mult',
        'force_mirroring', 'mirror_stage', 'weight_lr_mult', 'bias_lr_mult', 'weight_wd_mult',
        'bias_wd_mult', 'num_args', 'min_calib_range', 'max_calib_range', 'ndev', 'key',
    })  # fmt: skip
    """What says how to compute or to train, and not what."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.used: set[str] = set()

    def text(self, name: str, default: str) -> str:
        """Return an attribute as it is stored."""
        self.used.add(name)
        return self.node.attrs.get(name, default)

    def _literal(self, name: str) -> Any:
        """Return an attribute's value, or None: of it, where it is missing."""
        text = self.text(name, 'None')
        if text in ('true', 'false'):
            return text == 'true'
        try:
            return ast.literal_eval(NUMBER.sub('', text))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise ModelError(self.wrong(name, text)) from None

    def wrong(self, name: str, text: object) -> str:
        """Return what is said of an attribute that is none."""
        what = visible(f'{name}={text}'[:100])
        return (
            f'{self.node.stored_op} {self.node.name!r} has {what}, which is not understood: save '
            'the net again'
        )

    def integer(self, name: str, default: int) -> int:
        """Return an integer, also of a truth or of '2.0'."""
        value = self._literal(name)
        if value is None:
            return default
        if isinstance(value, bool | int | float) and abs(value) <= LARGEST and value == int(value):
            return int(value)
        raise ModelError(self.wrong(name, value))

    def axis(self, name: str, default: int) -> int:
        """Return the number of an axis."""
        value = self.integer(name, default)
        if not -MOST_AXES <= value < MOST_AXES:
            raise ModelError(self.wrong(name, value))
        return value

    def number(self, name: str, default: float) -> float:
        """Return a number; a default is given as MXNet keeps it."""
        value = self._literal(name)
        if value is None:
            return default
        if isinstance(value, int | float) and abs(value) <= LARGEST_FLOAT:
            return float(value)
        raise ModelError(self.wrong(name, value))

    def truth(self, name: str, *, default: bool) -> bool:
        """Return a truth: True, true, 1."""
        return bool(self.integer(name, int(default)))

    def integers(self, name: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return a tuple of integers; one alone is a tuple of one."""
        value = self.optional_integers(name)
        if value is None:
            return default
        if None in value:
            raise ModelError(self.wrong(name, value))
        return tuple(each for each in value if each is not None)

    def optional_integers(self, name: str) -> tuple[int | None, ...] | None:
        """Return a tuple in which None may stand, or None for no tuple."""
        value = self._literal(name)
        if value is None:
            return None
        if isinstance(value, int):
            value = (int(value),)
        if isinstance(value, tuple | list) and all(
            each is None or (isinstance(each, int) and abs(each) <= LARGEST) for each in value
        ):
            return tuple(value)
        raise ModelError(self.wrong(name, value))

    def rest(self) -> list[str]:
        """Return the names of attributes that nobody asked for and that could mean something."""
        return [
            name
            for name in self.node.attrs
            if name not in self.used | self.IGNORED and not name.startswith('__')
        ]
