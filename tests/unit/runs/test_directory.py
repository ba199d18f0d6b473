"""Directories of runs: one for each, checkpoints that are kept, and files that are damaged."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import numpy as np
import pytest
from conftest import make_folder, run_config
from test_command import start

from d2l_ft.errors import CheckpointError, StorageError
from d2l_ft.runs.directory import Run, claim, new_path
from d2l_ft.runs.settings import Settings
from d2l_ft.training.metrics import Position


@pytest.mark.parametrize('is_run', [True, False])
def test_resume_is_advised_for_a_run_alone(tmp_path, is_run):
    (tmp_path / ('config.json' if is_run else 'thesis.txt')).touch()
    with (
        pytest.raises(CheckpointError, match='is not empty') as caught,
        claim(tmp_path, resume=False),
    ):
        pass
    assert ('`resume=True`' in str(caught.value)) == is_run
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        'config.json' if is_run else 'thesis.txt'
    ]


@pytest.mark.parametrize(('name', 'value'), [
    ('classes', []), ('classes', ['a', 'a']), ('classes', ['\ud800', 'b']),
    ('classes', ['a\0', 'b']),
    ('classes', [str(each) for each in range(5 * 10**5)]), ('classes', ['x' * 5000, 'b']),
    ('image_size', 9000), ('image_size', 0), ('image_size', 10**400), ('train_examples', -1),
    ('test_examples', 10**400), ('data', '\ud8ff'), ('data', 'x' * 10**5),
    ('optim', {'learning_rate': 10**400}), ('optim', {'learning_rate': float('inf')}),
    ('optim', {'weight_decay': float('nan')}), ('optim', {'momentum': 1.0}),
    ('optim', {'schedule': 'x'}), ('optim', {'num_epochs': '5'}), ('optim', []),
    ('system', {'devices': 'tpu'}), ('system', {'precision': 'float16'}),
    ('model', {'arch': 'resnet19'}), ('model', {'freeze': True, 'source': 'none'}),
    ('model', {'source': '\ud8ff'}), ('model', {'num_epochs': 5}), ('settings', []),
])  # fmt: skip
def test_a_config_out_of_bounds_is_damaged(name, value, tmp_path):
    config = asdict(run_config())
    place = config['settings'] if name in config['settings'] and name != 'data' else config
    place[name] = value
    (tmp_path / 'config.json').write_text(json.dumps(config))
    with pytest.raises(CheckpointError) as caught:
        Run.open(tmp_path)
    line = str(caught.value)
    assert 'config.json' in line
    assert '\n' not in line
    assert len(line) < 400


@pytest.mark.parametrize('kind', ['fifo', 'zero', 'huge'])
@pytest.mark.parametrize('name', ['config.json', 'metrics.jsonl'])
def test_a_file_that_has_no_end_is_damaged(name, kind, tmp_path):
    """In a process that may take little memory; a wait would end in its time limit."""
    Run(tmp_path, run_config()).save_config()
    path = tmp_path / name
    path.unlink(missing_ok=True)
    if kind == 'fifo':
        os.mkfifo(path)
    elif kind == 'zero':
        path.symlink_to('/dev/zero')
    else:
        path.touch()
        os.truncate(path, 1 << 36)
    code = (
        'import resource, sys\nfrom pathlib import Path\nfrom d2l_ft.runs.directory import Run\n'
        'from d2l_ft.errors import CheckpointError\n'
        'used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()\n'
        'resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28),) * 2)\n'
        'try:\n    Run.open(Path(sys.argv[1])).metrics()\n'
        'except CheckpointError as error:\n    print(error)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, tmp_path], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f'{name} is damaged' in done.stdout
    assert done.stdout.count('\n') == 1


@pytest.mark.parametrize('count', [1, 2, 3])
def test_the_newest_checkpoints_of_each_net_are_kept(count, tmp_path):
    run = Run(tmp_path, run_config(settings=Settings.of(keep_checkpoints=count)))
    for net in ('fine-tuned', 'scratch'):
        for epoch in range(1, 5):
            run.save(net, {'w': np.zeros(epoch)}, {}, Position(epoch=epoch))
    for net in ('fine-tuned', 'scratch'):
        names = [path.name for path in run.checkpoints(net)]
        assert names == [f'{net}-{epoch:05d}-0000000.safetensors' for epoch in range(5 - count, 5)]
        assert run.load(net)[1].epoch == 4


def test_a_directory_for_each_run_that_begins_in_one_second(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_path('x', 'photos'), range(40)))
    assert len(set(made)) == 40
    assert all(path.is_dir() and path.name.split('-')[3] == 'photos' for path in made)
    assert len(new_path('x', '文' * 200).name.encode()) < 255
    monkeypatch.chdir(tmp_path / 'runs')
    assert new_path('x', '..').name.split('-')[3].startswith(tmp_path.name[:10])
    (tmp_path / 'file').mkdir()
    monkeypatch.chdir(tmp_path / 'file')
    (tmp_path / 'file/runs').write_text('')
    with pytest.raises(StorageError, match='`out`'):
        new_path('x', 'photos')


def test_three_times_the_same_line_at_once(framework, tmp_path):
    folder = make_folder(tmp_path / 'photos', train=4, test=1)
    words = ['train', '--backend', framework.NAME, '--data', folder, '--source', 'none',
             '--image-size', 32, '--epochs', 1, '--lr', 1e-5]  # fmt: skip
    processes = [start(*words, cwd=tmp_path) for _ in range(3)]
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, out + err
    runs = list((tmp_path / 'runs').iterdir())
    assert len(runs) == 3
    assert all(len(Run.open(path).metrics()) == 1 for path in runs)
    process = start(*words, '--devices', 'gpu:99', cwd=tmp_path)
    process.communicate(timeout=300)
    assert process.returncode == 2
    assert len(list((tmp_path / 'runs').iterdir())) == 3, 'nothing is left of what did not begin'


CLAIM = """
import sys
from pathlib import Path
from d2l_ft.runs.directory import claim

with claim(Path(sys.argv[1]), resume=False):
    print('mine')
"""


def test_whoever_is_refused_leaves_what_another_has_begun(tmp_path):
    """The first may be checking images or pre-training: its directory has a lock and no run."""
    out = tmp_path / 'run'
    with claim(out, resume=False):
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, '-c', CLAIM, out], capture_output=True, text=True, check=False
            )
            assert 'another process is writing' in done.stderr
            assert not done.stdout
        assert out.is_dir()
    assert not out.exists(), 'it stayed empty'
    done = subprocess.run([sys.executable, '-c', CLAIM, out], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, 'mine\n')
