"""The graphs of Gluon's and GluonCV's zoos, for files of parameters that come without a graph.

They are stored beside this module (benchmarks/zoo_graphs.py writes them), so MXNet is not needed.
"""

import functools
import json
import lzma
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2l_ft.convert.graph import Graph, Node, Value, canonical_op
from d2l_ft.errors import ModelError

Arrays = Mapping[str, NDArray[np.generic]]

SHOWN = 6
"""Candidates that an error names."""


@functools.cache
def stored() -> dict[str, Any]:
    """Return zoo/name -> the stored graph: nodes and heads."""
    data = resources.files('d2l_ft.convert').joinpath('zoo.json.xz').read_bytes()
    found: dict[str, Any] = json.loads(lzma.decompress(data))
    return found


def zoo_names() -> list[str]:
    """Return the names of all nets, such as 'gluon/resnet50_v2'."""
    return list(stored())


def zoo_graph(name: str, arrays: Arrays | None = None) -> Graph:
    """Return a net's graph; its variables have Gluon's structural names, such as output.weight.

    Args:
        name: As ``zoo_names`` has it.
        arrays: The net's, from which the number of classes is taken.
    """
    entry = stored()[name]
    nodes: list[Node] = []
    for each in entry['nodes']:
        if len(each) == 2:
            nodes.append(Node('null', each[0], {}, [], 'null'))
            continue
        op, short, attrs, inputs = each
        values = [Value(*one) if isinstance(one, list) else Value(one) for one in inputs]
        for size in ('num_filter', 'num_hidden'):
            if arrays is not None and size in attrs:
                attrs = attrs | {size: str(len(arrays[nodes[values[1].node].name]))}
        nodes.append(Node(canonical_op(op), short, attrs, values, op))
    return Graph(nodes, [Value(*head) for head in entry['heads']])


def rename(arrays: Arrays, name: str) -> dict[str, NDArray[np.generic]] | None:
    """Return arrays under the structural names of a net, or None if they are not of it.

    The names may be structural ones, or those of Gluon's older ``save_params``, with any prefix and
    with counters that begin anywhere.
    """
    pairs = [each for each in stored()[name]['nodes'] if len(each) == 2]
    structural = {each[0]: each[0] for each in pairs}
    short = {each[1]: each[0] for each in pairs if each[0] != each[1]}
    renamed: dict[str, NDArray[np.generic]] | None = None
    if set(arrays) == set(structural) - {'data'}:
        renamed = dict(arrays)
    elif set(arrays) == set(short):
        renamed = {short[each]: array for each, array in arrays.items()}
    elif len(arrays) == len(short):
        theirs, ours = recount(arrays), recount(short)
        if set(theirs.values()) == set(ours.values()):
            back = {new: short[old] for old, new in ours.items()}
            renamed = {back[theirs[each]]: array for each, array in arrays.items()}
    return renamed if renamed is not None and _fits(renamed, zoo_graph(name)) else None


def recount(names: Iterable[str]) -> dict[str, str]:
    """Return name -> the name without what all share, each counter beginning at 0.

    A counter's place among its siblings stays: 'net3_conv12_weight' and 'net3_conv14_weight' become
    'conv0_weight' and 'conv1_weight'.
    """
    some = list(names)
    while len({name.partition('_')[0] for name in some}) == 1 and all('_' in name for name in some):
        some = [name.partition('_')[2] for name in some]
    parts = {full: name.split('_') for full, name in zip(names, some, strict=True)}
    found = dict.fromkeys(parts, '')
    for depth in range(max(map(len, parts.values()), default=0)):
        siblings: dict[tuple[str, str], set[int]] = {}
        split = {}
        for full, pieces in parts.items():
            if depth < len(pieces):
                match = re.fullmatch(r'(.*?)(\d*)', pieces[depth])
                assert match is not None
                split[full] = match[1], match[2]
                if match[2]:
                    siblings.setdefault((found[full], match[1]), set()).add(int(match[2]))
        added = {}
        for full, (letters, digits) in split.items():
            places = sorted(siblings.get((found[full], letters), ()))
            added[full] = f'_{letters}{places.index(int(digits)) if digits else ""}'
        for full, text in added.items():
            found[full] += text
    return found


def _fits(arrays: Arrays, graph: Graph) -> bool:
    """Tell whether each layer but the last has as many filters or units as the graph says."""
    last = max(
        number for number, node in graph.walk() if node.op in ('Convolution', 'FullyConnected')
    )
    for number, node in graph.walk():
        wanted = node.attrs.get('num_filter', node.attrs.get('num_hidden'))
        if wanted is None or number == last or node.op not in ('Convolution', 'FullyConnected'):
            continue
        weight = arrays[graph.nodes[node.inputs[1].node].name]
        kernel = tuple(int(each) for each in re.findall(r'\d+', node.attrs.get('kernel', '')))
        if weight.shape[0] != int(wanted) or weight.shape[2:] != kernel:
            return False
    return True


def find(arrays: Arrays, arch: str | None = None) -> tuple[str, dict[str, NDArray[np.generic]]]:
    """Return the name of the net that parameters are of, and them under its structural names.

    Args:
        arrays: Name -> array.
        arch: The name of the net, with or without the zoo's, if it is known.

    Raises:
        ModelError: There is no such net, or there are several that compute otherwise.
    """
    names = zoo_names()
    if arch is not None:
        names = [name for name in names if arch in (name, name.partition('/')[2])]
        if not names:
            raise ModelError(
                f'neither zoo has {arch!r}: give the -symbol.json, or one of '
                f'{", ".join(near_names(arch))}'
            )
    fitting = {name: renamed for name in names if (renamed := rename(arrays, name)) is not None}
    if not fitting:
        what = (
            f'{arch} has not these names and shapes' if arch else 'no net of Gluon or GluonCV has'
        )
        raise ModelError(
            f'{what}: the parameters are of another net, for which the -symbol.json is needed'
            if arch
            else f'{what} these names and shapes: give the -symbol.json beside the parameters'
        )
    different = {_function(name): name for name in reversed(list(fitting))}
    if len(different) > 1:
        some = sorted(different.values())
        raise ModelError(
            f'the parameters fit {len(some)} nets that compute otherwise: name one with `arch`, '
            f'of {", ".join(some[:SHOWN])}{" ..." if len(some) > SHOWN else ""}'
        )
    (name,) = different.values()
    return name, fitting[name]


def _function(name: str) -> str:
    """Return what a net computes, as text: its graph without the names of the nodes."""
    nodes = stored()[name]['nodes']
    return json.dumps([each[:1] if len(each) == 2 else [each[0], *each[2:]] for each in nodes])


def near_names(arch: str) -> list[str]:
    """Return the names of the zoos that are nearest to one that they do not have."""
    import difflib

    names = dict.fromkeys(each.partition('/')[2] for each in zoo_names())
    return difflib.get_close_matches(arch, list(names), SHOWN, 0)
