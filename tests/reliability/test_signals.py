"""Signals, and workers that are killed: one line, the right exit code, a checkpoint, no process."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import THOROUGH, make_folder
from test_command import command, losses

from d2l_ft.runs.directory import Run
from d2l_ft.storage.atomic import new_directory

pytestmark = pytest.mark.slow

TIMES = 20 if THOROUGH else 3
TRAIN = ['train', '--source', 'none', '--arch', 'resnet18', '--image-size', 32, '--batch-size', 4,
         '--precision', 'float32', '--lr', 0.001]  # fmt: skip
SECONDS = 120
"""Until a process must have ended: far more than it takes, and no time is tested."""


def start(*arguments, group=False, before='', **options):
    """Start d2l-ft, with all signals as in a terminal."""
    code = f'{before}\nfrom d2l_ft.__main__ import main\nmain()'
    return subprocess.Popen(
        [sys.executable, '-c', code, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=group,
        **options,
    )  # fmt: skip


def children(pid):
    """Return the living processes that a process has started, oldest first."""
    found = []
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try:
            state, parent = stat.read_text().rpartition(')')[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != 'Z':
            found.append(int(stat.parent.name))
    return sorted(found)


def ended(pids, seconds=20):
    """Wait until processes have ended; tell whether they have."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        states = []
        for pid in pids:
            try:
                states.append(Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0])
            except OSError:
                continue
        if not set(states) - {'Z', 'X'}:
            return True
        time.sleep(0.05)
    return False


def wait_for(process, happened):
    """Wait until something has happened, while the process lives."""
    until = time.monotonic() + 120
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


def end_of(process):
    """Wait until a process ends; return both of its outputs, and the seconds that it took."""
    begun = time.monotonic()
    text, err = process.communicate(timeout=SECONDS)
    return text, err, time.monotonic() - begun


def one_line(err):
    """Return the only line on the error stream, the announcement of the stop aside."""
    (line,) = [
        each for each in err.splitlines() if each.strip() and not each.startswith('stopping after')
    ]
    return line


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """Return a folder whose epoch takes some seconds, a third of it in the test."""
    return make_folder(tmp_path_factory.mktemp('signals') / 'photos', train=60, test=30)


@pytest.fixture(scope='module')
def whole(photos, tmp_path_factory):
    """Return what runs of two epochs come to that nothing ends, by backend."""
    found = {}

    def result(name):
        if name not in found:
            out = tmp_path_factory.mktemp('whole') / name
            command(*TRAIN, '--backend', name, '--data', photos, '--epochs', 2, '--out', out)
            found[name] = losses(out)
        return found[name]

    return result


def test_a_worker_that_is_killed(framework, photos, whole, tmp_path, figure):
    """Of the training or of the test, while the other ones work."""
    draw, times = random.Random(1), []
    for number in range(TIMES):
        out = tmp_path / f'run{number}'
        process = start(*TRAIN, '--backend', framework.NAME, '--data', photos, '--epochs', 2000,
                        '--workers', 2, '--out', out)  # fmt: skip
        wait_for(process, (out / 'metrics.jsonl').exists)
        time.sleep(draw.uniform(0, 2))
        workers = children(process.pid)
        os.kill(draw.choice(workers), signal.SIGKILL)
        _, err, seconds = end_of(process)
        times.append(seconds)
        assert process.returncode == 2, err
        line = one_line(err)
        assert 'use fewer --workers' in line
        assert f'd2l-ft train --out {out} --resume' in line
        assert ended(workers)
        done = len(losses(out))
        _, position = Run.open(out).load('scratch')
        assert position.epoch == done
        if number == 0 and done == 1:  # it goes on as if nothing had happened
            command('train', '--out', out, '--resume', '--workers', 0, '--epochs', 2)
            assert losses(out) == whole(framework.NAME)
        shutil.rmtree(out)
    figure(
        f'{framework.NAME}: {TIMES} at random moments; it ended after {min(times):.1f} to '
        f'{max(times):.1f} s'
    )


