"""Opening a file executes nothing; what is damaged or hostile gets one of our own errors."""

import ast
import json
import os
import pickle
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import THOROUGH
from weights import fresh

from d2l_ft.chapter import book, claims, outputs, translation
from d2l_ft.data.image_folder import Sample
from d2l_ft.data.transforms import decode
from d2l_ft.data.validation import check_images
from d2l_ft.errors import D2LFTError, ModelError
from d2l_ft.models import gluon_params
from d2l_ft.models.checkpoint import load_checkpoint
from d2l_ft.parity.plan import Trace
from d2l_ft.runs.directory import Run
from d2l_ft.sources.load import load_source
from d2l_ft.storage.archives import extract

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
INPUTS = 12_000 if THOROUGH else 2_000
"""Mutated inputs for each reader."""


class Payload:
    """What unpickles into a new file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.makedirs, (str(self.path), 0o777, True)


def payloads(marker):
    """Return pickles of a payload, in several protocols and places."""
    plain = [pickle.dumps(Payload(marker), protocol) for protocol in (0, 2, 5)]
    array = np.array([Payload(marker)], dtype=object)
    return [*plain, pickle.dumps({'state_dict': Payload(marker), 'a.weight': array}, 2)]


def test_the_payload_works(tmp_path):
    for data in payloads(tmp_path / 'x'):
        pickle.loads(data)
        assert (tmp_path / 'x').is_dir()
        (tmp_path / 'x').rmdir()


OPENERS = {
    'x.safetensors': load_checkpoint,
    'y.safetensors': lambda path: load_source(str(path), 'resnet18', None),
    'x.params': lambda path: load_source(str(path), 'resnet18', None),
    'config.json': lambda path: Run.open(path.parent),
    'metrics.jsonl': lambda path: Run(path.parent, {}).metrics(),
    'checkpoints/scratch-00001-0000000.safetensors': lambda path: Run(path.parents[1], {}).load(
        'scratch'
    ),
    'book.json': lambda path: book.Settings.read(path),
    'a.md': lambda path: book.Book(path.parent),
    'a.claims.json': claims.load_claims,
    'outputs/a/mxnet/run.json': lambda path: outputs.load_run(path.parents[3], 'a', 'mxnet'),
    'a_tr.origin.json': translation.read_paragraphs,
    'a/x.jpg': lambda path: decode(str(path)),
    'a/x.png': lambda path: check_images([Sample(str(path), 0)], bar=False),
    'x.zip': lambda path: extract(path, path.parent / 'unpacked'),
    'trace.npz': lambda path: Trace(path.parent).arrays('trace'),
    'trace.json': lambda path: Trace(path.parent).facts('trace'),
}
"""Name of a file -> what opens it."""


@pytest.mark.parametrize('name', OPENERS)
def test_no_file_runs_its_payload(name, tmp_path, figure):
    path, marker, count = tmp_path / name, tmp_path / 'marker', 0
    path.parent.mkdir(parents=True, exist_ok=True)
    contents = payloads(marker)
    if path.suffix == '.npz':  # NumPy's own way to keep a pickle
        np.savez(path, x=np.array([Payload(marker)], dtype=object))
        contents.append(path.read_bytes())
    for data in contents:
        path.write_bytes(data)
        try:
            OPENERS[name](path)
            assert name == 'a.md', 'only prose may be anything'
        except D2LFTError as error:
            count += '\n' not in str(error)
        assert not marker.exists()
    assert count == len(contents) or name == 'a.md'
    figure(f'{len(contents)} payloads, none ran')


@pytest.mark.needs('pytorch')
@pytest.mark.parametrize('suffix', ['.pth', '.pt'])
def test_no_file_of_pytorch_runs_its_payload(suffix, tmp_path, figure):
    import torch

    path, marker = tmp_path / f'x{suffix}', tmp_path / 'marker'
    contents = payloads(marker)
    for value in (
        Payload(marker),
        {'state_dict': Payload(marker)},
        {'fc.weight': torch.zeros(2), 'x': Payload(marker)},
        {'fc.weight': torch.zeros(2).requires_grad_(), Payload(marker): torch.zeros(1)},
    ):
        for modern in (True, False):
            torch.save(value, path, _use_new_zipfile_serialization=modern)
            contents.append(path.read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # TorchScript is old, and its files are about
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    contents.append(path.read_bytes())
    for data in contents:
        path.write_bytes(data)
        with pytest.raises(ModelError) as caught:
            load_source(str(path), 'resnet18', None)
        assert '\n' not in str(caught.value)
        assert not marker.exists()
    figure(f'{len(contents)} of {len(contents)} refused, none ran')


@pytest.mark.needs('pytorch')
@pytest.mark.parametrize(('version', 'safe'), [('2.5.1', False), ('2.9.1+cpu', False),
                                               ('2.10.0', True), ('3.0.0a0', True)])  # fmt: skip
def test_an_old_pytorch_opens_verified_files_only(version, safe, tmp_path, monkeypatch):
    import torch

    from d2l_ft.sources.weights import read_weights

    monkeypatch.setattr(torch, '__version__', version)
    path = tmp_path / 'x.pth'
    state = fresh('resnet18', 2)
    torch.save({name: torch.from_numpy(each) for name, each in state.items()}, path)
    assert read_weights(path, 'resnet18', verified=True)['fc.weight'].shape == (2, 512)
    if safe:
        assert read_weights(path, 'resnet18')['fc.weight'].shape == (2, 512)
    else:
        with pytest.raises(ModelError, match=r'CVE-2025-32434.*safetensors'):
            read_weights(path, 'resnet18')


UNSAFE = {
    'pickle': {'load', 'loads', 'Unpickler'}, 'nd': {'load', 'load_frombuffer'},
    'yaml': {'load', 'unsafe_load'}, 'marshal': {'load', 'loads'}, 'shelve': {'open'},
    'joblib': {'load'}, 'tarfile': {'extractall'}, 'zipfile': {'extractall'},
}  # fmt: skip


def unsafe_calls(source):
    """Yield the calls in a source file that could execute what a file holds."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        options = {each.arg: getattr(each.value, 'value', None) for each in node.keywords}
        if isinstance(node.func, ast.Name) and node.func.id in ('eval', 'exec', 'compile'):
            yield node.lineno
        if isinstance(node.func, ast.Attribute):
            owner = node.func.value
            owner = owner.id if isinstance(owner, ast.Name) else getattr(owner, 'attr', '')
            if node.func.attr in UNSAFE.get(owner, ()):
                yield node.lineno
            if (owner, node.func.attr) == ('torch', 'load') and not options.get('weights_only'):
                yield node.lineno
            if (owner, node.func.attr) == ('np', 'load') and options.get(
                'allow_pickle'
            ) is not False:
                yield node.lineno


