"""The folder that a translated net becomes: source, weights, names, a probe and a check of itself.

The folder needs torch, safetensors and numpy, and nothing of d2l_ft.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from d2l_ft.backend.graph_net import Arrays, GraphNet, graph_nets
from d2l_ft.backend.registry import get_backend
from d2l_ft.convert.formats import Model
from d2l_ft.convert.graph import Attributes, Graph
from d2l_ft.convert.source import Source, translate
from d2l_ft.errors import ModelError
from d2l_ft.models.architectures import MEAN, STD
from d2l_ft.storage.atomic import new_directory, write_atomic
from d2l_ft.system.console import list_names

FORMAT = 1

SYMBOL = 'symbol.json'
"""The file with the graph that was translated."""

RECORD = {
    'files': dict, 'inputs': dict, 'names': dict, 'unused': dict, 'ops': dict, 'ends': list,
    'nodes': list,
}  # fmt: skip
"""What of names.json a proof needs, and of what kind it is."""

SIDES = (224, 112, 299, 32, 28, 64, 128, 96, 160, 192, 256, 48, 331, 384, 512)
"""Sides of images that are tried, the usual ones first, where nothing says which a net takes."""

CHECK = '''"""Check that this folder computes what it did when it was written: python check.py"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from model import Model

LIMIT = 1e-10  # of the largest value, in float64: another machine adds in another order

here = Path(__file__).parent
model = Model().double()
state = {name: value.double() for name, value in load_file(here / 'model.safetensors').items()}
missing, unknown = model.load_state_dict(state, strict=False)
assert not unknown, f'the net has no {unknown[0]}'
missing = [name for name in missing if not name.endswith('num_batches_tracked')]
assert not missing, f'model.safetensors has no {missing[0]}'
model.eval()

probe = np.load(here / 'probe.npz')
inputs = [torch.from_numpy(probe[name]) for name in probe if name.startswith('input')]
with torch.no_grad():
    outputs = model(*inputs)
outputs = outputs if isinstance(outputs, tuple) else (outputs,)
for number, output in enumerate(outputs):
    wanted = probe[f'output{number}']
    error = np.abs(output.numpy() - wanted).max() / np.abs(wanted).max()
    print(f'output {number}: {error:.1e} of the largest value')
    assert error <= LIMIT, 'this is not what the net computed when it was written'
