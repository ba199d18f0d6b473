"""Write a graph as the source of a plain PyTorch module.

The file needs PyTorch alone. A layer is a line of ``__init__`` with MXNet's name beside it, a node
of the graph a line of ``forward``; a helper stands in the file only if a line uses it.
"""

import keyword
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from d2l_ft.convert.graph import Attributes, Graph, Node, Value
from d2l_ft.convert.ranks import known_ranks
from d2l_ft.convert.rules import LOSS, RULES
from d2l_ft.errors import ModelError
from d2l_ft.system.console import quote_if_needed, visible

Arrays = Mapping[str, NDArray[np.generic]]

HELPERS = {
    'BatchNorm': '''class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm over the channels of an input with any number of dimensions."""

    def _check_input_dim(self, input):
        pass
''',
    'StillBatchNorm': '''class StillBatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm with the stored statistics, in training too (MXNet's use_global_stats)."""

    def forward(self, x):
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )
''',
    'fixed_scale': '''def fixed_scale(norm):
    """Keep a BatchNorm's scale at 1 (MXNet's fix_gamma): it does not learn."""
    nn.init.ones_(norm.weight).requires_grad_(False)
    return norm
''',
}
"""Name -> source of what a rule may need in the file."""

TAKEN = frozenset({
    'add_module', 'apply', 'bfloat16', 'buffers', 'call_super_init', 'children', 'compile', 'cpu',
    'cuda', 'double', 'dump_patches', 'eval', 'extra_repr', 'float', 'forward', 'get_buffer',
    'get_extra_state', 'get_parameter', 'get_submodule', 'half', 'ipu', 'load_state_dict',
    'modules', 'mtia', 'named_buffers', 'named_children', 'named_modules', 'named_parameters',
    'parameters', 'register_backward_hook', 'register_buffer', 'register_forward_hook',
    'register_forward_pre_hook', 'register_full_backward_hook', 'register_full_backward_pre_hook',
    'register_load_state_dict_post_hook', 'register_load_state_dict_pre_hook', 'register_module',
    'register_parameter', 'register_state_dict_post_hook', 'register_state_dict_pre_hook',
    'replace_head', 'requires_grad_', 'set_extra_state', 'set_submodule', 'share_memory',
    'state_dict', 'T_destination', 'to', 'to_empty', 'train', 'training', 'type', 'xpu',
    'zero_grad',
})  # fmt: skip
"""Names of nn.Module that a layer must not have."""

NAMES = ('x', 'y', 'z', 'u', 'v', 'w')
"""Of the variables in ``forward``."""

SEVERAL = frozenset({'SliceChannel', 'amp_multicast'})
"""Operators with several outputs, of which a tuple is made."""

MARK = '\0'
MARKED = re.compile(f'{MARK}(\\d+){MARK}')
"""The number of a node, where its variable's name will stand."""

AFTER_HEAD = re.compile(
    f'{MARK}\\d+{MARK}\\.flatten\\(1\\)'
    f'|F\\.(relu|(adaptive_)?avg_pool2d)\\({MARK}\\d+{MARK}(, [^{MARK}]*)?\\)'
)
"""What may come after the output layer: flattening, an activation, the mean over the image."""


@dataclass
class Source:
    """A graph as PyTorch.

    Attributes:
        text: The source of model.py.
        state: PyTorch's name -> array of float32, or of float64 where it is stored so.
        names: PyTorch's name -> MXNet's.
        unused: MXNet's name of a stored array that the module does not need -> why.
        inputs: MXNet's names of what ``forward`` takes, in order.
        outputs: MXNet's names of what it returns.
        ops: Operator -> how many nodes.
        head: PyTorch's name of the output layer; empty if there is none that could be replaced.
        nodes: MXNet's names of the lines of ``forward``, in order.
        ends: MXNet's names of the nodes whose values come out: with a softmax cut off, of those
            before it.
    """

    text: str = ''
    state: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    ops: Counter[str] = field(default_factory=Counter)
    head: str = ''
    nodes: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)


