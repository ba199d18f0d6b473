"""The same seed gives the same bits: twice, and with any number of workers, on the CPU."""

import hashlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import THOROUGH, make_folder
from test_long_runs import of_session, wait_for_none

from d2l_ft.data.synthetic.tasks import VERSION
from d2l_ft.errors import ModelError
from d2l_ft.runs.job import train
from d2l_ft.runs.settings import Settings
from d2l_ft.sources.load import load_source
from d2l_ft.sources.pretrain import source_path
from d2l_ft.storage.cache import cache_dir

pytestmark = pytest.mark.slow

ARCHS = ('squeezenet1_1', 'resnet18') if THOROUGH else ('squeezenet1_1',)


def trained(backend, monkeypatch, out, folder, **options):
    """Train; return a hash of each batch, and the run's metrics and weights."""
    seen, step = [], backend.train_step

    def noted(placed, trainer, batch, *rest):
        arrays = [each.asnumpy() if hasattr(each, 'asnumpy') else each.numpy() for each in batch]
        seen.append(hashlib.sha256(b''.join(each.tobytes() for each in arrays)).hexdigest())
        return step(placed, trainer, batch, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(backend, 'train_step', noted)
        settings = Settings.of(
            data=str(folder), source='none', num_epochs=2, batch_size=8, image_size=64,
            devices='cpu', precision='float32', learning_rate=1e-4, momentum=0.9, **options,
        )  # fmt: skip
        run, _ = train(backend, settings, out, bar=False, say=lambda _: None)
    checkpoint, _ = run.load('scratch')
    weights = hashlib.sha256(
        b''.join(checkpoint.model[name].tobytes() for name in sorted(checkpoint.model))
    ).hexdigest()
    metrics = [(each.train_loss, each.train_acc, each.test_acc) for each in run.metrics()]
    return seen, metrics, weights


@pytest.mark.parametrize('arch', ARCHS)
def test_same_seed_same_bits_with_any_workers(framework, arch, tmp_path, monkeypatch, figure):
    folder = make_folder(tmp_path / 'photos', train=12, test=3)
    first = trained(framework, monkeypatch, tmp_path / 'first', folder, arch=arch, workers=0)
    assert len(first[0]) == 6
    assert len(set(first[0])) == 6, 'no batch comes twice'
    for workers in (0, 1, 2):
        again = trained(framework, monkeypatch, tmp_path / f'again{workers}', folder, arch=arch,
                        workers=workers)  # fmt: skip
        assert again == first
    other = trained(framework, monkeypatch, tmp_path / 'other', folder, arch=arch, seed=1)
    assert not set(other[0]) & set(first[0])
    assert other[2] != first[2]
    figure(f'{framework.NAME}, {arch}: 4 of 4 runs bit-equal (workers 0, 0, 1, 2)')


def test_draws_of_the_user_are_left_alone(framework, tmp_path, monkeypatch):
    """NumPy's and Python's generators stand after a training where they stood before."""
    import random

    folder = make_folder(tmp_path / 'photos', train=4, test=2)
    random.seed(3)
    np.random.seed(3)
    before = random.getstate(), np.random.get_state()[1].tolist()
    trained(framework, monkeypatch, tmp_path / 'run', folder, arch='squeezenet1_1')
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


@pytest.fixture
def small_task(tmp_path):
    """Put a small data set where that of the source task is kept."""
    place = cache_dir() / 'data' / f'sample-source-v{VERSION}'
    return make_folder(place, train=4, test=2)


def drawn(backend):
    """Return a draw of the framework's own generator."""
    if backend.NAME == 'mxnet':
        import mxnet as mx

        return mx.nd.random.uniform(shape=(3,)).asnumpy().tolist()
    import torch

    return torch.rand(3).tolist()


def test_what_follows_does_not_depend_on_whether_the_source_was_cached(framework, small_task):
    """The book's cells draw their heads from the framework's generator."""
    found = []
    for cached in (False, True):
        assert source_path('resnet18').is_file() == cached
        framework.seed(5)
        state = load_source('sample', 'resnet18', framework, devices='cpu', bar=False)
        found.append((drawn(framework), state['fc.weight'].tolist()))
    assert found[0] == found[1]
    framework.seed(6)
    assert drawn(framework) != found[0][0]


def test_a_source_that_cannot_be_trained_is_one_line(framework, small_task):
    with pytest.raises(ModelError, match='use auto or cpu') as caught:
        load_source('sample', 'resnet18', framework, devices='gpu:97', bar=False)
    assert '\n' not in str(caught.value)
    assert not source_path('resnet18').exists()


def test_ctrl_c_while_the_source_is_trained_leaves_no_process(framework, tmp_path):
    """The signal meets the parent alone, as in some notebooks."""
    make_folder(cache_dir() / 'data' / f'sample-source-v{VERSION}', train=400, test=2)
    process = subprocess.Popen(
        [sys.executable, '-m', 'd2l_ft', 'train', '--backend', framework.NAME, '--data',
         str(make_folder(tmp_path / 'photos')), '--source', 'sample',
         '--out', str(tmp_path / 'run')],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while 'pre-training' not in process.stdout.readline():
        assert process.poll() is None
    time.sleep(3)
    assert len(of_session(process.pid)) == 2
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert 'Traceback' not in err
    assert wait_for_none(process.pid, 5) == []
    assert not (tmp_path / 'run').exists()