HOLDS_LOCKS = """
import sys
from multiprocessing.synchronize import SemLock
frame, held = sys._getframe(), []
while frame and frame.f_code.co_name != '_worker_loop':  # torch's; that of MXNet shares no lock
    frame = frame.f_back
for each in frame.f_locals.values() if frame else ():
    parts = getattr(each, '__dict__', {})
    locks = [*parts.values(), getattr(parts.get('_cond'), '_lock', None)]
    held += [lock for lock in locks if isinstance(lock, SemLock) and lock.acquire(False)]
Path(OUT + '.held').write_text(str(len(held)))
os.kill(os.getpid(), signal.SIGKILL)
"""
"""A worker takes the locks that it shares with others, and is killed: nobody gives them back."""

HANGS = """
os.kill(os.getpid(), signal.SIGSTOP)
"""


def in_a_worker(framework, out, train, code):
    """Return code that has workers do something, in the second epoch or in its test."""
    body = '\n'.join(f'        {line}' for line in code.splitlines())
    return (
        'import os, signal\nfrom pathlib import Path\nfrom d2l_ft.data.transforms import Pipeline\n'
        f'import {framework.__name__}.data as data\n'
        'data.PATIENCE = 8\n'
        f'OUT, parent, kept = {str(out)!r}, os.getpid(), Pipeline.crop\n'
        'def crop(self, *rest):\n'
        f'    late = self.train == {train} and Path(OUT, "metrics.jsonl").exists()\n'
        f'    if late and os.getpid() != parent:\n{body}\n'
        '    return kept(self, *rest)\n'
        'Pipeline.crop = crop\n'
    )


@pytest.mark.parametrize('train', [True, False], ids=['training', 'test'])
@pytest.mark.parametrize('code', [HOLDS_LOCKS, HANGS], ids=['holds locks', 'hangs'])
def test_a_worker_that_keeps_the_others_waiting(framework, photos, code, train, tmp_path, figure):
    out = tmp_path / 'run'
    process = start(*TRAIN, '--backend', framework.NAME, '--data', photos, '--epochs', 2000,
                    '--workers', 2, '--out', out,
                    before=in_a_worker(framework, out, train, code))  # fmt: skip
    wait_for(process, (out / 'metrics.jsonl').exists)
    workers = children(process.pid)
    _, err, seconds = end_of(process)
    assert process.returncode == 2, err
    line = one_line(err)
    assert ('no batch came' if code == HANGS else 'worker process of the loader died') in line
    assert f'd2l-ft train --out {out} --resume' in line
    assert ended(workers)
    _, position = Run.open(out).load('scratch')
    assert position.epoch == len(losses(out)) == 1
    assert (position.step > 0) == (not train) or code == HANGS
    if code == HOLDS_LOCKS and framework.NAME == 'pytorch':
        assert int(Path(f'{out}.held').read_text()) > 1
    figure(
        f'{framework.NAME}, {"training" if train else "test"}, '
        f'{"holds locks" if code == HOLDS_LOCKS else "hangs (patience of 8 s)"}: {seconds:.1f} s'
    )


def test_workers_that_are_stopped_end_with_the_training(framework, photos, tmp_path, figure):
    """They hear no signal but SIGKILL."""
    out = tmp_path / 'run'
    process = start(*TRAIN, '--backend', framework.NAME, '--data', photos, '--epochs', 2000,
                    '--workers', 2, '--out', out)  # fmt: skip
    wait_for(process, (out / 'metrics.jsonl').exists)
    workers = children(process.pid)
    for each in workers:
        os.kill(each, signal.SIGSTOP)
    process.terminate()
    begun = time.monotonic()
    try:  # at the next step, if a batch is there
        _, err = process.communicate(timeout=15)
    except subprocess.TimeoutExpired:  # at once, while it waits for one
        process.terminate()
        _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 143, err
    assert ended(workers)
    figure(f'{framework.NAME}: {time.monotonic() - begun:.1f} s')


MOMENTS = ('import', 'data check', 'epoch', 'test', 'writing')