'''


@dataclass(frozen=True)
class Package:
    """A folder that was written.

    Attributes:
        source: The source of model.py.
        state: Name -> array.
        record: names.json: names, inputs, outputs, files, unused arrays.
        preprocess: preprocess.json.
    """

    source: str
    state: dict[str, NDArray[Any]]
    record: dict[str, Any]
    preprocess: dict[str, Any]


def input_shape(
    model: Model, source: Source, net: GraphNet, wanted: tuple[int, ...] | None = None
) -> dict[str, tuple[int, ...]]:
    """Return input -> a shape for one example with which the net computes.

    Args:
        model: The net.
        source: Its translation.
        net: The translation, made.
        wanted: The shape of an example without the batch, if it is known.

    Raises:
        ModelError: None of the usual sizes fits, or the wanted one does not.
    """
    assert model.graph is not None
    if set(source.inputs[1:]) - set(model.shapes):
        raise ModelError(
            f'the net takes {len(source.inputs)} inputs ({list_names(source.inputs)}), of which '
            'no shape is known: put a model-shapes.json beside it'
        )
    tried = []
    for sides in _candidates(model, source, wanted):
        try:
            _run(net, sides, batch=1)
        except ModelError as error:
            tried.append(f'{sides[source.inputs[0]]}: {str(error).partition(": ")[2]}')
        else:
            return sides
    if wanted is not None:
        raise ModelError(f'the net does not take `input_shape` {tried[0]}')
    raise ModelError(
        f'no size of the input fits (tried {tried[0]}): give `input_shape`, such as 3,224,224'
    )


def _candidates(
    model: Model, source: Source, wanted: tuple[int, ...] | None
) -> list[dict[str, tuple[int, ...]]]:
    """Return the shapes to try, the likeliest first."""
    name = source.inputs[0]
    stored = {each: model.shapes[each][1:] for each in source.inputs if each in model.shapes}
    if wanted is not None:
        return [{**stored, name: wanted}]
    if len(stored) == len(source.inputs):
        return [stored]
    assert model.graph is not None
    known = next(node for _, node in model.graph.walk() if node.name == name)
    try:
        sides = Attributes(known).integers('__shape__')
    except ModelError:
        sides = ()
    if len(sides) > 1 and min(sides[1:]) > 0:
        return [{name: sides[1:]}]
    width, images = first_width(model.graph, model.arrays)
    if not images:
        return [{name: (width,)}]
    return [{name: (width, side, side)} for side in SIDES]


def first_width(graph: Graph, arrays: Mapping[str, NDArray[Any]]) -> tuple[int, bool]:
    """Return the channels or the width that the first layer takes, and whether it takes images."""
    for _, node in graph.walk():
        if node.op in ('Convolution', 'FullyConnected') and len(node.inputs) > 1:
            weight = arrays.get(graph.nodes[node.inputs[1].node].name)
            if weight is None or weight.ndim < 2:
                continue
            if node.op == 'FullyConnected':
                return weight.shape[1], False
            return weight.shape[1] * Attributes(node).integer('num_group', 1), True
    raise ModelError('the net has no layer that tells the width of its input: give `input_shape`')


def make_net(source: Source) -> GraphNet:
    """Return a translation in float64, as PyTorch alone computes it."""
    net: GraphNet = graph_nets(get_backend('pytorch')).GraphNet(
        source.text, source.state, source.names, source.nodes, source.inputs, source.ends,
        'float64', as_mxnet=False,
    )  # fmt: skip
    return net


def _run(net: GraphNet, shapes: Mapping[str, tuple[int, ...]], batch: int) -> tuple[Arrays, Arrays]:
    """Return the inputs and outputs of a translation for a random batch."""
    draws = np.random.default_rng(0)
    inputs = {name: draws.standard_normal((batch, *shape)) for name, shape in shapes.items()}
    return inputs, net.forward(inputs, train=False, nodes=False)


def preprocessing(
    graph: Graph, shape: tuple[int, ...], arrays: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """Return what is known of how images must be prepared: layout, size, what the graph does.

    The order of the channels is stored nowhere in MXNet's files.
    """
    inside = []
    images_so_far = {number for number, node in graph.walk() if node.op == 'null'}
    for number, node in graph.walk():
        if node.op == 'null' or {each.node for each in node.inputs} - images_so_far:
            continue
        if node.op.endswith('_scalar'):
            what = node.op.strip('_').removesuffix('_scalar')
            inside.append(f'{what} {node.attrs.get("scalar")}')
        elif node.op == 'BatchNorm':
            inside.append(f'BatchNorm {node.name}')
        elif node.op not in ('_copy', 'Cast', 'amp_cast', 'BlockGrad'):
            continue
        images_so_far.add(number)
    images = len(shape) == 3
    return {
        'layout': 'NCHW' if images else 'N x ' + ' x '.join(map(str, shape)),
        'channels': shape[0] if images else None,
        'size': list(shape[1:]) if images else None,
        'channel_order': 'unknown: RGB as Gluon and GluonCV take it, BGR as OpenCV reads it'
        if images and shape[0] == 3
        else None,
        'in_the_graph': inside,
        'before_the_graph': 'unknown: as the net was trained',
        **({'assumed': assumed(graph, arrays)} if images and shape[0] == 3 else {}),
    }


RAW = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)
"""Mean and deviation with which pixels in [0, 1] become values from 0 to 255."""

LARGE = 10.0
"""A running mean above this is of values from 0 to 255, and not of standardised ones."""


def assumed(graph: Graph, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return how ``d2l-ft train`` prepares images for a net, and why; a user may correct it.

    Values from 0 to 255 where the net itself says that it takes them: by a BatchNorm of its input
    whose running mean is large, or because it subtracts or multiplies first. Otherwise ImageNet's
    mean and deviation, as in Gluon's own examples.
    """
    (mean, std), why = (MEAN, STD), 'as the nets of Gluon and GluonCV were trained'
    images = {next(number for number, node in graph.walk() if node.name not in arrays)}
    for number, node in graph.walk():
        if node.op == '_copy' and node.inputs[0].node in images:
            images.add(number)
    first = [
        node
        for _, node in graph.walk()
        if node.op != '_copy' and any(each.node in images for each in node.inputs)
    ]
    if first and first[0].op == 'BatchNorm':
        running = arrays[graph.nodes[first[0].inputs[3].node].name]
        largest = float(np.abs(running).max())
        if largest > LARGE:
            (mean, std), why = RAW, f'the running mean of {first[0].name} is up to {largest:.0f}'
    elif first and first[0].op.endswith('_scalar'):
        (mean, std), why = RAW, f'the net itself begins with {first[0].name}'
    return {'channel_order': 'RGB', 'mean': list(mean), 'std': list(std), 'why': why}


class Translated(NamedTuple):
    """A net that was translated.

    Attributes:
        graph: What was translated: the net's graph, or the part of it that was asked for.
        source: The translation.
        net: The translation, made.
        shapes: Input -> shape of an example, without the batch.
    """

    graph: Graph
    source: Source
    net: GraphNet
    shapes: dict[str, tuple[int, ...]]


def translate_model(
    model: Model, shape: tuple[int, ...] | None, *, keep_softmax: bool, until: str | None
) -> Translated:
    """Translate a net; the arguments are those of ``write_package``.

    Raises:
        ModelError: The net cannot be translated; the text names the node.
    """
    if model.graph is None:
        raise ModelError('there is no graph: give the -symbol.json beside the parameters')
    if not model.arrays:
        raise ModelError('there are no parameters: give the .params file beside the graph')
    graph = model.graph.until(until) if until else model.graph
    source = translate(
        graph, model.arrays, shapes=shape_of(graph, model, shape), keep_softmax=keep_softmax
    )
    net = make_net(source)
    return Translated(graph, source, net, input_shape(model, source, net, shape))


def write_package(
    model: Model,
    target: Path,
    *,
    shape: tuple[int, ...] | None = None,
    keep_softmax: bool = False,
    until: str | None = None,
) -> Source:
    """Translate a net and write its folder, whole or not at all.

    Args:
        model: The net.
        target: The new folder.
        shape: Of an example, without the batch, where the graph does not say it.
        keep_softmax: Whether a softmax at the end stays.
        until: The node whose value comes out, instead of the net's outputs.

    Returns:
        The translation.

    Raises:
        ModelError: The net cannot be translated; the text names the node.
        StorageError: The folder cannot be written.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ModelError(f'{target} is not an empty folder: give a new one')
    graph, source, net, shapes = translate_model(
        model, shape, keep_softmax=keep_softmax, until=until
    )
    inputs, outputs = _run(net, shapes, batch=2)
    stored: dict[str, Any] = {f'input{at}': inputs[name] for at, name in enumerate(source.inputs)}
    stored |= {f'output{at}': outputs[name] for at, name in enumerate(source.ends)}
    packed = io.BytesIO()
    np.savez(packed, **stored)
    record = {
        'format': FORMAT,
        'files': {str(path): hashed for path, hashed in model.files.items()},
        'inputs': {name: list(shapes[name]) for name in source.inputs},
        'outputs': source.outputs,
        'ends': source.ends,
        'until': until,
        'keep_softmax': keep_softmax,
        'head': source.head,
        'names': source.names,
        'nodes': source.nodes,
        'unused': source.unused,
        'ops': dict(source.ops),
    }
    files = {
        'model.py': source.text.encode(),
        'model.safetensors': save(source.state),
        'names.json': _json(record),
        'preprocess.json': _json(preprocessing(graph, shapes[source.inputs[0]], model.arrays)),
        SYMBOL: graph.ending(source.ends).text().encode(),
        'probe.npz': packed.getvalue(),
        'check.py': CHECK.encode(),
    }
    with new_directory(target) as folder:
        for name, data in files.items():
            write_atomic(folder / name, data)
    return source


def shape_of(
    graph: Graph, model: Model, shape: tuple[int, ...] | None
) -> dict[str, tuple[int, ...]]:
    """Return input -> shape with the batch, as far as it is known before the translation."""
    names = [each for each in graph.variables() if each not in model.arrays]
    return {**model.shapes, names[0]: (1, *shape)} if shape and names else model.shapes


def _json(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=2) + '\n').encode()


def read_package(folder: Path) -> Package:
    """Return what is in a folder that ``write_package`` wrote.

    Raises:
        ModelError: It is none, or a file of it is damaged.
    """
    try:
        record = json.loads((folder / 'names.json').read_text())
        preprocess = json.loads((folder / 'preprocess.json').read_text())
        state = load((folder / 'model.safetensors').read_bytes())
        source = (folder / 'model.py').read_text()
        if not isinstance(record, dict) or record.get('format') != FORMAT:
            raise ValueError('names.json is of another format')
        for key, kind in RECORD.items():
            if not isinstance(record.get(key), kind):
                raise ValueError(f'names.json has no {key!r}, or another kind of it')
        if not isinstance(preprocess, dict) or 'in_the_graph' not in preprocess:
            raise ValueError("preprocess.json has no 'in_the_graph'")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelError(
            f'{folder} has no {Path(str(error.filename)).name}: give a folder of d2l-ft convert'
        ) from None
    except Exception as error:  # what safetensors and json raise on damage
        cause = ' '.join(str(error).split())
        raise ModelError(f'{folder} is damaged ({cause}): convert the net again') from None
    return Package(source, state, record, preprocess)
