"""A run that is killed and resumed ends as one that never was; also on the other framework."""

import math
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import THOROUGH, make_folder
from faults import OPERATIONS
from test_command import command

from d2l_ft.backend.registry import get_backend
from d2l_ft.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from d2l_ft.parity.tolerances import row
from d2l_ft.runs.directory import Run

# a run goes on with the other framework, too
pytestmark = [pytest.mark.slow, pytest.mark.needs('mxnet', 'pytorch')]

FAULTS = Path(__file__).with_name('faults.py')
SMALL = ['--image-size', 64, '--batch-size', 8, '--precision', 'float32', '--epochs', 3]
CASES = {
    'plain': ['--arch', 'resnet18', '--source', 'none', '--lr', 0.001],
    'momentum, cosine, save-every': [
        '--arch', 'squeezenet1_1', '--source', 'none', '--lr', 0.0001,
        '--momentum', 0.9, '--schedule', 'cosine', '--save-every', 2,
    ],
    'frozen body': [
        '--arch', 'resnet18', '--freeze', '--momentum', 0.5, '--schedule', 'cosine',
        '--save-every', 3,
    ],
    'two nets': ['--arch', 'squeezenet1_1', '--compare', '--lr', 0.0001, '--workers', 1],
}  # fmt: skip
MIXED = 'momentum, cosine, save-every'


