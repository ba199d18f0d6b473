"""A converted net is fine-tuned in both frameworks, and a run of it needs nothing else."""

import json
import shutil
from pathlib import Path

import cv2
import nets
import numpy as np
import pytest
from click.testing import CliRunner

import d2l_ft as d2l
from d2l_ft.cli.main import main
from d2l_ft.convert.formats import read_model
from d2l_ft.convert.graph import read_graph
from d2l_ft.convert.package import write_package
from d2l_ft.convert.trainable import add_folder
from d2l_ft.errors import D2LFTError, ModelError, OptionError, ParityError
from d2l_ft.models.architectures import MEAN, STD, architecture
from d2l_ft.models.checkpoint import load_checkpoint
from d2l_ft.models.gluon_params import read_params
from d2l_ft.parity.command import find_faults, make_plan
from d2l_ft.parity.ladder import run_ladder
from d2l_ft.parity.plan import Trace
from d2l_ft.parity.rungs import forward
from d2l_ft.runs.directory import Run

pytestmark = [pytest.mark.needs('mxnet', 'pytorch'), pytest.mark.slow]

BACKENDS = ('mxnet', 'pytorch')

NAMES = ('classifier', 'small', 'pixel')

SIZE = nets.SIDE


@pytest.fixture(scope='session')
def photos(tmp_path_factory):
    """Return a folder of images of two classes that can be told apart."""
    root = tmp_path_factory.mktemp('photos')
    draws = np.random.default_rng(0)
    for part, count in (('train', 12), ('test', 5)):
        for name, colour in (('red', (20, 30, 200)), ('blue', (200, 30, 20))):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                noise = draws.integers(0, 50, (24, 30, 3))
                pixels = (noise + colour).clip(0, 255).astype(np.uint8)
                cv2.imwrite(str(folder / f'{number}.png'), pixels)
    return root


def tune(photos, folder, framework, out, **options):
    """Fine-tune a converted net for two epochs, in float32."""
    wanted = {'num_epochs': 2, 'batch_size': 6, 'precision': 'float32'} | options
    source = wanted.pop('source', folder)
    return d2l.fine_tune(photos, source=source, backend=framework, out=out, quiet=True, **wanted)


@pytest.mark.parametrize('name', NAMES)
def test_a_converted_net_is_fine_tuned_and_its_run_needs_no_other_folder(
    folders, photos, tmp_path, name, framework
):
    folder = tmp_path / name
    shutil.copytree(folders[name], folder)
    run = tune(photos, folder, framework, tmp_path / 'run', num_epochs=15, learning_rate=0.02)
    assert run.history['fine-tuned'][-1].test_acc == 1
    shutil.rmtree(folder)
    images = sorted((photos / 'test').rglob('*.png'))
    rows = {}
    for other in BACKENDS:
        found = d2l.load_run(tmp_path / 'run', backend=other)
        assert found.evaluate().accuracy == 1
        rows[other] = [each.probabilities for each in found.predict(images)]
    for mine, theirs in zip(*rows.values(), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)


def test_the_fine_tuned_net_starts_from_the_weights_of_the_folder(folders, photos, tmp_path):
    run = tune(photos, folders['classifier'], 'pytorch', tmp_path / 'run', freeze=True)
    stored = load_checkpoint(folders['classifier'] / 'model.safetensors').model
    state = {name: each.detach().numpy() for name, each in run.net().state_dict().items()}
    for name, array in stored.items():
        if not name.startswith('fc1.'):
            assert np.array_equal(state[name], array), name
    assert state['fc1.weight'].shape == (2, 8)


def test_all_options_work_with_a_converted_net(folders, photos, tmp_path, framework):
    options = {'compare': True, 'devices': 'cpu:2', 'schedule': 'cosine', 'image_size': 32}
    run = tune(photos, folders['small'], framework, tmp_path / 'a', **options)
    assert set(run.history) == {'fine-tuned', 'scratch'}
    assert Run.open(run.path).config.image_size == 32
    frozen = {'freeze': True, 'cache_features': True, 'augment': False}
    with pytest.raises(ModelError, match='dropout'):  # what the head sees is random
        tune(photos, folders['small'], framework, tmp_path / 'b', **frozen)