def problems(graph: Graph, arrays: Arrays) -> list[str]:
    """Return what of a graph cannot be translated, a line each: operator, count, first node."""
    found: dict[str, list[str]] = {}
    for _, node in graph.walk():
        if node.op == 'null' or node.op in RULES:
            continue
        found.setdefault(node.stored_op, []).append(node.name)
    lines = [
        f'{op}: {len(names)} {"node" if len(names) == 1 else "nodes"}, the first is '
        f'{quote_if_needed(names[0])}'
        for op, names in found.items()
    ]
    if not lines:
        try:
            translate(graph, arrays)
        except ModelError as error:
            lines = [str(error)]
    return lines


def loss_labels(graph: Graph, arrays: Arrays) -> set[int]:
    """Return the nodes that only give labels to a loss at the end of the net."""
    uses: dict[int, set[bool]] = {}
    for _, node in graph.walk():
        for place, value in enumerate(node.inputs):
            uses.setdefault(value.node, set()).add(node.op in LOSS and place > 0)
    wanted = {head.node for head in graph.heads}
    labels: set[int] = set()
    for number in sorted(uses, reverse=True):
        node = graph.nodes[number]
        if uses[number] == {True} and number not in wanted and node.name not in arrays:
            labels.add(number)
    return labels


class _Line:
    """What the rule of one node sees."""

    def __init__(self, writer: '_Writer', node: Node, *, is_head: bool) -> None:
        self.writer, self.node, self.is_head = writer, node, is_head
        self.attrs = Attributes(node)
        self.taken: set[int] = set()
        """The inputs that were asked for."""
        self.keep_softmax = writer.keep_softmax
        self.layer = ''

    def x(self, number: int = 0) -> str:
        self.taken.add(number)
        if number >= len(self.node.inputs):
            raise self.refuse(f'inputs: {len(self.node.inputs)}')
        return self.writer.expression(self.node.inputs[number])

    def xs(self) -> list[str]:
        return [self.x(number) for number in range(len(self.node.inputs))]

    def shape(self, number: int) -> tuple[int, ...]:
        return self.array(number)[1].shape

    def array(self, number: int) -> tuple[str, NDArray[np.generic]]:
        self.taken.add(number)
        if number >= len(self.node.inputs):
            raise self.refuse(f'inputs: {len(self.node.inputs)}')
        name = self.writer.graph.nodes[self.node.inputs[number].node].name
        if name not in self.writer.arrays:
            raise ModelError(
                f'{self.node.stored_op} {self.node.name!r} needs {name!r}, which the parameters '
                'lack: give those of this net'
            )
        return name, self.writer.arrays[name]

    def rank(self, number: int = 0) -> int | None:
        if number >= len(self.node.inputs):
            return None
        return self.writer.ranks.get(self.node.inputs[number])

    def module(self, constructor: str, **parameters: int) -> str:
        self.layer = self.writer.layer(self, constructor, parameters)
        return f'self.{self.layer}'

    def helper(self, name: str) -> str:
        self.writer.helpers.add(name)
        return name

    def refuse(self, why: str) -> ModelError:
        return ModelError(
            f'{self.node.stored_op} {self.node.name!r} cannot be translated ({visible(why)}): give '
            'a node before it as `until`'
        )