def test_unsafe_calls_are_seen():
    for line in (
        'pickle.load(f)', 'torch.load(f)', 'torch.load(f, weights_only=False)', 'mx.nd.load(f)',
        'np.load(f)', 'np.load(f, allow_pickle=True)', 'eval(x)', 'opened.nd.load(f)',
    ):  # fmt: skip
        assert list(unsafe_calls(line)) == [1], line
    assert list(unsafe_calls('torch.load(f, weights_only=True)')) == []


def test_the_package_has_no_unsafe_call():
    paths = [*(ROOT / 'd2l_ft').rglob('*.py'), *(ROOT / 'backends').rglob('*.py')]
    assert len(paths) > 50
    runs = ROOT / 'backends/d2l_ft_mxnet/today'  # the user's script, and the modules of MXNet
    # the source that convert has just written of a graph, and the model.py that verify is given
    model = ROOT / 'backends/d2l_ft_pytorch/model.py'
    (known,) = (
        range(node.lineno, node.end_lineno + 1)
        for node in ast.parse(model.read_text()).body
        if getattr(node, 'name', '') == 'model_class'
    )
    found = [
        f'{path.name}:{line}'
        for path in paths
        if path.parent != runs
        for line in unsafe_calls(path.read_text())
        if path != model or line not in known
    ]
    assert found == []