def test_a_run_of_a_converted_net_resumes_to_the_same_bits(folders, photos, tmp_path, framework):
    options = {'freeze': True}  # without dropout, whose draws MXNet does not restore
    whole = tune(photos, folders['classifier'], framework, tmp_path / 'a', num_epochs=3, **options)
    tune(photos, folders['classifier'], framework, tmp_path / 'b', num_epochs=2, **options)
    parts = d2l.fine_tune(
        photos, out=tmp_path / 'b', resume=True, num_epochs=3, quiet=True, backend=framework
    )
    assert len(parts.history['fine-tuned']) == 3
    left, right = (
        load_checkpoint(each.path / 'checkpoints' / 'fine-tuned-00003-0000000.safetensors').model
        for each in (whole, parts)
    )
    assert set(left) == set(right)
    for name in left:
        if not name.startswith('fc1'):
            assert np.array_equal(left[name], right[name]), name


def test_a_run_that_is_resumed_keeps_its_net_whatever_its_folder_became(folders, photos, tmp_path):
    folder = tmp_path / 'net'
    shutil.copytree(folders['small'], folder)
    tune(photos, folder, 'pytorch', tmp_path / 'run', num_epochs=1)
    path = folder / 'preprocess.json'
    known = json.loads(path.read_text())
    known['assumed']['channel_order'] = 'BGR'
    path.write_text(json.dumps(known))
    before = Run.open(tmp_path / 'run').config
    d2l.fine_tune(photos, out=tmp_path / 'run', resume=True, num_epochs=2, quiet=True)
    after = Run.open(tmp_path / 'run').config
    assert after.settings.model.arch == after.arch == before.arch
    assert not after.pipeline().bgr


def test_the_proof_takes_images_as_the_net_does(folders):
    plan = make_plan('sample', str(folders['classifier']), rungs='forward')
    assert plan.pipeline().std == (1 / 255,) * 3
    assert make_plan('sample', rungs='forward').pipeline().std == STD


def test_faults_of_the_ladder_are_not_planted_in_a_converted_net(folders):
    plan = make_plan('sample', str(folders['small']), rungs='forward')
    with pytest.raises(ParityError, match='the faults are planted in ResNet-18'):
        find_faults(plan, None, print)


@pytest.mark.parametrize('name', NAMES)
def test_the_proof_finds_a_converted_net_equal(folders, tmp_path, name):
    rungs = 'structure,forward,backward,update,trajectory,runs,checkpoints,devices'
    plan = make_plan('sample', str(folders[name]), steps=5, rungs=rungs)
    result = run_ladder(plan, tmp_path, lambda _check: None)
    assert [each.name for each in result.failures] == []
    assert len(result.judged_checks) > 40
    assert any('the net has dropout' in note for note in result.notes) == (name != 'pixel')


def test_the_proof_finds_a_net_that_differs(folders, tmp_path):
    plan = make_plan('sample', str(folders['small']), rungs='forward')
    run_ladder(plan, tmp_path, lambda _check: None)
    left, right = (Trace(tmp_path / each) for each in BACKENDS)
    assert all(each.ok for each in forward.compare(left, right, plan))
    (path,) = (tmp_path / 'pytorch' / 'forward').rglob('float64/outputs.npz')
    arrays = dict(np.load(path))
    arrays['logits'] = arrays['logits'] * (1 + 1e-7)
    np.savez(path, **arrays)
    assert [each.name for each in forward.compare(left, right, plan) if not each.ok]


@pytest.mark.parametrize('age', ['attr', 'param', 'states'])
def test_graphs_of_older_files_train_in_mxnet(trained, tmp_path, age):
    prefix = trained['classifier']
    for file in prefix.parent.glob('classifier*'):
        shutil.copy(file, tmp_path)
    symbol = tmp_path / 'classifier-symbol.json'
    symbol.write_text(nets.older(symbol.read_text(), age))
    write_package(
        read_model([tmp_path / 'classifier']), tmp_path / 'classifier.d', shape=(3, SIZE, SIZE)
    )
    net = add_folder(tmp_path / 'classifier.d')
    values = {}
    for name in BACKENDS:
        backend = d2l.get_backend(name)
        placed = backend.place(backend.build_net(net.name, 3, seed=1))
        draws = np.random.default_rng(0)
        batch = backend.to_batch(
            draws.normal(0, 50, (4, 3, SIZE, SIZE)).astype(np.float32), np.zeros(4, np.int64)
        )
        values[name] = backend.logits(placed, batch)
    assert values['mxnet'] == pytest.approx(values['pytorch'], rel=1e-4, abs=1e-4)