def stopped_at(framework, photos, moment, number, out, draw, group=False):
    """Start a training, send a signal at a moment, return the process with its output."""
    before = ''
    if moment == 'import':  # as soon as the command hears signals
        before = (
            'from contextlib import contextmanager\nfrom pathlib import Path\n'
            'from d2l_ft.system import signals\nkept = signals.handle_signals\n'
            '@contextmanager\n'
            'def handled(handler):\n'
            '    with kept(handler):\n'
            f'        Path({str(out) + ".here"!r}).touch()\n'
            '        yield\n'
            'signals.handle_signals = handled\n'
        )
    if moment in ('data check', 'test', 'writing'):  # it tells where it is, and takes its time
        place = {
            'data check': 'd2l_ft.data.validation.inspect_image',
            'test': 'd2l_ft.training.metrics.accuracy',
            'writing': 'd2l_ft.models.checkpoint.write_atomic',
        }[moment]
        module, _, name = place.rpartition('.')
        slow = f'from pathlib import Path\nimport time, {module} as place\nkept = place.{name}\n'
        if moment == 'test':
            slow = (
                'from pathlib import Path\nimport time\nfrom d2l_ft.training import interrupt\n'
                'kept = interrupt.Interrupt.until\n'
                'def slow(self, batches):\n'
                f'    Path({str(out) + ".here"!r}).touch()\n'
                '    for each in kept(self, batches):\n'
                '        time.sleep(0.1)\n'
                '        yield each\n'
                'interrupt.Interrupt.until = slow\n'
            )
        else:
            slow += (
                'def slow(*arguments):\n'
                f'    Path({str(out) + ".here"!r}).touch()\n'
                '    time.sleep(0.3)\n'
                '    return kept(*arguments)\n'
                f'place.{name} = slow\n'
            )
        before = slow
    process = start(*TRAIN, '--backend', framework.NAME, '--data', photos, '--epochs', 2000,
                    '--out', out, before=before, group=group)  # fmt: skip
    if moment == 'epoch':
        wait_for(process, (out / 'metrics.jsonl').exists)
        time.sleep(draw.uniform(0, 1))
    else:
        wait_for(process, Path(f'{out}.here').exists)
        time.sleep(draw.uniform(0, 1 if moment == 'import' else 0.2))
    if group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, err, seconds = end_of(process)
    return process, seconds, err


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.mark.parametrize(
    ('number', 'moment'),
    [
        (number, moment)
        for number in SIGNALS
        for moment in MOMENTS
        if THOROUGH or number == signal.SIGTERM or moment == 'epoch'
    ],
)
def test_a_signal(framework, photos, whole, moment, number, tmp_path, figure):
    out = tmp_path / 'run'
    draw = random.Random(number)
    process, seconds, err = stopped_at(framework, photos, moment, number, out, draw)
    assert process.returncode == 128 + number, err
    assert 'Traceback' not in err
    if moment in ('import', 'data check'):
        assert not out.exists() or moment == 'import'
        assert one_line(err)
    else:
        assert f'd2l-ft train --out {out} --resume' in one_line(err)
        done = len(losses(out))
        _, position = Run.open(out).load('scratch')
        assert position.epoch == done
        assert position.step > 0 or moment != 'test'
        if done < 2:
            command('train', '--out', out, '--resume', '--epochs', 2)
            assert losses(out) == whole(framework.NAME)
    figure(
        f'{framework.NAME}, {number.name}, {moment}: exit code {128 + number} after {seconds:.1f} s'
    )


def test_a_signal_to_the_whole_group(framework, photos, tmp_path, figure):
    """As a terminal and systemd send it: the workers get it too, and end or not."""
    times = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        out = tmp_path / number.name
        process = start(*TRAIN, '--backend', framework.NAME, '--data', photos, '--epochs', 2000,
                        '--workers', 2, '--out', out, group=True)  # fmt: skip
        wait_for(process, (out / 'metrics.jsonl').exists)
        workers = children(process.pid)
        os.killpg(process.pid, number)
        _, err, seconds = end_of(process)
        times.append(seconds)
        assert process.returncode == 128 + number, err
        assert f'd2l-ft train --out {out} --resume' in one_line(err)
        assert ended(workers)
    figure(f'{framework.NAME}: SIGINT, SIGTERM, SIGHUP; at most {max(times):.1f} s')


