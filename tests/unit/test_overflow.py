"""What is not a number is refused or told, and never counted as a class; by both frameworks."""

import json

import numpy as np
import pytest
from conftest import make_folder
from test_command import OPTIONS, command

from d2l_ft.data.image_folder import Sample
from d2l_ft.data.transforms import Pipeline
from d2l_ft.errors import CheckpointError, ModelError, TrainingDiverged
from d2l_ft.models.architectures import ARCHITECTURES
from d2l_ft.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from d2l_ft.models.state import find_problem
from d2l_ft.runs.directory import Run
from d2l_ft.sources.load import load_source
from d2l_ft.training.evaluation import predict
from d2l_ft.training.metrics import accuracy

SIZE = 32


def batch_of(framework, count=4):
    images = np.random.default_rng(0).normal(size=(count, 3, SIZE, SIZE)).astype(np.float32)
    return framework.to_batch(images, np.zeros(count, np.int64))


def scaled(state, factor, part=''):
    """Return a state whose kernels are so many times as large, all finite."""
    return {
        name: array * np.float32(factor) if array.ndim > 1 and part in name else array
        for name, array in state.items()
    }


@pytest.mark.parametrize('arch', ARCHITECTURES)
def test_an_overflow_inside_a_net_reaches_its_outputs(framework, arch):
    """MXNet's ReLU makes 0 of not-a-number, so the logits would look like any others."""
    net = framework.build_net(arch, 2, seed=1)
    placed = framework.place(net)
    batch, start = batch_of(framework), framework.get_state(placed)
    assert np.isfinite(framework.logits(placed, batch)).all()
    framework.set_state(placed, scaled(start, 1e30))
    assert not np.isfinite(framework.logits(placed, batch)).any()
    with pytest.raises(TrainingDiverged, match='test loss'):
        accuracy(framework.evaluate(placed, [batch]))
    framework.set_state(placed, start)
    assert np.isfinite(framework.logits(placed, batch)).all()


def test_one_image_that_overflows_leaves_the_others(framework):
    net = framework.build_net('resnet18', 2)
    images = np.random.default_rng(0).normal(size=(3, 3, SIZE, SIZE)).astype(np.float32)
    placed = framework.place(net)
    alone = framework.logits(placed, framework.to_batch(images, np.zeros(3, np.int64)))
    images[1] *= 1e38
    found = framework.logits(placed, framework.to_batch(images, np.zeros(3, np.int64)))
    assert np.isfinite(found).all(axis=1).tolist() == [True, False, True]
    assert np.allclose(found[[0, 2]], alone[[0, 2]], atol=1e-5)


def test_the_file_whose_outputs_are_no_numbers_is_named(framework, folder):
    net = framework.build_net('resnet18', 2)
    placed = framework.place(net)
    framework.set_state(placed, scaled(framework.get_state(placed), 1e30))
    path = str(next((folder / 'test').rglob('*.jpg')))
    with pytest.raises(ModelError, match='no finite numbers') as caught:
        predict(framework, placed, [Sample(path, 0)], Pipeline(SIZE), bar=False)
    assert path in str(caught.value)
    assert '\n' not in str(caught.value)


BAD = {
    'nan': (np.nan, 'weight'), 'inf': (np.inf, 'weight'), 'minus inf': (-np.inf, 'bias'),
    'inf in a variance': (np.inf, 'running_var'), 'nan in a variance': (np.nan, 'running_var'),
    'negative variance': (-1.0, 'running_var'), 'nan in a mean': (np.nan, 'running_mean'),
}  # fmt: skip


@pytest.mark.parametrize('kind', BAD)
def test_a_state_that_no_net_can_use_is_named(framework, kind, tmp_path):
    value, end = BAD[kind]
    state = framework.get_state(framework.place(framework.build_net('resnet18', 2)))
    assert find_problem(state) == ''
    name = [each for each in state if each.endswith(end)][3 if end != 'bias' else 0]
    state[name] = state[name].copy()
    state[name].flat[0] = value
    path = tmp_path / 'x.safetensors'
    save_checkpoint(path, Checkpoint(state))
    with pytest.raises(ModelError, match=name):
        load_source(str(path), 'resnet18', framework)


def test_evaluate_predict_and_training_refuse(framework, tmp_path):
    """Of a run whose weights overflow, and of one whose checkpoint is no numbers."""
    folder, out = make_folder(tmp_path / 'photos', train=4, test=2), tmp_path / 'run'
    options = [*OPTIONS, '--arch', 'resnet18', '--image-size', SIZE, '--lr', 1e-5]
    command('train', '--backend', framework.NAME, '--data', folder, *options, '--epochs', 1,
            '--out', out)  # fmt: skip
    (path,) = Run.open(out).checkpoints('scratch')
    good = load_checkpoint(path)
    image = next((folder / 'test').rglob('*.jpg'))
    calls = (['evaluate', out, '--json'], ['predict', out, image, '--json'])
    for state, cause in (
        (scaled(good.model, 1e30), 'finite numbers'),
        (good.model | {'bn1.running_var': -good.model['bn1.running_var']}, 'bn1.running_var'),
        (good.model | {'fc.bias': np.float32([np.nan, 0])}, 'fc.bias'),
    ):
        save_checkpoint(path, Checkpoint(state, good.trainer, good.meta))
        for call in calls:
            text, err = command(*call, '--backend', framework.NAME, code=2)
            assert text == ''
            assert cause in err.splitlines()[-1]
            assert err.splitlines()[-1].startswith('d2l-ft: ')
    with pytest.raises(CheckpointError, match=r'fc\.bias has values that are not finite'):
        Run.open(out).load('scratch')
    source = tmp_path / 'source.safetensors'
    save_checkpoint(source, Checkpoint(scaled(good.model, 1e30)))
    words = ['--data', folder, '--source', source, '--freeze', '--image-size', SIZE]
    _, err = command('train', '--backend', framework.NAME, *words, '--out', tmp_path / 'b', code=2)
    assert 'another --source' in err
    save_checkpoint(path, good)
    answer = json.loads(command('evaluate', out, '--json')[0])
    assert answer['examples'] == 4