def test_from_scratch_slopes_and_scales_start_as_they_should(folders):
    net = add_folder(folders['classifier'])
    states = {}
    for name in BACKENDS:
        backend = d2l.get_backend(name)
        placed = backend.place(backend.build_net(net.name, 2, seed=3))
        states[name] = state = backend.get_state(placed)
        assert (state['relu1.weight'] == 0.25).all()
        assert (state['bn0.weight'] == 1).all()
        assert 'bn1.weight' not in state  # fixed at 1: it is no part of the state
    assert set(states['mxnet']) == set(states['pytorch'])
    for name, array in states['mxnet'].items():
        assert np.array_equal(array, states['pytorch'][name])


def test_how_images_are_prepared_is_assumed_by_what_the_net_says(folders):
    raw, plain = (add_folder(folders[name]) for name in ('classifier', 'small'))
    assert (raw.mean, raw.std) == ((0, 0, 0), (1 / 255,) * 3)
    assert (plain.mean, plain.std) == (MEAN, STD)
    why = json.loads((folders['classifier'] / 'preprocess.json').read_text())['assumed']['why']
    assert why.startswith('the running mean of bn_data is up to ')


def test_what_a_user_corrects_in_preprocess_json_is_what_the_net_gets(folders, photos, tmp_path):
    folder = tmp_path / 'net'
    shutil.copytree(folders['small'], folder)
    path = folder / 'preprocess.json'
    known = json.loads(path.read_text())
    known['assumed'] |= {'channel_order': 'BGR', 'mean': [0.1, 0.2, 0.3], 'std': [1, 2, 4]}
    path.write_text(json.dumps(known))
    run = tune(photos, folder, 'pytorch', tmp_path / 'run', num_epochs=1)
    pipeline = Run.open(run.path).config.pipeline()
    image = next((photos / 'test' / 'red').glob('*.png'))
    crop = pipeline.crop(str(image))
    assert crop[..., 0].mean() < crop[..., 2].mean()  # red is the last channel
    rgb = d2l.Pipeline(SIZE).crop(str(image))
    assert np.array_equal(crop, rgb[..., ::-1])
    values = pipeline.to_float(crop[None])
    wanted = (rgb / 255 - [0.1, 0.2, 0.3]) / [1, 2, 4]
    assert values[0] == pytest.approx(wanted[..., ::-1].transpose(2, 0, 1), abs=1e-6)
    assert np.array_equal(pipeline.to_uint8(values)[0], rgb)


def export(run, path):
    """Write a run's net into a file, as the command does."""
    result = CliRunner().invoke(main, ['convert', str(run.path), '--to', str(path)])
    assert result.exit_code == 0, result.output


def test_old_names_of_a_zoo_net_are_a_source_after_a_conversion(photos, tmp_path):
    import mxnet as mx
    from mxnet.gluon.model_zoo import vision

    net = vision.mobilenet_v2_1_0(prefix='net3_')
    net.initialize()
    net(mx.nd.zeros((1, 3, 64, 64)))
    path = tmp_path / 'old.params'
    net.collect_params().save(str(path))
    options = {'arch': 'mobilenet_v2', 'image_size': 64, 'num_epochs': 1}
    with pytest.raises(ModelError, match=r'd2l-ft convert .* --to FOLDER') as caught:
        tune(photos, path, 'pytorch', tmp_path / 'run', **options)
    words = str(caught.value).partition('d2l-ft ')[2].partition('  and')[0].split()
    words[-1] = str(tmp_path / 'folder')
    assert CliRunner().invoke(main, words).exit_code == 0
    options['arch'] = 'resnet18'  # as by default: the folder has its own net
    run = tune(photos, tmp_path / 'folder', 'pytorch', tmp_path / 'run', **options)
    assert run.net().get_submodule(run.net().d2l_head).out_channels == 2


def test_exported_parameters_have_the_names_of_the_graph(folders, photos, tmp_path):
    run = tune(photos, folders['classifier'], 'mxnet', tmp_path / 'run', num_epochs=1)
    export(run, tmp_path / 'net.params')
    arrays = read_params(tmp_path / 'net.params')
    graph = read_graph(json.loads((run.path / 'net.json').read_text())['symbol'])
    names = {name for name in graph.variables() if name != 'data'}
    assert {name.partition(':')[2] for name in arrays} == names
    assert arrays['arg:fc1_weight'].shape == (2, 8)
    assert {name for name in arrays if name.startswith('aux:')} == {
        f'aux:{norm}_moving_{what}'
        for norm in ('bn_data', 'bn0', 'bn1')
        for what in ('mean', 'var')
    }


