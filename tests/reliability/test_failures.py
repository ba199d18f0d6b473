"""What can go wrong ends with exit code 2, one line that names cause and next command, no hang."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from conftest import make_folder
from test_command import OPTIONS, command
from test_resume import FAULTS

from d2l_ft.backend.protocol import Sums
from d2l_ft.backend.registry import BACKENDS
from d2l_ft.errors import TrainingDiverged
from d2l_ft.runs.directory import Run
from d2l_ft.training.trainer import READ_STEPS, Trainer

pytestmark = pytest.mark.slow

FAST = [*OPTIONS, '--arch', 'squeezenet1_1', '--lr', 0.0001, '--epochs', 1]


def fails(*arguments, before='', environment=None, preexec=None):
    """Run d2l-ft, which must fail as it should; return its one line."""
    code = f'{before}\nimport sys\nfrom d2l_ft.cli.main import main\nmain(sys.argv[1:])'
    done = subprocess.run(
        [sys.executable, '-c', code, *map(str, arguments)], capture_output=True, text=True,
        timeout=200, check=False, preexec_fn=preexec, env=os.environ | (environment or {}),
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith('d2l-ft: ')
    return lines[0]


@pytest.mark.parametrize('name', BACKENDS)
def test_a_framework_that_is_missing(name):
    module = BACKENDS[name].package
    line = fails('train', '--backend', name, before=f'import sys; sys.modules[{module!r}] = None')
    assert BACKENDS[name].install in line


@pytest.mark.parametrize(
    ('name', 'cause'), [('pytorch', 'd2l_ft_pytorch'), ('mxnet', 'MXNet 1.9.1')]
)
def test_a_framework_that_is_broken(name, cause, tmp_path):
    package = tmp_path / BACKENDS[name].package
    package.mkdir()
    (package / '__init__.py').write_text('raise OSError("lib.so: cannot open shared object")')
    line = fails('train', '--backend', name, environment={'PYTHONPATH': str(tmp_path)})
    assert 'cannot open shared object' in line
    assert cause in line


@pytest.mark.needs('mxnet')
def test_a_numpy_that_is_too_new_for_mxnet():
    """MXNet does without the names that NumPy 1.24 took away; they are taken from an older one."""
    code = (
        'import numpy\n'
        'kept = numpy.__getattr__\n'
        'def without(name):\n'
        '    if name in ("bool", "object", "int", "float"):\n'
        '        raise AttributeError(f"module numpy has no attribute {name!r}")\n'
        '    return kept(name)\n'
        'numpy.__getattr__ = without\n'
        'import d2l_ft_mxnet\n'
        'print(d2l_ft_mxnet.devices("cpu"))\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=200, check=False
    )
    assert (done.returncode, done.stdout) == (0, '[cpu(0)]\n'), done.stderr


def test_a_gpu_that_is_not_there(framework, folder):
    if 'gpu' in str(framework.devices('auto')) or 'cuda' in str(framework.devices('auto')):
        request = 'gpu:97'
    else:
        request = 'gpu'
    line = fails('train', '--backend', framework.NAME, '--data', folder, '--devices', request)
    assert 'use auto or cpu' in line


@pytest.mark.parametrize('batches', [1, 4])
def test_fewer_than_five_batches_are_no_failure(framework, batches, tmp_path):
    """The book divides by a fifth of their number."""
    folder = make_folder(tmp_path / 'photos', train=2 * batches, test=2)
    text, _ = command('train', '--backend', framework.NAME, '--data', folder, *FAST,
                      '--batch-size', 4, '--out', tmp_path / 'run')  # fmt: skip
    assert 'epoch 1/1' in text
    assert len(Run.open(tmp_path / 'run').metrics()) == 1


def test_one_class(framework, tmp_path):
    folder = make_folder(tmp_path / 'photos')
    for part in ('train', 'test'):
        for path in (folder / part / 'dark').iterdir():
            path.unlink()
        (folder / part / 'dark').rmdir()
    line = fails('train', '--backend', framework.NAME, '--data', folder, *FAST)
    assert 'at least 2' in line


def test_a_run_that_does_not_go_with_what_it_meets(framework, folder, tmp_path):
    """More classes than the checkpoint has; a config and metrics that were tampered with."""
    out = tmp_path / 'run'
    command('train', '--backend', framework.NAME, '--data', folder, *FAST, '--out', out)
    config = (out / 'config.json').read_text()
    for old, new, cause, call in (
        ('"squeezenet1_1"', '"resnet19"', 'arch', 'predict'),
        ('"image_size": 64', '"image_size": 99999999', 'image_size', 'predict'),
        ('"seed": 0', '"seed": "0"', 'seed', 'evaluate'),
        ('{', '[', 'damaged', 'predict'),
    ):
        (out / 'config.json').write_text(config.replace(old, new, 1 if old == '{' else -1))
        image = next((folder / 'test' / 'dark').iterdir())
        assert cause in fails(call, out, *([image] if call == 'predict' else []))
    (out / 'config.json').write_text(config)
    metrics = (out / 'metrics.jsonl').read_text()
    (out / 'metrics.jsonl').write_text('{"net": 3}\n')
    assert 'metrics.jsonl is damaged' in fails('compare', out, '--out', tmp_path / 'x.png')
    (out / 'metrics.jsonl').write_text(metrics)
    for part in ('train', 'test'):
        third = folder / part / 'third'
        third.mkdir()
        for path in (folder / part / 'dark').iterdir():
            (third / path.name).write_bytes(path.read_bytes())
    assert 'third' in fails('evaluate', out, '--data', folder)
    assert '.jpg is new since' in fails('train', '--out', out, '--resume', '--epochs', 2)


@pytest.mark.parametrize('out', ['/dev/null/run', '/proc/run'])
def test_an_output_that_cannot_be_written(framework, out):
    """It is found before the data are read or a source is trained, which may take long."""
    line = fails('train', '--backend', framework.NAME, '--data', '/nowhere', '--out', out)
    assert 'cannot write' in line
    assert out in line


def test_an_output_that_is_taken(framework, folder, tmp_path):
    (tmp_path / 'file').write_text('mine')
    line = fails('train', '--backend', framework.NAME, '--data', folder, '--out', tmp_path)
    assert 'not empty: name another' in line
    line = fails('train', '--backend', framework.NAME, '--data', folder, '--out', tmp_path / 'file')
    assert 'not empty' in line
    assert (tmp_path / 'file').read_text() == 'mine'


def test_no_display_is_no_failure(framework, folder, tmp_path, monkeypatch):
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    monkeypatch.setenv('MPLBACKEND', 'TkAgg')
    command('train', '--backend', framework.NAME, '--data', folder, *FAST, '--out', tmp_path / 'r')
    command('compare', tmp_path / 'r', '--out', tmp_path / 'x.png')
    assert (tmp_path / 'x.png').read_bytes()[:4] == b'\x89PNG'


def test_a_full_disk_while_training(framework, folder, tmp_path):
    """The second checkpoint does not fit; the run then goes on from the first."""
    out = tmp_path / 'run'
    done = subprocess.run(
        [sys.executable, str(FAULTS), 'write', 'full', '7', '-', 'train', '--backend',
         framework.NAME, '--data', folder, *map(str, FAST), '--epochs', '2', '--out', out],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    line = done.stderr.strip()
    assert '\n' not in line
    assert 'no space left' in line
    assert f'd2l-ft train --out {out} --resume' in line
    command('train', '--out', out, '--resume')
    assert [each.epoch for each in Run.open(out).metrics()] == [1, 2]


def test_a_limit_of_the_system_while_training(framework, folder, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    line = fails('train', '--backend', framework.NAME, '--data', folder, *FAST, '--out',
                 tmp_path / 'run', preexec=limit)  # fmt: skip
    assert 'cannot write' in line
    assert '--resume' in line


@pytest.mark.parametrize('arguments', [
    ['train', '--arch', 'resnet19'], ['train', '--epochs', 0], ['train', '--epoch', 3],
    ['train', '--lr', -1], ['train', '--head-lr-mult', 'nan'], ['train', '--schedule', 'linear'],
    ['train', '--resume'], ['evaluate'], ['nothing'],
], ids=lambda words: ' '.join(map(str, words)))  # fmt: skip
def test_wrong_words(arguments):
    line = fails(*arguments)
    assert any(words in line for words in ('--help', 'must be', '--out', 'choose one of'))


def test_a_loss_that_is_no_number(framework, tmp_path, figure):
    """It stops with the last good checkpoint, and says which rate to try."""
    folder, out = make_folder(tmp_path / 'photos', train=8, test=2), tmp_path / 'run'
    options = ['train', '--backend', framework.NAME, '--data', folder, *OPTIONS,
               '--image-size', 32]  # fmt: skip
    line = fails(*options, '--lr', 1e30, '--epochs', 3, '--out', out)
    assert 'no checkpoint' in line
    assert '--lr 1e+29  (a tenth)' in line
    assert 'epoch 1' in line  # in it, or after it
    # a training that goes well for an epoch, then leaps
    out = tmp_path / 'leaps'
    leap = (
        'from d2l_ft.runs import job\n'
        'job.scheduled_rate = lambda name, rate, done: rate if done < 0.5 else 1e30\n'
    )
    line = fails(*options, '--lr', 1e-5, '--epochs', 2, '--schedule', 'cosine', '--out', out,
                 before=leap)  # fmt: skip
    (kept,) = Run.open(out).checkpoints('scratch')
    assert f'the last good checkpoint is {kept}' in line
    assert '--lr 1e-06' in line
    assert 'epoch 2' in line
    loaded, position = Run.open(out).load('scratch')
    assert position.epoch == 1
    assert all(np.isfinite(array).all() for array in loaded.model.values())
    figure(f'{framework.NAME}: stops in the epoch, the checkpoint before it is finite')


def test_a_loss_is_looked_at_soon(framework, folder):
    """Not only when a checkpoint would be written: the rest of an epoch may take hours."""
    seen = []

    class Backend:
        seed = staticmethod(framework.seed)

        @staticmethod
        def train_step(*_):
            seen.append(1)
            return Sums(float('nan') if len(seen) == 3 else 1.0, 0.0, 4)

    training = Trainer(Backend, None, None, [None] * 500, None, 1)
    with pytest.raises(TrainingDiverged, match='epoch 1'):
        training.fit()
    assert len(seen) <= 3 + READ_STEPS


def test_the_help_is_no_failure():
    for words in (['--help'], ['train', '--help'], ['data', 'fetch', '--help']):
        out, _ = command(*words)
        assert 'Usage' in out
    assert '--skip-bad' in command('train', '--help')[0]