def start(*arguments, operation='none', kind='full', number=1, log='-'):
    """Start a training whose draws are logged."""
    words = [operation, kind, number, log, 'train', *arguments]
    return subprocess.Popen(
        [sys.executable, str(FAULTS), *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process, code=0):
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, out + err
    return out, err


def results(path):
    """Return what must be equal: the metrics without times, and the bits of the last weights."""
    run = Run.open(path)
    lines = [
        (each.net, each.epoch, each.train_loss, each.train_acc, each.test_acc)
        for each in run.metrics()
    ]
    states = {}
    for net in run.history():
        checkpoint, position = run.load(net)
        assert position.epoch == 3
        for kind, state in (('model', checkpoint.model), ('trainer', checkpoint.trainer)):
            states |= {f'{net}/{kind}/{name}': each.tobytes() for name, each in state.items()}
    return lines, states


class Scene:
    """The data, the options of a case, and how its uninterrupted run came out."""

    def __init__(self, backend, case, root):
        self.root = root
        folder = make_folder(root / 'photos', train=24, test=3)
        self.options = ['--backend', backend.NAME, '--data', folder, *SMALL, *CASES[case]]
        if '--source' not in CASES[case]:
            arch = CASES[case][1]
            source = root / 'source.safetensors'
            state = backend.get_state(backend.place(backend.build_net(arch, 5, seed=7)))
            save_checkpoint(source, Checkpoint(state, meta={'arch': arch}))
            self.options += ['--source', source]
        whole, log = root / 'whole', root / 'whole.log'
        process = start(*self.options, '--out', whole, log=log)
        self.wait(whole, process)
        begun = time.monotonic()
        finish(process)
        self.seconds = time.monotonic() - begun
        self.expected, self.draws = results(whole), log.read_text()

    @staticmethod
    def wait(out, process):
        """Wait until a run begins to train."""
        while not (out / 'config.json').exists() and process.poll() is None:
            time.sleep(0.01)

    def kill(self, out, draw):
        """Kill a training at a random moment; tell whether it was still under way."""
        process = start(*self.options, '--out', out)
        self.wait(out, process)
        time.sleep(draw.uniform(0, self.seconds))
        process.kill()
        process.communicate()
        return process.returncode == -signal.SIGKILL

    def check(self, out, log):
        """Resume a killed run, and compare all of it with the uninterrupted one."""
        finish(start('--out', out, '--resume', log=log))
        assert results(out) == self.expected
        if '--workers' not in self.options:  # otherwise other processes draw, ahead of the net
            assert self.draws.endswith(log.read_text() if log.exists() else '')


@pytest.fixture
def scene_of(framework, tmp_path_factory):
    """Return what gives the scene of a case, made once for each framework."""

    def get(case):
        key = framework.NAME, case
        if key not in SCENES:
            SCENES[key] = Scene(framework, case, tmp_path_factory.mktemp('scene'))
        return SCENES[key]

    return get


SCENES = {}


@pytest.mark.parametrize('case', CASES if THOROUGH else ['frozen body'])
def test_killed_at_a_random_point_and_resumed_is_bit_equal(
    framework, scene_of, case, tmp_path, figure
):
    scene = scene_of(case)
    draw = random.Random(f'{framework.NAME} {case}')
    wanted, hits, tries = 5 if THOROUGH else 1, 0, 0
    while hits < wanted:
        tries += 1
        assert tries < 3 * wanted + 3
        out = tmp_path / f'killed{tries}'
        if not scene.kill(out, draw):
            continue  # it was done before
        hits += 1
        scene.check(out, tmp_path / f'killed{tries}.log')
    figure(f'{framework.NAME}: {hits} of {wanted} bit-equal')


def test_the_rate_falls_along_the_cosine_of_all_steps(scene_of):
    steps = 3 * 6
    lines = [line for line in scene_of(MIXED).draws.splitlines() if line.startswith('rate')]
    expected = [0.001 * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]
    assert [float(line.split()[1]) for line in lines] == pytest.approx(expected, rel=1e-12)


def test_results_can_differ(scene_of, tmp_path):
    """What compares the runs tells another seed apart."""
    scene, out = scene_of(MIXED), tmp_path / 'run'
    finish(start(*scene.options, '--seed', 1, '--out', out))
    lines, states = results(out)
    assert lines != scene.expected[0]
    assert states.keys() == scene.expected[1].keys()
    assert states != scene.expected[1]


@pytest.mark.parametrize('operation', OPERATIONS if THOROUGH else ['write'])
def test_killed_while_a_checkpoint_is_written(framework, scene_of, operation, tmp_path, figure):
    scene = scene_of(MIXED)
    numbers = (4, 7, 10, 13) if THOROUGH else (10,)
    for number in numbers:  # the writes of config and metrics are among them
        out, log = tmp_path / f'run{number}', tmp_path / f'run{number}.log'
        fault = {'operation': operation, 'kind': 'kill', 'number': number}
        process = start(*scene.options, '--out', out, **fault)
        process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL
        scene.check(out, log)
        left = [each for each in out.rglob('.*') if each.name != '.config.json.lock']
        assert left == [], 'what the killed writer left is removed'
    figure(f'{framework.NAME}: {len(numbers)} of {len(numbers)} bit-equal')


def test_killed_after_a_checkpoint_within_an_epoch(scene_of, tmp_path):
    """--save-every leaves a position within the epoch, from which a killed run goes on."""
    scene, out = scene_of(MIXED), tmp_path / 'run'
    start(*scene.options, '--out', out, operation='replace', kind='kill', number=5).communicate()
    (newest,) = Run.open(out).checkpoints('scratch')[-1:]
    assert load_checkpoint(newest).meta['position']['step'] == 4, 'the end of the epoch has its own'
    scene.check(out, tmp_path / 'run.log')


def test_two_processes_do_not_train_in_one_directory(framework, tmp_path):
    folder = make_folder(tmp_path / 'photos', train=24, test=2)
    options = ['--backend', framework.NAME, '--data', folder, *SMALL, *CASES['plain']]
    out = tmp_path / 'run'
    first = start(*options, '--epochs', 999, '--out', out)
    try:
        Scene.wait(out, first)
        _, err = command('train', '--out', out, '--resume', code=2)
        assert 'another process is writing' in err
    finally:
        first.kill()
        first.communicate()


@pytest.mark.parametrize(('first', 'second'), [('mxnet', 'pytorch'), ('pytorch', 'mxnet')])
@pytest.mark.parametrize('body', ['frozen', 'free'] if THOROUGH else ['frozen'])
def test_resumed_on_the_other_framework(first, second, body, tmp_path, figure):
    """Epoch, draws and rate go on; the curve stays within the tolerance of the proof's runs.

    A head alone is well conditioned, so a wrong rate would show in the sixth digit. Where the body
    learns too, this net of random weights is not: float32 gradients differ by per cents (a rounding
    turns a ReLU), so its rate is low.
    """
    folder = make_folder(tmp_path / 'photos', train=24, test=8)
    source = tmp_path / 'source.safetensors'
    wrote = get_backend(first)
    state = wrote.get_state(wrote.place(wrote.build_net('resnet18', 5, seed=7)))
    save_checkpoint(source, Checkpoint(state, meta={'arch': 'resnet18'}))
    options = ['--data', folder, *SMALL, '--arch', 'resnet18', '--source', source, '--momentum',
               0.5, '--schedule', 'cosine', '--batch-size', 16]  # fmt: skip
    options += ['--freeze', '--lr', 0.001] if body == 'frozen' else ['--lr', 1e-6]
    whole, log = tmp_path / 'whole', tmp_path / 'whole.log'
    finish(start('--backend', first, *options, '--out', whole, log=log))
    out, log_too = tmp_path / 'run', tmp_path / 'run.log'
    process = start('--backend', first, *options, '--out', out, operation='replace', kind='kill',
                    number=5)  # fmt: skip  # images, config, metrics, checkpoint, metrics
    process.communicate(timeout=300)
    assert Run.open(out).load('fine-tuned')[1].epoch == 1
    finish(start('--backend', second, '--out', out, '--resume', log=log_too))
    draws = log_too.read_text()
    assert draws.count('rate') == 6
    assert log.read_text().endswith(draws)
    pairs = list(zip(Run.open(whole).metrics(), Run.open(out).metrics(), strict=True))
    assert [each.epoch for _, each in pairs] == [1, 2, 3]
    apart = max(abs(a.train_loss / b.train_loss - 1) for a, b in pairs)
    images = max(round(16 * abs(a.test_acc - b.test_acc)) for a, b in pairs)
    assert apart <= (1e-5 if body == 'frozen' else row('runs', 'train-loss').limit)
    assert images <= row('runs', 'test-images').limit
    figure(f'{first} to {second}, body {body}: loss within {apart:.0e}, {images} of 16 images')


def test_a_schedule_fixes_the_epochs_of_a_resume(scene_of):
    _, err = command('train', '--out', scene_of(MIXED).root / 'whole', '--resume', '--epochs', 9,
                     code=2)  # fmt: skip
    assert '--epochs 3' in err


def test_the_cosine_ends_at_nothing():
    from d2l_ft.optim.schedules import scheduled_rate

    rates = [scheduled_rate('cosine', 2.0, done) for done in (0, 0.5, 1)]
    assert np.allclose(rates, [2, 1, 0], atol=1e-15)
    assert scheduled_rate('constant', 2.0, 0.7) == 2