def test_exported_weights_are_those_of_the_translation(folders, photos, tmp_path):
    import torch
    from safetensors.torch import load_file

    run = tune(photos, folders['classifier'], 'mxnet', tmp_path / 'run', num_epochs=1)
    for suffix in ('pth', 'safetensors'):
        export(run, tmp_path / f'net.{suffix}')
    space = {'__name__': 'model'}
    exec((folders['classifier'] / 'model.py').read_text(), space)
    images = np.random.default_rng(0).normal(100, 50, (2, 3, SIZE, SIZE)).astype(np.float32)
    values = []
    for state in torch.load(tmp_path / 'net.pth'), load_file(tmp_path / 'net.safetensors'):
        net = space['Model']()
        net.replace_head(2)
        counters = {name for name in net.state_dict() if name.endswith('num_batches_tracked')}
        assert set(net.load_state_dict(state, strict=False).missing_keys) <= counters
        values.append(net.eval()(torch.from_numpy(images)).detach().numpy())
    assert np.array_equal(*values)
    pytest.importorskip('onnx', reason='an extra, which is not in the lock of `legacy`')
    export(run, tmp_path / 'net.onnx')
    onnx = cv2.dnn.readNetFromONNX(str(tmp_path / 'net.onnx'))
    onnx.setInput(images)
    assert onnx.forward() == pytest.approx(values[0], abs=1e-3)


# --- what is refused ------------------------------------------------------------------------------


def copy(folder, tmp_path, **changes):
    """Return a copy of a folder, of which files have another text."""
    target = tmp_path / 'copy'
    shutil.copytree(folder, target)
    for name, change in changes.items():
        path = next(each for each in target.iterdir() if each.stem == name)
        path.write_text(change(path.read_text()))
    return target


def test_code_in_the_folder_is_never_run(folders, photos, tmp_path):
    mark = tmp_path / 'ran'
    line = f'open({str(mark)!r}, "w")\n'
    for name in ('model', 'check'):
        folder = copy(folders['small'], tmp_path / name, **{name: lambda text: line + text})
        if name == 'model':
            with pytest.raises(ModelError, match=r'model\.py is not what is written'):
                tune(photos, folder, 'pytorch', tmp_path / name / 'run', num_epochs=1)
        else:  # which nobody needs
            tune(photos, folder, 'pytorch', tmp_path / name / 'run', num_epochs=1)
    assert not mark.exists()


def test_a_changed_model_is_refused(folders, tmp_path):
    folder = copy(
        folders['small'], tmp_path, model=lambda text: text.replace('groups=2', 'groups=4')
    )
    with pytest.raises(ModelError, match=r'is not what is written of its symbol\.json'):
        add_folder(folder)


@pytest.mark.parametrize(
    ('assumed', 'problem'),
    [
        ([], 'no JSON object'),
        ({'channel_order': 'bgr'}, 'channel_order.* is bgr'),
        ({'channel_order': None}, 'channel_order.* is None'),
        ({'mean': 'grey'}, 'mean'),
        ({'mean': [0.1, 0.2]}, 'mean'),
        ({'mean': [0.1, '0.2', 0.3]}, 'mean'),
        ({'mean': None}, 'mean'),
        ({'std': [1, 1, 0]}, 'std'),
        ({'std': [1, 1, -1]}, 'std'),
        ({'std': [[1], [1], [1]]}, 'std'),
    ],
)
def test_a_wrong_correction_of_preprocess_json_is_one_line(folders, tmp_path, assumed, problem):
    path = copy(folders['small'], tmp_path) / 'preprocess.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'assumed': assumed}))
    with pytest.raises(ModelError, match=problem) as caught:
        add_folder(path.parent)
    assert '\n' not in str(caught.value)