def test_no_worker_outlives_a_training_that_is_killed(framework, photos, tmp_path, figure):
    out = tmp_path / 'run'
    process = start(*TRAIN, '--backend', framework.NAME, '--data', photos, '--epochs', 2000,
                    '--workers', 2, '--out', out)  # fmt: skip
    wait_for(process, (out / 'metrics.jsonl').exists)
    workers = children(process.pid)
    assert len(workers) >= 4
    process.kill()
    begun = time.monotonic()
    process.communicate(timeout=SECONDS)
    assert ended(workers)
    figure(f'{framework.NAME}: {time.monotonic() - begun:.1f} s')


def test_nohup_stays_nohup(framework, photos, tmp_path):
    def deaf():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    out = tmp_path / 'run'
    process = start(*TRAIN, '--backend', framework.NAME, '--data', photos, '--epochs', 2000,
                    '--out', out, preexec_fn=deaf)  # fmt: skip
    wait_for(process, (out / 'metrics.jsonl').exists)
    done = len(losses(out))
    process.send_signal(signal.SIGHUP)
    wait_for(process, lambda: len(losses(out)) > done + 1)
    process.terminate()
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 143, err


def test_a_second_signal_ends_at_once(framework, photos, tmp_path):
    """Even while the step under way never ends."""
    slow = (
        'import time, d2l_ft.training.trainer as place\n'
        'kept = place.Position.add\n'
        'def add(self, sums):\n'
        '    kept(self, sums)\n'
        '    if self.epoch:\n'
        '        time.sleep(1000)\n'
        'place.Position.add = add\n'
    )
    out = tmp_path / 'run'
    process = start(*TRAIN, '--backend', framework.NAME, '--data', photos, '--epochs', 2000,
                    '--out', out, before=slow)  # fmt: skip
    wait_for(process, (out / 'metrics.jsonl').exists)
    time.sleep(2)
    process.terminate()
    time.sleep(0.5)
    assert process.poll() is None
    process.terminate()
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 143, err
    assert one_line(err) == 'd2l-ft: ended by SIGTERM'


@pytest.mark.parametrize(
    'number',
    [*SIGNALS, signal.SIGKILL] if THOROUGH else [signal.SIGTERM, signal.SIGKILL],
    ids=lambda each: each.name,
)
def test_a_signal_while_a_source_is_trained(framework, photos, number, tmp_path, figure):
    """The process that does it ends too; what it began to draw is removed by the next."""
    out, cache = tmp_path / 'run', tmp_path / 'cache'
    arguments = ['train', '--backend', framework.NAME, '--arch', 'squeezenet1_1', '--data', photos,
                 '--source', 'sample', '--image-size', 32, '--epochs', 1, '--out', out]  # fmt: skip
    process = start(*arguments)
    wait_for(process, lambda: list((cache / 'data').glob('.sample-source*')))
    pids = children(process.pid)
    assert pids
    process.send_signal(number)
    _, err, seconds = end_of(process)
    assert process.returncode == (128 + number if number != signal.SIGKILL else -number), err
    assert ended(pids)
    if number != signal.SIGKILL:
        assert one_line(err)
    assert not list((cache / 'data').glob('.sample-source*'))
    assert not list((cache / 'models').glob('*.safetensors'))
    figure(f'{framework.NAME}, {number.name}: {seconds:.1f} s')


def test_a_half_written_folder_of_a_process_that_was_killed(tmp_path):
    """The next one that writes the folder removes it; that of a living process stays."""
    code = (
        'import sys, time\nfrom pathlib import Path\n'
        'from d2l_ft.storage.atomic import new_directory\n'
        'with new_directory(Path(sys.argv[1])) as folder:\n'
        '    (folder / "half").write_text("x")\n'
        '    print("here", flush=True)\n'
        '    time.sleep(1000)\n'
    )
    words = [sys.executable, '-c', code, str(tmp_path / 'new')]
    dead, alive = (subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(2))
    for process in (dead, alive):
        assert process.stdout.readline() == b'here\n'
    (tmp_path / '.new.notours1x').mkdir()
    dead.kill()
    dead.communicate()
    assert len(list(tmp_path.glob('.new.*'))) == 3
    with new_directory(tmp_path / 'new'):
        pass
    assert len(list(tmp_path.glob('.new.*/half'))) == 1
    assert (tmp_path / '.new.notours1x').exists()
    alive.terminate()
    alive.communicate()
