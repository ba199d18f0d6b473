"""Symbol files of a few nodes, made without MXNet, and parameters that fit them."""

import ast
import builtins
import json

import numpy as np

from d2l_ft.convert.graph import read_graph
from d2l_ft.convert.source import translate
from d2l_ft.errors import ModelError
from d2l_ft.models.gluon_params import write_params


def symbol(*nodes, heads=None):
    """Return the JSON of a symbol file.

    Args:
        *nodes: (operator, name, names of the inputs, attributes); a word alone is a variable. An
            input's name may be a pair with the number of the output.
        heads: Names, as those of inputs; the last node's by default.
    """
    whole = [('null', each, (), {}) if isinstance(each, str) else each for each in nodes]
    place = {name: at for at, (_, name, _, _) in enumerate(whole)}

    def pair(each):
        name, output = each if isinstance(each, tuple) else (each, 0)
        return [place[name], output, 0]

    return json.dumps({
        'nodes': [
            {'op': op, 'name': name, 'attrs': attrs, 'inputs': [pair(each) for each in inputs]}
            for op, name, inputs, attrs in whole
        ],
        'arg_nodes': [at for at, each in enumerate(whole) if each[0] == 'null'],
        'heads': [pair(each) for each in heads or [whole[-1][1]]],
    })  # fmt: skip


def dense(name, x, units=2, weight=None, **attrs):
    """Return the nodes of a dense layer on ``x`` with parameters of its own, or given ones."""
    names = [weight or f'{name}_weight', f'{name}_bias']
    node = ('FullyConnected', name, [x, *names], {'num_hidden': str(units), **attrs})
    return [*(each for each in names if each != weight), node]


def arrays(**shapes):
    """Return name -> float32 array of a shape."""
    draws = np.random.default_rng(0)
    return {name: draws.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


DENSE = symbol('data', *dense('fc', 'data'))
"""A net of one layer, from 3 values to 2."""

DENSE_ARRAYS = arrays(fc_weight=(2, 3), fc_bias=(2,))


def images():
    """Return (symbol, arrays) of a small net on images with a softmax."""
    text = symbol(
        'data', 'conv_weight',
        ('Convolution', 'conv', ['data', 'conv_weight'],
         {'kernel': '(3, 3)', 'num_filter': '4', 'no_bias': 'True'}),
        ('Pooling', 'pool', ['conv'], {'kernel': '(1, 1)', 'global_pool': 'True',
                                       'pool_type': 'avg'}),
        ('Flatten', 'flat', ['pool'], {}),
        *dense('fc', 'flat'),
        'softmax_label',
        ('SoftmaxOutput', 'softmax', ['fc', 'softmax_label'], {}),
    )  # fmt: skip
    return text, arrays(conv_weight=(4, 3, 3, 3), fc_weight=(2, 4), fc_bias=(2,))


def write(prefix, text=DENSE, stored=DENSE_ARRAYS, epoch=0):
    """Write both files of a net, and return their paths."""
    files = (
        prefix.with_name(f'{prefix.name}-symbol.json'),
        prefix.with_name(f'{prefix.name}-{epoch:04d}.params'),
    )
    files[0].write_text(text)
    write_params(files[1], {f'arg:{name}': each for name, each in stored.items()})
    return files


def translated(text, stored=DENSE_ARRAYS, **options):
    """Return a symbol file's translation."""
    return translate(read_graph(text), stored, **options)


def tried(call, *arguments):
    """Return what a call returns, and '' or the text with which it is refused."""
    try:
        return call(*arguments), ''
    except ModelError as error:
        return None, str(error)


STATEMENTS = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef, ast.Assign, ast.Return,
              ast.Expr, ast.Pass)  # fmt: skip
"""What a module's source is made of."""


def check_source(source):
    """Check that a translation's source has our statements alone, and return its tree.

    Every name that is read is known, every attribute is written once, and no expression stands
    alone but docstrings, ``super().__init__()`` and that of the helper ``fixed_scale``.
    """
    tree = ast.parse(source.text)
    compile(tree, 'model.py', 'exec')
    found = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    assert {type(node) for node in found} <= set(STATEMENTS)
    imports = {ast.unparse(node) for node in found if isinstance(node, ast.Import | ast.ImportFrom)}
    assert imports <= {'import torch', 'import torch.nn.functional as F', 'from torch import nn'}
    calls = {
        ast.unparse(node)
        for node in found
        if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
    }
    assert calls <= {'super().__init__()', 'nn.init.ones_(norm.weight).requires_grad_(False)'}
    (model,) = (each for each in tree.body if getattr(each, 'name', '') == 'Model')
    init, forward, *_ = (each for each in model.body if isinstance(each, ast.FunctionDef))
    set_ = [ast.unparse(each.targets[0]) for each in init.body if isinstance(each, ast.Assign)]
    assert len(set_) == len(set(set_))
    known = {each.arg for each in forward.args.args} | set(dir(builtins))
    known |= {alias.asname or alias.name for each in tree.body
              if isinstance(each, ast.Import | ast.ImportFrom) for alias in each.names}  # fmt: skip
    made = {each.split('.', 1)[1] for each in set_}
    for line in forward.body:
        inner = {  # of comprehensions
            each.target.id for each in ast.walk(line) if isinstance(each, ast.comprehension)
        }
        for node in ast.walk(line):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                assert node.id in known | inner, node.id
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == 'self':
                assert node.attr in made or node.attr == 'training'
        if isinstance(line, ast.Assign):
            known.add(line.targets[0].id)
    return tree