def test_a_names_json_that_lacks_an_array_is_damaged(folders, tmp_path):
    path = copy(folders['small'], tmp_path) / 'names.json'
    record = json.loads(path.read_text())
    del record['names']['dense0.bias']
    path.write_text(json.dumps(record))
    with pytest.raises(ModelError, match=r"names\.json has no 'dense0\.bias'"):
        add_folder(path.parent)
    path.write_text(json.dumps(record | {'inputs': {'data': 'a\nb'}}))
    with pytest.raises(ModelError, match='takes inputs of'):
        add_folder(path.parent)


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        (lambda data: data.update(image_size=0), 'image size'),
        (lambda data: data.update(image_size=10**9), 'image size'),
        (lambda data: data.pop('symbol'), 'symbol'),
        (lambda data: data.update(symbol='{}'), 'no list of nodes'),
        (lambda data: data.update(shapes={}), 'several|needs|no layer|input'),
        (lambda data: data['shapes'].update(conv0_weight=[1 << 40]), 'shape'),
        (lambda data: data['shapes'].update(conv0_weight=[1 << 30, 1 << 30]), 'more values'),
        (lambda data: data['shapes'].update(conv0_weight=[-1]), 'shape'),
        (lambda data: data.update(mean=[1.0]), 'mean'),
        (lambda data: data.update(std=[1.0, 0.0, 1.0]), 'std'),
        (lambda data: data.update(std=[1.0, float('nan'), 1.0]), 'std'),
        (lambda data: data.update(extra=1), 'extra'),
    ],
)
def test_a_damaged_net_json_is_one_line(folders, photos, tmp_path, change, problem):
    run = tune(photos, folders['classifier'], 'pytorch', tmp_path / 'run', num_epochs=1)
    path = run.path / 'net.json'
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(D2LFTError, match=problem) as caught:
        d2l.load_run(run.path)
    assert '\n' not in str(caught.value)


def with_inputs(**shapes):
    """Return a change of names.json."""
    return lambda text: json.dumps(json.loads(text) | {'inputs': shapes})


def test_nets_that_cannot_be_trained_here_are_named(folders, tmp_path):
    with pytest.raises(ModelError, match='does not end in a dense layer or a convolution of one'):
        add_folder(folders['attributes'])
    several = with_inputs(data=[3, 9, 9], other=[3, 9, 9])
    with pytest.raises(ModelError, match='takes several inputs'):
        add_folder(copy(folders['small'], tmp_path / 'a', names=several))
    with pytest.raises(ModelError, match='takes inputs of 1 x 9 x 9, and colour images have 3'):
        add_folder(copy(folders['small'], tmp_path / 'b', names=with_inputs(data=[1, 9, 9])))


def test_a_folder_without_a_good_graph_is_told(folders, tmp_path):
    folder = copy(folders['small'], tmp_path)
    (folder / 'symbol.json').write_bytes(b'\xff\xfe')
    with pytest.raises(ModelError, match=r'cannot read .*symbol\.json'):
        add_folder(folder)
    (folder / 'symbol.json').unlink()
    with pytest.raises(ModelError, match=r'has no symbol\.json: convert the net again'):
        add_folder(folder)


def test_a_size_that_the_net_does_not_take_is_told_before_training(
    folders, photos, tmp_path, framework
):
    with pytest.raises(OptionError, match='does not take images of 8 pixels') as caught:
        tune(photos, folders['small'], framework, tmp_path / 'run', image_size=8)
    assert f'`image_size={SIZE}`' in str(caught.value)
    assert not (tmp_path / 'run').exists()


def test_sources_that_a_converted_net_has_not(trained, folders, photos, tmp_path):
    for options, problem in (
        ({'arch': str(folders['classifier'])}, 'two converted nets'),
        ({'arch': str(folders['small']), 'source': 'imagenet'}, "no weights named 'imagenet'"),
        ({'source': str(photos)}, 'names.json'),
        (
            {'arch': str(folders['small']), 'source': str(trained['small']) + '-0004.params'},
            r'is a \.params file of MXNet: .* is a converted net',
        ),
        ({'arch': 'resnet19'}, 'folder that  d2l-ft convert  wrote'),
    ):
        with pytest.raises(D2LFTError, match=problem):
            tune(photos, folders['small'], 'pytorch', tmp_path / 'run', **options)


def test_a_batch_of_one_is_refused_without_a_size_that_nobody_knows(folders, photos, tmp_path):
    with pytest.raises(OptionError, match='gets one alone') as caught:
        tune(photos, folders['classifier'], 'pytorch', tmp_path / 'run', batch_size=23)
    assert 'image_size' not in str(caught.value)
    assert Path(folders['classifier']).is_dir()
    assert architecture('resnet18').definition is None
