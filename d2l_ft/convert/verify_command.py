"""What the command verify does."""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2l_ft.backend.graph_net import Arrays, GraphNet, Maker, graph_nets
from d2l_ft.backend.registry import get_backend
from d2l_ft.backend.versions import versions
from d2l_ft.convert.faults import FAULTS, Translation
from d2l_ft.convert.formats import Model, read_model
from d2l_ft.convert.observe import Plan
from d2l_ft.convert.package import (
    Package,
    read_package,
)
from d2l_ft.convert.report import page, text_lines
from d2l_ft.convert.verify import Live, Proof, Reference, prove, sensitivity
from d2l_ft.convert.witness import Witness, is_witness, mxnet_maker, read_witness
from d2l_ft.data.image_files import find_images
from d2l_ft.data.transforms import decode, resize
from d2l_ft.errors import D2LFTError, DataError, ModelError, OptionError
from d2l_ft.models.architectures import MEAN, STD
from d2l_ft.storage.atomic import write_atomic
from d2l_ft.system.console import quote_if_needed

EXIT = {'equal': 0, 'part': 1, 'undecided': 3}
"""Verdict of a proof -> exit code; 2 is that of an error."""

MODELS = 'a symbol file and parameters of MXNet, a folder, an archive or the prefix of the files'


def make_inputs(
    package: Package, batch: int, images: Sequence[str], size: int | None
) -> dict[str, NDArray[Any]]:
    """Return input -> a batch in float64: random values, and images if there are any.

    An image has the values 0 to 255 where the graph itself prepares them; otherwise they are
    normalised as for ImageNet.
    """
    draws = np.random.default_rng(0)
    found = {}
    for name, sides in package.record['inputs'].items():
        shape = tuple(sides) if size is None or len(sides) != 3 else (sides[0], size, size)
        found[name] = draws.standard_normal((batch, *shape))
    if images:
        (name,) = found
        _, channels, height, width = found[name].shape
        read = [resize(decode(each), height, width).astype(np.float64) for each in images]
        if not package.preprocess['in_the_graph']:
            read = [(each / 255 - np.array(MEAN)) / np.array(STD) for each in read]
        stacked = np.stack(read).transpose(0, 3, 1, 2)
        if channels == 1:
            stacked = stacked.mean(1, keepdims=True)
        found[name] = np.concatenate([found[name], stacked])
    return found


@dataclass(frozen=True)
class VerifyOptions:
    """What ``verify`` computes and writes.

    Attributes:
        batch: Random examples.
        steps: Steps of SGD.
        size: Side of the images, or None for the folder's.
        images: Images, folders of them, patterns.
        faults: Whether to plant faults.
        as_mxnet: Whether the translation gets the known defect of MXNet where it is met.
        arch: As ``read_model`` takes it.
        report: The HTML page to write.
        json_file: The numbers to write.
    """

    batch: int = 4
    steps: int = 20
    size: int | None = None
    images: Sequence[str] = ()
    faults: bool = True
    as_mxnet: bool = False
    arch: str | None = None
    report: Path | None = None
    json_file: Path | None = None


@dataclass(frozen=True)
class Against:
    """What a folder is compared with.

    Attributes:
        reference: The net of MXNet, or what was written down of it.
        plan: What is computed.
        files: File -> SHA-256.
        versions: Package -> version, of the machine on which MXNet computes.
        stored: MXNet's name -> array; nothing of a witness.
        notes: What this does not show.
    """

    reference: Reference
    plan: Plan
    files: Mapping[str, str]
    versions: Mapping[str, str]
    stored: Arrays
    notes: Sequence[str]


def verify(
    folder: Path, paths: Sequence[Path], options: VerifyOptions, say: Callable[[str], None]
) -> int:
    """Compare a folder with the net that it was translated from, and return the exit code.

    Args:
        folder: What ``convert`` wrote.
        paths: The net of MXNet as ``convert`` takes it, or a witness of it.
        options: What is computed and written.
        say: Takes each line that is shown.

    Raises:
        D2LFTError: One of them cannot be read, or a framework is missing.
    """
    package = read_package(folder)
    if len(paths) == 1 and is_witness(paths[0]):
        against = _against_witness(folder, package, paths[0], options)
    else:
        against = _against_net(folder, package, read_model(paths, options.arch), options)
    names = package.record['names']
    translation = Translation(package.source, package.state, names, against.stored)
    ours = translation_maker(translation, package)
    try:
        proof = prove(ours, against.reference, against.plan, as_mxnet=options.as_mxnet)
    except D2LFTError:
        raise
    except Exception as error:  # whatever MXNet, or a model.py that was edited, raises
        cause = ' '.join(str(error).split())[:300] or type(error).__name__
        raise ModelError(
            f'{folder} cannot be computed with ({cause}): convert the net again'
        ) from error
    proof.notes += [*against.notes, *_notes(package, against, proof)]
    if options.faults and proof.clean:  # not where there was no reference in float64
        planted = {words: make(translation) for words, make in FAULTS.items()}
        sensitivity(
            {
                words: None if each is None else translation_maker(each, package)
                for words, each in planted.items()
            },
            against.plan,
            proof,
        )
    facts = {
        'folder': str(folder),
        'files': against.files,
        'translated': package.record['files'],
        'versions': versions(),
        'operators': package.record['ops'],
        'arrays': {'used': len(set(names.values())), 'unused': package.record['unused']},
        'inputs': {name: list(each.shape) for name, each in against.plan.inputs.items()},
        'steps': against.plan.steps,
    }
    if isinstance(against.reference, Witness):
        facts['witness'] = against.versions
    for line in text_lines(proof):
        say(line)
    if options.json_file is not None:
        data = {'verdict': proof.verdict, **_as_json(proof), 'facts': facts}
        write_atomic(options.json_file, (json.dumps(data, indent=2) + '\n').encode())
        say(f'numbers: {options.json_file}')
    if options.report is not None:
        write_atomic(options.report, page(proof, facts).encode())
        say(f'report: {options.report}')
    return EXIT[proof.verdict]


