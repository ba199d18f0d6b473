"""Long trainings: memory and open files stay, and no worker outlives its parent."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import THOROUGH, make_folder
from test_command import OPTIONS

from d2l_ft.runs.directory import Run

pytestmark = pytest.mark.slow

EPOCHS = 200 if THOROUGH else 60
STOPS = 10 if THOROUGH else 2

LONG = """
import json, os, resource, sys
from pathlib import Path
from d2l_ft.runs.job import train
from d2l_ft.runs.settings import Settings
from d2l_ft.backend.registry import get_backend

def now():
    resident, shared = map(int, Path('/proc/self/statm').read_text().split()[1:3])
    pages = resident - shared  # of files, which the system drops and reads again as it likes
    return pages * resource.getpagesize() / 2**20, len(os.listdir('/proc/self/fd'))

seen = []
settings = Settings.of(data=sys.argv[2], arch='mobilenet_v2', source='none', momentum=0.9,
                       num_epochs=int(sys.argv[4]), batch_size=4, image_size=32, devices='cpu',
                       precision='float32', learning_rate=1e-5)
train(get_backend(sys.argv[1]), settings, Path(sys.argv[3]), bar=False,
      say=lambda line: 'test acc' in line and seen.append(now()))
from matplotlib import _pylab_helpers
print(json.dumps({'seen': seen, 'figures': len(_pylab_helpers.Gcf.figs)}))
"""


def test_many_epochs_take_no_more_memory_than_twenty(framework, tmp_path, figure):
    folder, out = make_folder(tmp_path / 'photos', train=4, test=2), tmp_path / 'run'
    done = subprocess.run(
        [sys.executable, '-c', LONG, framework.NAME, str(folder), str(out), str(EPOCHS)],
        capture_output=True, text=True, timeout=500, check=False,
        env=os.environ | {'OMP_NUM_THREADS': '1'},  # so small a net gains nothing from more
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    memory, files = zip(*found['seen'], strict=True)
    assert len(memory) == EPOCHS
    growth = max(memory[-20:]) / max(memory[10:30]) - 1
    assert growth < 0.05
    assert files[-1] <= files[10]
    assert found['figures'] == 0, 'none is left open'
    sizes = {path.name: path.stat().st_size for path in out.iterdir() if path.is_file()}
    assert sizes['curves.png'] < 200_000
    assert sizes['report.html'] < 400_000
    assert len(Run.open(out).checkpoints('scratch')) == 2
    figure(
        f'{framework.NAME}: {100 * growth:+.1f} % memory after {EPOCHS} epochs '
        f'({memory[-1]:.0f} MiB), '
        f'{files[10]} files open at epoch 11 and {files[-1]} at {EPOCHS}, '
        f'curves {sizes["curves.png"] >> 10} KiB'
    )


CONCAT = """
import resource
from pathlib import Path
import d2l_ft
import mxnet as mx
from mxnet import autograd

def memory():
    # without the pages of files, which the system drops and reads again as it likes
    resident, shared = map(int, Path('/proc/self/statm').read_text().split()[1:3])
    return (resident - shared) * resource.getpagesize()

x = mx.nd.ones((4, 16, 13, 13))
x.attach_grad()
for call in range(3000):
    if call == 1000:
        before = memory()
    with autograd.record():
        y = mx.nd.concat(x * 1, x * 2, dim=1).sum()
    y.backward()
    x.grad.wait_to_read()
print((memory() - before) / 2000 / 1024)
"""


@pytest.mark.needs('mxnet')
def test_mxnets_concat_still_keeps_memory(figure):
    """The known exception: SqueezeNet and DenseNet on MXNet grow with each step of training.

    The backward of concat does it alone, in MXNet 1.9.1; SqueezeNet has eight of them a step.
    """
    done = subprocess.run(
        [sys.executable, '-c', CONCAT], capture_output=True, text=True, check=True
    )
    kept = float(done.stdout)
    assert 0.5 < kept < 5
    figure(f'{kept:.1f} KiB a call')


def test_growth_would_be_seen(tmp_path, framework):
    """The same measurement, of a training that keeps something of each epoch."""
    folder = make_folder(tmp_path / 'photos', train=4, test=2)
    seen = "'test acc' in line and"
    assert seen in LONG
    leaking = LONG.replace(seen, f"{seen} not kept.append(b'x' * 2**25) and")
    done = subprocess.run(
        [sys.executable, '-c', 'kept = []' + leaking, framework.NAME, str(folder),
         str(tmp_path / 'run'), '35'],
        capture_output=True, text=True, timeout=300, check=True,
        env=os.environ | {'OMP_NUM_THREADS': '1'},
    )  # fmt: skip
    memory = [each[0] for each in json.loads(done.stdout)['seen']]
    assert max(memory[-20:]) / max(memory[10:30]) - 1 > 0.05


def of_session(session):
    """Return the processes of a session, which no child leaves by itself."""
    found = []
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            fields = path.read_text().rpartition(')')[2].split()
        except OSError:
            continue  # it has ended
        if int(fields[3]) == session and fields[0] != 'Z':
            found.append(int(path.parent.name))
    return found


def start(framework, folder, out):
    """Start a training with two workers in a session of its own, and wait until it trains."""
    process = subprocess.Popen(
        [sys.executable, '-m', 'd2l_ft', 'train', '--backend', framework.NAME, '--data',
         str(folder), *map(str, OPTIONS), '--arch', 'squeezenet1_1', '--lr', '0.0001', '--epochs',
         '500', '--workers', '2', '--out', str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while not (out / 'metrics.jsonl').exists() and process.poll() is None:
        time.sleep(0.02)
    return process


def wait_for_none(session, seconds):
    """Return the processes of a session that are still there after a while."""
    until = time.monotonic() + seconds
    while of_session(session) and time.monotonic() < until:
        time.sleep(0.05)
    return of_session(session)


def test_ctrl_c_leaves_no_worker(framework, tmp_path, figure):
    """As in a terminal, where every process of the group gets the signal.

    The test part is large, so that many a Ctrl-C meets the test after an epoch, which goes on.
    """
    folder = make_folder(tmp_path / 'photos', train=8, test=80)
    draw, slowest = random.Random(framework.NAME), 0.0
    for number in range(STOPS):
        out = tmp_path / f'run{number}'
        process = start(framework, folder, out)
        assert len(of_session(process.pid)) >= 3, 'the parent and two workers'
        time.sleep(draw.uniform(0, 1))
        begun = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        text, err = process.communicate(timeout=60)
        assert process.returncode == 130, text + err
        assert 'Traceback' not in err
        assert err.count('stopping after this step') == 1, 'by the parent alone'
        assert '--resume' in err
        assert wait_for_none(process.pid, 5) == []
        slowest = max(slowest, time.monotonic() - begun)
        assert Run.open(out).load('scratch') is not None
    figure(f'{framework.NAME}: {STOPS} of {STOPS} without a worker left')


@pytest.mark.parametrize('way', [signal.SIGKILL, signal.SIGTERM], ids=lambda each: each.name)
def test_a_killed_parent_leaves_no_worker(framework, way, tmp_path):
    folder, out = make_folder(tmp_path / 'photos', train=24, test=8), tmp_path / 'run'
    process = start(framework, folder, out)
    assert len(of_session(process.pid)) >= 3
    process.send_signal(way)
    process.communicate(timeout=60)
    assert wait_for_none(process.pid, 10) == []