class _Writer:
    """Collect the lines of a module."""

    def __init__(
        self,
        graph: Graph,
        arrays: Arrays,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        keep_softmax: bool,
    ) -> None:
        self.graph, self.arrays, self.keep_softmax = graph, arrays, keep_softmax
        self.ranks = known_ranks(graph, arrays, shapes)
        self.result = Source()
        self.helpers: set[str] = set()
        self.init: list[str] = []
        self.inputs: list[int] = []
        self.lines: list[tuple[int, str, str]] = []
        """Node, the expression of its value, a comment."""
        self.same: dict[int, int] = {}
        """Node -> the node whose value it passes on."""
        self.layers: dict[tuple[str, tuple[str, ...]], str] = {}
        self.owners: dict[str, str] = {}
        """MXNet's name of an array -> PyTorch's name of the first parameter that it became."""
        self.used: dict[str, int] = {}
        """Attribute's name -> the last number that was added to it."""
        self.prefix = _common_prefix(node.name for _, node in graph.walk() if node.op != 'null')

    # --- layers and parameters

    def name(self, stored: str) -> str:
        """Return a new attribute's name for a name of MXNet's."""
        short = stored.removeprefix(self.prefix).removesuffix('_fwd')
        short = re.sub(r'\W', '_', short, flags=re.ASCII).strip('_') or 'layer'
        if short[0].isdigit():
            short = f'layer{short}'
        if keyword.iskeyword(short) or short in TAKEN:
            short = f'{short}_'
        name = short
        while name in self.used:
            self.used[short] += 1
            name = f'{short}_{self.used[short]}'
        self.used[name] = 1
        return name

    def layer(self, line: _Line, constructor: str, parameters: Mapping[str, int]) -> str:
        """Add a layer, or return the one that has these parameters already."""
        stored = {name: line.array(number)[0] for name, number in parameters.items()}
        key = (constructor, tuple(stored.values()))
        if stored and key in self.layers:
            return self.layers[key]
        layer = self.layers[key] = self.name(line.node.name)
        self.init.append(f'self.{layer} = {constructor}{_beside(layer, line.node.name)}')
        fixed = 'fixed_scale(' in constructor
        for name, theirs in stored.items():
            full = f'{layer}.{name}'
            if theirs in self.owners:
                self.init.append(f'self.{full} = self.{self.owners[theirs]}  # shared')
            else:
                self.owners[theirs] = full
            array = _floating(self.arrays[theirs])
            if fixed and name == 'weight':
                array = np.ones_like(array)  # what is stored is void: fix_gamma
            elif name != 'running_mean':
                array = array.reshape(-1) if 'PReLU' in constructor else array
            self.result.state[full] = array
            self.result.names[full] = theirs
        return layer

    def parameter(self, name: str) -> str:
        """Return the expression of an array that is an input of a node of its own."""
        if name in self.owners:
            return f'self.{self.owners[name]}'
        attribute = self.name(name)
        array = _floating(self.arrays[name])
        made = f'nn.Parameter(torch.empty({tuple(array.shape)}))'
        self.init.append(f'self.{attribute} = {made}{_beside(attribute, name)}')
        self.owners[name] = attribute
        self.result.state[attribute] = array
        self.result.names[attribute] = name
        return f'self.{attribute}'

    # --- values

    def expression(self, value: Value) -> str:
        """Return the expression of a value, with a mark where the variable's name will stand."""
        number = self.same.get(value.node, value.node)
        node = self.graph.nodes[number]
        if node.op == 'null' and node.name in self.arrays:
            return self.parameter(node.name)
        if node.op in SEVERAL:
            return f'{MARK}{number}{MARK}[{value.output}]'
        if value.output:
            raise ModelError(
                f'{node.stored_op} {node.name!r} cannot be translated (its output {value.output} '
                'is needed): give a node before that as `until`'
            )
        return f'{MARK}{number}{MARK}'

    def run(self) -> Source:
        """Translate all nodes."""
        labels = loss_labels(self.graph, self.arrays)
        for number, node in self.graph.walk():
            if node.op == 'null':
                if number not in labels and node.name not in self.arrays:
                    self.inputs.append(number)
            elif number not in labels:
                self._node(number, node)
        if not self.inputs:
            raise ModelError(
                'the graph has no input, every variable is a stored array: give the whole net'
            )
        for name in sorted(set(self.arrays) - set(self.result.names.values())):
            known = any(node.name == name for node in self.graph.nodes)
            why = 'no output needs it' if known else 'the graph does not name it'
            self.result.unused[name] = why
        self.result.inputs = [self.graph.nodes[number].name for number in self.inputs]
        twice = [name for name, count in Counter(self.result.inputs).items() if count > 1]
        if twice:
            raise ModelError(f'two inputs have the name {twice[0]!r}: rename one of them')
        self.result.outputs = [self.graph.nodes[head.node].name for head in self.graph.heads]
        self.result.nodes = [self.graph.nodes[number].name for number, _, _ in self.lines]
        self.result.ends = [self._end(head) for head in self.graph.heads]
        self.result.head = self._head()
        self.result.text = self._text()
        return self.result

    def _end(self, head: Value) -> str:
        """Return the name of a value that comes out."""
        node = self.graph.nodes[self.same.get(head.node, head.node)]
        return f'{node.name}_output{head.output}' if node.op in SEVERAL else node.name

    def _node(self, number: int, node: Node) -> None:
        """Add one node's line, or note that its value is that of its input."""
        if node.op not in RULES:
            raise ModelError(
                f'there is no rule for the operator {node.stored_op} ({node.name!r}): give a node '
                'before it as `until`'
            )
        self.result.ops[node.stored_op] += 1
        line = _Line(self, node, is_head=any(head.node == number for head in self.graph.heads))
        if node.op in LOSS:  # without its labels
            line.node = Node(node.op, node.name, node.attrs, node.inputs[:1], node.stored_op)
        try:
            expression = RULES[node.op](line)
        except (ArithmeticError, IndexError, TypeError, ValueError) as error:
            names = [self.graph.nodes[each.node].name for each in node.inputs]
            sides = [str(self.arrays[name].shape) for name in names if name in self.arrays]
            raise line.refuse(
                f'its attributes do not fit parameters of {" and ".join(sides)}'
            ) from error
        if len(line.node.inputs) > len(line.taken):
            raise line.refuse(f'inputs: {len(line.node.inputs)}')
        if rest := line.attrs.rest():
            raise line.refuse(f'the attribute {rest[0]}={node.attrs[rest[0]]} has no meaning here')
        if match := re.fullmatch(f'{MARK}(\\d+){MARK}', expression):
            self.same[number] = int(match[1])
        else:
            self.lines.append((number, expression, '' if line.layer else node.name))

    def _forward(self) -> tuple[str, str, str]:
        """Return the inputs of ``forward``, its lines, and what it returns.

        A variable whose value nobody needs any more gives its name to the next one, so that most
        lines are x = layer(x).
        """
        outs = ', '.join(self.expression(head) for head in self.graph.heads)
        last = {
            int(each): at
            for at, text in enumerate([*(text for _, text, _ in self.lines), outs])
            for each in MARKED.findall(text)
        }
        free, names = [*NAMES], dict[int, str]()

        def take() -> str:
            if not free:
                free.append(f'{NAMES[0]}{len(names)}')
            return free.pop(0)

        for number in self.inputs:
            names[number] = take()
        takes = ', '.join(names[number] for number in self.inputs)
        lines = []
        for at, (number, text, comment) in enumerate(self.lines):
            used = dict.fromkeys(map(int, MARKED.findall(text)))
            line = MARKED.sub(lambda match: names[int(match[1])], text)
            for each in reversed([each for each in used if last[each] == at]):
                free.insert(0, names[each])
            names[number] = take()
            lines.append(
                f'        {names[number]} = {line}'
                + (f'  # {_comment(comment)}' if comment else '')
            )
            if number not in last:  # a layer that only its side effect needs: there is none
                free.insert(0, names[number])
        returned = MARKED.sub(lambda match: names[int(match[1])], outs)
        return takes, '\n'.join(lines), returned

    def _head(self) -> str:
        """Return the layer that gives the only output, if it is one that can be replaced.

        It is dense, or a convolution of one pixel, after which there may be what leaves the classes
        where they are.
        """
        if len(self.graph.heads) != 1 or not self.lines:
            return ''
        lines = {number: text for number, text, _ in self.lines}
        uses = Counter(int(each) for text in lines.values() for each in MARKED.findall(text))
        last = number = self.same.get(self.graph.heads[0].node, self.graph.heads[0].node)
        while AFTER_HEAD.fullmatch(lines.get(number, '')):
            (number,) = (int(each) for each in MARKED.findall(lines[number]))
            if uses[number] != 1:
                return ''
        match = re.fullmatch(r'self\.(\w+)\(.*\)', lines.get(number, ''))
        if match is None or sum(f'self.{match[1]}(' in text for text in lines.values()) != 1:
            return ''
        kinds = r'Conv2d\(\d+, \d+, 1[,)](?!.*groups)' + ('|Linear' if number == last else '')
        layer = rf'self\.{match[1]} = nn\.({kinds})'
        return match[1] if any(re.match(layer, each) for each in self.init) else ''

    def _text(self) -> str:
        """Return the whole file."""
        takes, body, returned = self._forward()
        init = '\n'.join(f'        {each}' for each in self.init)
        helpers = ''.join(f'\n\n{HELPERS[name]}' for name in HELPERS if name in self.helpers)
        code = f'{helpers}{init}{body}'
        imports = [
            *(['import torch'] if re.search(r'\btorch\.', code) else []),
            *(['import torch.nn.functional as F'] if re.search(r'\bF\.', code) else []),
            'from torch import nn',
        ]
        takes_, gives = (
            ', '.join(re.sub(r'[^\w.:/-]', '_', each) for each in names)  # they are anybody's
            for names in (self.result.inputs, self.result.outputs)
        )
        parts = [
            '"""A net that was translated from MXNet; its weights are in model.safetensors."""\n\n',
            '\n'.join(imports),
            f'\n{helpers}\n\nclass Model(nn.Module):\n',
            f'    """Takes {takes_}; returns {gives}."""\n\n',
            f'    def __init__(self):\n        super().__init__()\n{init and init + chr(10)}\n',
            f'    def forward(self, {takes}):\n{body}\n        return {returned}\n',
        ]
        if head := self.result.head:
            bias = '' if f'{head}.bias' in self.result.state else ', bias=False'
            dense = self.result.state[f'{head}.weight'].ndim == 2
            made = (
                f'nn.Linear(self.{head}.in_features, classes{bias})'
                if dense
                else f'nn.Conv2d(self.{head}.in_channels, classes, 1{bias})'
            )
            parts.append(
                '\n    def replace_head(self, classes):\n'
                '        """Put a new output layer in the place of this one, and return it."""\n'
                f'        self.{head} = {made}\n'
                f'        return self.{head}\n'
            )
        return ''.join(parts)


