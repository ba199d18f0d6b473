"""What MXNet computes, written down where it still runs, for a proof on another machine.

The machine may be an old one: ``write_program`` gives one file that needs Python 3.6, NumPy and
MXNet 1.0 or newer, made of the very code that computes in a proof here.
"""

import ast
import importlib.util
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from d2l_ft.backend.graph_net import Arrays, GraphNet, Maker, graph_nets
from d2l_ft.backend.registry import BACKENDS, get_backend
from d2l_ft.convert import observe
from d2l_ft.convert.formats import Model
from d2l_ft.convert.observe import FORMAT, Plan
from d2l_ft.errors import ModelError

KEPT = 4096
"""Values that are kept of an array, of which a net may have gigabytes."""

MOST = 2**32
"""Bytes of a witness that are read: an .npz file can be written that expands to far more."""

KEYS = {'plan': dict, 'parameters': list, 'files': dict, 'versions': dict}
"""What is told beside the arrays, and of what kind it is."""

HEAD = '''"""Write down what MXNet computes with a net, for a proof that its translation is equal.

    python witness.py NET-symbol.json NET-0000.params

It needs mxnet and numpy alone. Written by d2l-ft witness; its functions are those of d2l-ft verify.
"""

import argparse
import hashlib
import json
import os
import platform
import sys
import zlib
from contextlib import contextmanager
from typing import NamedTuple

import mxnet as mx
import numpy as np


class ModelError(Exception):
    """MXNet does not compute the net."""


'''

MAIN = '''

def main():
    """Read the net, compute and write the witness."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('symbol', help='NET-symbol.json')
    parser.add_argument('params', help='NET-0000.params')
    parser.add_argument('--out', default='witness.npz', help='the file to write')
    parser.add_argument('--inputs', help='an .npy file with a batch as the net gets it')
    parser.add_argument('--batch', type=int, default=4, help='random examples')
    parser.add_argument('--steps', type=int, default=20, help='steps of SGD to follow')
    options = parser.parse_args()
    with open(options.symbol) as file:
        text = file.read()
    stored = mx.nd.load(options.params)
    arrays = {name.split(':', 1)[-1]: array.asnumpy() for name, array in stored.items()}
    draws = np.random.RandomState(0)
    inputs = {name: draws.standard_normal((options.batch,) + tuple(shape))
              for name, shape in NET['inputs']}
    if options.inputs:
        if len(inputs) > 1:
            parser.error('--inputs is for a net with one input: this one has %d' % len(inputs))
        inputs = {name: np.load(options.inputs).astype(np.float64) for name in inputs}
    shapes = {name: array.shape for name, array in inputs.items()}
    plan = Plan(inputs, NET['outputs'], steps=options.steps, kept=NET['kept'])
    files = {}
    for path in (options.symbol, options.params):
        with open(path, 'rb') as file:
            files[path] = hashlib.sha256(file.read()).hexdigest()
    versions = {'python': platform.python_version(), 'numpy': np.__version__,
                'mxnet': mx.__version__}
    facts = {'files': files, 'versions': versions}
    print('computing with %d arrays, in float32 and float64' % len(arrays), file=sys.stderr)
    try:
        found = write_down(
            lambda dtype: GraphNet(text, arrays, shapes, NET['outputs'], dtype), text, plan, facts
        )
    except (ModelError, mx.base.MXNetError) as error:  # such as an operator that is newer
        lines = [line for line in str(error).splitlines() if line.strip() and '[bt]' not in line]
        sys.exit('witness: MXNet %s: %s' % (mx.__version__, lines[0] if lines else error))
    with open(options.out, 'wb') as file:
        np.savez(file, **found)
    print('%s: %d arrays' % (options.out, len(found)))


if __name__ == '__main__':
    main()
'''