@pytest.mark.parametrize(
    'reader', ['checkpoint', 'params', 'config', 'chapter', 'archive', 'symbol']
)
def test_mutated_files_are_read_or_refused(reader, tmp_path, figure):
    """In a process that may grow by a gigabyte; a hang ends in the time limit of the tests."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name('fuzz.py')), reader, str(INPUTS)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found['read'] + found['refused'] == INPUTS
    assert found['read'] > INPUTS / 100, 'mutations must reach what lies behind the first checks'
    assert found['refused'] > INPUTS / 100
    assert found['grown'] < 64
    figure(
        f'{INPUTS} inputs, {found["refused"]} refused, slowest {found["slowest"] * 1000:.0f} ms, '
        f'{found["grown"]:.0f} MiB more'
    )


GREEDY = """\
    take = gluon_params.Reader.take
    gluon_params.Reader.take = lambda self, size: (bytes(max(0, size)), take(self, size))[1]
"""


@pytest.mark.parametrize(
    ('broken', 'cause'),
    [
        ('    gluon_params.min = lambda shape: 1', 'rror'),  # the check of the shape is gone
        (GREEDY, 'MemoryError|OverflowError'),  # memory is taken before lengths are compared
        ('    gluon_params.struct = None', 'AttributeError'),
    ],
)
def test_the_fuzzer_finds_a_reader_that_is_broken(broken, cause, tmp_path):
    code = (
        f'import sys; sys.path[:0] = {[str(ROOT / "tests/reliability"), str(ROOT / "tests")]!r}\n'
        'import fuzz\n'
        'real = fuzz.bound_memory\n'
        'def bound():\n'
        '    real()\n'
        '    from d2l_ft.models import gluon_params\n'
        f'{broken}\n'
        'fuzz.bound_memory = bound\n'
        'sys.argv[1:] = ["params", "4000"]\n'
        'fuzz.main()\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert any(each in done.stderr for each in cause.split('|'))


@pytest.mark.needs('mxnet')
class TestParams:
    """The reader of .params against MXNet itself."""

    def test_every_type_is_read_as_mxnet_reads_it(self, tmp_path):
        import mxnet as mx

        draw, path = np.random.default_rng(0), str(tmp_path / 'x.params')
        arrays = {
            f'a.{kind}': mx.nd.array(draw.normal(size=(2, 3, 4)) * 50, dtype=kind)
            for kind in ('float32', 'float64', 'float16', 'uint8', 'int32', 'int8', 'int64')
        }
        arrays['é.b'] = mx.nd.array([1.5])
        mx.nd.save(path, arrays)
        theirs = {name: each.asnumpy() for name, each in mx.nd.load(path).items()}
        ours = gluon_params.read_params(path)
        assert ours.keys() == theirs.keys()
        for name, array in ours.items():
            assert array.dtype == theirs[name].dtype
            assert np.array_equal(array, theirs[name])
            assert array.flags.writeable

    def test_numpy_shapes(self, tmp_path):
        import mxnet as mx

        path = str(tmp_path / 'x.params')
        with mx.util.np_shape(True):
            mx.nd.save(path, {'a.b': mx.nd.array([[1.0, 2]])})
        assert np.array_equal(gluon_params.read_params(path)['a.b'], [[1, 2]])

    def test_arrays_of_every_kind_are_read_and_written_as_mxnet_does(self, tmp_path):
        import mxnet as mx

        path, again = str(tmp_path / 'x.params'), str(tmp_path / 'y.params')
        draws = np.random.default_rng(0)
        kinds = ('float32', 'float64', 'float16', 'uint8', 'int8', 'int32', 'int64', 'bool')
        wanted = {
            kind: mx.nd.array(draws.integers(0, 2, (2, 3)), dtype=kind) for kind in kinds
        }  # fmt: skip
        mx.nd.save(path, wanted)
        ours = gluon_params.read_params(path)
        for kind, array in wanted.items():
            assert ours[kind].dtype == kind
            assert np.array_equal(ours[kind], array.asnumpy())
        gluon_params.write_params(again, ours)
        assert Path(again).read_bytes() == Path(path).read_bytes()
        with mx.util.np_shape(True):  # scalars and empty arrays
            shaped = {'scalar': mx.np.array(3.5), 'empty': mx.np.zeros((0, 3))}
            mx.nd.save(path, {name: each.as_nd_ndarray() for name, each in shaped.items()})
            ours = gluon_params.read_params(path)
            gluon_params.write_params(again, ours)
            assert Path(again).read_bytes() == Path(path).read_bytes()
        assert {name: each.shape for name, each in ours.items()} == {'scalar': (), 'empty': (0, 3)}

    def test_a_list_without_names_has_numbers(self, tmp_path):
        import mxnet as mx

        path = str(tmp_path / 'x.params')
        mx.nd.save(path, [mx.nd.ones(2), mx.nd.zeros(1)])
        assert {name: each.tolist() for name, each in gluon_params.read_params(path).items()} == {
            '0': [1, 1], '1': [0],
        }  # fmt: skip

    def test_sparse_arrays_become_dense(self, tmp_path):
        import mxnet as mx

        path = str(tmp_path / 'x.params')
        dense = np.float32([[0, 1, 0], [0, 0, 0], [2, 0, 3], [0, 0, 0]])
        arrays = {
            f'{kind} of {name}': mx.nd.array(array).tostype(kind)
            for kind in ('row_sparse', 'csr')
            for name, array in (('values', dense), ('zeros', np.zeros((3, 2), np.float32)))
        }
        mx.nd.waitall()  # MXNet writes a shape before it is known
        mx.nd.save(path, arrays)
        ours = gluon_params.read_params(path)
        for name, array in arrays.items():
            assert np.array_equal(ours[name], array.tostype('default').asnumpy()), name

    def test_old_versions_bfloat16_and_the_zip_of_mxnet_2(self, tmp_path):
        """Written here by the layout in MXNet's sources, as nothing that runs today writes them."""
        path = tmp_path / 'x.params'
        values = np.float32([[1.5, -2, 3]])
        context, name = struct.pack('<ii', 1, 0), struct.pack('<QQ', 1, 1) + b'a'
        heads = {
            'V0': struct.pack('<III', 2, 1, 3),
            'V1': struct.pack('<Iiqq', gluon_params.V1, 2, 1, 3),
            'V2': struct.pack('<Iiiqq', gluon_params.V2, 0, 2, 1, 3),
        }
        start = struct.pack('<QQQ', gluon_params.LIST_MAGIC, 0, 1)
        for head in heads.values():
            path.write_bytes(
                start + head + context + struct.pack('<i', 0) + values.tobytes() + name
            )
            assert np.array_equal(gluon_params.read_params(path)['a'], values)
        half = (values.view('<u4') >> 16).astype('<u2').tobytes()
        path.write_bytes(start + heads['V2'] + context + struct.pack('<i', 12) + half + name)
        assert np.array_equal(gluon_params.read_params(path)['a'], values)
        with path.open('wb') as stream:
            np.savez(stream, **{'a': values, 'b.c': np.int64(4)})
        found = gluon_params.read_params(path)
        assert (found['a'].tolist(), found['b.c'].tolist()) == (values.tolist(), 4)

    def test_what_is_not_supported_is_named(self, tmp_path):
        import mxnet as mx

        path = str(tmp_path / 'x.params')
        mx.nd.save(path, {'a': mx.nd.zeros(2)})
        with pytest.raises(ModelError, match='structural names'):
            gluon_params.gluon_state(gluon_params.read_params(path), 'resnet18', path)
        with pytest.raises(ModelError, match='cannot read'):
            gluon_params.read_params(tmp_path / 'none')


def test_a_source_that_is_no_number_is_refused(tmp_path):
    from d2l_ft.models.checkpoint import Checkpoint, save_checkpoint

    path = tmp_path / 'x.safetensors'
    state = fresh('resnet18', 2) | {'fc.bias': np.float32([1, np.inf])}
    save_checkpoint(path, Checkpoint(state))
    with pytest.raises(ModelError, match=r'fc\.bias.*not finite'):
        load_source(str(path), 'resnet18', None)