def _against_net(folder: Path, package: Package, model: Model, options: VerifyOptions) -> Against:
    """Return a net of MXNet that is here, and what is computed.

    Raises:
        D2LFTError: It is another net, or an image cannot be used.
    """
    if not model.arrays or model.graph is None:
        raise ModelError(f'the net to compare with needs its parameters: give {MODELS}')
    nodes = {node.name for node in model.graph.nodes}
    _check_same_net(folder, package, {*model.arrays, *nodes}, nodes)
    found = find_images(options.images)
    for name, failed in found:
        if failed:
            raise DataError(f'{quote_if_needed(name)} {failed}: give images')
    shapes = list(package.record['inputs'].values())
    if found and (len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][0] not in (1, 3)):
        raise ModelError('`images` need a net with one input, of 1 or 3 channels: leave them out')
    inputs = make_inputs(package, options.batch, [name for name, _ in found], options.size)
    ends = package.record['ends']
    notes = () if found else ('no images were given: only random values were computed with',)
    return Against(
        Live(mxnet_maker(model, inputs, ends)),
        Plan(inputs, ends, steps=options.steps),
        {str(path): hashed for path, hashed in model.files.items()},
        versions(),
        model.arrays,
        notes,
    )


def _against_witness(folder: Path, package: Package, path: Path, options: VerifyOptions) -> Against:
    """Return what was written down of a net.

    Raises:
        D2LFTError: It cannot be read, or is of another net.
    """
    if options.images or options.size:
        raise OptionError('`images`: a witness has inputs of its own, leave out images and size')
    written = read_witness(path)
    seen = (key.partition('/')[2] for key in written.observed)
    named = {*written.parameters, *(re.sub(r'_output\d+$', '', name) for name in seen)}
    if written.error is None:
        _check_same_net(folder, package, named | written.plan.inputs.keys(), None)
    lacking = set(package.record['ends']) - set(written.plan.outputs)
    if lacking or package.record['inputs'].keys() != written.plan.inputs.keys():
        raise ModelError(
            f'{path} has other inputs or outputs than {folder}: write the witness again, '
            'for the net of this folder'
        )
    notes = [
        f'the net of MXNet was computed with elsewhere: {in_words_of(written.versions)}',
        f'of an array, up to {written.plan.kept} values drawn by its name were compared',
        f'inputs and steps ({written.plan.steps}) are those of the witness',
    ]
    return Against(written, written.plan, written.files, written.versions, {}, notes)


def in_words_of(packages: Mapping[str, str]) -> str:
    """Return versions in a line."""
    return ', '.join(f'{name} {version}' for name, version in packages.items())


def _check_same_net(
    folder: Path, package: Package, named: Collection[str], nodes: Collection[str] | None
) -> None:
    """Refuse a folder that names what the net has not.

    Args:
        folder: The folder.
        package: What is in it.
        named: Names of the net's arrays and nodes.
        nodes: Names of its nodes, where they are known apart.

    Raises:
        ModelError: It is another net's.
    """
    stored = package.record['names'].values()
    lacking = [
        *(name for name in stored if name not in named),
        *(
            name
            for key in ('inputs', 'nodes')
            for name in package.record[key]
            if name not in (named if nodes is None else nodes)
        ),
    ]
    if lacking:
        raise ModelError(
            f'{folder} was translated from another net, which has {quote_if_needed(lacking[0])}: '
            'give the files of that one'
        )


def translation_maker(net: Translation, package: Package) -> Maker:
    """Return what makes the translation."""

    def make(dtype: str) -> GraphNet:
        made: GraphNet = graph_nets(get_backend('pytorch')).GraphNet(
            net.text, net.state, net.names, package.record['nodes'], list(package.record['inputs']),
            package.record['ends'], dtype, as_mxnet=net.biased,
        )  # fmt: skip
        return made

    return make


def _notes(package: Package, against: Against, proof: Proof) -> list[str]:
    """Return what this proof does not show."""
    notes = []
    if sorted(against.files.values()) != sorted(package.record['files'].values()):
        notes.append('the folder was translated from other files than these (by their SHA-256)')
    inner = [name for name in package.record['nodes'] if name not in package.record['ends']]
    if proof.clean and inner and not any(f'eval/{name}' in proof.clean for name in inner):
        notes.append('model.py was edited: only its outputs were compared, not the values inside')
    notes += [
        f'the gradient of {name} was multiplied by its value, as MXNet does'
        for name in sorted(proof.reproduced)
    ]
    notes.append('how images are prepared before the net is stored in no file of MXNet')
    if 'Dropout' in package.record['ops']:
        notes.append('dropout was off: the two frameworks draw otherwise')
    if any('BatchNorm' in op for op in package.record['ops']):
        notes.append(
            "BatchNorm's running variance is MXNet's, the biased one, in the steps; PyTorch's own "
            'is n/(n-1) times as large, with n values a channel'
        )
    return notes


def _as_json(proof: Proof) -> dict[str, Any]:
    """Return a proof as JSON has it, which knows no infinite numbers: where shapes differ, null."""
    rows = [vars(row) for row in proof.rows]
    return {
        'rows': [
            {key: None if each in (np.inf, -np.inf) else each for key, each in row.items()}
            for row in rows
        ],
        'defects': [vars(each) for each in proof.defects],
        'notes': proof.notes,
        'faults': proof.seen,
    }
