"""Checkpoints are never torn: a fault at every write, rename and fsync; rubbish is named."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import run_config
from faults import OPERATIONS, Faults

from d2l_ft.errors import CheckpointError, StorageError, TrainingDiverged
from d2l_ft.models import checkpoint
from d2l_ft.runs.directory import Run, claim
from d2l_ft.storage import atomic
from d2l_ft.training.metrics import EpochMetrics, Position

pytestmark = pytest.mark.slow

EPOCHS = 3


def state(epoch):
    return {'w': np.full((64, 64), epoch, np.float32), 'v': np.arange(epoch, epoch + 5.0)}


def write_run(path, done=lambda epoch: None):
    """Write what a run of some epochs writes; tell after each that it is done."""
    path.mkdir(parents=True, exist_ok=True)
    run = Run(path, run_config())
    run.save_config()
    done(0)
    for epoch in range(1, EPOCHS + 1):
        run.add_metrics(EpochMetrics('scratch', epoch, 1.0, 0.5, 0.5, 1.0, 1.0, 1.0))
        run.save('scratch', state(epoch), state(-epoch), Position(epoch=epoch))
        done(epoch)


def calls():
    """Return every (operation, number) of such a run."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder, Faults() as faults:
        write_run(Path(folder) / 'run')
    return [(name, number + 1) for name in OPERATIONS for number in range(faults.calls[name])]


def check(path, done):
    """Check that a run opens, and is at most one interval behind; return what was lost."""
    if done < 0 and not (path / 'config.json').exists():  # a new run may begin here
        return 0
    run = Run.open(path)
    found = run.load('scratch')
    if found is None:
        assert done <= 0
        return 0
    loaded, position = found
    assert done <= position.epoch <= done + 1
    for name, array in state(position.epoch).items():
        assert np.array_equal(loaded.model[name], array)
        assert np.array_equal(loaded.trainer[name], state(-position.epoch)[name])
    epochs = [each.epoch for each in run.metrics()]
    assert epochs == list(range(1, len(epochs) + 1))
    assert len(epochs) >= position.epoch
    return len(epochs) - position.epoch


def test_a_fault_at_every_call_loses_no_more_than_an_interval(tmp_path, figure):
    places = calls()
    assert {name for name, _ in places} == set(OPERATIONS)
    worst = count = 0
    for operation, number in places:
        for kind in ('full', 'short') if operation == 'write' else ('full',):
            path, reached = tmp_path / f'{operation}{number}{kind}', [-1]
            with Faults(operation, kind, number):
                if kind == 'short':  # the rest is written by another call
                    write_run(path, reached.append)
                else:
                    with pytest.raises(StorageError, match='no space left') as caught:
                        write_run(path, reached.append)
                    assert '\n' not in str(caught.value)
            worst = max(worst, check(path, reached[-1]))
            assert list(path.rglob('.*')) == []
            count += 1
    figure(f'{count} of {count} faults, at most {worst} epoch behind')