class _Plain(ast.NodeTransformer):
    """Take from a source what Python 3.6 does not know: types, imports of ours, ``strict=``."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        arguments = node.args
        for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            each.annotation = None
        node.returns = None
        node.decorator_list = [
            each for each in node.decorator_list if ast.unparse(each) == 'contextmanager'
        ]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        for each in node.body:
            if isinstance(each, ast.AnnAssign):
                each.annotation = ast.Name('object')
            else:
                self.visit(each)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.Assign:
        assert node.value is not None
        return ast.Assign([node.target], node.value, lineno=node.lineno)

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        node.keywords = [each for each in node.keywords if each.arg != 'strict']
        return node


def _plain(path: Path) -> Iterator[str]:
    """Yield the statements of a source in the words of Python 3.6, without imports."""
    for each in ast.parse(path.read_text()).body:
        if not isinstance(each, ast.Import | ast.ImportFrom):
            plain = ast.fix_missing_locations(_Plain().visit(each))
            if not (isinstance(plain, ast.Expr) and isinstance(plain.value, ast.Constant)):
                yield ast.unparse(plain)


def write_program(inputs: Mapping[str, Sequence[int]], outputs: Sequence[str]) -> str:
    """Return the program that writes a witness where MXNet still runs.

    Args:
        inputs: Name -> shape of an example, without the batch.
        outputs: Names of the nodes that are the outputs.
    """
    spec = importlib.util.find_spec(f'{BACKENDS["mxnet"].module}.graph_net')
    assert spec is not None
    assert spec.origin is not None
    own = Path(str(observe.__file__))
    net = {
        'kept': KEPT, 'outputs': list(outputs),
        'inputs': [[name, list(shape)] for name, shape in inputs.items()],
    }  # fmt: skip
    parts = [f'NET = {net!r}', *_plain(own), *_plain(Path(spec.origin))]
    return HEAD + '\n\n\n'.join(parts) + '\n' + MAIN


def mxnet_maker(model: Model, inputs: Arrays, ends: Sequence[str]) -> Maker:
    """Return what makes MXNet's net."""
    shapes = {name: each.shape for name, each in inputs.items()}

    def make(dtype: str) -> GraphNet:
        made: GraphNet = graph_nets(get_backend('mxnet')).GraphNet(
            model.text, model.arrays, shapes, ends, dtype
        )
        return made

    return make


@dataclass(frozen=True)
class Witness:
    """What was written down of MXNet's net: a ``verify.Reference``.

    Attributes:
        plan: What was computed.
        parameters: Names of what learns in MXNet.
        observed: As ``observe`` gives it in float64.
        values: Outputs in float32, in inference.
        near: The same of a net with disturbed weights.
        files: File -> SHA-256.
        versions: Package -> version.
        error: Why float64 was not computed.
    """

    plan: Plan
    parameters: Sequence[str]
    observed: Arrays
    values: Arrays
    near: Arrays
    files: Mapping[str, str]
    versions: Mapping[str, str]
    error: str | None

    def observe(self, plan: Plan, *, nodes: bool = True) -> Arrays:
        """Return what ``observe`` gave in float64.

        Raises:
            ModelError: It is not in the witness.
        """
        if self.error is not None:
            raise ModelError(self.error)
        for name in sorted(plan.held - self.plan.held):
            gradient = self.observed.get(f'gradient/{name}')
            if plan.steps and gradient is not None and gradient.any():
                raise ModelError(
                    f'the steps were not compared: in the witness {name} learns, '
                    'whose gradient is wrong in MXNet'
                )
        return self.observed

    def single(self, plan: Plan) -> tuple[Arrays, Arrays]:
        """Return the outputs in float32, and those of a net with disturbed weights."""
        return self.values, self.near


def is_witness(path: Path) -> bool:
    """Tell whether a file is an .npz file with what a witness tells."""
    try:
        with zipfile.ZipFile(path) as archive:
            return 'facts.npy' in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def pack(arrays: dict[str, Any]) -> bytes:
    """Return the bytes of a witness."""
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    return packed.getvalue()


def read_witness(path: Path) -> Witness:
    """Read a witness; nothing in it is executed.

    Raises:
        ModelError: It is damaged, or of another format.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(each.file_size for each in archive.infolist()) > MOST:
                raise ValueError(f'more than {MOST >> 30} GiB')
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        facts = json.loads(arrays.pop('facts').tobytes())
        if facts.get('format') != FORMAT:
            raise ValueError('its format is of another version of d2l-ft')
        for key, kind in KEYS.items():
            if not isinstance(facts.get(key), kind):
                raise ValueError(f'it has no {key!r}, or another kind of it')
        parts: dict[str, Arrays] = {'input': {}, 'single': {}, 'near': {}, 'observed': {}}
        for key, array in arrays.items():
            start, _, name = key.partition('/')
            parts[start][name] = np.asarray(array, np.float64)
        numbers = facts['plan']
        plan = Plan(
            parts['input'], numbers['outputs'], frozenset(numbers['held']), int(numbers['steps']),
            None if numbers['rate'] is None else float(numbers['rate']),
            float(numbers['momentum']), float(numbers['decay']), int(numbers['seed']),
            None if numbers['kept'] is None else int(numbers['kept']),
        )  # fmt: skip
        lacking = set(plan.outputs) - (parts['single'].keys() & parts['near'].keys())
        if lacking or not plan.outputs:
            raise ValueError('an output lacks')
    except Exception as error:  # what zip, NumPy and JSON raise on damage
        cause = ' '.join(str(error).split()) or type(error).__name__
        raise ModelError(
            f'{path} is no witness that can be read ({cause}): write it again'
        ) from None
    return Witness(
        plan, facts['parameters'], parts['observed'], parts['single'], parts['near'],
        facts['files'], facts['versions'], facts.get('error'),
    )  # fmt: skip