def translate(
    graph: Graph,
    arrays: Arrays,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    keep_softmax: bool = False,
) -> Source:
    """Return a graph with its arrays as PyTorch.

    Args:
        graph: As ``read_graph`` gives it.
        arrays: MXNet's name -> array, parameters and states alike.
        shapes: Input -> shape, where it is known: some rules need the number of dimensions.
        keep_softmax: Whether a softmax or sigmoid at the end stays; otherwise logits come out.

    Raises:
        ModelError: A node has no rule, an attribute no meaning, or an array is missing; the text
            names the node.
    """
    return _Writer(graph, arrays, shapes or {}, keep_softmax=keep_softmax).run()


def _floating(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return an array as float32, or as float64 where it is stored so."""
    kind = np.float64 if array.dtype == np.float64 else np.float32
    return np.ascontiguousarray(array, kind).reshape(array.shape)


def _common_prefix(names: Iterable[str]) -> str:
    """Return what all names begin with, up to the last underscore."""
    some = list(names)
    if len(some) < 2:
        return ''
    first, last = min(some), max(some)
    length = next(
        (at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
        min(len(first), len(last)),
    )
    return first[: first.rfind('_', 0, length) + 1]


def _beside(ours: str, theirs: str) -> str:
    """Return MXNet's name as the comment of a line, unless it is the same."""
    return '' if ours == theirs else f'  # {_comment(theirs)}'


def _comment(name: str) -> str:
    """Return a name of MXNet's as a comment can have it."""
    return name.encode('unicode_escape').decode() if not name.isprintable() else name
