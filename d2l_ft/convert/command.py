"""What the commands inspect, convert and witness do."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from d2l_ft.backend.versions import versions
from d2l_ft.convert.formats import Model, read_files, read_model, take_graph
from d2l_ft.convert.graph import Graph
from d2l_ft.convert.observe import Plan, write_down
from d2l_ft.convert.package import first_width, translate_model, write_package
from d2l_ft.convert.rules import LOSS
from d2l_ft.convert.source import problems, translate
from d2l_ft.convert.witness import KEPT, mxnet_maker, pack, write_program
from d2l_ft.errors import ModelError
from d2l_ft.models.file_kinds import KINDS, file_kind
from d2l_ft.storage.atomic import write_atomic


def inspect(paths: Sequence[Path], arch: str | None = None) -> list[str]:
    """Return lines that say what files are.

    Raises:
        ModelError: A file cannot be read or is damaged.
    """
    if len(paths) == 1 and paths[0].is_file():
        kind = file_kind(paths[0])
        if kind not in ('params', 'npz', 'symbol', 'archive'):
            return [f'{paths[0]} is {KINDS[kind]}; not of MXNet']
    model = read_files(paths)
    missing = ''
    try:
        take_graph(model, arch)
    except ModelError as error:
        if arch is not None:
            raise
        missing = f'graph       none: {error}'
    lines = [
        f'file        {path} (SHA-256 {hashed[:12]}...)' for path, hashed in model.files.items()
    ]
    lines += [f'note        {each}' for each in model.notes]
    if model.arrays:
        types = ', '.join(sorted({str(array.dtype) for array in model.arrays.values()}))
        values = sum(array.size for array in model.arrays.values())
        lines.append(f'parameters  {len(model.arrays)} arrays, {values:,} values, {types}')
        lines.append(f'names       {model.style}')
    if model.graph is None:
        return [*lines, missing]
    return lines + _graph_lines(model, model.graph)


def _graph_lines(model: Model, graph: Graph) -> list[str]:
    """Return lines about a graph: operators, input, outputs, what cannot be converted."""
    counts: dict[str, int] = {}
    for _, node in graph.walk():
        if node.op != 'null':
            counts[node.stored_op] = counts.get(node.stored_op, 0) + 1
    ops = sorted(counts.items(), key=lambda each: -each[1])
    lines = [
        f'operators   {sum(counts.values())} nodes: ' + ', '.join(f'{op} {n}' for op, n in ops)
    ]
    for head in graph.heads:
        node = graph.nodes[head.node]
        cut = ', which is cut: logits come out' if node.op in LOSS else ''
        lines.append(f'output      {node.name} ({node.stored_op}{cut})')
    if not model.arrays:
        return [*lines, 'parameters  none: give the .params file, too, to convert the net']
    try:
        width, images = first_width(graph, model.arrays)
        lines.append(f'input       {width} {"channels" if images else "values"}')
    except ModelError:
        pass
    if unknown := problems(graph, model.arrays):
        return (
            lines
            + [f'no rule     {each}' for each in unknown]
            + ['convert     not as a whole: `until=NODE` takes what comes before']
        )
    source = translate(graph, model.arrays)
    lines += [f'unused      {name}: {why}' for name, why in source.unused.items()]
    if source.head:
        lines.append(
            f'head        {source.head}: {len(source.state[f"{source.head}.weight"])} outputs'
        )
    return [*lines, 'convert     every operator has a rule']


def convert(
    paths: Sequence[Path],
    target: Path,
    *,
    arch: str | None = None,
    input_shape: tuple[int, ...] | None = None,
    keep_softmax: bool = False,
    until: str | None = None,
) -> list[str]:
    """Translate a net of MXNet into a folder, and return lines that say what was written.

    Raises:
        D2LFTError: The net cannot be read or translated, or the folder cannot be written.
    """
    model = read_model(paths, arch)
    source = write_package(model, target, shape=input_shape, keep_softmax=keep_softmax, until=until)
    against = [word for path in paths for word in ('--against', str(path))]
    layers = len({name.rpartition('.')[0] for name in source.state})
    return [
        *model.notes,
        *(f'{name} is not used: {why}' for name, why in source.unused.items()),
        f'{target}: model.py with {layers} layers of parameters, model.safetensors, names.json, '
        'preprocess.json, symbol.json, probe.npz, check.py',
        'prove it with  ' + shlex.join(['d2l-ft', 'verify', str(target), *against]),
    ]


def witness(
    paths: Sequence[Path],
    out: Path,
    *,
    arch: str | None = None,
    input_shape: tuple[int, ...] | None = None,
    keep_softmax: bool = False,
    until: str | None = None,
    batch: int = 4,
    steps: int = 20,
) -> list[str]:
    """Write down what MXNet computes with a net, or the program that does so elsewhere.

    Args:
        paths: The net of MXNet, as ``convert`` takes it.
        out: The witness (.npz), or the program (.py).
        arch: Net of the zoo that parameters alone are of.
        input_shape: Of an example, without the batch.
        keep_softmax: Whether a softmax at the end stays, as for ``convert``.
        until: The node whose value comes out, as for ``convert``.
        batch: Random examples.
        steps: Steps of SGD.

    Returns:
        Lines that say what was written.

    Raises:
        D2LFTError: The net cannot be read or translated, MXNet is missing, a file is not written.
    """
    model = read_model(paths, arch)
    translated = translate_model(model, input_shape, keep_softmax=keep_softmax, until=until)
    ends, shapes = translated.source.ends, translated.shapes
    if out.suffix == '.py':
        write_atomic(out, write_program(shapes, ends).encode())
        return [
            f'{out}: where MXNet still runs, with numpy alone:  '
            f'python {out.name} NET-symbol.json NET-0000.params'
        ]
    draws = np.random.default_rng(0)
    inputs = {name: draws.standard_normal((batch, *shape)) for name, shape in shapes.items()}
    files = {str(path): hashed for path, hashed in model.files.items()}
    facts = {'files': files, 'versions': versions()}
    plan = Plan(inputs, ends, steps=steps, kept=KEPT)
    found = write_down(mxnet_maker(model, inputs, ends), model.text, plan, facts)
    write_atomic(out, pack(found))
    return [
        f'{out}: {len(found)} arrays of what MXNet computes',
        'prove a translation with  d2l-ft verify FOLDER --against ' + shlex.quote(str(out)),
    ]