def test_a_kill_at_every_call_loses_no_more_than_an_interval(tmp_path, figure):
    code = (
        'import sys, pathlib\n'
        f'sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}\n'
        'import faults, test_checkpoints as tests\n'
        'operation, number, path = sys.argv[1:]\n'
        'with faults.Faults(operation, "kill", int(number)):\n'
        '    tests.write_run(pathlib.Path(path), lambda epoch: print(epoch, flush=True))\n'
    )
    worst, places = 0, calls()
    for operation, number in places:
        path = tmp_path / f'{operation}{number}'
        child = subprocess.run(
            [sys.executable, '-c', code, operation, str(number), str(path)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert child.returncode == -signal.SIGKILL, child.stderr
        worst = max(worst, check(path, int((child.stdout.split() or ['-1'])[-1])))
        with claim(path, resume=(path / 'config.json').exists()):
            pass  # which removes what the killed writer has left
        assert [each.name for each in path.rglob('.*.????????')] == []
    figure(f'{len(places)} of {len(places)} kills, at most {worst} epoch behind')


def test_bytes_are_on_the_disk_before_a_file_has_its_name(tmp_path, monkeypatch):
    """A power cut can't be tried; the order of the calls can. The folder's turn is last."""
    events, real = [], (os.fsync, os.replace)

    def fsync(handle):
        events.append(('fsync', os.readlink(f'/proc/self/fd/{handle}')))
        real[0](handle)

    def replace(old, new):
        events.append(('replace', str(old), str(new)))
        real[1](old, new)

    monkeypatch.setattr(os, 'fsync', fsync)
    monkeypatch.setattr(os, 'replace', replace)
    write_run(tmp_path / 'run')
    assert len(events) == 3 * (1 + 2 * EPOCHS)
    for file, rename, folder in zip(events[::3], events[1::3], events[2::3], strict=True):
        assert file == ('fsync', rename[1])
        assert folder == ('fsync', str(Path(rename[2]).parent))


@pytest.mark.parametrize('damage', ['rubbish', 'empty', 'half', 'a bit', 'zeros', 'other shape'])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(
    damage, tmp_path, capsys, figure
):
    path = tmp_path / 'run'
    write_run(path)
    run = Run.open(path)
    newest = run.checkpoints('scratch')[-1]
    data = bytearray(newest.read_bytes())
    if damage == 'a bit':
        data[len(data) // 2] ^= 1  # amid the weights, where safetensors sees nothing
    elif damage == 'zeros':
        data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    elif damage == 'half':
        del data[len(data) // 2 :]
    elif damage == 'empty':
        data = bytearray()
    elif damage == 'rubbish':
        data = bytearray(os.urandom(len(data)))
    else:
        data = data.replace(b'[64,64]', b'[32,128]'[:7])
    newest.write_bytes(data)
    loaded, position = run.load('scratch')
    assert position.epoch == EPOCHS - 1
    assert np.array_equal(loaded.model['w'], state(EPOCHS - 1)['w'])
    message = capsys.readouterr().err
    assert newest.name in message
    assert message.count('\n') == 1
    run.checkpoints('scratch')[0].write_bytes(b'rubbish')
    with pytest.raises(CheckpointError, match='every checkpoint of scratch'):
        run.load('scratch')
    figure('named, the one before is used')


def test_round_trip_and_a_newer_format(tmp_path):
    path = tmp_path / 'a.safetensors'
    one = checkpoint.Checkpoint({'w': np.arange(6.0).reshape(2, 3)}, {'w': np.ones(2)}, {'x': [1]})
    checkpoint.save_checkpoint(path, one)
    read = checkpoint.load_checkpoint(path)
    assert np.array_equal(read.model['w'], one.model['w'])
    assert np.array_equal(read.trainer['w'], one.trainer['w'])
    assert read.meta['x'] == [1]
    with pytest.raises(CheckpointError, match='no checkpoint'):
        checkpoint.load_checkpoint(tmp_path / 'none')
    checkpoint.save_checkpoint(path, one)
    path.write_bytes(path.read_bytes().replace(b'\\"format\\": 1', b'\\"format\\": 2'))
    with pytest.raises(CheckpointError, match='newer'):
        checkpoint.load_checkpoint(path)


def test_a_real_limit_of_the_system(tmp_path):
    """Not a fault that is injected: the kernel refuses to let the file grow."""
    import resource

    write_run(tmp_path / 'run')
    run = Run.open(tmp_path / 'run')
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        with pytest.raises(StorageError, match='too large'):
            run.save('scratch', state(4), {}, Position(epoch=4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert run.load('scratch')[1].epoch == EPOCHS
    assert list(run.path.rglob('.*')) == []


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    run = Run(tmp_path, run_config())
    run.save_config()
    run.save('scratch', state(1), {}, Position(epoch=1))
    with pytest.raises(TrainingDiverged, match=r'w of scratch.*epoch 2'):
        run.save('scratch', state(2) | {'w': np.array([np.nan])}, {}, Position(epoch=2))
    assert run.load('scratch')[1].epoch == 1


def test_new_directory_leaves_nothing_on_an_error(tmp_path):
    def fill():
        with atomic.new_directory(tmp_path / 'new') as folder:
            (folder / 'file').write_bytes(b'x')
            raise OSError(28, 'No space left on device')

    with pytest.raises(StorageError, match='no space left'):
        fill()
    assert list(tmp_path.iterdir()) == []
